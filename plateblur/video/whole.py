"""A whole clip in memory: what a worker of the demo or the service does with one."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

from plateblur.types import BlurOptions, Detector
from plateblur.video.pipeline import blur_clip
from plateblur.video.types import BlurredClip, ClipLimits

STRANGERS_RATE = 60  # frames a second: a phone's fastest ordinary video
STRANGERS_PIXELS = 9_000_000  # of a frame: 4K


def strangers_limits(length_s: float) -> ClipLimits:
    """Return the largest clip that the demo and the service accept from anybody.

    Args:
        length_s: of the clip.
    """
    return ClipLimits(
        length_s=length_s,
        frames=math.ceil(length_s * STRANGERS_RATE),
        frame_pixels=STRANGERS_PIXELS,
        pictures=2,
        sounds=4,
    )


def blur_whole(
    detector: Detector,
    data: bytes,
    options: BlurOptions,
    limits: ClipLimits,
    work: Path,
    *,
    progress: Callable[[float], None],
) -> tuple[bytes, BlurredClip]:
    """Return the blurred clip, MP4, and its description.

    Args:
        detector: what finds the plates.
        data: the clip as it came.
        options: method, margin, confidence and metadata count.
        limits: the largest clip that is accepted.
        work: folder for boxes and blurred pictures while the work goes on; the caller removes it.
        progress: called with the share of the work that is done.

    Raises:
        PlateblurError: it can't be blurred.
    """
    out = io.BytesIO()
    clip = io.BytesIO(data)
    done = blur_clip(clip, out, detector, options, limits=limits, progress=progress, work=work)
    return out.getvalue(), done
