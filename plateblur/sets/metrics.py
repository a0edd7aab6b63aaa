"""How well plates are found and hidden: recall, coverage, precision, AP, calibration; pure NumPy.

There are two ways of counting, and each figure says which one it uses:

* *recall*, *coverage* and *false boxes* ask what happens to a plate, so every box counts: a plate
  is recalled if any box over `min_confidence` overlaps it by an IoU of at least 0.5, and hidden
  as far as the boxes together cover it once widened by the margin.
* *precision*, *AP* and *calibration* pair each box with at most one plate, as COCO does: most
  confident first, each takes the free plate that it overlaps most.

Boxes are float64 here, because labels are: rounding them to float32 first would move the whole
pixels that coverage counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import expand, iou_matrix
from plateblur.guidance import BUCKET_NAMES, bucket_indices, plate_ratios
from plateblur.types import Boxes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.5 to 0.95 in steps of 0.05, the levels of COCO's AP50-95."""

RECALL_IOU = 0.5  # Source: PASCAL VOC's and COCO's AP50; a plate at this IoU counts as found.
FALSE_BOX_IOU = 0.1  # Source: the project's scorer; below it a box touches no labelled plate.
COVERED_SHARE = 0.99  # Source: the project's scorer; at and above it a plate counts as hidden.
RECALL_POINTS = 101  # Source: COCO; recalls 0, 0.01, ..., 1 at which precision is averaged.
Z_95 = 1.959964  # Source: 97.5 % point of the normal distribution, for 95 % intervals.


@dataclass(frozen=True, slots=True)
class PhotoBoxes:
    """Truth and detections of one photo, both in pixels of the upright image.

    Attributes:
        image_hw: height and width of the image, pixels.
        truth: (N, 4) float64 `xyxy`, the labelled plates.
        xyxy: (M, 4) float64, the boxes down to a low confidence, in any order.
        confidence: (M,) float64, 0 to 1.
    """

    image_hw: tuple[int, int]
    truth: Floats
    xyxy: Floats
    confidence: Floats

    def __post_init__(self) -> None:
        """Refuse arrays that don't belong together."""
        for name, boxes in (("truth", self.truth), ("xyxy", self.xyxy)):
            if boxes.ndim != 2 or boxes.shape[1] != 4:
                raise ValueError(f"{name} must have shape (N, 4), got {boxes.shape}")
        if self.confidence.shape != (len(self.xyxy),):
            raise ValueError(
                f"confidence must have shape ({len(self.xyxy)},), got {self.confidence.shape}"
            )


@dataclass(frozen=True, slots=True)
class Scores:
    """Every plate, every box and every photo of a split, one row each.

    Attributes:
        min_confidence: smallest confidence of a box that is blurred; coverage depends on it.
        margin: share of its size by which a box is widened on each side before it is blurred.
        plate_photo: (N,) int64, index of each plate's photo.
        plate_ratio: (N,) float64, plate height as a share of the picture's height.
        best_confidence: (N,) float64, the highest confidence among the boxes with an IoU of at
            least 0.5; -inf where there is none, so `best_confidence >= t` is "recalled at t".
        coverage: (N,) float64, share of the plate's pixels that is hidden.
        box_photo: (M,) int64, index of each box's photo.
        box_confidence: (M,) float64.
        box_ratio: (M,) float64.
        match: (T, M) int64, the plate paired with each box at each of `IOU_THRESHOLDS`, or -1.
        off_plates: (M,) bool, the box overlaps no labelled plate (IoU below 0.1): a false box.
        over_blur: (P,) float64, share of each picture that is blurred outside plates.
    """

    min_confidence: float
    margin: float
    plate_photo: Ints
    plate_ratio: Floats
    best_confidence: Floats
    coverage: Floats
    box_photo: Ints
    box_confidence: Floats
    box_ratio: Floats
    match: Ints
    off_plates: Flags
    over_blur: Floats

    @property
    def recalled(self) -> Flags:
        """(N,) bool: a box of at least `min_confidence` is on the plate, IoU at least 0.5."""
        return self.best_confidence >= self.min_confidence

    @property
    def hidden(self) -> Flags:
        """(N,) bool: at least 99 % of the plate's pixels are hidden."""
        return self.coverage >= COVERED_SHARE

    @property
    def missed(self) -> Flags:
        """(N,) bool: not one pixel of the plate is hidden; no detection is over it."""
        missed: Flags = self.coverage == 0
        return missed

    @property
    def kept(self) -> Flags:
        """(M,) bool: the box has at least `min_confidence` and is blurred."""
        return self.box_confidence >= self.min_confidence


