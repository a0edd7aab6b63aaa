"""The command lines that recipes have in common: where a set comes from, and writing it.

A recipe says how its source is laid out, as a function from the source's folder to photos; the rest
is one of these.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from plateblur.sets import fetch, layout

Photos = Callable[[Path], Iterable[layout.SourcePhoto]]
"""From the folder of a source to its photos."""


def command_line(page: str | None) -> argparse.ArgumentParser:
    """Return the beginning of a recipe's command line.

    Args:
        page: the recipe's docstring, whose first line says what it is.
    """
    parser = argparse.ArgumentParser(description=page.splitlines()[0] if page else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the new set")
    parser.add_argument(
        "--leave-out-broken", action="store_true", help="leave out photos with broken labels"
    )
    return parser


def write(
    given: argparse.Namespace, card: layout.SetCard, photos: Iterable[layout.SourcePhoto]
) -> None:
    """Write the set that a recipe's command line asks for, and print its counts."""
    rows = layout.write_set(given.out, card, photos, leave_out_broken=given.leave_out_broken)
    print(layout.counts(rows))


def source_folder(out: Path) -> Path:
    """Return where a recipe keeps what it fetched or unpacked, so that it needs it once."""
    return out.with_name(f"{out.name}.source")


def from_git(
    argv: Sequence[str] | None,
    *,
    page: str | None,
    card: layout.SetCard,
    photos: Photos,
    repository: str,
    commit: str,
) -> None:
    """Run a recipe whose source is a commit of a git repository, or a checkout that is there.

    Args:
        argv: the command line; that of the process if None.
        page: the recipe's docstring.
        card: what is known about the set.
        photos: reads a checkout.
        repository: where it is fetched from unless the command line says otherwise.
        commit: which one.
    """
    parser = command_line(page)
    parser.add_argument("source", type=Path, nargs="?", help="a checkout or archive; else fetched")
    parser.add_argument("--repository", default=repository, help="address to fetch from")
    parser.add_argument("--commit", default=commit, help="commit to fetch")
    given = parser.parse_args(argv)
    work = source_folder(given.out)
    if given.source is None:
        root = fetch.checkout(given.repository, commit=given.commit, to=work)
    else:
        root = fetch.locate(given.source, sha256=None, to=work)
    write(given, card, photos(root))


def on_request(
    argv: Sequence[str] | None, *, page: str | None, card: layout.SetCard, photos: Photos
) -> None:
    """Run a recipe whose source its authors send to those who ask.

    Args:
        argv: the command line; that of the process if None.
        page: the recipe's docstring.
        card: what is known about the set.
        photos: reads the unpacked archive.
    """
    parser = command_line(page)
    parser.add_argument("source", type=Path, help="the archive that was sent to you, or its folder")
    parser.add_argument("--sha256", help="of the archive")
    given = parser.parse_args(argv)
    root = fetch.locate(given.source, sha256=given.sha256, to=source_folder(given.out))
    write(given, card, photos(root))


def archive_arguments(parser: argparse.ArgumentParser, *, source: str) -> None:
    """Add the arguments that `archive` reads: an archive here, or an address with its hash.

    Args:
        parser: of the recipe.
        source: help of the first argument.
    """
    parser.add_argument("source", type=Path, nargs="?", help=source)
    parser.add_argument("--url", help="download the archive from here; needs --sha256")
    parser.add_argument("--sha256", help="of the archive")


def archive(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Path:
    """Return the unpacked source that `archive_arguments` were given for.

    Args:
        parser: of the recipe; it refuses source and address together, or neither.
        given: what it read.
    """
    if (given.source is None) == (given.url is None) or (given.url and not given.sha256):
        parser.error("expected SOURCE, or --url with --sha256")
    work = source_folder(given.out)
    if given.url:
        packed = fetch.download(given.url, sha256=given.sha256, to=work)
        return fetch.unpack(packed, to=work / "unpacked")
    return fetch.locate(given.source, sha256=given.sha256, to=work)
