"""Join sets into one: corrected, without near-duplicates, and no test photo in train.

    python datasets/merge.py datasets/out/openlpr datasets/out/ccpd --out datasets/out/all
        --licence "MIT" --licence "Apache-2.0*" --cap ccpd=2000 --oversample openlpr=3
        --overlay overlay.jsonl                                                   (on one line)

It ends with exit code 1 and names where a photo of test is also in train or val. The steps are
those of `plateblur/sets/merge.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from plateblur.sets import layout
from plateblur.sets.corrections import Correction, parse_corrections
from plateblur.sets.merge import NEAR_BITS, Config, merge


def _by_set(given: Sequence[str]) -> dict[str, int]:
    """Return the numbers of `SET=N` arguments."""
    try:
        return {name: int(number) for name, number in (one.rsplit("=", 1) for one in given)}
    except ValueError as error:
        raise layout.DatasetError(f"expected SET=N, got {' '.join(given)}") from error


def _corrections(paths: Sequence[Path]) -> list[Correction]:
    found: list[Correction] = []
    for path in paths:
        try:
            found += parse_corrections(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise layout.DatasetError(f"{path}: {error}") from error
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and join."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET", help="folder of a set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the joined set")
    parser.add_argument("--licence", action="append", default=[], metavar="PATTERN", help="keep")
    parser.add_argument("--not-licence", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--cap", action="append", default=[], metavar="SET=N", help="of train")
    parser.add_argument("--oversample", action="append", default=[], metavar="SET=TIMES")
    parser.add_argument("--overlay", type=Path, action="append", default=[], help="JSON lines")
    parser.add_argument("--near-bits", type=int, default=NEAR_BITS, help="of 64, near-duplicates")
    parser.add_argument("--drop-leaks", action="store_true", help="leave leaks out of train, val")
    given = parser.parse_args(argv)
    config = Config(
        corrections=_corrections(given.overlay),
        wanted=given.licence,
        unwanted=given.not_licence,
        caps=_by_set(given.cap),
        oversample=_by_set(given.oversample),
        near_bits=given.near_bits,
        drop_leaks=given.drop_leaks,
    )
    print(merge(given.sets, given.out, config))


if __name__ == "__main__":
    layout.run(main)
