"""List the steps of training in order, each with the first line of its docstring."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

STEPS = {
    "All of it in one line, up to the figures beside the shipped model's": ("run",),
    "From data to the shipped model, in this order": (
        *("train", "average", "export", "calibrate", "evaluate", "promote", "promote_near"),
    ),
    "All of these again, as the shipped model was made": ("reproduce",),
    "Beside them": (
        *("offer", "restore", "graph", "int8", "widen", "tune", "augment", "record", "card", "hub"),
    ),
}


def summary(step: str) -> str:
    """Return the first line of a step's docstring without importing it, and torch with it."""
    page = ast.parse(Path(__file__).with_name(f"{step}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(page) or "").splitlines()[0]


def listing() -> str:
    """Return the list of steps."""
    lines = []
    for heading, steps in STEPS.items():
        lines += [heading, *(f"  python -m training.{name:<12} {summary(name)}" for name in steps)]
        lines.append("")
    return "\n".join([*lines, "Run one with --help for its options.", ""])


if __name__ == "__main__":
    sys.stdout.write(listing())
