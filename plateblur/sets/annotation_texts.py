"""The annotations of UFPR-ALPR and RodoSol-ALPR: text files with a `name: value` on each line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from plateblur.sets import layout
from plateblur.sets.labels import TruthBoxes


def fields_of(annotation: Path) -> dict[str, str]:
    """Return the `name: value` lines of an annotation; a repeated name is ignored.

    Args:
        annotation: text file of UFPR-ALPR or RodoSol-ALPR.

    Raises:
        DatasetError: there is none.
    """
    if not annotation.is_file():
        raise layout.DatasetError(f"expected an annotation at {annotation}, found none")
    found: dict[str, str] = {}
    for line in annotation.read_text(encoding="utf-8", errors="replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def corner_box(text: str) -> TruthBoxes:
    """Return the box around four corners.

    Args:
        text: `x,y x,y x,y x,y`, pixels.

    Returns:
        (1, 4) float64, pixels.

    Raises:
        ValueError: not four points.
    """
    points = np.array([pair.split(",") for pair in text.split()], dtype=np.float64)
    if points.shape != (4, 2):
        raise ValueError(f"expected 4 corners, got {text!r}")
    return np.concatenate([points.min(axis=0), points.max(axis=0)])[None]
