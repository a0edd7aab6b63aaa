"""Boxes that are given and not looked for: from a run and its reviews, COCO or YOLO.

A clip's plates come from a run alone, as key frames.

A photo without boxes in such a file shows no plates, if the file says so: COCO lists it without an
annotation, YOLO has an empty label file. One that the file doesn't mention has none given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from plateblur.errors import RunError
from plateblur.pipeline import blur_given, blur_photo
from plateblur.runs.clips import take_clip
from plateblur.runs.files import explain
from plateblur.runs.manifest import MANIFEST_NAME, Entry, Manifest, Version
from plateblur.runs.places import is_remote, opened, opened_zip
from plateblur.runs.plan import File, Job, Plan, Task, is_clip, on_disk, plan
from plateblur.runs.progress import number
from plateblur.runs.review_log import (
    Review,
    ReviewLog,
    is_written,
    plates_of,
    review_place,
    to_hide,
)
from plateblur.sets.forms import DrawnOn, Labelled, coco_file, upright_boxes, yolo_file
from plateblur.sets.layout import DatasetError
from plateblur.types import BlurOptions, BlurredPhoto, Detections, Detector

NOT_GIVEN = "no boxes are given for it; --detect looks for plates in it"
MANIFEST_SUFFIX, COCO_SUFFIX = ".jsonl", ".json"


@dataclass(frozen=True, slots=True)
class GivenPlates:
    """What is to be hidden in one photo.

    Attributes:
        plates: pixels of the upright photo.
        sha256: of the photo that they were drawn on, in hex; "" where that isn't known.
        zones: name of the zones that the photo had in the run that the plates come from.
    """

    plates: Detections
    sha256: str = ""
    zones: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """Photos, and what is to be hidden in them.

    Attributes:
        work: the photos.
        plates: for each photo, by its path below the outputs.
        without: how many photos the boxes are for that aren't among the photos.
        clips: how many clips the run has that the boxes are from.
    """

    work: Plan
    plates: dict[Path, GivenPlates] = field(default_factory=dict)
    without: int = 0
    clips: int = 0

    def of(self, job: Job) -> GivenPlates | None:
        """Return what is given for a photo; None where its boxes weren't given."""
        return self.plates.get(job.inside)

    def without_detector(self) -> Given:
        """Return the photos whose boxes were given; the others have failed."""
        for job in list(self.work.jobs):
            if self.of(job) is None:
                self.work.jobs.remove(job)
                self.work.failed.append((job.photo, NOT_GIVEN))
        return self

    def take(self, job: Job) -> tuple[Version, bytes]:
        """Return the photo, and what it is known again by, if it is the one that was looked at.

        Raises:
            RunError: it has changed since its boxes were drawn.
            OSError: it can't be read.
        """
        version, data = job.take()
        given = self.of(job)
        if given is not None and given.sha256 not in ("", version.sha256.hex()):
            raise RunError("the photo was changed after it was reviewed; blur and review it again")
        return version, data


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A run on a disk, and what people decided about its photos.

    Attributes:
        folder: of the outputs.
        manifest: open, not to be written to.
        log: of the reviews.
    """

    folder: Path
    manifest: Manifest
    log: ReviewLog

    def lines(self) -> Iterator[tuple[str, Entry, dict[str, Any]]]:
        """Yield each photo that was done: its output's name, and its line; no clips."""
        return (each for each in self._done() if not is_clip_line(each[2]))

    def clips(self) -> Iterator[tuple[str, Entry, dict[str, Any]]]:
        """Yield each clip that was done, as `lines` does photos."""
        return (each for each in self._done() if is_clip_line(each[2]))

    def _done(self) -> Iterator[tuple[str, Entry, dict[str, Any]]]:
        for output, entry in self.manifest.entries.items():
            if entry.state == "done":
                yield output, entry, self.manifest.line_at(entry.offset)

    def is_replaced(self, output: str, entry: Entry) -> bool:
        """Return whether an output was written over its photo."""
        return Path(entry.photo) == (self.folder / output).resolve()


