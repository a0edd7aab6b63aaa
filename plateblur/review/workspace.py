"""The photos and clips of a run as the page shows them, and what people say of them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plateblur.blur import blur_boxes
from plateblur.errors import PhotoError, RunError, VideoError
from plateblur.guidance import marks
from plateblur.key_frames import boxes_at
from plateblur.outlines import edges_around
from plateblur.pipeline import blur_given
from plateblur.review.clips import LATE_US, Reels, moving_plates, worry_of
from plateblur.review.sent import InvalidError, clipped, four
from plateblur.runs.files import digest_of, explain, seen_at
from plateblur.runs.given import is_clip_line, options_of, original_at, reviewed_run
from plateblur.runs.manifest import Entry, Seen
from plateblur.runs.plan import on_disk
from plateblur.runs.review_log import (
    Outline,
    Plate,
    Review,
    is_judged,
    is_written,
    moving_of,
    plates_of,
    to_hide,
)
from plateblur.types import Image
from plateblur.video import glimpse

MOST_PLATES = 500
LONGEST_NAME = 80
NO_TRACKS = (
    "an earlier version of plateblur blurred it and didn't record its plates; to review it, blur "
    "it again with plateblur video --redo"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One photo or clip of the run.

    Attributes:
        output: its output's name.
        entry: of the manifest.
        line: of the manifest.
    """

    output: str
    entry: Entry
    line: dict[str, Any]

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the upright photo, or of the clip's frames as shown, pixels."""
        return self.line["height"], self.line["width"]

    @property
    def is_clip(self) -> bool:
        """Whether it is a clip."""
        return is_clip_line(self.line)

    @property
    def sha256(self) -> str:
        """Of the photo, in hex."""
        return str(self.line["input"]["sha256"])


