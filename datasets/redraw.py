"""Have labels drawn again by several drawers who see neither label nor detection.

    python datasets/redraw.py SET --split test --only oi-google1800 --added --controls 40 \
        --overlay datasets/corrections/plates.jsonl --sheets runs/redraw

cuts the plates of a set out, and with `--added` those that the overlay added to others: enlarged,
off centre at random, under a ruler, six on a sheet. `--controls` adds other plates, whose labels
stay: they show how good the drawing is. Each person writes a JSON line per cut-out, with the edges
read off the ruler: `{"id": 7, "box": [x1, y1, x2, y2]}`, in per cent of the cut-out's width and
height; `null` where no plate is visible. Then

    python datasets/redraw.py SET --split test --sheets runs/redraw \
        --drawn A.jsonl --drawn B.jsonl --drawn C.jsonl --summary docs/redrawn.json \
        --overlay datasets/corrections/plates.jsonl --move

takes the median of each edge, says how far people agree with each other and with the labels, near
and far, beside a detector's boxes (`--predictions`), and with `--move` writes a correction for each
label in question on which they agree.

It also shows how well plates can be boxed at all: AP50-95 can't ask more of a detector than people
reach against each other.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from plateblur.boxes import iou_matrix
from plateblur.guidance import FAR_RATIO, plate_ratios
from plateblur.photo import decode
from plateblur.sets import layout
from plateblur.sets.corrections import Correction, append_corrections, correct, parse_corrections
from plateblur.sets.metrics import IOU_THRESHOLDS
from plateblur.sets.predictions import read_predictions

Box = NDArray[np.float64]
"""(4,) `xyxy`, pixels of the upright image."""

CELL_WH = (544, 364)  # of a cut-out on a sheet, pixels
COLUMNS, ROWS = 2, 3  # of cut-outs on a sheet; below 1,100 px, so that no viewer shrinks it
FEWEST = 3  # people whose median may replace a label; of two, nobody knows who is off
AGREE_IOU = 0.5  # overlap of each two people from which they have drawn the same plate
SAME_IOU = 0.95  # overlap of label and median from which the label stays: a pixel's difference
SAME_PX = 0.05  # difference of two boxes that are one, written with other decimals
REASON = "drawn again by {people} drawers who saw no label; the median of each edge"


@dataclass(frozen=True, slots=True)
class CutOut:
    """One plate on a sheet.

    Attributes:
        image: file name of the photo.
        set: that it is of.
        label: its box as labelled, pixels of the upright image.
        image_hw: height and width of that image, pixels.
        area: `xyxy` of what the cut-out shows, in the same pixels.
        control: its label stays, whatever is drawn.
    """

    image: str
    set: str
    label: tuple[float, ...]
    image_hw: tuple[int, int]
    area: tuple[float, ...]
    control: bool

    @property
    def far(self) -> bool:
        """The plate is below half of what the guidance asks for."""
        return bool(plate_ratios(np.array([self.label]), image_hw=self.image_hw)[0] < FAR_RATIO)


def choose(
    root: Path,
    *,
    split: str,
    corrections: Sequence[Correction],
    sets: Sequence[str],
    added: bool,
    controls: int,
    seed: int,
) -> list[CutOut]:
    """Return the labelled plates that are to be drawn and a few of the others, shuffled.

    Args:
        root: folder of the set of sets.
        split: train, val or test.
        corrections: of labels, which are applied first.
        sets: whose labels may be replaced.
        added: those that a correction added to other sets may be, too.
        controls: how many of the others are mixed in.
        seed: of the choice, the order, and the position of a plate in its cut-out.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    plates = []
    for row in layout.read_manifest(root):
        if row.split == split:
            own = [one for one in corrections if one.image == row.name]
            new = np.vstack([np.zeros((0, 4)), *(c.boxes for c in own if c.action == "add")])
            for label in correct(layout.read_boxes(root, row), own):
                was_added = bool((np.abs(new - label).max(axis=1, initial=0) < SAME_PX).any())
                plates.append((row, label, row.set in sets or (added and was_added)))
    others = [plate for plate in plates if not plate[2]]
    mixed = [plate for plate in plates if plate[2]]
    mixed += chance.sample(others, min(controls, len(others)))
    chance.shuffle(mixed)
    return [
        CutOut(
            image=row.name,
            set=row.set,
            label=tuple(label.round(2).tolist()),
            image_hw=(row.height, row.width),
            area=_around(label, chance),
            control=not wanted,
        )
        for row, label, wanted in mixed
    ]


def _around(label: Box, chance: random.Random) -> tuple[float, ...]:
    """Return what a cut-out shows: more than the plate, which must not be in its middle."""
    x1, y1, x2, y2 = label.tolist()
    shape = CELL_WH[0] / CELL_WH[1]
    wide = max((x2 - x1) * chance.uniform(1.45, 1.75), (y2 - y1) * shape * chance.uniform(1.7, 2.1))
    high = wide / shape
    left = (x1 + x2 - wide) / 2 + wide * chance.uniform(-0.09, 0.09)
    top = (y1 + y2 - high) / 2 + high * chance.uniform(-0.12, 0.12)
    return tuple(round(edge, 3) for edge in (left, top, left + wide, top + high))


