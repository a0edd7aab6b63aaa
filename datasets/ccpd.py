"""Cars in Chinese car parks, one plate per photo, 720x1160: github.com/detectRecog/CCPD.

    python datasets/ccpd.py CCPD2019.tar.xz --out datasets/out/ccpd --per-folder 1000

The archives are on Google Drive and BaiduYun (links in the repository's README): download
one by hand, or give the address of your own mirror with its hash.

Layout, from that README and its `split/*.txt`: `ccpd_base/`, `ccpd_blur/`, ... (CCPD2019) or
`ccpd_green/{train,val,test}/` (CCPD2020) of photos whose names are the labels, seven fields
between hyphens: area, tilt, box, corners, plate, brightness, blurriness. The box is
`x1&y1_x2&y2`. `ccpd_np` holds cars without a plate, under other names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plateblur.sets import layout, recipe
from plateblur.sets.labels import TruthBoxes

CARD = layout.SetCard(
    "ccpd", "github.com/detectRecog/CCPD", "MIT", "China (mostly Anhui), car parks"
)

WITHOUT_PLATES = "ccpd_np"
NAME = re.compile(
    r"[\d.]+-\d+_\d+-(?P<box>\d+&\d+_\d+&\d+)-\d+&\d+(_\d+&\d+){3}-(?P<plate>\d+(_\d+)+)-\d+-\d+"
)


def parse_name(stem: str) -> tuple[TruthBoxes, str]:
    """Return the plate's box and its characters' numbers, which identify a vehicle.

    Args:
        stem: file name without its suffix.

    Returns:
        (1, 4) float64, pixels; and the numbers as in the name.

    Raises:
        DatasetError: the name doesn't have CCPD's form.
    """
    match = NAME.fullmatch(stem)
    if match is None:
        raise layout.DatasetError(f"expected a name of CCPD's seven fields, got {stem!r}")
    numbers = re.split("[&_]", match["box"])
    return np.array([numbers], dtype=np.float64), match["plate"]


def photos(root: Path, *, per_folder: int | None) -> Iterator[layout.SourcePhoto]:
    """Yield the photos, all of one vehicle in one split.

    Several photos show the same vehicle, and the set's own split puts it on both sides (Laroca et
    al., "Do We Train on Test Data?", arXiv 2304.04653). So the split follows the plate.

    Args:
        root: folder that holds the `ccpd_*` folders, at any depth.
        per_folder: at most that many of each, chosen by their names' hash; default: all.

    Raises:
        DatasetError: a name of another form.
    """
    folders = sorted(path for path in (root, *root.rglob("ccpd_*")) if path.is_dir())
    for folder in (path for path in folders if path.name.startswith("ccpd_")):
        paths = sorted(folder.rglob("*.jpg"), key=lambda path: _draw(path.name))
        for path in paths[:per_folder]:
            if folder.name == WITHOUT_PLATES:
                boxes, group = layout.NO_BOXES, f"{folder.name}/{path.name}"
            else:
                boxes, group = parse_name(path.stem)
            name = path.relative_to(folder.parent).as_posix()
            yield layout.SourcePhoto(path, boxes, layout.split_of(group), name)


def _draw(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, locate or download, convert and print the counts."""
    parser = recipe.command_line(__doc__)
    recipe.archive_arguments(parser, source="the archive, or its folder unpacked")
    parser.add_argument("--per-folder", type=int, help="at most so many photos of each ccpd_*")
    given = parser.parse_args(argv)
    root = recipe.archive(parser, given)
    found = photos(root, per_folder=given.per_folder)
    recipe.write(given, CARD, found)


if __name__ == "__main__":
    layout.run(main)
