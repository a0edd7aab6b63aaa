"""Clips as the page shows them: single frames, made when they are asked for; and what it sends."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from plateblur.guidance import marks
from plateblur.key_frames import Key, Keys
from plateblur.review.sent import InvalidError, clipped
from plateblur.runs.manifest import Seen
from plateblur.runs.review_log import MovingPlate, keys_of, moving_of
from plateblur.types import Image
from plateblur.video import Reel

MOST_OPEN = 3  # clips: a decoder and up to 64 MB of frames each
MOST_MOVING = 5000  # plates of a clip
LATEST_US = 1 << 53  # what JavaScript counts up to
LATE_US = 600  # a container that counts in ms may show a frame so much later


class Reels:
    """The clips that are open; safe to share by threads. One frame is decoded at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Path, Seen | None], Reel] = OrderedDict()

    def times_us(self, clip: Path, seen: Seen | None, check: Callable[[], None]) -> list[int]:
        """Return when each frame of a clip is shown, as `image_at` takes it."""
        with self._lock:
            times: list[int] = self._reel(clip, seen, check).times_us.tolist()
            return times

    def image_at(
        self, clip: Path, seen: Seen | None, time_us: int, check: Callable[[], None]
    ) -> Image:
        """Return the frame of a clip that is shown at a time.

        Args:
            clip: where it is.
            seen: tells this version of the file from others.
            time_us: on the clip's own clock, microseconds.
            check: raises if it isn't the clip that was reviewed; called when it is opened.

        Raises:
            PlateblurError: it can't be decoded, or `check` refuses it.
            OSError: it can't be read.
        """
        with self._lock:
            return self._reel(clip, seen, check).image_at(time_us)

    def close(self) -> None:
        """Close all clips; they are opened again when somebody asks for them."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def _reel(self, clip: Path, seen: Seen | None, check: Callable[[], None]) -> Reel:
        reel = self._open.pop((clip, seen), None)
        if reel is None:
            check()
            reel = Reel(clip)
        self._open[clip, seen] = reel
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return reel


def moving_plates(
    sent: Any, line: dict[str, Any], before: Iterable[MovingPlate]
) -> tuple[MovingPlate, ...]:
    """Return the plates of a clip that the page sent.

    Args:
        sent: from its JSON.
        line: of the manifest.
        before: the plates as they were.

    Raises:
        InvalidError: what was sent makes no sense; so do `TypeError`, `ValueError` and `KeyError`.
    """
    if not isinstance(sent, list) or len(sent) > MOST_MOVING:
        raise InvalidError(f"A clip can have at most {MOST_MOVING} plates.")
    known = {plate.found: plate for plate in (*moving_of(line), *before)}
    as_found = {key for keys in known if keys is not None for key in keys}
    image_hw = line["height"], line["width"]
    plates = []
    for each in sent:
        keys = _keys(each["keys"], image_hw, as_found)
        sent_found = each.get("found")
        found = keys if sent_found is True else None if sent_found is None else keys_of(sent_found)
        origin = None if found is None else known.get(found)
        if found is not None and origin is None:
            raise InvalidError("A plate is said to be found that the run didn't find.")
        plates.append(
            MovingPlate(
                keys=keys,
                hide=each["hide"] is not False,
                confidence=None if origin is None else origin.confidence,
                found=found,
                video_track=0 if origin is None else origin.video_track,
            )
        )
    return tuple(plates)


def _keys(sent: Any, image_hw: tuple[int, int], as_found: set[Key]) -> Keys:
    """Return key frames, clipped to the picture except where they are as the run found them."""
    keys: list[Key] = []
    for key in keys_of(sent):
        time, *sides = key
        if not all(math.isfinite(side) for side in sides) or abs(time) > LATEST_US:
            raise ValueError
        if keys and time <= keys[-1][0]:
            raise InvalidError("Key frames must follow each other in time.")
        keys.append(key if key in as_found else (time, *clipped(sides, image_hw)))
    if not keys:
        raise InvalidError("A plate needs a key frame.")
    return tuple(keys)


def worry_of(plates: Iterable[MovingPlate], image_hw: tuple[int, int]) -> tuple[list[str], float]:
    """Return why somebody should look at a clip, and how much: the larger, the more.

    A plate counts with its largest box, because each is small when it comes from afar, and is cut
    by the edge when it goes.
    """
    found = [plate for plate in plates if plate.hide and plate.confidence is not None]
    largest = [max(plate.keys, key=lambda key: key[4] - key[2])[1:] for plate in found]
    confidence = np.array([plate.confidence or 1.0 for plate in found])
    boxes = np.array(largest, np.float64).reshape(-1, 4)
    reasons = [each for each in marks(boxes, confidence, image_hw=image_hw) if each != "edge"]
    return reasons, round(len(reasons) + 1 - float(confidence.min(initial=1.0)), 3)
