"""Contact sheets of misses and false boxes, to be looked at on this machine only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from plateblur.guidance import ratio_text
from plateblur.photo import decode
from plateblur.sets.metrics import Floats, Scores
from plateblur.sets.predictions import Predictions
from plateblur.sets.split import LabelledPhoto
from plateblur.types import Image
from training.evaluation.plots import BLUE, GREY, ORANGE, PINK

CELL_PX = 320  # side of one cut-out on a contact sheet
CELLS = 30  # on one sheet, five in a row


@dataclass(frozen=True, slots=True)
class Cell:
    """One cut-out of a contact sheet: the photo's name, the box in its middle, and a caption."""

    photo: LabelledPhoto
    box: Floats
    caption: str


def draw_misses(
    scores: Scores, photos: Sequence[LabelledPhoto], predictions: Predictions, path: Path
) -> None:
    """Draw the plates that stay most readable: the largest of those least hidden come first."""
    truth = np.vstack([np.zeros((0, 4)), *(photo.truth for photo in photos)])
    left_readable = (1 - scores.coverage) * np.log1p(1000 * scores.plate_ratio)
    rows = np.argsort(-np.where(scores.hidden, 0, left_readable), kind="stable")[:CELLS]
    cells = [
        Cell(
            photos[scores.plate_photo[row]],
            truth[row],
            f"{ratio_text(scores.plate_ratio[row])}  hidden {scores.coverage[row]:.2f}  "
            f"best {max(scores.best_confidence[row], 0):.2f}",
        )
        for row in rows
        if not scores.hidden[row]
    ]
    _draw_sheet(cells, predictions, scores, path)


def draw_false_boxes(
    scores: Scores, photos: Sequence[LabelledPhoto], predictions: Predictions, path: Path
) -> None:
    """Draw the most confident boxes that overlap no labelled plate."""
    boxes = np.vstack([np.zeros((0, 5)), *(predictions[p.path.name] for p in photos)])
    false_boxes = np.flatnonzero(scores.off_plates & scores.kept)
    rows = false_boxes[np.argsort(-scores.box_confidence[false_boxes], kind="stable")][:CELLS]
    cells = [
        Cell(
            photos[scores.box_photo[row]],
            boxes[row, :4],
            f"confidence {scores.box_confidence[row]:.2f}  {ratio_text(scores.box_ratio[row])}",
        )
        for row in rows
    ]
    _draw_sheet(cells, predictions, scores, path)


def _draw_sheet(
    cells: Sequence[Cell], predictions: Predictions, scores: Scores, path: Path
) -> None:
    """Write a sheet of cut-outs: truth in blue, kept boxes in orange, unsure ones in pink."""
    columns, caption_px = 5, 30
    rows = max(1, -(-len(cells) // columns))
    sheet = PillowImage.new("RGB", (columns * CELL_PX, rows * (CELL_PX + caption_px)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, cell in enumerate(cells):
        left = place % columns * CELL_PX
        top = place // columns * (CELL_PX + caption_px)
        sheet.paste(_cut_out(cell, predictions[cell.photo.path.name], scores), (left, top))
        pen.text((left + 2, top + CELL_PX + 1), cell.caption, fill="black")
        pen.text((left + 2, top + CELL_PX + 14), cell.photo.path.name, fill=GREY)
    sheet.save(path, quality=88)


def _cut_out(cell: Cell, rows: Floats, scores: Scores) -> PillowImage.Image:
    """Return the box and four times its size around it, with truth and boxes drawn in."""
    around = Around(decode(cell.photo.path.read_bytes()).pixels, cell.box, side_px=CELL_PX)
    for box, confidence in zip(rows[:, :4], rows[:, 4], strict=True):
        if confidence >= scores.min_confidence:
            around.outline(box, ORANGE)
        elif confidence >= scores.min_confidence / 5:
            around.outline(box, PINK)
    for box in cell.photo.truth:
        around.outline(box, BLUE)
    return around.picture


class Around:
    """A box of an image with four times its size around it, to draw on.

    Attributes:
        picture: the cut-out, a square.
    """

    def __init__(self, image: Image, box: Floats, *, side_px: int) -> None:
        """Cut it out.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: (4,) `xyxy`, pixels of `image`.
            side_px: of the picture.
        """
        x1, y1, x2, y2 = box.tolist()
        side = max(4 * max(x2 - x1, y2 - y1), 64.0)
        left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
        self._corner, self._scale = np.array([left, top] * 2), side_px / side
        self.picture = PillowImage.fromarray(image).transform(
            (side_px, side_px),
            PillowImage.Transform.EXTENT,
            (left, top, left + side, top + side),
            PillowImage.Resampling.BICUBIC,
        )
        self._pen = ImageDraw.Draw(self.picture)

    def outline(self, box: Floats, colour: str) -> None:
        """Draw the outline of a box, `xyxy` in pixels of the image."""
        x1, y1, x2, y2 = ((box - self._corner) * self._scale).tolist()
        self._pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=2)
