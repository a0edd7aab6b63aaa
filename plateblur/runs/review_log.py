"""What people decided about the photos and clips of a run: JSON lines, never rewritten.

The file is beside the manifest. Each line is the whole state of one photo or clip after a change,
with a revision that counts its lines. So the last line of a photo counts, earlier ones are its
history, and a line that a kill cuts short takes nothing else with it. A line is on the disk before
its author learns that it is saved.

Several programs may write to one log at a time. A change names the revision that it was made from;
if someone else has changed the boxes since, it is refused, and both sides are still there.

A line has boxes, a name, a time and the photo's hash: no plate text and no pixels.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from plateblur.errors import RunError
from plateblur.key_frames import Keys
from plateblur.runs.manifest import MANIFEST_NAME, now, sync_folder
from plateblur.types import Detections

REVIEW_NAME = "plateblur-review.jsonl"
REVIEW_LOCK_NAME = f"{REVIEW_NAME}.lock"
FORMAT = 1
HEAD = {"review": FORMAT}
LOCK_WAIT_S = 10.0  # another program holds the lock only while it writes a line

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright photo."""

Outline = tuple[tuple[float, float], ...]
"""Four corners in order around a plate, x and y in pixels of the upright photo."""


@dataclass(frozen=True, slots=True)
class Plate:
    """A box of a reviewed photo.

    Attributes:
        xyxy: where it is.
        hide: whether it is to be hidden; False for what the detector took for a plate.
        confidence: the detector's; None for a box that a person added.
        found: where the detector saw it; None for a box that a person added.
        corners: its outline, if it isn't an upright rectangle.
    """

    xyxy: Box
    hide: bool = True
    confidence: float | None = None
    found: Box | None = None
    corners: Outline | None = None

    @property
    def is_corrected(self) -> bool:
        """Whether a person added it, moved it, or said that it is no plate."""
        return self.found != self.xyxy or not self.hide

    def as_json(self) -> dict[str, Any]:
        """Return it as a line has it."""
        line: dict[str, Any] = {"xyxy": self.xyxy, "hide": self.hide}
        if self.found is not None:
            line |= {"confidence": self.confidence, "found": self.found}
        return line | ({} if self.corners is None else {"corners": self.corners})


@dataclass(frozen=True, slots=True)
class MovingPlate:
    """A plate of a reviewed clip.

    Attributes:
        keys: its box at key frames.
        hide: whether it is to be hidden; False for what the detector took for a plate.
        confidence: the detector's, where it was surest; None for one that a person added.
        found: the key frames of the run; None for a plate that a person added.
        video_track: which of the clip's; 0 is the one that players show first.
    """

    keys: Keys
    hide: bool = True
    confidence: float | None = None
    found: Keys | None = None
    video_track: int = 0

    @property
    def is_corrected(self) -> bool:
        """Whether a person added it, changed a key frame, or said that it is no plate."""
        return self.found != self.keys or not self.hide

    def as_json(self) -> dict[str, Any]:
        """Return it as a line has it; key frames that are as they were found aren't repeated."""
        line: dict[str, Any] = {"keys": self.keys, "hide": self.hide}
        if self.found is not None:
            is_same = self.found == self.keys
            line |= {"confidence": self.confidence, "found": True if is_same else self.found}
        return line | ({"video_track": self.video_track} if self.video_track else {})