def reviewed_run(run: Path, manifest: Path | None = None) -> Reviewed:
    """Open a run to look at it.

    Args:
        run: folder of its outputs.
        manifest: where that isn't in the folder.

    Raises:
        RunError: there is no manifest, or the log of the reviews is none.
    """
    place = manifest or run / MANIFEST_NAME
    if not place.is_file():
        raise RunError(
            f"{run} has no {MANIFEST_NAME}: expected the output folder of plateblur blur, or "
            "--manifest with where it was written"
        )
    try:
        return Reviewed(run, Manifest(place, is_read_only=True), ReviewLog(review_place(place)))
    except OSError as error:
        raise RunError(f"{run} can't be read: {explain(error)}") from error


def is_clip_line(line: dict[str, Any]) -> bool:
    """Return whether a line of the manifest is of a clip."""
    return "frames" in line


def original_at(address: str) -> File:
    """Return the photo that a manifest names.

    Raises:
        RunError: it is in a place that can't be reached.
    """
    if not address.startswith("zip://"):
        return opened(address) if is_remote(address) else Path(address)
    inside = Path(address.removeprefix("zip://"))
    for parent in inside.parents:
        if parent.is_file():
            return opened_zip(parent).below(inside.relative_to(parent))
    raise RunError(f"{address} isn't there")


def options_of(settings: dict[str, Any]) -> tuple[BlurOptions, int | None]:
    """Return how a run worked, from its settings in the manifest: options and most pixels."""
    known = {name: settings[name] for name in BlurOptions.__slots__ if name in settings}
    return BlurOptions(**known), settings.get("max_pixels")


def corrected(run: Reviewed) -> dict[int, Given]:
    """Return the photos whose outputs don't hide what their reviews say, by the run that did them.

    Raises:
        RunError: a photo is in a place that can't be reached, or was replaced by its output.
    """
    found: dict[int, Given] = {}
    for entry, review in _unwritten(run, clips=False):
        if run.is_replaced(review.output, entry):
            raise RunError(
                f"{entry.photo} was replaced by its output, so the original isn't there; to hide "
                "more in it, blur it again"
            )
        _add(found.setdefault(entry.run, Given(Plan())), entry, review)
    return found


def _unwritten(run: Reviewed, *, clips: bool) -> Iterator[tuple[Entry, Review]]:
    """Yield the reviews of photos, or of clips, whose outputs don't hide what they say.

    Also those that failed when they were to be written again: the next try is due.
    """
    for output, entry in run.manifest.entries.items():
        review = run.log.reviews.get(output)
        if review is None:
            continue
        line = run.manifest.line_at(entry.offset)
        if (is_clip_line(line) or is_clip(Path(entry.photo))) != clips:
            continue
        is_due = review.is_corrected if entry.state == "failed" else not is_written(review, line)
        if is_due:
            yield entry, review


@dataclass(frozen=True, slots=True)
class GivenClips:
    """Clips, and the plates that are to be hidden in them.

    Attributes:
        work: the clips.
        reviews: what was said of each, by the name of its output.
    """

    work: Plan = field(default_factory=Plan)
    reviews: dict[str, Review] = field(default_factory=dict)

    def take(self, job: Job) -> tuple[Version, Path]:
        """Return the clip, and what it is known again by, if it is the one that was looked at.

        Raises:
            RunError: it has changed since its plates were drawn.
            OSError: it can't be read.
        """
        version, clip = take_clip(job)
        if version.sha256.hex() != self.reviews[job.inside.as_posix()].sha256:
            raise RunError("the clip was changed after it was reviewed; blur and review it again")
        return version, clip


def corrected_clips(run: Reviewed) -> dict[int, GivenClips]:
    """Return the clips whose outputs don't hide what their reviews say, by the run that did them.

    Raises:
        RunError: a clip is in a place that can't be reached.
    """
    found: dict[int, GivenClips] = {}
    for entry, review in _unwritten(run, clips=True):
        clips = found.setdefault(entry.run, GivenClips())
        clip = on_disk(original_at(entry.photo))
        clips.work.jobs.append(Job(clip, _inside(review.output)))
        clips.reviews[review.output] = review
    return found


