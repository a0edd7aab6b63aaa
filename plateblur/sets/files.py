"""Finding the files of a set in a folder, and which of them belong together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from plateblur.sets.layout import DatasetError

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


def each_of_one_photo(labels: dict[Path, Path]) -> dict[Path, Path]:
    """Return the label files by photo, after checking that no two photos share one.

    Raises:
        DatasetError: two do, and its boxes can't be of both.
    """
    shared = [label for label, times in Counter(labels.values()).items() if times > 1]
    for label in sorted(shared):
        photos = " and ".join(str(photo) for photo, of in labels.items() if of == label)
        raise DatasetError(f"{label}: expected labels of one photo, they fit {photos}")
    return labels


def the_one(found: Sequence[Path], *, of: Path, name: str) -> Path:
    """Return the only file found.

    Args:
        found: one or more.
        of: the file that needs it, for the message.
        name: by which it was looked for.

    Raises:
        DatasetError: there are several.
    """
    if len(found) > 1:
        raise DatasetError(
            f"{of}: expected one file for {name}, got {' and '.join(map(str, found))}"
        )
    return found[0]


def photos_by_name(root: Path) -> dict[str, list[Path]]:
    """Return the photos of a folder by their names, for `named_photo`."""
    found: dict[str, list[Path]] = {}
    for path in photos_in(root):
        found.setdefault(path.name, []).append(path)
    return found


def named_photo(name: str, *, near: Path, by_name: Mapping[str, list[Path]]) -> Path:
    """Return the photo of a folder that a label file names: by its path, or else by its name.

    Args:
        name: as the label file gives it, from its own folder or from anywhere.
        near: the label file.
        by_name: the folder's photos, of `photos_by_name`.

    Raises:
        DatasetError: there is none, or several that fit equally well.
    """
    given = as_named(name)
    beside = (near.parent / given).resolve()
    candidates = by_name.get(given.name, [])
    if not candidates:
        raise DatasetError(f"{near}: expected the photo {name}, found none")
    if exact := [path for path in candidates if path.resolve() == beside]:
        return exact[0]
    expected = near.with_name(near.stem.removeprefix("instances_")) / given
    return the_one(nearest(expected, candidates), of=near, name=name)