def draw_sheets(cut_outs: Sequence[CutOut], *, photos: Mapping[str, Path], out: Path) -> list[Path]:
    """Write the sheets and, for the second step, the position of each cut-out; return the sheets.

    Args:
        cut_outs: in the order of their numbers.
        photos: paths by file name.
        out: folder, created if needed; keep it private, because it shows people's plates.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    size_wh = (COLUMNS * CELL_WH[0], ROWS * CELL_WH[1])
    for first in range(0, len(cut_outs), COLUMNS * ROWS):
        sheet = PillowImage.new("RGB", size_wh, "white")
        for place, one in enumerate(cut_outs[first : first + COLUMNS * ROWS]):
            whole = PillowImage.fromarray(decode(photos[one.image].read_bytes()).pixels)
            cell = whole.transform(
                CELL_WH,
                PillowImage.Transform.EXTENT,
                one.area,
                PillowImage.Resampling.BICUBIC,
            )
            _draw_ruler(cell, first + place)
            sheet.paste(cell, (place % COLUMNS * CELL_WH[0], place // COLUMNS * CELL_WH[1]))
        written.append(out / f"sheet-{first // (COLUMNS * ROWS):03d}.png")
        sheet.save(written[-1])
    key = [asdict(one) for one in cut_outs]
    (out / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    return written


def _draw_ruler(cell: PillowImage.Image, number: int) -> None:
    """Draw a line every 5 per cent, its number every 10, and the cut-out's own number."""
    pen = ImageDraw.Draw(cell, "RGBA")
    width, height = CELL_WH
    font = ImageFont.load_default(12)
    outlined: dict[str, Any] = {"font": font, "stroke_width": 2, "stroke_fill": "black"}
    for percent in range(0, 100, 5):
        strength = 110 if percent % 10 == 0 else 45
        x, y = percent / 100 * width, percent / 100 * height
        pen.line((x, 0, x, height), fill=(255, 255, 0, strength))
        pen.line((0, y, width, y), fill=(0, 255, 255, strength))
        if percent % 10 == 0:
            pen.text((x + 2, 0), str(percent), fill="yellow", **outlined)
            pen.text((1, y + 1), str(percent), fill="cyan", **outlined)
    pen.rectangle((width - 40, height - 20, width, height), fill="black")
    pen.text((width - 36, height - 18), str(number), fill="white", font=font)


def read_key(folder: Path) -> list[CutOut]:
    """Return the cut-outs of the sheets in a folder, in the order of their numbers."""
    records = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    sequences = ("label", "image_hw", "area")  # JSON has no tuples
    return [CutOut(**(one | {name: tuple(one[name]) for name in sequences})) for one in records]


def read_drawn(file: Path, cut_outs: Sequence[CutOut]) -> dict[int, Box]:
    """Return what one person drew, by the cut-out's number; nothing where no plate was seen.

    Raises:
        DatasetError: a line that names no cut-out, or whose box is none.
    """
    boxes: dict[int, Box] = {}
    for line in filter(None, file.read_text(encoding="utf-8").splitlines()):
        record = json.loads(line)
        number, box = record["id"], record["box"]
        if not 0 <= number < len(cut_outs):
            raise layout.DatasetError(f"{file.name}: expected an id below {len(cut_outs)}: {line}")
        if box is None:
            continue
        if len(box) != 4 or box[0] >= box[2] or box[1] >= box[3]:
            raise layout.DatasetError(f"{file.name}: expected x1 < x2 and y1 < y2, got {line}")
        one = cut_outs[number]
        area, (height, width) = np.array(one.area), one.image_hw
        sides = np.tile(area[2:] - area[:2], 2)
        pixels = np.tile(area[:2], 2) + np.array(box, dtype=np.float64) / 100 * sides
        boxes[number] = pixels.clip(0, [width, height, width, height])
    return boxes


def overlap(a: Box, b: Box) -> float:
    """Return the IoU of two boxes."""
    return float(iou_matrix(a[None].astype(np.float32), b[None].astype(np.float32)).item())


def levels(a: Box, b: Box) -> float:
    """Return the share of the ten levels of AP50-95 that two boxes reach against each other."""
    return float(np.mean(overlap(a, b) >= np.array(IOU_THRESHOLDS)))


def medians(drawn: Sequence[Mapping[int, Box]]) -> dict[int, Box]:
    """Return the median of each edge where all people drew a box, by the cut-out's number.

    Args:
        drawn: of `read_drawn`, one a person.
    """
    common = sorted(set.intersection(*(set(one) for one in drawn)))
    return {number: np.median([one[number] for one in drawn], axis=0) for number in common}


