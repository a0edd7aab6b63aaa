"""Values that the parts hand to each other; no algorithms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, upright."""

Boxes = NDArray[np.float32]
"""(N, 4) float32 `xyxy`: left, top, right, bottom in image pixels; right and bottom exclusive."""

Method = Literal["veil", "solid", "mosaic", "gaussian"]
"""How a plate is hidden. `mosaic` and `gaussian` are cosmetic: they can be attacked."""

Projection = Literal["auto", "flat", "equirectangular", "cubemap", "dual-fisheye"]
"""How a photo shows the world: `auto` goes by its panorama tags, the others don't ask them."""

Damaged = Literal["refuse", "hide"]
"""What becomes of a photo that is cut: nothing, or what can't be decoded turns grey."""

MetadataPolicy = Literal["strip", "safe", "keep"]
"""What of a photo's metadata is kept: what shows it right, harmless tags too, or all."""

Effort = Literal["fast", "default", "thorough"]
"""How hard plates are looked for: one look; looks that fit the photo; finer and turned ones too."""

COUNT_FLOOR = 0.05
"""Smallest confidence of a detection that counts, and below which none is kept.

Source: contract, section 3.
"""

SMALLEST_PLATE_PX = 12.0  # height; as finely is a 1080p photo looked at in one look of 896 px


@dataclass(frozen=True, slots=True)
class Searched:
    """How a photo was searched.

    Attributes:
        looks: how often the model looked at the photo or a part of it.
        smallest_plate_px: height of the smallest plate that was shown to the model as large as it
            needs, pixels of the photo; smaller ones are found by chance.
    """

    looks: int
    smallest_plate_px: float