class Workspace:
    """An open run; safe to share by threads."""

    def __init__(self, run: Path, manifest: Path | None = None) -> None:
        """Open the run whose outputs are in the folder `run`.

        Raises:
            RunError: it is no run.
        """
        self._place = run, manifest
        self._lock = threading.Lock()
        self._reels = Reels()
        self._reviewed = reviewed_run(run, manifest)
        self._size = -1
        self._read()

    def refresh(self) -> None:
        """Read what other programs have written: reviews, and photos of `plateblur apply`."""
        with self._lock:
            self._reviewed.log.refresh()
            if self._reviewed.manifest.path.stat().st_size != self._size:
                self._reviewed.manifest.close()
                self._reviewed = reviewed_run(*self._place)
                self._read()

    def close(self) -> None:
        """Close the clips that are open."""
        self._reels.close()

    def _read(self) -> None:
        manifest = self._reviewed.manifest
        self._size = manifest.path.stat().st_size
        self._outputs = list(manifest.entries)

    def about(self) -> dict[str, Any]:
        """Return what the page says of the run."""
        reviewed = self._reviewed
        last = max(reviewed.manifest.runs)
        run = reviewed.manifest.runs[last]
        sample = reviewed.log.sample
        return {
            "run": reviewed.folder.absolute().name,
            "manifest": str(reviewed.manifest.path),
            "software": run["software"],
            "model": run["settings"].get("model"),
            "method": run["settings"].get("method"),
            "margin": run["settings"].get("margin", 0),
            "damaged": reviewed.log.damaged + reviewed.manifest.damaged,
            "sample": None
            if sample is None
            else {
                "photos": len(sample.outputs),
                "share": sample.share,
                "confidence": sample.confidence,
            },
        }

    def photos(self) -> dict[str, Any]:
        """Return a summary of each photo and clip, and how many changes it takes in."""
        self.refresh()
        log = self._reviewed.log
        count = len(log.changes)
        with self._lock:
            photos = [
                self._summary(number, Shown(output, *self._line(number)))
                for number, output in enumerate(self._outputs)
            ]
            return {"changes": count, "size": self._size, "photos": photos}

    def changed(self, since: int, size: int) -> dict[str, Any]:
        """Return the summaries of what was changed since there were `since` changes.

        Args:
            since: as `photos` or this returned.
            size: of the manifest, as `photos` returned; if it has changed, everything must be
                read again.
        """
        self.refresh()
        if size != self._size:
            return {"is_new": True}
        changes = self._reviewed.log.changes
        numbers = {output: number for number, output in enumerate(self._outputs)}
        count = len(changes)
        changed = {numbers[name] for name in changes[since:count] if name in numbers}
        with self._lock:
            photos = [
                self._summary(number, Shown(self._outputs[number], *self._line(number)))
                for number in sorted(changed)
            ]
        return {"changes": count, "photos": photos}

    def photo(self, number: int) -> dict[str, Any]:
        """Return all boxes of a photo, or all plates of a clip.

        Raises:
            InvalidError: there is no such photo.
        """
        shown = self._shown(number)
        review = self._review(shown)
        height, width = shown.image_hw
        return {
            "id": number,
            "name": shown.output,
            "width": width,
            "height": height,
            "is_panorama": "projection" in shown.line,
            "is_clip": shown.is_clip,
            "written": shown.line["written"]["sha256"][:16],
            "is_written": is_written(review, shown.line),
            "ignored": shown.line.get("ignored", 0),
            **as_sent(review),
            "readable": review.readable if is_judged(review, shown.line) else None,
        }

    def save(self, number: int, sent: Mapping[str, Any]) -> dict[str, Any]:
        """Write down a photo's new state, and return it as `photo` does.

        Raises:
            InvalidError: what was sent makes no sense.
            ConflictError: someone else has changed the boxes since.
            OSError: it can't be written.
        """
        shown = self._shown(number)
        before = self._review(shown)
        try:
            by = str(sent["by"]).strip()
            if not 0 < len(by) <= LONGEST_NAME or not by.isprintable():
                raise InvalidError(f"Enter a name of at most {LONGEST_NAME} characters.")
            readable = sent.get("readable")
            if readable is not None and not isinstance(readable, bool):
                raise TypeError
            review = Review(
                output=shown.output,
                sha256=shown.sha256,
                plates=() if shown.is_clip else _plates(sent["plates"], shown, before),
                moving=(
                    moving_plates(sent["plates"], shown.line, before.moving)
                    if shown.is_clip
                    else ()
                ),
                looked_at=bool(sent["looked_at"]),
                readable=readable,
                seen="" if readable is None else str(shown.line["written"]["sha256"]),
                by=by,
            )
            base = int(sent["base"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidError("The page sent something that makes no sense.") from error
        self._reviewed.log.save(review, base=base)
        return self.photo(number) | {"summary": self._summary(number, shown)}

    def before(self, number: int) -> bytes:
        """Return the original photo.

        Raises:
            InvalidError: there is no such photo, or it was changed since the run.
            RunError: the output has taken its place.
            OSError: it can't be read.
        """
        shown = self._photo(number)
        if self._reviewed.is_replaced(shown.output, shown.entry):
            raise RunError("the blurred photo has replaced the original")
        data = original_at(shown.line["photo"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != shown.sha256:
            raise InvalidError("The original has been changed since the run.")
        return data

    def after(self, number: int) -> bytes:
        """Return the photo with everything hidden that is to be: its output, if it is so.

        Raises:
            InvalidError: there is no such photo.
            PlateblurError: the original can't be blurred.
            OSError: it, or the output, can't be read.
        """
        shown = self._photo(number)
        review = self._review(shown)
        if is_written(review, shown.line):
            return self._output(shown).read_bytes()
        settings = self._reviewed.manifest.runs[shown.entry.run]["settings"]
        options, _ = options_of(settings)
        plain = replace(options, exact=False, draw_boxes=False)
        return blur_given(self.before(number), to_hide(review.plates), plain).data

    def output(self, number: int) -> bytes | Image:
        """Return the output of a photo as it was written, or a frame of a clip's.

        Raises:
            InvalidError: there is no such photo.
            VideoError: the clip can't be decoded.
            OSError: it can't be read.
        """
        shown = self._shown(number)
        place = self._output(shown)
        return glimpse(place) if shown.is_clip else place.read_bytes()

    def times_us(self, number: int) -> list[int]:
        """Return when each frame of a clip is shown, microseconds on the clip's own clock.

        Raises:
            InvalidError: there is no such clip, or it was changed since the run.
            VideoError: it can't be decoded.
            OSError: it can't be read.
        """
        return self._reels.times_us(*self._original(self._clip(number)))

    def frame_before(self, number: int, time_us: int) -> Image:
        """Return the frame of the original clip that is shown at a time.

        Raises:
            InvalidError: there is no such clip, or it was changed since the run.
            VideoError: the frame can't be decoded.
            OSError: the clip can't be read.
        """
        clip, seen, check = self._original(self._clip(number))
        return self._reels.image_at(clip, seen, time_us, check)

    def frame_after(self, number: int, time_us: int) -> Image:
        """Return a frame with everything hidden that is to be: of the output, if it is so.

        Raises:
            InvalidError: there is no such clip.
            PlateblurError: the frame can't be decoded.
            OSError: the clip, or the output, can't be read.
        """
        shown = self._clip(number)
        review = self._review(shown)
        if is_written(review, shown.line):
            place = self._output(shown)
            written_us = time_us - shown.line["zero_us"] + LATE_US
            return self._reels.image_at(place, seen_at(place), written_us, lambda: None)
        options, _ = options_of(self._reviewed.manifest.runs[shown.entry.run]["settings"])
        hidden = [plate.keys for plate in review.moving if plate.hide and not plate.video_track]
        return blur_boxes(
            self.frame_before(number, time_us),
            boxes_at(hidden, time_us),
            method=options.method,
            margin=options.margin,
        )

    def _original(self, shown: Shown) -> tuple[Path, Seen | None, Callable[[], None]]:
        """Return a clip, what tells its version, and what raises if it isn't the one of the run."""
        clip = on_disk(original_at(shown.line["photo"]))
        seen = seen_at(clip)

        def check() -> None:
            given = shown.entry.given
            if given is None or given.is_seen_in(seen):
                return
            if digest_of(clip) != given.sha256:
                raise InvalidError("The original has been changed since the run.")

        return clip, seen, check

    def _output(self, shown: Shown) -> Path:
        return self._reviewed.folder / shown.output

    def _line(self, number: int) -> tuple[Entry, dict[str, Any]]:
        manifest = self._reviewed.manifest
        entry = manifest.entries[self._outputs[number]]
        return entry, manifest.line_at(entry.offset)

    def _shown(self, number: int) -> Shown:
        with self._lock:
            if not 0 <= number < len(self._outputs):
                raise InvalidError("There is no such photo.")
            entry, line = self._line(number)
        if entry.state != "done" or _is_old(line):
            raise InvalidError("This wasn't blurred.")
        return Shown(self._outputs[number], entry, line)

    def _photo(self, number: int) -> Shown:
        shown = self._shown(number)
        if shown.is_clip:
            raise InvalidError("This is a clip.")
        return shown

    def _clip(self, number: int) -> Shown:
        shown = self._shown(number)
        if not shown.is_clip:
            raise InvalidError("This is a photo.")
        return shown

    def _review(self, shown: Shown) -> Review:
        """Return what was said of a photo as it is; at first, what the run found."""
        review = self._reviewed.log.reviews.get(shown.output)
        if review is not None and review.sha256 == shown.sha256:
            return review
        revision = 0 if review is None else review.revision
        return Review(
            shown.output,
            shown.sha256,
            plates_of(shown.line),
            revision=revision,
            moving=moving_of(shown.line),
        )

    def _summary(self, number: int, shown: Shown) -> dict[str, Any]:
        summary: dict[str, Any] = {"id": number, "name": shown.output}
        if shown.entry.state != "done":
            return summary | {"error": shown.line["error"], "worry": 9.0}
        if _is_old(shown.line):
            return summary | {"error": NO_TRACKS, "is_blurred": True, "worry": 8.0}
        review = self._review(shown)
        sample = self._reviewed.log.sample
        reasons, worry = (
            worry_of(review.moving, shown.image_hw)
            if shown.is_clip
            else _worry(review.plates, shown.image_hw)
        )
        return summary | {
            **({"length_s": shown.line["length_s"]} if shown.is_clip else {}),
            "plates": sum(plate.hide for plate in review.all_plates),
            "marks": reasons,
            "worry": worry,
            "looked_at": review.looked_at,
            "corrected": review.is_corrected,
            "is_written": is_written(review, shown.line),
            "by": review.by,
            "revision": review.revision,
            "written": shown.line["written"]["sha256"][:16],
            **({"in_sample": True} if sample and shown.output in sample.outputs else {}),
            **({"readable": review.readable} if is_judged(review, shown.line) else {}),
        }


def as_sent(review: Review) -> dict[str, Any]:
    """Return what the page is sent of the state of a photo."""
    return {
        "revision": review.revision,
        "looked_at": review.looked_at,
        "readable": review.readable,
        "by": review.by,
        "at": review.at,
        "plates": [plate.as_json() for plate in review.all_plates],
    }


def _is_old(line: dict[str, Any]) -> bool:
    """Return whether a line is of a clip and doesn't say what was hidden in it."""
    return is_clip_line(line) and "tracks" not in line


def _worry(plates: tuple[Plate, ...], image_hw: tuple[int, int]) -> tuple[list[str], float]:
    """Return why somebody should look at a photo, and how much: the larger, the more."""
    found = [plate for plate in plates if plate.hide and plate.confidence is not None]
    xyxy = np.array([plate.xyxy for plate in found], np.float64).reshape(-1, 4)
    confidence = np.array([plate.confidence or 1.0 for plate in found])
    reasons = marks(xyxy, confidence, image_hw=image_hw)
    return reasons, round(len(reasons) + 1 - float(confidence.min(initial=1.0)), 3)


def _plates(sent: Any, shown: Shown, before: Review) -> tuple[Plate, ...]:
    """Return the boxes that the page sent, clipped to the photo and rounded as in the manifest."""
    if not isinstance(sent, list) or len(sent) > MOST_PLATES:
        raise InvalidError(f"A photo can have at most {MOST_PLATES} boxes.")
    known = {plate.found: plate for plate in (*plates_of(shown.line), *before.plates)}
    plates = []
    for each in sent:
        xyxy = clipped(each["xyxy"], shown.image_hw)
        found = each.get("found")
        origin = None if found is None else known.get(four(found))
        if found is not None and origin is None:
            raise InvalidError("A box is said to be found that the run didn't find.")
        corners = _corners(each.get("corners"))
        is_moved = origin is None or corners != origin.corners
        if corners is not None and is_moved:
            if "projection" in shown.line:  # its edges aren't straight there, so hide all around it
                corners = None
            else:
                _check_outline(corners)
        plates.append(
            Plate(
                xyxy=xyxy,
                hide=each["hide"] is not False,
                confidence=None if origin is None else origin.confidence,
                found=None if origin is None else origin.found,
                corners=corners,
            )
        )
    return tuple(plates)


def _check_outline(corners: Outline) -> None:
    """Raise unless an outline can be hidden.

    Raises:
        ValueError: it isn't convex.
    """
    points = np.column_stack([np.array(corners, np.float64), np.ones(4)])
    edges_around(points, dimensions=2, tolerance=0.3)


def _corners(sent: Any) -> Outline | None:
    if sent is None:
        return None
    corners = tuple((round(float(x), 1), round(float(y), 1)) for x, y in sent)
    if len(corners) != 4 or not np.isfinite(corners).all():
        raise ValueError
    return corners


def reason(error: Exception) -> str:
    """Return one line for people about a photo or frame that can't be shown."""
    return (
        explain(error)
        if isinstance(error, OSError | PhotoError | RunError | VideoError)
        else str(error)
    )