def _iou(a: Floats, b: Floats) -> NDArray[np.float32]:
    """Return `iou_matrix` of boxes in double precision."""
    return iou_matrix(cast("Boxes", a), cast("Boxes", b))


def match_boxes(truth: Floats, xyxy: Floats, confidence: Floats, *, iou_threshold: float) -> Ints:
    """Return for each box the plate it is paired with, or -1: COCO's greedy pairing.

    Most confident first, each box takes the free plate that it overlaps most.

    Args:
        truth: (N, 4) float64 `xyxy`.
        xyxy: (M, 4) float64.
        confidence: (M,) float64.
        iou_threshold: smallest overlap of a pair.

    Returns:
        (M,) int64 rows of `truth`; none is there twice, except -1.
    """
    match = np.full(len(xyxy), -1, dtype=np.int64)
    if len(truth) == 0 or len(xyxy) == 0:
        return match
    overlap = _iou(xyxy, truth)
    for row in np.argsort(-confidence, kind="stable"):
        plate = int(overlap[row].argmax())
        if overlap[row, plate] >= iou_threshold:
            match[row] = plate
            overlap[:, plate] = -1
    return match


def coverage(truth: Floats, xyxy: Floats, *, margin: float) -> Floats:
    """Return the share of each plate's pixels that the widened boxes hide together.

    Plates and boxes are rounded outward to whole pixels, as the blur does.

    Args:
        truth: (N, 4) float64 `xyxy`.
        xyxy: (M, 4) float64, the boxes that are blurred.
        margin: share of a box's size by which it is widened on each side.

    Returns:
        (N,) float64, 0 to 1.
    """
    plates = _whole_pixels(truth)
    hidden = _blurred_pixels(xyxy, margin)
    shares = np.zeros(len(plates))
    for row, (x1, y1, x2, y2) in enumerate(plates.tolist()):
        pixels = np.zeros((max(y2 - y1, 1), max(x2 - x1, 1)), dtype=bool)
        _paint(pixels, hidden - np.array([x1, y1, x1, y1]), value=True)
        shares[row] = pixels.mean()
    return shares


def over_blur(truth: Floats, xyxy: Floats, *, margin: float, image_hw: tuple[int, int]) -> float:
    """Return the share of the picture that is blurred although it shows no plate.

    Args:
        truth: (N, 4) float64 `xyxy`, pixels of the image.
        xyxy: (M, 4) float64, the boxes that are blurred.
        margin: share of a box's size by which it is widened on each side.
        image_hw: height and width of the image, pixels.
    """
    if len(xyxy) == 0:
        return 0.0
    blurred = np.zeros(image_hw, dtype=bool)
    _paint(blurred, _blurred_pixels(xyxy, margin), value=True)
    _paint(blurred, _whole_pixels(truth), value=False)
    return float(blurred.mean())


def _blurred_pixels(xyxy: Floats, margin: float) -> Ints:
    """Return the whole pixels of widened boxes, computed exactly as the blur does.

    The blur uses float32, with which some boxes end a pixel away from where float64 would.
    """
    return _whole_pixels(expand(xyxy.astype(np.float32), margin).astype(np.float64))


def _whole_pixels(xyxy: NDArray[np.floating[Any]]) -> Ints:
    return np.hstack([np.floor(xyxy[:, :2]), np.ceil(xyxy[:, 2:])]).astype(np.int64)


def _paint(pixels: Flags, boxes: Ints, *, value: bool) -> None:
    """Set `pixels` inside each whole-pixel box, in place; parts outside of it are ignored."""
    for x1, y1, x2, y2 in boxes.tolist():
        if x2 > 0 and y2 > 0:
            pixels[max(y1, 0) : y2, max(x1, 0) : x2] = value


