"""Values that the parts of a clip's way hand to each other; no algorithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plateblur.key_frames import Keys
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
        keys: boxes that cover all that was hidden of it; times on the clip's own clock.
    """

    picture: int
    track: Track
    times_s: tuple[float, ...]
    keys: Keys = ()


@dataclass(frozen=True, slots=True)
class BlurredClip:
    """What was written.

    Attributes:
        image_hw: height and width of the frames as shown, pixels; of the first video track.
        frames: in all video tracks.
        length_s: from the first frame to the last, of the longest video track.
        plates: how many were followed and hidden, in all video tracks.
        followed: each of them; none if the boxes were given.
        notes: what was left out, converted or blanked; one sentence each.
        zero_us: the time on the clip's own clock that is 0 in what was written, microseconds.
    """

    image_hw: tuple[int, int]
    frames: int
    length_s: float
    plates: int
    followed: tuple[FollowedPlate, ...]
    notes: tuple[str, ...]
    zero_us: int = 0


Late = Literal["blank", "drop"]
"""What becomes of a live frame that wasn't searched in time."""

MAX_DELAY_S = 10.0


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How live pictures are taken and sent.

    Attributes:
        delay_s: from when a frame is taken to when it is sent: the time to search it, and to look
            ahead. 0 to `MAX_DELAY_S`.
        late: what becomes of a frame that wasn't searched in time.
        sound: keep the sound or drop it.
        quality: of the pictures.
        rate: frames a second at most; None for all. The others are left out, and not searched.
        retry_s: how long a lost source or server is tried again.

    Raises:
        ValueError: a number is out of range.
    """

    delay_s: float = 0.5
    late: Late = "blank"
    sound: SoundPolicy = "keep"
    quality: Quality = "normal"
    rate: float | None = None
    retry_s: float = 300.0

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if not 0 <= self.delay_s <= MAX_DELAY_S:
            raise ValueError(f"delay_s must be 0 to {MAX_DELAY_S:g}, got {self.delay_s}")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate must be above 0, got {self.rate}")
        if not self.retry_s >= 0:
            raise ValueError(f"retry_s must be 0 or more, got {self.retry_s}")


@dataclass(slots=True)
class Counts:
    """What became of live frames.

    Attributes:
        read: those of the source that were to be shown.
        shown: sent with their plates hidden.
        late: not searched in time; blanked or dropped.
        damaged: can't be decoded; blanked or dropped.
        crowded: dropped because too many waited, or to catch up with the source.
        unsent: dropped because the sink was away or too slow.
        plates: that were found, each followed through its frames.
        source_lost: how often the source was lost.
        sink_lost: how often the server was lost.
    """

    read: int = 0
    shown: int = 0
    late: int = 0
    damaged: int = 0
    crowded: int = 0
    unsent: int = 0
    plates: int = 0
    source_lost: int = 0
    sink_lost: int = 0


AS_USUAL = ClipOptions()
LIVE_AS_USUAL = LiveOptions()
LIMITS = ClipLimits()
