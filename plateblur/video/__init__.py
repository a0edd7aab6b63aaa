"""Blur the plates in a clip: in every frame, or no clip is produced. Needs PyAV."""

from plateblur.video.pipeline import blur_clip
from plateblur.video.types import (
    BlurredClip,
    ClipLimits,
    ClipOptions,
    Container,
    Damaged,
    FollowedPlate,
    Quality,
    SoundPolicy,
)

__all__ = [
    "BlurredClip",
    "ClipLimits",
    "ClipOptions",
    "Container",
    "Damaged",
    "FollowedPlate",
    "Quality",
    "SoundPolicy",
    "blur_clip",
]
