"""Blurring a dropped clip."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from plateblur.errors import PlateblurError
from plateblur.types import BlurOptions, Detector
from plateblur.video import BlurredClip
from plateblur.video.whole import blur_whole, strangers_limits

LIMITS = strangers_limits(60)  # which takes some minutes on two cores


def blur_dropped_clip(
    detector: Detector,
    data: bytes,
    options: BlurOptions,
    work: Path,
    *,
    progress: Callable[[float], None],
) -> tuple[bytes, BlurredClip]:
    """Return the blurred clip and its description.

    Args:
        detector: what finds the plates.
        data: the clip as it came.
        options: method, margin and confidence count.
        work: folder for boxes and blurred pictures while the work goes on; the caller removes it.
        progress: called with the share of the work that is done.

    Raises:
        PlateblurError: it can't be blurred; nothing may leave.
    """
    return blur_whole(detector, data, options, LIMITS, work, progress=progress)


def done_html(done: BlurredClip) -> str:
    """Return HTML about a blurred clip."""
    plates = "1 plate" if done.plates == 1 else f"{done.plates} plates"
    notes = "".join(f"<br>{escape(note)}" for note in done.notes)
    return (
        f'<p class="pb-done" role="status"><strong>{plates} hidden</strong> in {done.frames} '
        f"frames. Check the clip before you publish it: plates that were never detected stay "
        f"visible.{notes}</p>"
    )


def failure_html(reason: str) -> str:
    """Return HTML about a clip that was not blurred."""
    return f'<div class="pb-refused" role="alert">{escape(reason)}</div>'


def explain_clip(error: PlateblurError) -> str:
    """Return why a clip could not be blurred, for people."""
    return f"This clip could not be blurred, so there is no download: {error}."
