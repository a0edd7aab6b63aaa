"""UFPR-ALPR: 150 vehicles in Brazilian traffic, 30 frames each, 1920x1080; given on request.

    python datasets/ufpr_alpr.py "UFPR-ALPR dataset.zip" --out datasets/out/ufpr-alpr

Ask for it as github.com/raysonlaroca/ufpr-alpr-dataset says; it may not be passed on.

Layout, from that README and from the parsers of several people who have it (a code search for
`position_plate:`): `{training,validation,testing}/trackNNNN/trackNNNN[FF].png` beside a `.txt` of
the same name. One line of it gives the plate: `position_plate: x y width height` in one release,
`corners: x,y x,y x,y x,y` in another. A track shows one vehicle and is in one part, so the set's
own split is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plateblur.sets import layout, recipe
from plateblur.sets.annotation_texts import corner_box, fields_of
from plateblur.sets.labels import TruthBoxes

CARD = layout.SetCard(
    name="ufpr-alpr",
    source="github.com/raysonlaroca/ufpr-alpr-dataset",
    licence="academic research only, non-commercial, no redistribution (licence agreement)",
    region="Brazil, dashcam",
)

SPLIT_OF_PART: dict[str, layout.Split] = {
    "training": "train",
    "validation": "val",
    "testing": "test",
}

TRACK = re.compile(r"(?P<track>track\d+)\[\d+\]")


def plate_box(annotation: Path) -> TruthBoxes:
    """Return the plate's box of an annotation of either release.

    Args:
        annotation: the text file beside a frame.

    Returns:
        (1, 4) float64, pixels.

    Raises:
        DatasetError: no plate in it, or a damaged one.
    """
    found = fields_of(annotation)
    try:
        if "corners" in found:
            return corner_box(found["corners"])
        x, y, width, height = (float(word) for word in found["position_plate"].split())
    except (KeyError, ValueError) as error:
        raise layout.DatasetError(
            f"{annotation}: expected `corners` or `position_plate`: {error}"
        ) from error
    return np.array([[x, y, x + width, y + height]])


def photos(root: Path) -> Iterator[layout.SourcePhoto]:
    """Yield the frames.

    Args:
        root: folder that holds `training`, `validation` and `testing`, at any depth.

    Raises:
        DatasetError: a frame outside these, of no track, or of a track that is in two of them.
    """
    split_of_track: dict[str, layout.Split] = {}
    for path in sorted(root.rglob("track*.png")):
        part = next((part for part in path.relative_to(root).parts if part in SPLIT_OF_PART), None)
        match = TRACK.fullmatch(path.stem)
        if part is None or match is None:
            raise layout.DatasetError(f"expected PART/trackNNNN/trackNNNN[FF].png, got {path}")
        split = split_of_track.setdefault(match["track"], SPLIT_OF_PART[part])
        if split != SPLIT_OF_PART[part]:
            raise layout.DatasetError(
                f"{match['track']} is in {split} and in {SPLIT_OF_PART[part]}"
            )
        yield layout.SourcePhoto(
            path, plate_box(path.with_suffix(".txt")), split, f"{part}/{path.name}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, locate, convert and print the counts."""
    recipe.on_request(argv, page=__doc__, card=CARD, photos=photos)


if __name__ == "__main__":
    layout.run(main)
