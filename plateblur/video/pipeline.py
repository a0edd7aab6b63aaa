"""The whole way of a clip: check it, look at every frame, follow each plate, hide, write.

Pictures are read three times: to look for plates, to look again where a plate should be but was
not found, and to write them with the plates hidden. What is written is upright, its times start
at 0, and each frame and sound is shown and heard when it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from plateblur.blur import blur_boxes
from plateblur.errors import VideoError
from plateblur.key_frames import Keys, boxes_at, key_frames, micros
from plateblur.pipeline import DEFAULTS
from plateblur.tracks import (
    STILL,
    TRACK_FLOOR,
    Frames,
    Step,
    Track,
    boxes_of,
    hidden_boxes,
    unseen,
)
from plateblur.types import BlurOptions, Boxes, Detections, Detector
from plateblur.video.colour import Planes, blank_planes, hidden_planes
from plateblur.video.looking import (
    Grey,
    camera_step,
    in_order,
    look_closer,
    none_found,
    with_more,
)
from plateblur.video.picture import Picture, checked, picture_of
from plateblur.video.reading import (
    OTHER_FRAMES,
    Stored,
    contents_of,
    frames_after,
    opened,
    require_end,
)
from plateblur.video.sound import read_through, sound_notes
from plateblur.video.types import (
    AS_USUAL,
    LIMITS,
    BlurredClip,
    ClipLimits,
    ClipOptions,
    FollowedPlate,
)
from plateblur.video.work import Work, known_again
from plateblur.video.writing import SEGMENT_FRAMES, Written, put_together, write_segment

AGAIN = 2  # closer looks: the second begins where the first carried the ends of the tracks
# Of the work, for the progress.
LOOKING_SHARE, AGAIN_SHARE, WRITING_SHARE = 0.6, 0.1, 0.2

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was seen in the frames of one video track.

    Attributes:
        times: of each frame, in the time base of the track, rising.
        is_blank: whether it can't be decoded.
        clip: what was found in each.
    """

    times: list[int]
    is_blank: list[bool]
    clip: Frames


def blur_clip(
    clip: BinaryIO,
    out: BinaryIO,
    detector: Detector,
    options: BlurOptions = DEFAULTS,
    how: ClipOptions = AS_USUAL,
    *,
    limits: ClipLimits = LIMITS,
    progress: Progress = lambda _: None,
    work: Path | None = None,
    resume: bool = False,
) -> BlurredClip:
    """Write `clip` to `out` with its plates unreadable, and return what was written.

    If an exception is raised, discard the content of `out`.

    Args:
        clip: open to be read, and able to seek.
        out: open to be written, and able to seek.
        detector: what finds the plates.
        options: method, margin, confidence and metadata count. A plate is hidden in all its
            frames if it was found once with `min_confidence`.
        how: the output format, and how to treat sound and damage.
        limits: the largest clip that is accepted.
        progress: called with the share of the work that is done, 0 to 1; the work ends with
            whatever it raises.
        work: folder for what is done so far; it stays if the work ends early. A temporary one if
            None.
        resume: go on with the work in that folder, if it is on the same clip and options.

    Raises:
        VideoError: the clip can't be taken, or one of its frames can't be read.
        DetectionError: the detector failed.
        EncodeError: the result could not be written.
        ValueError: an option is out of range.
    """

    def find(way: _Way, share: Progress) -> tuple[_Looked, list[Boxes], list[FollowedPlate]]:
        looked = way.look(detector, _part(share, 0, LOOKING_SHARE))
        for again in range(AGAIN):
            start = LOOKING_SHARE + again * AGAIN_SHARE
            part_progress = _part(share, start, start + AGAIN_SHARE)
            looked = way.look_again(looked, detector, again, part_progress)
        hidden, tracks = hidden_boxes(looked.clip, min_confidence=options.min_confidence)
        times_s = looked.clip.times_s
        followed = [
            FollowedPlate(
                way.number,
                track,
                tuple(times_s[frame] for frame in track.frames),
                way.keys_of(track, looked),
            )
            for track in tracks
        ]
        return looked, hidden, followed

    def kept() -> AbstractContextManager[Work]:
        return _work(work, _of(clip, detector, options, how), resume=resume)

    return _blurred(clip, out, find, options, how, limits, progress, kept)


