"""A folder of your own, labelled in one of five forms.

    python datasets/folder.py PHOTOS --form voc --name mine --licence "CC BY 4.0" --out OUT

`plateblur/sets/forms.py` describes the forms: YOLO's, Pascal VOC's, COCO's, CSV and Label Studio's.
A photo without any label entry is left out: nobody has checked it for plates.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import get_args

from plateblur.sets import layout, recipe
from plateblur.sets.files import photos_in
from plateblur.sets.forms import READERS, DrawnOn, Labelled, orphans, upright_boxes

SPLIT_OF_FOLDER: dict[str, layout.Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# Source: names in Roboflow's exports; several augmented versions of a photo differ only in it.
ROBOFLOW = re.compile(r"_(jpg|jpeg|png|webp)\.rf\.[0-9a-f]{32}$")

MANY_BOXES = 5  # that would all be in a corner by chance in no set
MUCH_LARGER_PX = 200  # than the 100 that percent reach


def plate_classes(labelled: Sequence[Labelled], wanted: Collection[str]) -> set[str]:
    """Return the classes that are plates: those requested, or the only class.

    Raises:
        DatasetError: a requested class is missing, or none is requested and there are several.
    """
    found = {name for photo in labelled for name in photo.classes}
    missing = set(wanted) - found
    if missing or (not wanted and len(found) > 1):
        raise layout.DatasetError(
            f"expected --class with names of plates, got {sorted(wanted)}; "
            f"the classes are {sorted(found)}"
        )
    return set(wanted) or found


def group_of(name: str, pattern: re.Pattern[str] | None) -> str:
    """Return what a photo has in common with its near-duplicates.

    Args:
        name: its path in the folder.
        pattern: finds it in the name, as its first group or as a whole; without one, the name
            itself, without what Roboflow adds to versions of a photo.

    Raises:
        DatasetError: the pattern finds nothing.
    """
    if pattern is None:
        return ROBOFLOW.sub("", Path(name).stem)
    match = pattern.search(name)
    if match is None:
        raise layout.DatasetError(
            f"expected --group {pattern.pattern!r} to match each name, not {name}"
        )
    return match[1] if pattern.groups else match[0]


def folder_split(name: str) -> layout.Split:
    """Return the split that a photo's folder is named after.

    Raises:
        DatasetError: none of them is.
    """
    for part in reversed(Path(name).parts[:-1]):
        if part.lower() in SPLIT_OF_FOLDER:
            return SPLIT_OF_FOLDER[part.lower()]
    raise layout.DatasetError(f"{name}: expected a folder named {sorted(SPLIT_OF_FOLDER)}")


def refuse_percent(labelled: Sequence[Labelled]) -> None:
    """Refuse labels in percent of the picture where pixels are expected.

    Raises:
        DatasetError: all of many boxes are in the first 100 pixels of photos that are much larger.
    """
    boxes = [(photo, box) for photo in labelled if not photo.in_shares for box in photo.xyxy]
    if len(boxes) < MANY_BOXES or max(box.max() for _, box in boxes) > 100:
        return
    sides = [min(layout.image_hw_of(path)) for path in {photo.path for photo, _ in boxes}]
    if min(sides) > MUCH_LARGER_PX:
        raise layout.DatasetError(
            f"expected boxes in pixels, but none of {len(boxes)} reaches beyond 100; are these "
            "percent of the picture?"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, locate or download, convert and print the counts."""
    parser = recipe.command_line(__doc__)
    recipe.archive_arguments(parser, source="the folder, or an archive of it")
    parser.add_argument("--form", choices=READERS, required=True, help="how it is labelled")
    parser.add_argument("--name", required=True, help="short name of the set")
    parser.add_argument("--from", dest="origin", default="own", help="where it is from")
    parser.add_argument("--licence", default="unstated", help="as stated by its authors")
    parser.add_argument("--region", default="unknown", help="where the plates are from")
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME")
    splits = parser.add_mutually_exclusive_group()
    splits.add_argument("--group", type=re.compile, help="what one ride's names have in common")
    splits.add_argument("--keep-splits", action="store_true", help="take train, val, test folders")
    parser.add_argument(
        "--drawn-on", choices=get_args(DrawnOn), help="what labels of photos with an EXIF turn are"
    )
    parser.add_argument(
        "--negatives",
        action="store_true",
        help="take photos with boxes of other classes alone as photos without plates",
    )
    given = parser.parse_args(argv)
    root = recipe.archive(parser, given)
    labelled = list(READERS[given.form](root))
    if not labelled:
        raise layout.DatasetError(
            f"expected labels of the form {given.form} in {root}, found none that fit a photo; "
            f"photos: {len(photos_in(root))}, labels without a photo: "
            f"{len(orphans(given.form, root))}"
        )
    refuse_percent(labelled)
    classes = plate_classes(labelled, given.classes)
    others = Counter(name for photo in labelled for name in photo.classes if name not in classes)
    alone = {photo.path for photo in labelled if photo.classes and not set(photo.classes) & classes}
    broken: list[str] = []

    def photos() -> Iterator[layout.SourcePhoto]:
        for photo in labelled:
            if photo.path in alone and not given.negatives:
                continue
            name = photo.path.relative_to(root).as_posix()
            split = (
                folder_split(name)
                if given.keep_splits
                else layout.split_of(group_of(name, given.group))
            )
            try:
                boxes = upright_boxes(photo, photo.of(classes), drawn_on=given.drawn_on)
            except ValueError as error:
                broken.append(f"{name} ({photo.label}): {error}")
                continue
            yield layout.SourcePhoto(photo.path, boxes, split, name, photo.label)
        layout.report_broken(broken, leave_out=given.leave_out_broken)

    recipe.write(
        given, layout.SetCard(given.name, given.origin, given.licence, given.region), photos()
    )
    left_out = len(set(photos_in(root)) - {photo.path for photo in labelled})
    print(f"left out, because no label speaks of them: {left_out}")
    print(f"labels without a photo: {len(orphans(given.form, root))}")
    if others:
        names = ", ".join(f"{name} {number}" for name, number in others.most_common())
        print(f"boxes of other classes, left out: {names}")
    if alone and not given.negatives:
        print(f"left out, because all their boxes are of other classes: {len(alone)}")


if __name__ == "__main__":
    layout.run(main)