def score_photos(photos: Sequence[PhotoBoxes], *, min_confidence: float, margin: float) -> Scores:
    """Return the rows that every figure is counted from.

    Args:
        photos: truth and detections, the latter down to a confidence well below `min_confidence`.
        min_confidence: smallest confidence of a box that is blurred.
        margin: share of a box's size by which it is widened on each side before it is blurred.
    """
    plates_before = np.cumsum([0, *(len(photo.truth) for photo in photos)])
    over, ratios, best, covered = [], [], [], []
    box_ratios, matches, off = [], [], []
    for first_plate, photo in zip(plates_before.tolist(), photos, strict=False):
        blurred = photo.xyxy[photo.confidence >= min_confidence]
        over.append(over_blur(photo.truth, blurred, margin=margin, image_hw=photo.image_hw))
        ratios.append(plate_ratios(photo.truth, image_hw=photo.image_hw))
        covered.append(coverage(photo.truth, blurred, margin=margin))
        overlap = _iou(photo.truth, photo.xyxy)
        confidence_on_plate = np.where(overlap >= RECALL_IOU, photo.confidence[None], -np.inf)
        best.append(confidence_on_plate.max(axis=1, initial=-np.inf))
        off.append(overlap.max(axis=0, initial=0) < FALSE_BOX_IOU)
        box_ratios.append(plate_ratios(photo.xyxy, image_hw=photo.image_hw))
        rows = np.stack(
            [
                match_boxes(photo.truth, photo.xyxy, photo.confidence, iou_threshold=iou)
                for iou in IOU_THRESHOLDS
            ]
        )
        matches.append(np.where(rows >= 0, rows + first_plate, -1))
    indices = np.arange(len(photos))
    none = np.zeros(0)
    return Scores(
        min_confidence=min_confidence,
        margin=margin,
        plate_photo=np.repeat(indices, [len(photo.truth) for photo in photos]),
        plate_ratio=np.concatenate([none, *ratios]),
        best_confidence=np.concatenate([none, *best]),
        coverage=np.concatenate([none, *covered]),
        box_photo=np.repeat(indices, [len(photo.xyxy) for photo in photos]),
        box_confidence=np.concatenate([none, *(photo.confidence for photo in photos)]),
        box_ratio=np.concatenate([none, *box_ratios]),
        match=np.hstack([np.zeros((len(IOU_THRESHOLDS), 0), dtype=np.int64), *matches]),
        off_plates=np.concatenate([none.astype(bool), *off]),
        over_blur=np.array(over),
    )


@dataclass(frozen=True, slots=True)
class Share:
    """A count out of a number of trials, with its 95 % Wilson interval.

    Attributes:
        count: how many.
        of: out of how many.
        value: `count / of`; None where there were none, as are the bounds.
        low: lower bound.
        high: upper bound.
    """

    count: int
    of: int
    value: float | None
    low: float | None
    high: float | None


def share(count: int, of: int) -> Share:
    """Return `count` out of `of` with its interval."""
    if of == 0:
        return Share(count, of, None, None, None)
    low, high = wilson_interval(count, of)
    return Share(count, of, count / of, low, high)