@dataclass(frozen=True, slots=True)
class Corrections:
    """What of a run a person has corrected; those boxes count, not the detector's.

    Attributes:
        reviews: of those photos and clips, by the names of their outputs.
    """

    reviews: dict[str, Review] = field(default_factory=dict)

    def of(self, task: Task, data: bytes) -> Detections | None:
        """Return what is to be hidden in a photo; None where nobody corrected it as it is now."""
        review = self.reviews.get(task.output)
        if review is None or hashlib.sha256(data).hexdigest() != review.sha256:
            return None
        return to_hide(review.plates)

    def blur(
        self,
        data: bytes,
        task: Task,
        detector: Detector,
        options: BlurOptions,
        *,
        max_pixels: int,
    ) -> BlurredPhoto:
        """Return a photo with what a person said hidden, or else with what the detector finds.

        Raises:
            PlateblurError: it can't be blurred.
        """
        plates = self.of(task, data)
        if plates is None:
            return blur_photo(data, detector, options, max_pixels=max_pixels, zones=task.zones)
        return blur_given(data, plates, options, max_pixels=max_pixels, zones=task.zones)

    def notes(self, todo: list[Task], what: str = "photo") -> list[str]:
        """Return what people should know of it before `todo` is done: a sentence each."""
        count = sum(task.output in self.reviews for task in todo)
        return [f"{number(count, what)} with corrected boxes: those are hidden"] if count else []


def corrections_of(manifest: Manifest) -> Corrections:
    """Return what people corrected in the photos of a run.

    Raises:
        RunError: the log of the reviews is none, or can't be read.
    """
    try:
        log = ReviewLog(review_place(manifest.path))
    except OSError as error:
        raise RunError(f"the reviews of the run can't be read: {explain(error)}") from error
    return Corrections({name: one for name, one in log.reviews.items() if one.is_corrected})


def _all_of(run: Reviewed) -> Given:
    """Return every photo of a run, with what its review says, or what was found."""
    found = Given(Plan(), clips=sum(1 for _ in run.clips()))
    for output, entry, line in run.lines():
        review = run.log.reviews.get(output)
        sha256 = "" if entry.given is None else entry.given.sha256.hex()
        _add(found, entry, review or Review(output, sha256, plates_of(line)))
    return found


def _add(found: Given, entry: Entry, review: Review) -> None:
    inside = _inside(review.output)
    found.work.jobs.append(Job(original_at(entry.photo), inside))
    found.plates[inside] = GivenPlates(to_hide(review.plates), review.sha256, entry.zones)


def _inside(output: str) -> Path:
    """Return the path of an output below the outputs.

    Raises:
        RunError: it leads out of them.
    """
    inside = Path(output)
    if inside.is_absolute() or ".." in inside.parts:
        raise RunError(f"{output} leads out of the output folder")
    return inside


def given_by(boxes: Path, photos: Iterable[File], *, drawn_on: DrawnOn | None) -> Given:
    """Return what a run, a COCO file or a YOLO folder gives.

    Args:
        boxes: folder of a run's outputs, or its manifest; a COCO file; or a YOLO folder with
            `labels/` or label files beside the photos.
        photos: photos and folders of them; without any, those that `boxes` names.
        drawn_on: what boxes of photos with an EXIF turn were drawn on; needed for COCO and YOLO.

    Raises:
        RunError: the boxes can't be read, or don't fit their photos.
    """
    is_manifest = boxes.suffix.lower() == MANIFEST_SUFFIX
    if is_manifest or (boxes / MANIFEST_NAME).is_file():
        folder = boxes.parent if is_manifest else boxes
        given = _all_of(reviewed_run(folder, boxes if is_manifest else None))
        return _among(given, list(photos))
    try:
        return _labelled(boxes, list(photos), drawn_on)
    except (DatasetError, OSError, UnicodeDecodeError) as error:
        raise RunError(f"{error}" if isinstance(error, DatasetError) else explain(error)) from error


