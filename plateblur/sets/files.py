"""Finding the files of a set in a folder, and which of them belong together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PureWindowsPath

PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".bmp", ".tif", ".tiff")
)
"""Suffixes of photos in sets of others, in lower case."""


def files_in(root: Path, *suffixes: str) -> list[Path]:
    """Return the files of a folder with these suffixes, whatever their case, in order.

    Its subfolders are searched too, and linked folders, each once. Hidden files and folders are
    passed over, such as the `._a.jpg` that macOS adds to archives.

    Args:
        root: the folder.
        suffixes: in lower case, with their dot; all files without any.
    """
    return sorted(
        path
        for path in _visible(root, seen=set())
        if not suffixes or path.suffix.lower() in suffixes
    )


def _visible(root: Path, *, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(root)
    if real in seen:  # a link to a folder above it would go round for ever
        return
    seen.add(real)
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _visible(path, seen=seen)
        else:
            yield path


def photos_in(root: Path) -> list[Path]:
    """Return the photos of a folder and its subfolders, as `files_in` finds them."""
    return files_in(root, *PHOTO_SUFFIXES)


def as_named(name: str) -> Path:
    """Return a path that a label file gives, written with slashes or with backslashes."""
    return Path(PureWindowsPath(name).as_posix())


def nearest(path: Path, candidates: Sequence[Path]) -> list[Path]:
    """Return the candidates that share most folders with `path`; several if nothing decides.

    So `train/images/1.jpg` goes with `train/annots/1.xml` and not with `valid/annots/1.xml`.
    """
    shared = [len(set(found.parts) & set(path.parts)) for found in candidates]
    return [one for one, number in zip(candidates, shared, strict=True) if number == max(shared)]


def used_twice(paths: Collection[Path]) -> list[Path]:
    """Return the paths that appear more than once."""
    return sorted(path for path, times in Counter(paths).items() if times > 1)