def hide_in_clip(
    clip: BinaryIO,
    out: BinaryIO,
    plates: Sequence[Sequence[Keys]],
    options: BlurOptions = DEFAULTS,
    how: ClipOptions = AS_USUAL,
    *,
    limits: ClipLimits = LIMITS,
    progress: Progress = lambda _: None,
    work: Path | None = None,
    resume: bool = False,
) -> BlurredClip:
    """Write `clip` to `out` with the given plates hidden, without looking for others.

    If an exception is raised, discard the content of `out`.

    Args:
        clip: open to be read, and able to seek.
        out: open to be written, and able to seek.
        plates: those of each video track, the one that players show first.
        options: method, margin and metadata count.
        how: as for `blur_clip`, like the rest.
        limits: the largest clip that is accepted.
        progress: called with the share of the work that is done.
        work: folder for what is done so far.
        resume: go on with the work in that folder.

    Raises:
        VideoError: the clip can't be taken, or one of its frames can't be read.
        EncodeError: the result could not be written.
        ValueError: an option is out of range, or there are plates for more video tracks than the
            clip has.
    """

    def find(way: _Way, share: Progress) -> tuple[_Looked, list[Boxes], list[FollowedPlate]]:
        given = plates[way.number] if way.number < len(plates) else ()
        looked = way.count(_part(share, 0, 1 - WRITING_SHARE))
        times_us = [micros(pts, way.picture.time_base) for pts in looked.times]
        return looked, [boxes_at(given, time_us) for time_us in times_us], []

    def kept() -> AbstractContextManager[Work]:
        of = known_again(clip, metadata.version("plateblur"), plates, options, how)
        return _work(work, of, resume=resume)

    done = _blurred(clip, out, find, options, how, limits, progress, kept, len(plates))
    return replace(done, plates=sum(len(each) for each in plates))


