"""Count what an overlay corrects, by split.

    python datasets/corrected.py SET OVERLAY.jsonl --out docs/label-corrections.json

The file names no photo, so that it can be published. A box that was moved twice counts twice.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from plateblur.sets import layout
from plateblur.sets.corrections import Action, Correction, parse_corrections


def count(
    rows: Iterable[layout.Row], corrections: Iterable[Correction]
) -> dict[str, dict[str, int]]:
    """Return by split how many boxes each action is about; of `drop`, how many photos.

    Args:
        rows: of the set's manifest; corrections of photos that are not there are not counted.
        corrections: of an overlay.
    """
    split_of = {row.name: row.split for row in rows}
    counted: dict[str, dict[str, int]] = {
        split: dict.fromkeys(get_args(Action), 0) for split in layout.SPLITS
    }
    for one in corrections:
        if one.image in split_of:
            counted[split_of[one.image]][one.action] += len(one.boxes) or 1
    return counted


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, metavar="SET", help="folder of a set")
    parser.add_argument("overlay", type=Path, help="corrections of labels, JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    given = parser.parse_args(argv)
    corrections = parse_corrections(given.overlay.read_text(encoding="utf-8"))
    counted = count(layout.read_manifest(given.root), corrections)
    given.out.write_text(json.dumps(counted, indent=2) + "\n", encoding="utf-8")
    lines = [(split, *numbers.values()) for split, numbers in counted.items()]
    print(layout.table(("split", *get_args(Action)), lines))


if __name__ == "__main__":
    layout.run(main)
