"""A dropped clip on its way through the blur, in memory; its visitor may end it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

from plateblur.errors import PlateblurError
from plateblur.types import BlurOptions, Detector
from plateblur.video import BlurredClip, ClipLimits, blur_clip

# A minute of a phone's video at 60 frames a second; looking at it takes some minutes on two cores.
LIMITS = ClipLimits(length_s=60, frames=3600, frame_pixels=9_000_000, pictures=2, sounds=4)


class ClipEndedError(Exception):
    """The visitor ended the work, or left the page."""


class Clips:
    """The clips that are in work; safe to call from several threads at once."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._ended: dict[str, threading.Event] = {}

    @contextmanager
    def working(self, session: str) -> Iterator[threading.Event]:
        """Give what is set when the work is to end; an earlier clip of the session is ended."""
        ended = threading.Event()
        with self._lock:
            if earlier := self._ended.get(session):
                earlier.set()
            self._ended[session] = ended
        try:
            yield ended
        finally:
            with self._lock:
                if self._ended.get(session) is ended:
                    del self._ended[session]

    def end(self, session: str) -> None:
        """End the work on the clip of `session`, if there is any."""
        with self._lock:
            if ended := self._ended.get(session):
                ended.set()


def blur_dropped_clip(
    data: bytes,
    detector: Detector,
    options: BlurOptions,
    *,
    ended: threading.Event,
    progress: Callable[[float], None],
) -> tuple[bytes, BlurredClip]:
    """Return the blurred clip, and what is told of it.

    Args:
        data: the clip as it came.
        detector: what finds the plates.
        options: method, margin and confidence count.
        ended: the work stops when it is set.
        progress: is told the share of the work that is done.

    Raises:
        ClipEndedError: `ended` was set.
        PlateblurError: it can't be blurred; nothing may leave.
    """

    def go_on(share: float) -> None:
        if ended.is_set():
            raise ClipEndedError
        progress(share)

    out = io.BytesIO()
    done = blur_clip(
        io.BytesIO(data),
        out,
        detector,
        options,
        limits=LIMITS,
        progress=go_on,
    )
    return out.getvalue(), done


def told_done(done: BlurredClip) -> str:
    """Return HTML about a blurred clip."""
    plates = "1 plate" if done.plates == 1 else f"{done.plates} plates"
    notes = "".join(f"<br>{escape(note)}" for note in done.notes)
    return (
        f'<p class="pb-done" role="status"><strong>{plates} hidden</strong> in {done.frames} '
        f"frames. Look through the clip before you publish it: what was never found is not "
        f"hidden.{notes}</p>"
    )


def told_failure(reason: str) -> str:
    """Return HTML about a clip that was not blurred."""
    return f'<div class="pb-refused" role="alert">{escape(reason)}</div>'


def explain_clip(error: PlateblurError) -> str:
    """Return why a clip could not be blurred, for people."""
    return f"This clip was not blurred, so nothing was given out: {error}."
