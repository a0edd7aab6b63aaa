"""Look for plates in every frame of a clip."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix, non_max_suppression
from plateblur.cores import cores
from plateblur.letterbox import PAD_GREY, cut_out
from plateblur.tracks import MAX_SIZE_CHANGE, STILL, Step
from plateblur.types import Detections, Detector, Image

ItemT = TypeVar("ItemT")
DoneT = TypeVar("DoneT")

TILE_PX = 224  # side of a cut-out on a sheet
SHEET = (3, 4)  # rows and columns of cut-outs on a sheet: one look of the detector shows twelve
PLATE_WIDTHS_PX = (
    48,
    96,
)  # of a plate in its cut-outs: as large as it is found best, and as large again
NEAR = 0.75  # of a plate's longer side: how far from its place a plate may be found
SAME_IOU = 0.5  # boxes that overlap by more are of one plate
CORNERS, FEWEST_CORNERS = 200, 8  # followed from frame to frame
AGREED = 0.3  # of the corners that were followed: with fewer it is no movement of the camera
MOST_ZOOM = 1.5  # from one frame to the next; more is a mistake
WORKERS = max(2, cores() // 4)  # a detector and an encoder use several cores by themselves


def in_order(work: Callable[[ItemT], DoneT], items: Iterable[ItemT]) -> Generator[DoneT]:
    """Yield `work` of each item, in order, computed by several threads in parallel.

    Only a few items are taken ahead, because frames are large.
    """
    ahead: deque[Future[DoneT]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > WORKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for each in ahead:
                each.cancel()


def none_found() -> Detections:
    """Return the detections of a frame in which nothing can be seen."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def look_closer(
    image: Image, expected: NDArray[np.float64], detector: Detector, *, floor: float
) -> Detections:
    """Return the plates that are found where they should be, looked at closely.

    Args:
        image: (H, W, 3).
        expected: (N, 4) pixels, where plates should be.
        detector: sees the cut-outs side by side on sheets, several in one look.
        floor: the smallest confidence that counts there.
    """
    inside = _seen_in(expected, image.shape[:2])
    cuts = [
        (box, cut_out(image, box, width_px=width_px, side_px=TILE_PX))
        for box in expected[inside]
        for width_px in PLATE_WIDTHS_PX
    ]
    rows, columns = SHEET
    found: list[tuple[NDArray[np.float32], float]] = []
    for first in range(0, len(cuts), rows * columns):
        some = cuts[first : first + rows * columns]
        sheet = np.full((rows * TILE_PX, columns * TILE_PX, 3), PAD_GREY, np.uint8)
        for number, (_, cut) in enumerate(some):
            y, x = (number // columns) * TILE_PX, (number % columns) * TILE_PX
            sheet[y : y + TILE_PX, x : x + TILE_PX] = cut.image
        seen = detector.detect(sheet, min_confidence=floor, effort="fast")
        middles = (seen.xyxy[:, :2] + seen.xyxy[:, 2:]) / 2 // TILE_PX
        for (column, row), xyxy, confidence in zip(
            middles.astype(int).tolist(), seen.xyxy, seen.confidence.tolist(), strict=True
        ):
            number = row * columns + column
            if number < len(some):
                box, cut = some[number]
                corner = np.array([column, row, column, row], np.float32) * TILE_PX
                there = cut.undo((xyxy - corner)[None])[0]
                if _is_near(there, box):
                    found.append((there, confidence))
    if not found:
        return none_found()
    boxes = np.array([box for box, _ in found], np.float32)
    confidences = np.array([confidence for _, confidence in found], np.float32)
    kept = non_max_suppression(boxes, confidences, iou_threshold=SAME_IOU)
    return Detections(boxes[kept], confidences[kept])


def _seen_in(boxes: NDArray[np.float64], image_hw: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which boxes have their middle in the image, (N,)."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside: NDArray[np.bool_] = (middles >= 0) & (middles < [image_hw[1], image_hw[0]])
    return np.asarray(inside.all(axis=1), np.bool_)


def _is_near(box: NDArray[np.float32], expected: NDArray[np.float64]) -> bool:
    size, other = expected[2:] - expected[:2], box[2:] - box[:2]
    apart = np.abs((expected[:2] + expected[2:] - box[:2] - box[2:]) / 2).max()
    alike = 1 / MAX_SIZE_CHANGE <= other[1] / max(float(size[1]), 1.0) <= MAX_SIZE_CHANGE
    return bool(alike and apart <= NEAR * size.max())


def with_more(found: Detections, more: Detections) -> Detections:
    """Return both, most confident first, without those of `more` that were found already."""
    new = ~(iou_matrix(more.xyxy, found.xyxy) > SAME_IOU).any(axis=1)
    xyxy = np.vstack([found.xyxy, more.xyxy[new]])
    confidence = np.hstack([found.confidence, more.confidence[new]])
    order = np.argsort(-confidence, kind="stable")
    return Detections(xyxy[order], confidence[order])


Grey = NDArray[np.uint8]
"""(H, W) uint8, small."""


def camera_step(before: Grey, now: Grey) -> Step:
    """Return how the camera moved between two small grey images, in pixels of those.

    Where too little agrees, as at a cut, it counts as still.
    """
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 8)
    if corners is None or len(corners) < FEWEST_CORNERS:
        return STILL
    there, is_found, _ = cv2.calcOpticalFlowPyrLK(
        before, now, corners, np.empty_like(corners), winSize=(21, 21), maxLevel=4
    )
    kept = is_found.ravel() == 1
    if kept.sum() < FEWEST_CORNERS:
        return STILL
    moved, agreed = cv2.estimateAffinePartial2D(
        corners[kept], there[kept], method=cv2.RANSAC, ransacReprojThreshold=2.0
    )
    if moved is None or agreed.sum() < max(FEWEST_CORNERS, AGREED * kept.sum()):
        return STILL
    (a, _, x), (b, _, y) = moved
    if not 1 / MOST_ZOOM <= np.hypot(a, b) <= MOST_ZOOM:
        return STILL
    return np.array([a, b, x, y])