def wilson_interval(count: int, of: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share.

    Wilson's, because the usual one has no width at 0 and 1, and recall is close to 1.

    Raises:
        ValueError: `of` is not positive, or `count` is not between 0 and it.
    """
    if not 0 <= count <= of or of == 0:
        raise ValueError(f"expected 0 <= count <= of and of > 0, got {count} of {of}")
    p = count / of
    centre = (p + Z_95**2 / (2 * of)) / (1 + Z_95**2 / of)
    half = Z_95 * math.sqrt(p * (1 - p) / of + Z_95**2 / (4 * of**2)) / (1 + Z_95**2 / of)
    return max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))


def precision_recall_curve(
    confidence: Floats, correct: Flags, *, plates: int
) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and confidence after each box, most confident first.

    Args:
        confidence: (M,) float64.
        correct: (M,) bool, the box is paired with a plate.
        plates: how many plates there are.
    """
    order = np.lexsort((~correct, -confidence))
    found = np.cumsum(correct[order])
    precision = found / np.arange(1, len(order) + 1)
    return precision, found / max(plates, 1), confidence[order]


def average_precision(confidence: Floats, correct: Flags, *, plates: int) -> float | None:
    """Return COCO's average precision: best precision at or beyond each of 101 recalls, averaged.

    Args:
        confidence: (M,) float64.
        correct: (M,) bool, the box is paired with a plate.
        plates: how many plates there are; without any the result is None.
    """
    if plates == 0:
        return None
    precision, recall, _ = precision_recall_curve(confidence, correct, plates=plates)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    # The first box that reaches a recall; past the last one precision is 0.
    first = np.searchsorted(recall, np.linspace(0, 1, RECALL_POINTS), side="left")
    return float(np.append(best_from_here, 0.0)[first].mean())


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a group of photos, or of plates of some size, misses first.

    Attributes:
        photos: photos in the group.
        plates: labelled plates in the group.
        missed: plates of which not one pixel is hidden (the miss rate).
        covered99: plates of which at least 99 % is hidden.
        recall: plates with a box on them at IoU 0.5.
        mean_coverage: mean share of a plate that is hidden.
        precision: boxes over `min_confidence` that are paired with a plate at IoU 0.5.
        ap50: average precision at IoU 0.5.
        ap50_95: mean of the average precisions at IoU 0.5 to 0.95.
        false_boxes: boxes over `min_confidence` that overlap no labelled plate.
        false_boxes_per_photo: those, per photo.
        over_blur: mean share of a picture that is blurred outside plates; None for plates of some
            ratios, because the boxes on a picture are blurred together.
    """

    photos: int
    plates: int
    missed: Share
    covered99: Share
    recall: Share
    mean_coverage: float | None
    precision: Share
    ap50: float | None
    ap50_95: float | None
    false_boxes: int
    false_boxes_per_photo: float | None
    over_blur: float | None


def figures(
    scores: Scores, *, photos: Flags | None = None, buckets: Collection[int] | None = None
) -> Figures:
    """Return the figures of some photos, and of the plates of some ratios on them.

    With `buckets`, a box belongs to the bucket of the plate that it is paired with, or else to
    that of its own height, as COCO does with areas.

    Args:
        scores: the rows of a split.
        photos: (P,) bool, the photos that count; all without it.
        buckets: indices into `guidance.BUCKET_NAMES` of the plates that count; all without it.
    """
    if photos is None:
        photos = np.ones(len(scores.over_blur), dtype=bool)
    plate_bucket, box_bucket = bucket_indices(scores.plate_ratio), bucket_indices(scores.box_ratio)
    wanted = range(len(BUCKET_NAMES)) if buckets is None else buckets
    plates = photos[scores.plate_photo] & np.isin(plate_bucket, list(wanted))
    on_photos = photos[scores.box_photo]
    plates_n, photos_n = int(plates.sum()), int(photos.sum())

    precisions: list[float | None] = []
    for match in scores.match:
        correct = match >= 0
        bucket = np.where(correct, np.append(plate_bucket, -1)[match], box_bucket)
        boxes = on_photos & np.isin(bucket, list(wanted))
        precisions.append(
            average_precision(scores.box_confidence[boxes], correct[boxes], plates=plates_n)
        )
    correct = scores.match[0] >= 0
    bucket = np.where(correct, np.append(plate_bucket, -1)[scores.match[0]], box_bucket)
    kept = on_photos & scores.kept & np.isin(bucket, list(wanted))
    false_boxes = int(
        (on_photos & scores.kept & scores.off_plates & np.isin(box_bucket, list(wanted))).sum()
    )
    return Figures(
        photos=photos_n,
        plates=plates_n,
        missed=share(int(scores.missed[plates].sum()), plates_n),
        covered99=share(int(scores.hidden[plates].sum()), plates_n),
        recall=share(int(scores.recalled[plates].sum()), plates_n),
        mean_coverage=float(scores.coverage[plates].mean()) if plates_n else None,
        precision=share(int(correct[kept].sum()), int(kept.sum())),
        ap50=precisions[0],
        ap50_95=float(np.mean([p for p in precisions if p is not None])) if plates_n else None,
        false_boxes=false_boxes,
        false_boxes_per_photo=false_boxes / photos_n if photos_n else None,
        over_blur=float(scores.over_blur[photos].mean()) if photos_n and buckets is None else None,
    )


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Boxes of about the same confidence.

    Attributes:
        low: lower bound of the bin's confidence.
        high: its upper bound.
        mean_confidence: what the model said; None for an empty bin.
        precision: how many of the boxes are paired with a plate at IoU 0.5.
    """

    low: float
    high: float
    mean_confidence: float | None
    precision: Share


def calibration(confidence: Floats, correct: Flags, *, bins: int = 10) -> list[CalibrationBin]:
    """Return bins of equal width over confidence, with the share of their boxes that are right.

    Args:
        confidence: (M,) float64, 0 to 1.
        correct: (M,) bool, the box is paired with a plate.
        bins: how many.
    """
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    return [
        CalibrationBin(
            low=float(edges[b]),
            high=float(edges[b + 1]),
            mean_confidence=float(confidence[index == b].mean()) if (index == b).any() else None,
            precision=share(int(correct[index == b].sum()), int((index == b).sum())),
        )
        for b in range(bins)
    ]


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float | None:
    """Return the mean gap between confidence and precision over the boxes of all bins."""
    total = sum(b.precision.of for b in bins)
    gaps = (
        b.precision.of * abs(b.precision.value - b.mean_confidence)
        for b in bins
        if b.precision.value is not None and b.mean_confidence is not None
    )
    return sum(gaps) / total if total else None


def threshold_for_recall(best_confidence: Floats, *, target: float) -> float | None:
    """Return the highest `min_confidence` that still gives this recall.

    Args:
        best_confidence: (N,) float64 as in `Scores`, of the plates that count.
        target: recall to reach, above 0 and at most 1.

    Returns:
        The threshold; None where even the lowest confidence that was kept does not reach it.

    Raises:
        ValueError: `target` is out of range.
    """
    if not 0 < target <= 1:
        raise ValueError(f"target must be above 0 and at most 1, got {target}")
    if len(best_confidence) == 0:
        return None
    # Rounded first: 0.7 * 10 is a little more than 7, and must not ask for an eighth plate.
    needed = math.ceil(round(target * len(best_confidence), 9))
    threshold = float(np.sort(best_confidence)[-needed])
    return threshold if math.isfinite(threshold) else None


@dataclass(frozen=True, slots=True)
class Difference:
    """How much a figure of one model is above that of another, with its paired 95 % interval.

    Attributes:
        value: the difference; None, like the bounds, if there is nothing to count.
        low: lower bound.
        high: upper bound.
    """

    value: float | None
    low: float | None
    high: float | None


def paired_bootstrap(
    counts: tuple[Floats, Floats], of: tuple[Floats, Floats], *, resamples: int, seed: int
) -> Difference:
    """Return the second model's share minus the first's, with an interval over photos.

    Whole photos are drawn, because plates of one photo are missed together, and the same photos
    for both models, because photos differ more than models.

    Args:
        counts: for each model (P,) how many in each photo.
        of: for each model (P,) out of how many in each photo.
        resamples: how often photos are drawn, with replacement.
        seed: of the drawing.

    Raises:
        ValueError: the arrays differ in length.
    """
    photos = len(counts[0])
    if any(array.shape != (photos,) for array in (*counts, *of)):
        raise ValueError("counts and of must be four arrays of one length, a value a photo")
    if not of[0].sum() or not of[1].sum():
        return Difference(None, None, None)
    value = counts[1].sum() / of[1].sum() - counts[0].sum() / of[0].sum()
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(photos, np.full(photos, 1 / photos), size=resamples).astype(float)
    totals = drawn @ of[0], drawn @ of[1]
    usable = (totals[0] > 0) & (totals[1] > 0)
    first = (drawn @ counts[0])[usable] / totals[0][usable]
    second = (drawn @ counts[1])[usable] / totals[1][usable]
    low, high = np.percentile(second - first, [2.5, 97.5])
    return Difference(float(value), float(low), float(high))
