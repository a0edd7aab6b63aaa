"""Romanian dashcam frames, by day and night, 1280x720: RobertLucian/license-plate-dataset.

    python datasets/robertlucian.py --out datasets/out/robertlucian

Layout, read in the repository on GitHub at `COMMIT`: `dataset/{train,valid}/images/` with
`RIDE.mp4#t=SECOND.jpg`, and `annots/` beside it with an `.xml` of the same name, Pascal VOC
written by VoTT. Its own two parts are drawn frame by frame from the same rides, so both
have neighbouring seconds; here each ride is cut in time instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from plateblur.sets import forms, layout, recipe

REPOSITORY = "https://github.com/RobertLucian/license-plate-dataset.git"
COMMIT = "06aa3c1bbfb7abe841ba076089eab31243abe147"  # holds every photo and annotation
CARD = layout.SetCard(
    "robertlucian", "github.com/RobertLucian/license-plate-dataset", "MIT", "Romania"
)

FRAME = re.compile(r"(?P<ride>\w+)\.mp4#t=(?P<second>\d+)")
PLATE_CLASSES = frozenset({"license-plate"})

# First second of val and of test in each ride; None where a ride has no such part. Source: the
# split of our own copy (../shared/data/plates), so that its test frames are test frames here too.
CUTS_S: dict[str, tuple[int, int | None]] = {
    "dayride_type1_001": (1071, 1132),
    "dayride_type1_002": (822, None),
    "dayride_type1_003": (324, None),
    "nightride_type3_001": (410, 486),
}


def split_of_frame(name: str) -> layout.Split:
    """Return the split of a frame, by its ride and its second in it.

    Args:
        name: file name of the frame.

    Raises:
        DatasetError: no such name, or a ride that has no cuts.
    """
    match = FRAME.match(name)
    if match is None or match["ride"] not in CUTS_S:
        raise layout.DatasetError(
            f"expected RIDE.mp4#t=SECOND of the rides {sorted(CUTS_S)}, got {name}"
        )
    val_from_s, test_from_s = CUTS_S[match["ride"]]
    second = int(match["second"])
    if test_from_s is not None and second >= test_from_s:
        return "test"
    return "val" if second >= val_from_s else "train"


def photos(root: Path) -> Iterator[layout.SourcePhoto]:
    """Yield the frames of a checkout.

    Args:
        root: folder that holds the repository's `dataset`, at any depth.

    Raises:
        DatasetError: a frame without its annotation, or one that is damaged.
    """
    for path in sorted(root.rglob("dataset/*/images/*.jpg")):
        annotation = path.parent.with_name("annots") / f"{path.stem}.xml"
        if not annotation.is_file():
            raise layout.DatasetError(
                f"{path.name}: expected an annotation at {annotation}, found none"
            )
        labelled = forms.voc_objects(annotation)
        if others := set(labelled.classes) - PLATE_CLASSES:
            raise layout.DatasetError(f"{annotation}: expected plates alone, got {sorted(others)}")
        yield layout.SourcePhoto(
            path=path,
            xyxy=labelled.of(PLATE_CLASSES),
            split=split_of_frame(path.name),
            original_name=f"{path.parts[-3]}/{path.name}",
            label=annotation,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, fetch, convert and print the counts."""
    recipe.from_git(
        argv, page=__doc__, card=CARD, photos=photos, repository=REPOSITORY, commit=COMMIT
    )


if __name__ == "__main__":
    layout.run(main)
