"""What follows from looking again at a box, in cut-outs that show it at several sizes; pure NumPy.

Lettering, lamps and badges look like a plate at one size, plates at several. So a box that the
model isn't sure of is shown to it again: where it sees no plate at any size, the confidence is
halved. A box that the first look showed only a few pixels high is corrected, because enlarged its
edges are found better; and an unsure one is raised to what several sizes agree on, which is what a
look as close as that at the whole photo would have shown, at a fraction of its cost.

Source of the numbers: chosen on the val split, docs/explanation/detection.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plateblur.looks import SEEN_PX
from plateblur.types import Boxes

LOOK_AGAIN_FROM, SURE_FROM = 0.05, 0.9  # confidences between which a box is unsure
FILLS_FROM = 0.5  # of the photo's width: what fills so much of it is left as it is
LOOK_WIDTHS_PX = (64, 40, 144, 32, 96)  # of the box in the cut-outs, in order
LOOK_SIDE_PX = 256  # of a cut-out; a multiple of the stride of every model that is exported here
LOOK_IOU = 0.4  # from which a box in a cut-out is on the plate that is looked for
CONFIRMED_FROM = 0.1  # confidence in a cut-out from which it confirms a plate
CONFIRMING_SIZES = 3  # so many of the sizes, from the first, are there to confirm
LOWERED_FROM = 0.2  # confidence from which a box is lowered where no size confirms it
RAISED_BELOW = 0.5  # confidence below which a small box is raised where several sizes agree
RAISED_UNDER_PX = 4 * SEEN_PX  # height in the input; what is larger was seen as well as can be
RAISED_BELOW_SCALE = 0.68  # of the first look: a photo shown larger has little more to show
RAISING_SIZES = 3  # how many must agree
CORRECTED_UNDER_PX = 12  # height in the input below which a sure box too is looked at again
TRUSTED_FROM = 0.5  # confidence in a cut-out from which its box counts


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What the first look says of boxes that are looked at again.

    Attributes:
        confidence: (N,) float32.
        shown_px: (N,) float32, height at which the look showed them, pixels of the input.
        may_rise: (N,) bool, whether enlarging may show more than the first look did.
    """

    confidence: NDArray[np.float32]
    shown_px: NDArray[np.float32]
    may_rise: NDArray[np.bool_]

    @property
    def raisable(self) -> NDArray[np.bool_]:
        """(N,) bool: too small and too unsure to be left at that."""
        raisable: NDArray[np.bool_] = (self.confidence < RAISED_BELOW) & self.may_rise
        raisable &= self.shown_px < RAISED_UNDER_PX
        return raisable


def is_decided(first: FirstLook, again: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return for which boxes, (N,) bool, the second looks so far are enough.

    Args:
        first: of N boxes.
        again: (N, sizes so far) confidences.
    """
    looked = again.shape[1]
    small = first.shown_px < CORRECTED_UNDER_PX
    # One look to correct a small box; to lower another, looks until one confirms it.
    to_lower = (first.confidence >= LOWERED_FROM) & (first.confidence < SURE_FROM)
    confirmed = (again >= CONFIRMED_FROM).any(axis=1) | (looked >= CONFIRMING_SIZES)
    enough = (confirmed | ~to_lower) & ((looked >= 1) | ~small)
    # To raise one, looks until enough agree or too few are left.
    agreed = (again >= SURE_FROM).sum(axis=1) >= RAISING_SIZES
    against = (again <= first.confidence[:, None]).sum(axis=1)
    raised = agreed | (against > len(LOOK_WIDTHS_PX) - RAISING_SIZES)
    decided: NDArray[np.bool_] = np.where(first.raisable, raised, enough)
    return decided


def second_opinion(first: FirstLook, again: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the confidence of N boxes after their second looks.

    Half of the first where no size shows a plate; where it may be raised, what the best
    `RAISING_SIZES` sizes all reach, if that is more.

    Args:
        first: of N boxes.
        again: (N, sizes) confidences, 0 where nothing was seen or not looked.
    """
    agreed = np.sort(again, axis=1)[:, -RAISING_SIZES]
    raised = np.where(first.raisable, np.maximum(first.confidence, agreed), first.confidence)
    lowered = (first.confidence >= LOWERED_FROM) & (first.confidence < SURE_FROM)
    lowered &= (again < CONFIRMED_FROM).all(axis=1)
    return np.where(lowered, first.confidence / 2, raised).astype(np.float32)


def corrected(
    first: FirstLook, xyxy: Boxes, again: NDArray[np.float32], boxes: NDArray[np.float32]
) -> Boxes:
    """Return N boxes as the first size that is sure of the plate shows them.

    A small one moves there. One that the first look saw as well, because it is large or was not
    shown smaller, reaches over both, so that nothing is shown that was hidden.

    Args:
        first: of N boxes.
        xyxy: (N, 4), the boxes.
        again: (N, sizes) confidences of the second looks.
        boxes: (N, sizes, 4), where they see the plate.
    """
    trusted = again >= TRUSTED_FROM
    size = trusted.argmax(axis=1)
    again_xyxy = boxes[np.arange(len(xyxy)), size]
    hull = np.hstack(
        [np.minimum(xyxy[:, :2], again_xyxy[:, :2]), np.maximum(xyxy[:, 2:], again_xyxy[:, 2:])]
    )
    moves = (first.shown_px < RAISED_UNDER_PX) & first.may_rise
    seen_anew = np.where(moves[:, None], again_xyxy, hull)
    return np.where(again.max(axis=1, keepdims=True) >= TRUSTED_FROM, seen_anew, xyxy)
