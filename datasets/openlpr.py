"""Cars of many countries: github.com/faisalthaheem/open-lpr-dataset-plate-detection.

    python datasets/openlpr.py --out datasets/out/openlpr

Layout, read in the repository at `COMMIT`: photos in `train/` and `val/`, boxes in the SQLite file
`train_and_val.db`. Its table `annotations` is that of the tool Simanno (github.com/faisalthaheem/
simanno, `be/create_db_schema.py`): `filename`, `imheight`, `imwidth`, `isdeleted` and `imgareas`,
a JSON list of jquery-select-areas' rectangles, each with `x`, `y`, `width` and `height` in pixels
of a picture of `imwidth` x `imheight`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plateblur.sets import layout, recipe
from plateblur.sets.labels import TruthBoxes

REPOSITORY = "https://github.com/faisalthaheem/open-lpr-dataset-plate-detection.git"
COMMIT = "6350b78010cd9f0c435b9e7cd4a2f5a4be3da59f"  # holds every photo and both databases
CARD = layout.SetCard(
    name="openlpr",
    source="github.com/faisalthaheem/open-lpr-dataset-plate-detection",
    licence="Apache-2.0 (repository); photos look collected from the web: rights of others",
    region="mixed: UK, Pakistan, India, US, EU, New Zealand, Singapore",
)

FOLDERS = ("train", "val")
DATABASES = ("train_and_val.db", "train.db")  # the first of them that is there
QUERY = "SELECT filename, imheight, imwidth, imgareas FROM annotations WHERE isdeleted IS NOT 1"


def find_database(root: Path) -> Path:
    """Return the database of a checkout, or of an archive with one top folder.

    Raises:
        DatasetError: there is none.
    """
    found = (path for name in DATABASES for path in sorted(root.rglob(name)))
    database = next(found, None)
    if database is None:
        raise layout.DatasetError(f"expected one of {DATABASES} in {root}, found none")
    return database


def areas(database: Path) -> dict[str, tuple[tuple[int, int], TruthBoxes]]:
    """Return by file name the height and width that a photo was labelled at, and its boxes.

    Args:
        database: SQLite file of the repository.

    Raises:
        DatasetError: it has another layout, or is damaged.
    """
    # Opened read-only: git has checked the file, and SQLite would write beside it.
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        return {
            str(name): ((int(height), int(width)), _rectangles(text))
            for name, height, width, text in connection.execute(QUERY)
        }
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError) as error:
        raise layout.DatasetError(f"{database}: not Simanno's annotations: {error}") from error
    finally:
        connection.close()


def _rectangles(text: str) -> TruthBoxes:
    given = json.loads(text) if text else []
    rows = [(area["x"], area["y"], area["width"], area["height"]) for area in given]
    xywh = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])


def photos(root: Path) -> Iterator[layout.SourcePhoto]:
    """Yield the labelled photos of a checkout; unlabelled ones are left out.

    Args:
        root: folder that holds the repository's files, at any depth.
    """
    database = find_database(root)
    labelled, home = areas(database), database.parent
    for path in sorted(path for folder in FOLDERS for path in (home / folder).glob("*")):
        if path.name not in labelled:
            continue
        (height, width), xyxy = labelled[path.name]
        found_height, found_width = layout.image_hw_of(path)
        yield layout.SourcePhoto(
            path=path,
            xyxy=xyxy * np.array([found_width / width, found_height / height] * 2),
            split=layout.split_of(path.stem),
            original_name=f"{path.parent.name}/{path.name}",
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, fetch, convert and print the counts."""
    recipe.from_git(
        argv, page=__doc__, card=CARD, photos=photos, repository=REPOSITORY, commit=COMMIT
    )


if __name__ == "__main__":
    layout.run(main)
