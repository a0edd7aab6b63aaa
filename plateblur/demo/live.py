"""The live view: the camera of a visitor's device, a frame at a time, blurred frames back.

The page sends a frame, waits for it to come back blurred, shows that, and sends the next. So no
frame is shown that wasn't searched, and a visitor has one frame in work at a time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

from plateblur.blur import blur_boxes
from plateblur.bounded import Workers
from plateblur.errors import PhotoDecodeError
from plateblur.photo import decode, encode
from plateblur.pipeline import DEFAULTS
from plateblur.tracks import DRAW_OUT_S, STILL, TRACK_FLOOR, Frames, hidden_boxes
from plateblur.types import Detections, Detector, Method

FRAME_BYTES = 1024 * 1024  # of one frame; the page sends some 150 KB
FRAME_PIXELS = 1920 * 1080
AT_ONCE = 4  # frames in work or waiting, of all visitors
AT_ONCE_OF_ADDRESS = 2  # of one network address: cookies are free
REMEMBERED_S = DRAW_OUT_S  # a plate stays hidden for so long where it was seen last
VISITORS = 256  # whose last frames are remembered

Seen = tuple[float, Detections]
"""When a frame came, seconds, and what was found in it."""


class BusyError(Exception):
    """The visitor has a frame in work, or too many others have."""


class LiveView:
    """Blurs frames; safe to call from several threads."""

    def __init__(
        self,
        workers: Workers,
        *,
        at_once: int = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without visitors.

        Args:
            workers: where frames are decoded and searched.
            at_once: frames in work or waiting, of all visitors.
            clock: seconds.
        """
        self._workers = workers
        self._at_once = at_once
        self._clock = clock
        self._lock = threading.Lock()
        self._in_work: set[tuple[str, str]] = set()
        self._seen: OrderedDict[str, tuple[Seen, ...]] = OrderedDict()

    def blur(self, visitor: str, address: str, data: bytes, method: str) -> tuple[bytes, int]:
        """Return a frame with its plates hidden, and how many there are.

        Args:
            visitor: who sent it.
            address: network address that it came from.
            data: a JPEG.
            method: how plates are hidden.

        Raises:
            BusyError: the visitor has to send it again later.
            PlateblurError: it can't be blurred.
            ValueError: there is no such method.
        """
        if method not in get_args(Method):
            raise ValueError("expected a method")
        with self._turn(visitor, address):
            now_s = self._clock()
            with self._lock:
                before = self._seen.get(visitor, ())
            before = tuple(each for each in before if now_s - each[0] <= REMEMBERED_S)
            blurred, found, plates = self._workers.do(blur_frame, data, method, before, now_s)
            with self._lock:
                self._seen[visitor] = (*before, (now_s, found))
                self._seen.move_to_end(visitor)
                while len(self._seen) > VISITORS:
                    self._seen.popitem(last=False)
        return blurred, plates

    @contextmanager
    def _turn(self, visitor: str, address: str) -> Iterator[None]:
        with self._lock:
            whose = [at == address for _, at in self._in_work]
            is_busy = len(whose) >= self._at_once or sum(whose) >= AT_ONCE_OF_ADDRESS
            if is_busy or (visitor, address) in self._in_work:
                raise BusyError
            self._in_work.add((visitor, address))
        try:
            yield
        finally:
            with self._lock:
                self._in_work.remove((visitor, address))


def blur_frame(
    detector: Detector, data: bytes, method: Method, before: tuple[Seen, ...], now_s: float
) -> tuple[bytes, Detections, int]:
    """Return a blurred frame, what was found in it, and how many plates are hidden.

    Args:
        detector: what finds the plates.
        data: a JPEG.
        method: how plates are hidden.
        before: the frames before it, in order.
        now_s: when it came.

    Raises:
        PlateblurError: it can't be blurred.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        raise PhotoDecodeError("expected a JPEG")
    photo = decode(data, max_bytes=FRAME_BYTES, max_pixels=FRAME_PIXELS)
    found = detector.detect(photo.pixels, min_confidence=TRACK_FLOOR)
    frames = [*before, (now_s, found)]
    clip = Frames(
        found=[each for _, each in frames],
        times_s=[time_s for time_s, _ in frames],
        steps=[STILL] * len(frames),
    )
    hidden, tracks = hidden_boxes(clip, min_confidence=DEFAULTS.min_confidence)
    blurred = blur_boxes(photo.pixels, hidden[-1], method=method, margin=DEFAULTS.margin)
    return encode(photo, blurred, metadata="strip"), found, len(tracks)