@dataclass(frozen=True, slots=True)
class Detections:
    """Plates found in one image, most confident first.

    Attributes:
        xyxy: (N, 4) float32, pixels of the upright image.
        confidence: (N,) float32, 0 to 1.
        searched: how they were looked for; None where nothing was, as with boxes drawn by hand.
        corners: (N, 4, 2) float32, the plates' outlines where they are no upright rectangles: the
            corners in order around the plate, x and y in pixels of the upright image. Between two
            of them the edge is straight in the scene: a straight line in a flat photo, an arc of
            a great circle in a panorama. A row of NaN stands for a box without an outline. None
            where no box has one. `xyxy` holds the outline's bounds.
    """

    xyxy: Boxes
    confidence: NDArray[np.float32]
    searched: Searched | None = None
    corners: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that don't belong together."""
        if self.xyxy.ndim != 2 or self.xyxy.shape[1] != 4:
            raise ValueError(f"xyxy must have shape (N, 4), got {self.xyxy.shape}")
        if self.confidence.shape != (len(self.xyxy),):
            raise ValueError(
                f"confidence must have shape ({len(self.xyxy)},), got {self.confidence.shape}"
            )
        if self.corners is not None and self.corners.shape != (len(self.xyxy), 4, 2):
            raise ValueError(
                f"corners must have shape ({len(self.xyxy)}, 4, 2), got {self.corners.shape}"
            )

    def __len__(self) -> int:
        """Return how many plates were found."""
        return len(self.xyxy)

    def at_least(self, min_confidence: float) -> Detections:
        """Return those with a confidence of at least `min_confidence`."""
        return self.take(self.confidence >= min_confidence)

    def after_boxes(self, xyxy: Boxes) -> Detections:
        """Return these behind boxes drawn by hand: as sure as can be, and without outlines."""
        by_hand = Detections(xyxy, np.ones(len(xyxy), np.float32), self.searched)
        return by_hand.and_those(self)

    def and_those(self, others: Detections) -> Detections:
        """Return these and others together, the most confident first; these where they are equal.

        How they were searched for is taken from the others where it isn't known of these.
        """
        corners = None
        if self.corners is not None or others.corners is not None:
            corners = np.concatenate([self._outlines(), others._outlines()])
        together = Detections(
            np.vstack([self.xyxy, others.xyxy]),
            np.hstack([self.confidence, others.confidence]),
            self.searched or others.searched,
            corners,
        )
        return together.take(np.argsort(-together.confidence, kind="stable"))

    def _outlines(self) -> NDArray[np.float32]:
        if self.corners is not None:
            return self.corners
        return np.full((len(self), 4, 2), np.nan, np.float32)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Return the detections of `rows`, a mask or indices, with their outlines."""
        return replace(
            self,
            xyxy=self.xyxy[rows],
            confidence=self.confidence[rows],
            corners=None if self.corners is None else self.corners[rows],
        )


class Detector(Protocol):
    """Finds plates; safe to call from several threads at once."""

    def detect(
        self,
        image: Image,
        *,
        min_confidence: float,
        smallest_plate_px: float = SMALLEST_PLATE_PX,
        effort: Effort = "default",
    ) -> Detections:
        """Return the plates of `image` with a confidence of at least `min_confidence`.

        Args:
            image: (H, W, 3) uint8 RGB, of any size.
            min_confidence: the smallest confidence kept.
            smallest_plate_px: height of the smallest plate that is to be found, pixels.
            effort: how hard to look.

        Raises:
            DetectionError: the model failed; never an empty result instead.
        """
        ...


@dataclass(frozen=True, slots=True)
class BlurOptions:
    """How one photo is to be blurred, with the defaults of the whole project.

    Attributes:
        method: how a plate is hidden.
        margin: share of a box's width and height that is hidden beyond it on each side.
        min_confidence: the smallest confidence of a detection that is blurred, 0 to 1.
        metadata: what of the photo's metadata is written again.
        draw_boxes: draw the detections and their confidence on the blurred photo.
        crops: also encode a cut-out of each detection from the blurred image.
        mask: also return which pixels were hidden.
        preview: also encode the blurred photo as a small JPEG, which every browser shows.
        smallest_plate_px: height of the smallest plate that is to be found, pixels; a large photo
            takes more looks the smaller it is.
        effort: how hard plates are looked for.
        projection: how the photo shows the world.
        exact: write a JPEG with all its blocks as they came, except those with hidden pixels; it
            needs the extra of that name.
        damaged: what becomes of a JPEG that is cut.

    Raises:
        ValueError: `min_confidence` is out of range.
    """

    method: Method = "veil"
    margin: float = 0.25
    min_confidence: float = 0.45
    metadata: MetadataPolicy = "strip"
    draw_boxes: bool = False
    crops: bool = False
    mask: bool = False
    preview: bool = False
    smallest_plate_px: float = SMALLEST_PLATE_PX
    effort: Effort = "default"
    projection: Projection = "auto"
    exact: bool = False
    damaged: Damaged = "refuse"

    def __post_init__(self) -> None:
        """Refuse a confidence that no plate has: with one above 1, or NaN, none would be hidden."""
        require_confidence(self.min_confidence)


def require_confidence(min_confidence: float) -> None:
    """Raise unless `min_confidence` is one that a detection can have.

    Raises:
        ValueError: it is not above 0 and at most 1.
    """
    if not 0 < min_confidence <= 1:
        raise ValueError(f"min_confidence must be above 0 and at most 1, got {min_confidence}")


@dataclass(frozen=True, slots=True)
class BlurredPhoto:
    """A photo with its plates hidden, and what was found in it.

    Attributes:
        data: the encoded photo; plates hidden, upright.
        format: what `data` is, one of the names in `formats.FORMATS`.
        image_hw: height and width of the upright image, pixels.
        detections: the plates that were hidden, most confident first.
        predictions_counted: how many the detector kept at its own floor, `COUNT_FLOOR`; what a
            plan counts, so never less than `len(detections)` at a `min_confidence` above it.
        crops: for each detection its cut-out of the blurred image, encoded; empty unless asked.
        projection: how the photo was taken to show the world; "flat" unless it was treated as a
            panorama.
        notes: what was lost on the way, a sentence each, for people.
        pictures_dropped: further pictures in the file, which were not written.
        ignored: how many plates stay visible because they lie in zones to ignore.
        mask: (H, W) uint16, 0 where nothing was hidden, k in the k-th detection, 65535 in zones
            that are hidden always; None unless asked for.
        preview: the blurred photo as a small JPEG; empty unless asked for.
    """

    data: bytes
    format: str
    image_hw: tuple[int, int]
    detections: Detections
    predictions_counted: int
    crops: tuple[bytes, ...] = field(default=())
    projection: Projection = "flat"
    notes: tuple[str, ...] = ()
    pictures_dropped: int = 0
    ignored: int = 0
    mask: NDArray[np.uint16] | None = None
    preview: bytes = b""


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """A clip with its plates hidden, in memory.

    Attributes:
        data: the clip, MP4.
        image_hw: height and width of the frames as shown, pixels.
        frames: that were searched.
        length_s: from the first frame to the last.
        plates: how many were followed and hidden.
        notes: what was left out or converted, a sentence each, for people.
    """

    data: bytes
    image_hw: tuple[int, int]
    frames: int
    length_s: float
    plates: int
    notes: tuple[str, ...] = ()
