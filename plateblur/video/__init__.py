"""Blur the plates in clips and in live pictures; a frame that wasn't searched is never shown.

Needs PyAV.
"""

from plateblur.video.live import blur_live
from plateblur.video.pipeline import blur_clip, hide_in_clip
from plateblur.video.reel import Reel, glimpse
from plateblur.video.sinks import Sink, sink_of
from plateblur.video.sources import Source, source_of
from plateblur.video.types import (
    BlurredClip,
    ClipLimits,
    ClipOptions,
    Container,
    Counts,
    Damaged,
    FollowedPlate,
    Late,
    LiveOptions,
    Quality,
    SoundPolicy,
)

__all__ = [
    "BlurredClip",
    "ClipLimits",
    "ClipOptions",
    "Container",
    "Counts",
    "Damaged",
    "FollowedPlate",
    "Late",
    "LiveOptions",
    "Quality",
    "Reel",
    "Sink",
    "SoundPolicy",
    "Source",
    "blur_clip",
    "blur_live",
    "glimpse",
    "hide_in_clip",
    "sink_of",
    "source_of",
]
