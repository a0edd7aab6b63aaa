"""Draw street scenes whose plates are known to the pixel, as a data set or as six examples.

    python datasets/synthetic.py OUT --count 200 --seed 1
    python datasets/synthetic.py OUT --examples

The drawing is in `plateblur/drawn/`; it needs nothing but the base install.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from plateblur import drawn
from plateblur.sets.layout import SPLITS


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, draw, and print what was written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--count", type=int, default=100, help="number of scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--split-shares", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar=SPLITS
    )
    parser.add_argument("--image-hw", type=int, nargs=2, default=(720, 1280), metavar=("H", "W"))
    parser.add_argument("--examples", action="store_true", help="six chosen scenes instead")
    given = parser.parse_args(argv)
    if given.examples:
        for path in drawn.write_examples(given.out):
            print(path)
        return
    counts = drawn.write_set(
        given.out,
        count=given.count,
        seed=given.seed,
        split_shares=tuple(given.split_shares),
        image_hw=tuple(given.image_hw),
    )
    for split, count in counts.items():
        print(f"{split}: {count}")


if __name__ == "__main__":
    main()
