"""One clip of a run: followed and blurred into a file beside its output."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plateblur.errors import VideoError
from plateblur.runs.files import digest_of, seen_at
from plateblur.runs.manifest import Version
from plateblur.runs.plan import FRESH_NS, Job, Task, on_disk
from plateblur.types import BlurOptions, Detector

if TYPE_CHECKING:  # PyAV takes a moment to load
    from plateblur.video import BlurredClip, ClipOptions

Container = Literal["mp4", "mov", "mkv"]
CONTAINERS: dict[str, Container] = {".mp4": "mp4", ".mov": "mov", ".mkv": "mkv"}


@dataclass(frozen=True, slots=True)
class ClipWork:
    """Blurs clips, one at a time.

    Attributes:
        detector: what finds the plates.
        options: how they are hidden.
        how: what is written; the container follows from each output's name.
        progress: is called with the share of the clip that is done.
    """

    detector: Detector
    options: BlurOptions
    how: ClipOptions
    progress: Callable[[float], None] = lambda _: None

    def blur(self, clip: Path, target: Path, *, resume: bool) -> tuple[Path, BlurredClip]:
        """Return the blurred clip, in a file beside `target`, and what was done.

        What is done so far is kept beside `target` too, for the next time, unless the clip
        can't be taken at all.

        Raises:
            PlateblurError: the clip can't be taken or done.
            OSError: it can't be read or written.
        """
        from plateblur.video import blur_clip

        _require_file(clip)
        target.parent.mkdir(parents=True, exist_ok=True)
        part, work = part_of(target), work_of(target)
        try:
            with clip.open("rb") as given, part.open("w+b") as file:
                done = blur_clip(
                    given,
                    file,
                    self.detector,
                    self.options,
                    replace(self.how, container=CONTAINERS[target.suffix.lower()]),
                    progress=self.progress,
                    work=work,
                    resume=resume,
                )
        except BaseException as error:
            part.unlink(missing_ok=True)
            if isinstance(error, VideoError):  # it would be refused again
                shutil.rmtree(work, ignore_errors=True)
            raise
        return part, done

    def make(self, task: Task, clip: Path) -> tuple[dict[str, Any], Path]:
        """Return what the manifest says of a clip, and the blurred clip in a file."""
        part, done = self.blur(clip, on_disk(task.target), resume=True)
        return clip_record(done), part


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
