"""One clip of a run: followed and blurred into a file beside its output."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plateblur.errors import VideoError
from plateblur.key_frames import Keys
from plateblur.runs.files import digest_of, seen_at
from plateblur.runs.manifest import Version
from plateblur.runs.plan import FRESH_NS, Job, Task, on_disk
from plateblur.runs.review_log import MovingPlate, Review
from plateblur.types import BlurOptions, Detector

if TYPE_CHECKING:  # PyAV takes a moment to load
    from plateblur.video import BlurredClip, ClipOptions

Container = Literal["mp4", "mov", "mkv"]
CONTAINERS: dict[str, Container] = {".mp4": "mp4", ".mov": "mov", ".mkv": "mkv"}


@dataclass(frozen=True, slots=True)
class ClipWork:
    """Blurs clips, one at a time.

    Attributes:
        detector: what finds the plates; None where all are given.
        options: how they are hidden.
        how: what is written; the container follows from each output's name.
        progress: is called with the share of the clip that is done.
        reviews: of clips whose plates a person has corrected, by the names of their outputs; those
            plates count, not the detector's.
    """

    detector: Detector | None
    options: BlurOptions
    how: ClipOptions
    progress: Callable[[float], None] = lambda _: None
    reviews: Mapping[str, Review] = field(default_factory=dict)

    def blur(
        self,
        clip: Path,
        target: Path,
        *,
        resume: bool,
        given: tuple[MovingPlate, ...] | None = None,
    ) -> tuple[Path, BlurredClip]:
        """Return the blurred clip, in a file beside `target`, and what was done.

        What is done so far is kept beside `target` too, for the next time, unless the clip
        can't be taken at all.

        Args:
            clip: to be blurred.
            target: what it becomes.
            resume: go on with what was done so far.
            given: the plates to hide; None to look for them.

        Raises:
            PlateblurError: the clip can't be taken or done.
            OSError: it can't be read or written.
        """
        from plateblur.video import blur_clip, hide_in_clip

        _require_file(clip)
        target.parent.mkdir(parents=True, exist_ok=True)
        part, work = part_of(target), work_of(target)
        how = replace(self.how, container=CONTAINERS[target.suffix.lower()])
        kept: Any = {"progress": self.progress, "work": work, "resume": resume}
        try:
            with clip.open("rb") as read, part.open("w+b") as file:
                if given is not None:
                    done = hide_in_clip(read, file, _by_picture(given), self.options, how, **kept)
                elif self.detector is not None:
                    done = blur_clip(read, file, self.detector, self.options, how, **kept)
                else:
                    raise ValueError("expected a detector, or the plates of each clip")
        except BaseException as error:
            part.unlink(missing_ok=True)
            if isinstance(error, VideoError):  # it would be refused again
                shutil.rmtree(work, ignore_errors=True)
            raise
        return part, done

    def make(self, task: Task, clip: Path) -> tuple[dict[str, Any], Path]:
        """Return what the manifest says of a clip, and the blurred clip in a file."""
        given = self._given(task, clip)
        part, done = self.blur(clip, on_disk(task.target), resume=True, given=given)
        record = clip_record(done) | {
            "zero_us": done.zero_us,
            "tracks": list(_tracks(_found(done) if given is None else given)),
        }
        return record, part

    def _given(self, task: Task, clip: Path) -> tuple[MovingPlate, ...] | None:
        """Return what a person said of a clip; None where nobody corrected it as it is now."""
        review = self.reviews.get(task.output)
        if review is None or digest_of(clip).hex() != review.sha256:
            return None
        return tuple(plate for plate in review.moving if plate.hide)


def _by_picture(plates: tuple[MovingPlate, ...]) -> list[list[Keys]]:
    """Return the plates of each video track, the one that players show first."""
    count = max((plate.video_track + 1 for plate in plates), default=0)
    return [[each.keys for each in plates if each.video_track == track] for track in range(count)]


def _found(done: BlurredClip) -> tuple[MovingPlate, ...]:
    """Return the plates that were followed and are seen in the picture."""
    return tuple(
        MovingPlate(
            plate.keys,
            confidence=round(max(plate.track.confidence), 4),
            video_track=plate.picture,
        )
        for plate in done.followed
        if plate.keys
    )


def _tracks(plates: tuple[MovingPlate, ...]) -> Iterator[dict[str, Any]]:
    """Yield what the manifest says of each plate; one that a person added is as sure as can be."""
    for plate in plates:
        yield {
            "keys": plate.keys,
            "confidence": 1.0 if plate.confidence is None else plate.confidence,
            **({"video_track": plate.video_track} if plate.video_track else {}),
        }


def clip_options_of(settings: Mapping[str, Any]) -> ClipOptions:
    """Return how a run read and wrote its clips, from its settings in the manifest."""
    from plateblur.video import ClipOptions

    known = {name: settings[name] for name in ClipOptions.__slots__ if name in settings}
    return ClipOptions(**known)


def take_clip(job: Job) -> tuple[Version, Path]:
    """Return a clip's path, and what the clip is known again by.

    Raises:
        OSError: it can't be read.
    """
    clip = on_disk(job.photo)
    _require_file(clip)
    seen, now = seen_at(clip), time.time_ns()
    digest = digest_of(clip)
    size, stamp = seen or (0, "")
    is_fresh = stamp == "" or now - int(stamp) < FRESH_NS
    return Version(size, "" if is_fresh else stamp, digest), clip


def _require_file(clip: Path) -> None:
    """Raise `OSError` for a pipe or a device, which may never say anything."""
    if clip.exists() and not clip.is_file():
        raise OSError(
            errno.ESPIPE, "expected a file, got a pipe or device: it is read several times"
        )


def part_of(target: Path) -> Path:
    """Return the file that becomes a blurred clip."""
    return target.parent / f".{target.name}.part"


def work_of(target: Path) -> Path:
    """Return the folder of what is done so far of a clip."""
    return target.parent / f".{target.name}.work"


def clear_work(target: Path) -> None:
    """Remove what was kept of a clip that is done."""
    with suppress(OSError):
        shutil.rmtree(work_of(target), ignore_errors=True)


def clip_target(inside: Path) -> Path:
    """Return the name of a blurred clip: a container that isn't written becomes MP4.

    The old ending stays in the name, so that `a.avi` and `a.mp4` don't meet.
    """
    is_written = inside.suffix.lower() in CONTAINERS
    return inside if is_written else inside.with_name(f"{inside.name}.mp4")


def clip_record(done: BlurredClip) -> dict[str, Any]:
    """Return what was done to a clip, as JSON."""
    height, width = done.image_hw
    return {
        "plates": done.plates,
        "frames": done.frames,
        "length_s": round(done.length_s, 3),
        "width": width,
        "height": height,
        "notes": list(done.notes),
    }


def plate_lines(clip: Path, done: BlurredClip) -> Iterator[str]:
    """Yield one JSON object for each plate that was followed through a clip.

    Boxes are in pixels of the clip as shown.
    """
    height, width = done.image_hw
    for number, plate in enumerate(done.followed, start=1):
        sightings = zip(plate.times_s, plate.track.xyxy, plate.track.confidence, strict=True)
        yield json.dumps(
            {
                "clip": str(clip),
                "plate": number,
                "video_track": plate.picture,
                "width": width,
                "height": height,
                "sightings": [
                    {
                        "time_s": round(time_s, 3),
                        "xyxy": [round(float(side), 1) for side in box],
                        "confidence": round(confidence, 4),
                    }
                    for time_s, box, confidence in sightings
                ],
            }
        )