def _labelled(boxes: Path, photos: list[File], drawn_on: DrawnOn | None) -> Given:
    if boxes.is_file() and boxes.suffix.lower() == COCO_SUFFIX:
        return _of_coco(boxes, coco_file(boxes), photos, drawn_on)
    if not boxes.is_dir():
        raise RunError(
            f"{boxes} has no boxes: expected the output folder of a run, a COCO file (.json), or a "
            "folder with YOLO labels"
        )
    images = boxes / "images"
    work = plan(photos or [images if images.is_dir() else boxes], recursive=True)
    taken: dict[Path, Path] = {}

    def labels_of(job: Job) -> Labelled | None:
        photo, name = on_disk(job.photo), job.inside.with_suffix(".txt")
        label = next(
            (path for path in (boxes / "labels" / name, boxes / name) if path.is_file()), None
        )
        if label is None:
            return None
        if taken.setdefault(label, photo) != photo:
            raise RunError(f"{taken[label].name} has the YOLO labels of that name: {label}")
        return yolo_file(label, photo)

    return _given(work, labels_of, drawn_on)


def _of_coco(
    boxes: Path, named: dict[str, Labelled], photos: list[File], drawn_on: DrawnOn | None
) -> Given:
    jobs = [Job(boxes.parent / name, _below(name)) for name in named]
    work = plan(photos, recursive=True) if photos else Plan(jobs)
    names = _names_of(work.jobs, list(named))
    given = _given(work, lambda job: named[names[job]] if job in names else None, drawn_on)
    return replace(given, without=len(named) - len(names))


def _given(
    work: Plan, labels_of: Callable[[Job], Labelled | None], drawn_on: DrawnOn | None
) -> Given:
    """Return the boxes of each photo; one whose boxes don't fit it has failed, and says why."""
    plates = {}
    for job in list(work.jobs):
        try:
            labels = labels_of(job)
            if labels is not None:
                plates[job.inside] = GivenPlates(_plates(on_disk(job.photo), labels, drawn_on))
        except (DatasetError, RunError, OSError) as error:
            work.jobs.remove(job)
            work.failed.append((job.photo, explain(error)))
    return Given(work, plates)


def _names_of(jobs: list[Job], names: list[str]) -> dict[Job, str]:
    """Return which photo each name is for: the one whose path has the most of its end.

    A name is for one photo at most, so that no photo gets the boxes of another of that name.
    """
    by_name: dict[str, list[str]] = {}
    for name in names:
        by_name.setdefault(Path(name).name, []).append(name)
    claims: dict[str, list[tuple[int, int]]] = {}
    for row, job in enumerate(jobs):
        shared = [
            (_shared_end(on_disk(job.photo), name), name)
            for name in by_name.get(job.photo.name, [])
        ]
        best = max(shared, default=None)
        if best is not None and [each for each, _ in shared].count(best[0]) == 1:
            claims.setdefault(best[1], []).append((best[0], row))
    found = {}
    for name, claimed in claims.items():
        most, row = max(claimed)
        if [each for each, _ in claimed].count(most) == 1:
            found[jobs[row]] = name
    return found


def _shared_end(photo: Path, name: str) -> int:
    """Return how many parts the ends of two paths have in common."""
    pairs = zip(reversed(photo.absolute().parts), reversed(Path(name).parts), strict=False)
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count


def _plates(photo: Path, labels: Labelled, drawn_on: DrawnOn | None) -> Detections:
    """Return all boxes of a photo, of whatever class: who gives a box wants it hidden."""
    try:
        here = replace(labels, path=photo)
        xyxy = upright_boxes(here, labels.xyxy, drawn_on=drawn_on).astype(np.float32)
        if not np.isfinite(xyxy).all() or (xyxy[:, 2:] <= xyxy[:, :2]).any():
            raise ValueError("expected boxes with an area")
    except ValueError as error:
        raise RunError(f"{labels.label}, {photo.name}: {error}") from error
    return Detections(xyxy, np.ones(len(xyxy), np.float32))


def _among(given: Given, photos: list[File]) -> Given:
    """Return what is given for `photos`, or for all where there are none."""
    if not photos:
        return given
    work = plan(photos, recursive=True)
    by_address = {job.address: given.plates[job.inside] for job in given.work.jobs}
    plates = {job.inside: by_address[job.address] for job in work.jobs if job.address in by_address}
    return Given(work, plates, len(by_address) - len(plates), given.clips)


def _below(name: str) -> Path:
    """Return the path of a photo below the outputs, from how its file of boxes names it."""
    path = Path(name)
    return Path(path.name) if path.is_absolute() or ".." in path.parts else path