@dataclass(frozen=True, slots=True)
class Review:
    """The state of one photo or clip.

    Attributes:
        output: its output, as the manifest names it.
        sha256: of the photo or clip that was looked at, in hex.
        plates: all boxes of a photo.
        looked_at: whether someone has finished with it.
        readable: for a photo of a sample: whether a plate could be read in its output as it was
            written; None where nobody has said so.
        seen: of the output that `readable` is about, its SHA-256 in hex.
        by: name of who changed it last.
        at: when that was, ISO 8601 in UTC.
        revision: how many lines it has; 0 before the first.
        moving: all plates of a clip.
    """

    output: str
    sha256: str
    plates: tuple[Plate, ...]
    looked_at: bool = False
    readable: bool | None = None
    seen: str = ""
    by: str = ""
    at: str = ""
    revision: int = 0
    moving: tuple[MovingPlate, ...] = ()

    @property
    def all_plates(self) -> tuple[Plate | MovingPlate, ...]:
        """What it has: a photo's boxes, or a clip's plates."""
        return self.plates + self.moving

    @property
    def is_corrected(self) -> bool:
        """Whether a person changed a box."""
        return any(plate.is_corrected for plate in self.all_plates)

    def as_json(self) -> dict[str, Any]:
        """Return its line."""
        return {
            "output": self.output,
            "revision": self.revision,
            "at": self.at,
            "by": self.by,
            "looked_at": self.looked_at,
            **({} if self.readable is None else {"readable": self.readable, "seen": self.seen}),
            "sha256": self.sha256,
            "plates": [plate.as_json() for plate in self.plates],
            **({"tracks": [plate.as_json() for plate in self.moving]} if self.moving else {}),
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """Photos drawn at random, for a claim about all of them.

    Attributes:
        outputs: those drawn, in the order of the draw.
        population: how many photos they were drawn from.
        seed: of the random numbers.
        share: the claim: fewer than this share of the photos have a readable plate.
        confidence: of the claim, 0 to 1.
        at: when it was drawn, ISO 8601 in UTC.
    """

    outputs: tuple[str, ...]
    population: int
    seed: int
    share: float
    confidence: float
    at: str = ""


class ConflictError(RunError):
    """Someone else has changed the boxes of a photo since."""

    def __init__(self, current: Review) -> None:
        super().__init__(f"{current.by} has changed this photo since, at {current.at}")
        self.current = current


class ReviewLog:
    """An open log; safe to share by threads, and by programs on one disk.

    Attributes:
        path: of the file.
        reviews: the last state of each photo, by its output's name.
        changes: the outputs that were changed, in the order of the lines.
        sample: the one that was drawn last, or None.
        damaged: how many lines can't be read; what they said is lost.
    """

    def __init__(self, path: Path) -> None:
        """Read the log at `path`; where there is none, it begins with the first change.

        Raises:
            RunError: the file is no log of reviews, or of a later version.
            OSError: it can't be read.
        """
        self.path = path
        self._lock = threading.Lock()
        self._others = FileLock(path.with_name(f"{path.name}.lock"), timeout=LOCK_WAIT_S)
        self._begin()
        self.refresh()

    def refresh(self) -> None:
        """Read what other programs have added.

        Raises:
            RunError: the file is no log of reviews, or of a later version.
            OSError: it can't be read.
        """
        with self._lock:
            self._read_on()

    def save(self, change: Review, *, base: int) -> Review:
        """Write a photo's new state, and return it with its revision once it is on the disk.

        Args:
            change: the state; its time and revision are set here.
            base: revision of the state that it was made from.

        Raises:
            ConflictError: someone else has changed the boxes since.
            OSError: it can't be written; the log is as it was before.
        """
        with self._writing():
            current = self.reviews.get(change.output)
            revision = 0 if current is None else current.revision
            is_behind = revision != base
            if current is not None and is_behind and current.all_plates != change.all_plates:
                raise ConflictError(current)
            review = replace(change, revision=revision + 1, at=now())
            self._append(review.as_json())
        return review

    def draw(self, sample: Sample) -> None:
        """Write down a sample, in place of an earlier one.

        Raises:
            OSError: it can't be written.
        """
        line = {
            "sample": len(sample.outputs),
            "population": sample.population,
            "seed": sample.seed,
            "share": sample.share,
            "confidence": sample.confidence,
            "at": now(),
            "outputs": sample.outputs,
        }
        with self._writing():
            self._append(line)

    def _begin(self) -> None:
        self.reviews: dict[str, Review] = {}
        self.changes: list[str] = []
        self.sample: Sample | None = None
        self.damaged = 0
        self._end = 0

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep out other threads and other programs, and read what those have added."""
        with self._lock, self._others:
            self._read_on()
            yield

    def _append(self, line: dict[str, Any]) -> None:
        lines = [HEAD, line] if self._end == 0 else [line]
        data = "".join(f"{json.dumps(each)}\n" for each in lines).encode()
        is_new = not self.path.exists()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            os.ftruncate(handle, self._end)  # half a line of a program that was killed
            os.lseek(handle, self._end, os.SEEK_SET)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(handle, left) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, self._end)
                raise
        finally:
            os.close(handle)
        if is_new:
            sync_folder(self.path.parent)
        self._read_on()

    def _read_on(self) -> None:
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._end:  # replaced by another file
                    self._begin()
                file.seek(self._end)
                data = file.read()
        except FileNotFoundError:
            self._begin()
            return
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            if self._end == 0:
                _check_head(line, self.path)
            else:
                self._remember(line)
            self._end += len(line) + 1

    def _remember(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if "sample" in entry:
                self.sample = _sample(entry)
                return
            review = _review(entry)
        except (ValueError, TypeError, KeyError):
            self.damaged += 1
            return
        self.reviews[review.output] = review
        self.changes.append(review.output)


def review_place(manifest: Path) -> Path:
    """Return where the log of a run is, from where its manifest is."""
    if manifest.name == MANIFEST_NAME:
        return manifest.with_name(REVIEW_NAME)
    return manifest.with_name(f"{manifest.stem}-review.jsonl")


def plates_of(line: dict[str, Any]) -> tuple[Plate, ...]:
    """Return what the manifest's line of a photo says that was found and hidden."""
    return tuple(
        Plate(
            xyxy=_box(found["xyxy"]),
            confidence=found["confidence"],
            found=_box(found["xyxy"]),
            corners=_outline(found.get("corners")),
        )
        for found in line.get("detections", ())
    )


def moving_of(line: dict[str, Any]) -> tuple[MovingPlate, ...]:
    """Return what the manifest's line of a clip says that was found and hidden."""
    return tuple(
        MovingPlate(
            keys=(keys := keys_of(found["keys"])),
            confidence=found["confidence"],
            found=keys,
            video_track=found.get("video_track", 0),
        )
        for found in line.get("tracks", ())
    )


def keys_of(sent: Iterable[Iterable[float]]) -> Keys:
    """Return key frames from their JSON."""
    return tuple((int(time), *_box(sides)) for time, *sides in sent)


def to_hide(plates: Iterable[Plate]) -> Detections:
    """Return the plates that are to be hidden, the most confident first; a person's come first."""
    hidden = sorted(
        (plate for plate in plates if plate.hide), key=lambda plate: -(plate.confidence or 1.0)
    )
    nowhere = ((np.nan, np.nan),) * 4
    outlines = [plate.corners or nowhere for plate in hidden]
    return Detections(
        xyxy=np.array([plate.xyxy for plate in hidden], np.float32).reshape(-1, 4),
        confidence=np.array([plate.confidence or 1.0 for plate in hidden], np.float32),
        corners=(
            np.array(outlines, np.float32).reshape(-1, 4, 2)
            if any(plate.corners for plate in hidden)
            else None
        ),
    )


def is_written(review: Review, line: dict[str, Any]) -> bool:
    """Return whether the output of the manifest's `line` hides a review's plates and no others."""
    wanted = sorted((plate.xyxy, plate.corners or ()) for plate in review.plates if plate.hide)
    moving = sorted((plate.video_track, plate.keys) for plate in review.moving if plate.hide)
    return wanted == sorted(
        (plate.xyxy, plate.corners or ()) for plate in plates_of(line)
    ) and moving == sorted((plate.video_track, plate.keys) for plate in moving_of(line))


def is_judged(review: Review, line: dict[str, Any]) -> bool:
    """Return whether somebody said whether a plate is readable in the output that is there.

    Or in the one before, if what was written since is what that person corrected.
    """
    if review.readable is None:
        return False
    is_same = review.seen == line["written"]["sha256"]
    return is_same or (review.is_corrected and is_written(review, line))


def _check_head(line: bytes, path: Path) -> None:
    try:
        version = json.loads(line)["review"]
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} is no log of reviews of plateblur; move it away") from error
    if version > FORMAT:
        raise RunError(f"{path} was written by a later version of plateblur; use that one")