def agreement(
    cut_outs: Sequence[CutOut],
    drawn: Sequence[Mapping[int, Box]],
    found: Mapping[str, NDArray[np.float64]] | None = None,
) -> dict[str, dict[str, float | None]]:
    """Return how far people agree with each other and with the labels, by group.

    Each figure is a mean share of the ten levels of AP50-95; None where one drew alone, or where
    there is no detector.

    Args:
        cut_outs: of the sheets.
        drawn: of `read_drawn`, one a person.
        found: by photo what a detector found, (M, 5) `xyxy` and confidence; its box that is
            nearest to the label counts, and a plate without one counts as no level reached.
    """
    middle = medians(drawn)
    groups: dict[str, list[int]] = {}
    for number in middle:
        one = cut_outs[number]
        who = "controls" if one.control else one.set
        groups.setdefault(f"{who}, {'below' if one.far else 'down to'} 1:30", []).append(number)

    def label(number: int) -> Box:
        return np.array(cut_outs[number].label)

    def nearest(boxes: NDArray[np.float64], to: Box) -> Box:
        return max(boxes, key=lambda box: overlap(box, to), default=np.zeros(4))

    detected: dict[int, Box] = {}
    if found is not None:
        detected = {n: nearest(found[cut_outs[n].image][:, :4], label(n)) for n in middle}
    return {
        name: {
            "plates": len(numbers),
            "drawers with each other": _mean(
                levels(a[n], b[n]) for n in numbers for a, b in combinations(drawn, 2)
            ),
            "one with the label": _mean(levels(a[n], label(n)) for n in numbers for a in drawn),
            "median with the label": _mean(levels(middle[n], label(n)) for n in numbers),
            "detector with the label": _mean(
                levels(detected[n], label(n)) for n in numbers if n in detected
            ),
            "detector with the median": _mean(
                levels(detected[n], middle[n]) for n in numbers if n in detected
            ),
        }
        for name, numbers in sorted(groups.items())
    }


def _mean(shares: Iterable[float]) -> float | None:
    listed = list(shares)
    return round(float(np.mean(listed)), 3) if listed else None


def redrawn(cut_outs: Sequence[CutOut], drawn: Sequence[Mapping[int, Box]]) -> list[dict[str, Any]]:
    """Return the corrections: the median in place of each label, where people agree on a plate.

    Controls keep their labels, and so do those that the median hardly differs from. Where the
    median is on another plate than the label, the label stays too.

    Args:
        cut_outs: of the sheets.
        drawn: of `read_drawn`, one a person.

    Raises:
        DatasetError: fewer people than it takes.
    """
    if len(drawn) < FEWEST:
        raise layout.DatasetError(f"expected drawings of {FEWEST} people, got {len(drawn)}")
    records = []
    for number, box in medians(drawn).items():
        one = cut_outs[number]
        agreed = min(overlap(a[number], b[number]) for a, b in combinations(drawn, 2))
        moved = overlap(box, np.array(one.label))
        if not one.control and agreed >= AGREE_IOU and 0 < moved < SAME_IOU:
            records.append(
                {
                    "image": one.image,
                    "action": "move",
                    "boxes": [box.round(1).tolist()],
                    "replaces": [list(one.label)],
                    "reason": REASON.format(people=len(drawn)),
                }
            )
    return records


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line; draw sheets, or take what was drawn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, metavar="SET", help="folder of a set")
    parser.add_argument("--split", choices=layout.SPLITS, required=True)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="redraw these")
    parser.add_argument("--added", action="store_true", help="and plates that the overlay added")
    parser.add_argument("--controls", type=int, default=40, help="other plates among them")
    parser.add_argument("--seed", type=int, default=0, help="of the order and of the controls")
    parser.add_argument("--overlay", type=Path, required=True, help="corrections, JSON lines")
    parser.add_argument("--sheets", type=Path, required=True, help="folder that git ignores")
    parser.add_argument(
        "--drawn", type=Path, action="append", default=[], help="one person's boxes"
    )
    parser.add_argument("--predictions", type=Path, help="a detector's, of training/evaluate.py")
    parser.add_argument("--move", action="store_true", help="correct labels in the overlay")
    parser.add_argument("--summary", type=Path, help="write how far people agree here, as JSON")
    given = parser.parse_args(argv)
    if given.drawn:
        cut_outs = read_key(given.sheets)
        drawn = [read_drawn(file, cut_outs) for file in given.drawn]
        found = read_predictions(given.predictions) if given.predictions else None
        agreed = agreement(cut_outs, drawn, found)
        columns = next(iter(agreed.values()), {})
        print(layout.table(("", *columns), [(name, *one.values()) for name, one in agreed.items()]))
        if given.summary:
            given.summary.write_text(json.dumps(agreed, indent=2) + "\n", encoding="utf-8")
        if given.move:
            added = append_corrections(given.overlay, redrawn(cut_outs, drawn))
            print(f"{len(added)} of {sum(not one.control for one in cut_outs)} labels moved")
        return
    cut_outs = choose(
        given.root,
        split=given.split,
        corrections=parse_corrections(given.overlay.read_text(encoding="utf-8")),
        sets=given.only,
        added=given.added,
        controls=given.controls,
        seed=given.seed,
    )
    photos = {row.name: given.root / row.image for row in layout.read_manifest(given.root)}
    sheets = draw_sheets(cut_outs, photos=photos, out=given.sheets)
    print(f"{len(cut_outs)} plates on {len(sheets)} sheets in {given.sheets}")


if __name__ == "__main__":
    layout.run(main)