def _blurred(
    clip: BinaryIO,
    out: BinaryIO,
    find: Callable[[_Way, Progress], tuple[_Looked, list[Boxes], list[FollowedPlate]]],
    options: BlurOptions,
    how: ClipOptions,
    limits: ClipLimits,
    progress: Progress,
    open_work: Callable[[], AbstractContextManager[Work]],
    least_pictures: int = 0,
) -> BlurredClip:
    """Write a clip with what `find` returns for each of its video tracks hidden."""
    _require_in_range(options)
    with opened(clip) as source:
        contents = contents_of(source, how, limits)
    if len(contents.pictures) < least_pictures:
        raise ValueError(
            f"expected {least_pictures} video tracks, as plates are given for, got "
            f"{len(contents.pictures)}"
        )
    sounds, ends_s = read_through(clip, contents.sounds, contents.pictures, limits)
    cut_short = require_end(contents, ends_s, how)
    pictures = [
        picture_of(clip, index, limits, hide_damaged=how.damaged == "hide")
        for index in contents.pictures
    ]
    notes = [*contents.notes, *cut_short, *sound_notes(sounds, how.container)]
    written: list[Written] = []
    followed: list[FollowedPlate] = []
    with open_work() as kept:
        for number, picture in enumerate(pictures):
            share = _part(progress, number / len(pictures), (number + 1) / len(pictures))
            way = _Way(clip, picture, number, options, how, limits, kept, contents.length_s)
            looked, hidden, plates = find(way, share)
            segments = way.write(looked, hidden, _part(share, 1 - WRITING_SHARE, 1))
            written.append(Written(picture, segments, looked.times))
            notes += [*picture.lost, *_damage_notes(looked, picture)]
            followed += plates
        zero_s = min(
            *(each.times[0] * each.picture.time_base for each in written),
            *(sound.starts_s for sound in sounds if sound.starts_s is not None),
            Fraction(2**62),
        )
        with opened(clip) as source:
            put_together(out, written, (source, sounds), zero_s, (how.container, options.metadata))
    progress(1.0)
    return BlurredClip(
        image_hw=pictures[0].image_hw,
        frames=sum(len(each.times) for each in written),
        length_s=max(
            float((each.times[-1] - each.times[0]) * each.picture.time_base) for each in written
        ),
        plates=len(followed),
        followed=tuple(followed),
        notes=tuple(notes),
        zero_us=round(zero_s * 1_000_000),
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """The way of one video track, a method a step."""

    clip: BinaryIO
    picture: Picture
    number: int
    options: BlurOptions
    how: ClipOptions
    limits: ClipLimits
    work: Work
    length_s: float

    def look(self, detector: Detector, progress: Progress) -> _Looked:
        """Return the plates that are found in each frame by itself, and the camera's movement."""
        journal = self.work.journal(f"looked-{self.number}")
        done: list[Any] = journal.read()
        floor = min(TRACK_FLOOR, self.options.min_confidence)

        def find(item: tuple[Grey | None, tuple[Stored, Grey | None]]) -> Any:
            before, (stored, now) = item
            if stored.frame is None:
                return [stored.pts, None, STILL.tolist()]
            image = self.picture.image(stored.frame)
            found = detector.detect(
                image,
                min_confidence=floor,
                smallest_plate_px=self.options.smallest_plate_px,
                effort=self.options.effort,
            )
            return [stored.pts, _rows(found), self._step(before, now).tolist()]

        # The last finished frame is read again, for the camera's movement after it.
        frames = self._with_grey(self._frames([pts for pts, _, _ in done[:-1]]))
        before = next(frames)[1] if done else None
        with closing(journal.write(in_order(find, _with_before(before, frames)))) as rows:
            for row in rows:
                done.append(row)
                shown_s = float((row[0] - done[0][0]) * self.picture.time_base)
                # A browser's recording doesn't say how long it is.
                progress(min(1.0, shown_s / self.length_s) if self.length_s else 0.0)
        is_blank = [rows is None for _, rows, _ in done]
        if all(is_blank):
            raise VideoError("expected a clip, got one without a frame that can be decoded")
        times = [pts for pts, _, _ in done]
        return _Looked(
            times=times,
            is_blank=is_blank,
            clip=Frames(
                found=[_detections(rows or []) for _, rows, _ in done],
                times_s=[float((pts - times[0]) * self.picture.time_base) for pts in times],
                steps=[np.array(step) for _, _, step in done],
            ),
        )

    def count(self, progress: Progress) -> _Looked:
        """Return the times of all frames, and which can't be decoded; no plates are looked for."""
        times, is_blank = list[int](), list[bool]()
        for stored in self._frames([]):
            times.append(stored.pts)
            is_blank.append(stored.frame is None)
            shown_s = float((stored.pts - times[0]) * self.picture.time_base)
            progress(min(1.0, shown_s / self.length_s) if self.length_s else 0.0)
        if all(is_blank):
            raise VideoError("expected a clip, got one without a frame that can be decoded")
        times_s = [float((pts - times[0]) * self.picture.time_base) for pts in times]
        nothing = [none_found()] * len(times)
        return _Looked(times, is_blank, Frames(nothing, times_s, [STILL] * len(times)))

    def keys_of(self, track: Track, looked: _Looked) -> Keys:
        """Return key frames that cover all that is hidden of a plate."""
        whole: dict[int, NDArray[np.float64]] = {}
        boxes = boxes_of(track, looked.clip, min_confidence=self.options.min_confidence)
        for frame, box in boxes:
            other = whole.get(frame, box)
            whole[frame] = np.hstack([np.minimum(box, other)[:2], np.maximum(box, other)[2:]])
        frames = sorted(whole)
        return key_frames(
            [micros(looked.times[frame], self.picture.time_base) for frame in frames],
            np.array([whole[frame] for frame in frames]).reshape(-1, 4),
            image_hw=self.picture.image_hw,
        )

    def _with_grey(self, frames: Iterator[Stored]) -> Iterator[tuple[Stored, Grey | None]]:
        """Yield each frame, and it small and grey.

        Here and not in the threads that use it, because one frame must not be converted by two.
        """
        for stored in frames:
            grey = None if stored.frame is None else self.picture.grey(stored.frame)
            yield stored, grey

    def _step(self, before: Grey | None, now: Grey | None) -> Step:
        """Return how the camera moved, in pixels of the frames as shown."""
        if before is None or now is None:
            return STILL
        scale = self.picture.image_hw[1] / now.shape[1]
        return np.asarray(camera_step(before, now) * [1, 1, scale, scale], np.float64)

    def look_again(
        self, looked: _Looked, detector: Detector, number: int, progress: Progress
    ) -> _Looked:
        """Return `looked` with what a closer look finds where a plate should be but wasn't found.

        Args:
            looked: so far.
            detector: what finds the plates.
            number: of this look; each carries the ends of the tracks further.
            progress: called with the share that is done.
        """
        places = unseen(looked.clip, min_confidence=self.options.min_confidence)
        journal = self.work.journal(f"again-{self.number}-{number}")
        more: dict[int, Any] = dict(journal.read())
        wanted = [frame for frame, boxes in enumerate(places) if len(boxes)]
        floor = min(TRACK_FLOOR, self.options.min_confidence)

        def find(item: tuple[int, Stored]) -> Any:
            frame, stored = item
            if stored.pts != looked.times[frame]:
                raise VideoError(OTHER_FRAMES)
            if stored.frame is None:
                return [frame, []]
            image = self.picture.image(stored.frame)
            return [frame, _rows(look_closer(image, places[frame], detector, floor=floor))]

        left = [frame for frame in wanted if frame not in more]
        if left:
            frames = enumerate(self._frames(looked.times[: left[0]]), start=left[0])
            some = (item for item in frames if item[0] < len(places) and len(places[item[0]]))
            with closing(journal.write(in_order(find, some))) as seen:
                for frame, rows in seen:
                    more[frame] = rows
                    progress(frame / len(places))
        found = list(looked.clip.found)
        for frame, rows in more.items():
            found[frame] = with_more(found[frame], _detections(rows))
        return replace(looked, clip=replace(looked.clip, found=found))

    def write(self, looked: _Looked, hidden: list[Boxes], progress: Progress) -> list[Path]:
        """Return the segments of the pictures with their plates hidden."""
        picture = self.picture
        # From the un-squeezed frames that were looked at to the stored ones.
        scale = np.tile(np.array(picture.upright_hw[::-1]) / picture.image_hw[::-1], 2)

        def hide(item: tuple[int, Stored]) -> Planes:
            frame, stored = item
            if frame >= len(looked.times) or stored.pts != looked.times[frame]:
                raise VideoError(OTHER_FRAMES)
            if stored.frame is None or looked.is_blank[frame]:
                return blank_planes(picture.written_hw, picture.colours)
            boxes = (hidden[frame] * scale).astype(np.float32)
            return hidden_planes(picture.planes(stored.frame), boxes, picture.colours, self.options)

        starts = range(0, len(looked.times), SEGMENT_FRAMES)
        segments = [self.work.segment(self.number, number) for number in range(len(starts))]
        done = next((n for n, path in enumerate(segments) if not path.exists()), len(segments))
        first = done * SEGMENT_FRAMES
        frames = enumerate(self._frames(looked.times[:first]), start=first)
        planes = _reported(in_order(hide, frames), progress, first, len(looked.times))
        for start, path in list(zip(starts, segments, strict=True))[done:]:
            times = looked.times[start : start + SEGMENT_FRAMES]
            write_segment(path, picture, islice(planes, len(times)), times, self.how.quality)
        if next(planes, None) is not None:
            raise VideoError(OTHER_FRAMES)
        return segments

    def _frames(self, known: Sequence[int]) -> Iterator[Stored]:
        hide = self.how.damaged == "hide"
        frames = frames_after(self.clip, self.picture.index, known, hide_damaged=hide)
        return checked(frames, self.picture, self.limits)


def _require_in_range(options: BlurOptions) -> None:
    blur_boxes(
        np.zeros((1, 1, 3), np.uint8),
        none_found().xyxy,
        method=options.method,
        margin=options.margin,
    )


def _rows(found: Detections) -> list[list[float]]:
    """Return detections as rows of `xyxy` and confidence, to be kept as JSON."""
    rows: list[list[float]] = (
        np.column_stack([found.xyxy, found.confidence]).astype(np.float64).tolist()
    )
    return rows


def _detections(rows: list[list[float]]) -> Detections:
    values = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(values[:, :4], values[:, 4])


def _with_before(
    before: Grey | None, frames: Iterator[tuple[Stored, Grey | None]]
) -> Iterator[tuple[Grey | None, tuple[Stored, Grey | None]]]:
    """Yield each frame with the small one before it."""
    for stored, grey in frames:
        yield before, (stored, grey)
        before = grey


def _part(progress: Progress, start: float, end: float) -> Progress:
    """Return what tells the progress of a part that takes the work from `start` to `end`."""
    return lambda share: progress(start + (end - start) * share)


def _reported(
    planes: Iterator[Planes], progress: Progress, first: int, frames: int
) -> Iterator[Planes]:
    for number, each in enumerate(planes, start=first + 1):
        yield each
        progress(number / frames)


def _damage_notes(looked: _Looked, picture: Picture) -> list[str]:
    blank = sum(looked.is_blank)
    if not blank:
        return []
    blank_s = float(blank / picture.rate)
    return [f"{blank} of {len(looked.times)} frames ({blank_s:.1f} s) can't be decoded: blanked"]


def _of(clip: BinaryIO, detector: Detector, *settings: object) -> str:
    """Return what this work is known again by: the same clip, model and settings."""
    model = type(detector).__name__, getattr(detector, "metadata", None)
    return known_again(clip, metadata.version("plateblur"), model, settings)


@contextmanager
def _work(folder: Path | None, of: str, *, resume: bool) -> Iterator[Work]:
    if folder is not None:
        yield Work(folder, of=of, resume=resume)
        return
    with tempfile.TemporaryDirectory(prefix="plateblur-") as temporary:
        yield Work(Path(temporary), of=of, resume=False)
