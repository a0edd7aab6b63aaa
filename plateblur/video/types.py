"""Values that the parts of a clip's way hand to each other; no algorithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plateblur.tracks import Track

Container = Literal["mp4", "mov", "mkv"]
"""What the blurred clip is written as."""

SoundPolicy = Literal["keep", "drop"]
"""Whether the sound is written; voices are personal data too."""

Damaged = Literal["refuse", "hide"]
"""What happens to a clip with pictures that can't be decoded: refused, or those are blanked."""

Quality = Literal["high", "normal", "small"]
"""How much of the picture's detail the encoder keeps."""


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """How a clip is read and written, beside how its plates are hidden.

    Attributes:
        container: what is written.
        sound: keep every sound track, or drop them all.
        damaged: refuse a clip with damaged pictures, or blank these.
        quality: of the pictures.
    """

    container: Container = "mp4"
    sound: SoundPolicy = "keep"
    damaged: Damaged = "refuse"
    quality: Quality = "normal"


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """The largest clip that is accepted.

    Attributes:
        length_s: of a clip, and of each of its tracks.
        frames: of one video track.
        frame_pixels: of one frame, as shown.
        pictures: video tracks.
        sounds: sound tracks.
    """

    length_s: float = 6 * 3600
    frames: int = 2_000_000
    frame_pixels: int = 36_000_000  # 8K
    pictures: int = 8
    sounds: int = 16


@dataclass(frozen=True, slots=True)
class FollowedPlate:
    """One plate that was hidden, through all the frames in which it was found.

    Attributes:
        picture: which video track, counted from 0.
        track: the sightings; boxes in pixels of the frames as shown.
        times_s: when each sighting is shown, from the start of the clip.
    """

    picture: int
    track: Track
    times_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class BlurredClip:
    """What was written.

    Attributes:
        image_hw: height and width of the frames as shown, pixels; of the first video track.
        frames: in all video tracks.
        length_s: from the first frame to the last, of the longest video track.
        plates: how many were followed and hidden, in all video tracks.
        followed: each of them.
        notes: what was left out, converted or blanked; one sentence each.
    """

    image_hw: tuple[int, int]
    frames: int
    length_s: float
    plates: int
    followed: tuple[FollowedPlate, ...]
    notes: tuple[str, ...]


AS_USUAL = ClipOptions()
LIMITS = ClipLimits()