def _sample(entry: dict[str, Any]) -> Sample:
    return Sample(
        outputs=tuple(entry["outputs"]),
        population=entry["population"],
        seed=entry["seed"],
        share=entry["share"],
        confidence=entry["confidence"],
        at=entry["at"],
    )


def _review(entry: dict[str, Any]) -> Review:
    return Review(
        output=entry["output"],
        sha256=entry["sha256"],
        plates=tuple(_plate(each) for each in entry["plates"]),
        looked_at=entry["looked_at"],
        readable=entry.get("readable"),
        seen=entry.get("seen", ""),
        by=entry["by"],
        at=entry["at"],
        revision=entry["revision"],
        moving=tuple(_moving(each) for each in entry.get("tracks", ())),
    )


def _plate(entry: dict[str, Any]) -> Plate:
    found = entry.get("found")
    return Plate(
        xyxy=_box(entry["xyxy"]),
        hide=entry["hide"],
        confidence=entry.get("confidence"),
        found=None if found is None else _box(found),
        corners=_outline(entry.get("corners")),
    )


def _moving(entry: dict[str, Any]) -> MovingPlate:
    keys, found = keys_of(entry["keys"]), entry.get("found")
    return MovingPlate(
        keys=keys,
        hide=entry["hide"],
        confidence=entry.get("confidence"),
        found=keys if found is True else None if found is None else keys_of(found),
        video_track=entry.get("video_track", 0),
    )


def _box(sides: Iterable[float]) -> Box:
    left, top, right, bottom = (float(side) for side in sides)
    return left, top, right, bottom


def _outline(corners: Iterable[Iterable[float]] | None) -> Outline | None:
    if corners is None:
        return None
    return tuple((float(x), float(y)) for x, y in corners)
