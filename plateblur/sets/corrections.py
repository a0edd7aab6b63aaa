"""Corrections of labels that are known to be wrong: read, applied, added to an overlay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.sets import layout
from plateblur.sets.labels import TruthBoxes

CORRECTION_IOU = 0.5
"""Overlap at which a correction's box is taken to mean a labelled box."""

Action = Literal["add", "remove", "move", "mark", "drop"]
"""What a correction does.

`add`: the boxes are plates without labels.
`remove`: the boxes are labelled but are no plates.
`move`: each box is where the plate is, in place of the labelled box beside it in `replaces`.
`mark`: the boxes are no plates and not labelled; the reason names what they are, so that false
    boxes can be counted by what they cover. The labels stay as they are.
`drop`: the photo is left out of training, because another split has almost the same one;
    it names no boxes.
"""


@dataclass(frozen=True, slots=True)
class Correction:
    """One corrected label.

    Attributes:
        image: file name of the photo.
        action: what to do with the boxes.
        boxes: (N, 4) float64 `xyxy`, pixels of the upright image; none for `drop`.
        replaces: (N, 4) float64, for `move` the labelled boxes, row for row; else (0, 4).
        reason: why, in a few words; for `mark` what the boxes show.
    """

    image: str
    action: Action
    boxes: TruthBoxes
    replaces: TruthBoxes
    reason: str


def parse_corrections(text: str) -> list[Correction]:
    """Return the corrections of an overlay file: JSON lines, one correction each.

        {"image": "a.webp", "action": "add", "boxes": [[10, 20, 60, 34]], "reason": "unlabelled"}
        {"image": "b.webp", "action": "move", "boxes": [[10, 20, 60, 34]],
         "replaces": [[10, 34, 60, 48]], "reason": "box below the plate"}   (on one line)

    Raises:
        ValueError: a line is no correction; the message gives its number.
    """
    corrections = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            corrections.append(_parse_correction(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"correction line {number}: {error}") from error
    return corrections


def _parse_correction(given: dict[str, Any]) -> Correction:
    known = {"image", "action", "boxes", "replaces", "reason"}
    needed = known - {"replaces"}
    if not needed <= set(given) <= known:
        raise ValueError(f"expected the fields {sorted(needed)}, got {sorted(given)}")
    if given["action"] not in get_args(Action):
        raise ValueError(f"action must be one of {get_args(Action)}, got {given['action']!r}")
    if not str(given["reason"]).strip():
        raise ValueError("expected a reason, got none")
    boxes = np.array(given["boxes"], dtype=np.float64).reshape(-1, 4)
    replaces = np.array(given.get("replaces", []), dtype=np.float64).reshape(-1, 4)
    if (len(boxes) == 0) != (given["action"] == "drop"):
        raise ValueError(f"expected at least one box, and none to drop a photo, got {len(boxes)}")
    if len(replaces) != (len(boxes) if given["action"] == "move" else 0):
        raise ValueError(
            "a move gives in `replaces` one labelled box for each box, other actions none; got "
            f"{len(replaces)} for {len(boxes)}"
        )
    return Correction(given["image"], given["action"], boxes, replaces, given["reason"])


def correct(truth: TruthBoxes, corrections: Iterable[Correction]) -> TruthBoxes:
    """Return the truth of one photo with its corrections applied, in their order.

    Args:
        truth: (N, 4) float64, pixels of the upright image.
        corrections: those of this photo.

    Raises:
        ValueError: a correction of a box that is not labelled (or no longer is), or an addition of
            one that already is: a stale correction is never ignored.
    """
    boxes = truth.copy()
    for correction in corrections:
        if correction.action == "add":
            if len(boxes) and _iou(boxes, correction.boxes).max() >= CORRECTION_IOU:
                raise ValueError(f"{correction.image}: a box to add is labelled already")
            boxes = np.vstack([boxes, correction.boxes])
        elif correction.action == "remove":
            boxes = np.delete(boxes, _rows_of(boxes, correction.boxes, correction.image), axis=0)
        elif correction.action == "move":
            boxes[_rows_of(boxes, correction.replaces, correction.image)] = correction.boxes
    return boxes


def _rows_of(boxes: TruthBoxes, wanted: TruthBoxes, image: str) -> Sequence[int]:
    if len(boxes) == 0:
        raise ValueError(f"{image}: expected a labelled box to correct, the photo has none")
    overlap = _iou(wanted, boxes)
    rows: list[int] = overlap.argmax(axis=1).tolist()
    if overlap.max(axis=1).min() < CORRECTION_IOU or len(set(rows)) < len(rows):
        raise ValueError(f"{image}: expected one labelled box for each box to correct")
    return rows


def _iou(a: TruthBoxes, b: TruthBoxes) -> NDArray[np.float32]:
    return iou_matrix(a.astype(np.float32), b.astype(np.float32))


def read_corrections(overlay: Path | None) -> list[Correction]:
    """Return the corrections of an overlay file; none without one."""
    return parse_corrections(overlay.read_text()) if overlay else []


def append_corrections(overlay: Path, records: Sequence[dict[str, Any]]) -> list[Correction]:
    """Append corrections to an overlay.

    Args:
        overlay: JSON lines; created if absent.
        records: of `tagged_corrections`; those already in the overlay are left out.

    Returns:
        What was added.

    Raises:
        DatasetError: the overlay would become invalid; it was not written.
    """
    before = overlay.read_text(encoding="utf-8") if overlay.exists() else ""
    lines = [json.dumps(record) for record in records]
    new = [line for line in dict.fromkeys(lines) if line not in before.splitlines()]
    text = "".join(f"{line}\n" for line in new)
    try:
        added = parse_corrections(text)
    except ValueError as error:
        raise layout.DatasetError(f"{overlay}: {error}") from error
    overlay.parent.mkdir(parents=True, exist_ok=True)
    overlay.write_text(before + text, encoding="utf-8")
    return added
