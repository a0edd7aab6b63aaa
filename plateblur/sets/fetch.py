"""Locate or download a recipe's source, and check it against its hash.

Two kinds of source can be checked against a hash that is known beforehand: an archive against its
sha256, and a git repository against its commit, from which git checks each file while it fetches.
"""

from __future__ import annotations

import hashlib
import lzma
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pooch  # type: ignore[import-untyped]  # ships no types
import requests

from plateblur.sets import layout

TIMEOUT_S = 60  # between two parts of a download, not for all of it
CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, *, sha256: str, to: Path) -> Path:
    """Download a file unless it exists, and return its path.

    Args:
        url: http or https.
        sha256: of the file; a file with another hash is deleted.
        to: folder to keep it in.

    Raises:
        DatasetError: the download failed, or the file is another.
    """
    fetch = pooch.HTTPDownloader(timeout=TIMEOUT_S, chunk_size=CHUNK_BYTES)
    name = url.rstrip("/").rpartition("/")[2].partition("?")[0]
    try:
        pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=to, downloader=fetch)
    except requests.RequestException as error:
        raise layout.DatasetError(f"{url} could not be downloaded: {error}") from error
    except ValueError as error:  # pooch's word for a wrong hash
        raise layout.DatasetError(f"{url}: expected sha256 {sha256}, got another file") from error
    return to / name


def unpack(archive: Path, *, to: Path) -> Path:
    """Unpack a zip or tar archive and return the folder.

    Members that would land outside the folder, links out of it and devices are refused.

    Args:
        archive: .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz, recognised by its bytes.
        to: folder to unpack into; used as it is if it was unpacked completely before.

    Raises:
        DatasetError: there is no such archive, or it is damaged.
    """
    done, digest = to / ".unpacked", sha256_of(archive)
    if done.exists() and done.read_text() == digest:
        return to
    to.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(to)  # noqa: S202 - zipfile keeps members inside by itself
        else:
            with tarfile.open(archive) as packed_tar:
                packed_tar.extractall(to, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise layout.DatasetError(
            f"{archive}: expected a whole zip or tar archive, got {error}"
        ) from error
    done.write_text(digest)
    return to


def locate(source: Path, *, sha256: str | None, to: Path) -> Path:
    """Return the folder of a data set that is on this machine, unpacked if it is an archive.

    Args:
        source: its folder, or its archive.
        sha256: of the archive, where it is known.
        to: folder to unpack an archive into.

    Raises:
        DatasetError: nothing is there, or the archive is damaged or has another hash.
    """
    if source.is_dir():
        return source
    if not source.is_file():
        raise layout.DatasetError(f"expected a folder or an archive at {source}, found nothing")
    got = sha256_of(source)
    if sha256 is not None and got != sha256:
        raise layout.DatasetError(f"{source}: expected sha256 {sha256}, got {got}")
    checked = "as expected" if sha256 else "not checked"
    sys.stderr.write(f"{source.name}: sha256 {got} {checked}\n")
    return unpack(source, to=to)


def checkout(repository: str, *, commit: str, to: Path) -> Path:
    """Fetch one commit of a git repository unless it exists, and return its folder.

    Args:
        repository: address that git can fetch from.
        commit: the full hash; git checks every file against it.
        to: folder to check out into.

    Raises:
        DatasetError: git failed, or the folder is at another commit or changed.
    """
    if not (to / ".git").exists():
        _git("init", "--quiet", str(to))
        _git("-C", str(to), "fetch", "--quiet", "--depth=1", repository, commit)
        _git("-C", str(to), "checkout", "--quiet", "--detach", "FETCH_HEAD")
    head = _git("-C", str(to), "rev-parse", "HEAD")
    if head != commit:
        raise layout.DatasetError(f"{to}: expected commit {commit}, got {head}")
    changed = _git("-C", str(to), "status", "--porcelain").splitlines()
    if changed:
        raise layout.DatasetError(f"{to}: expected the files of {commit}, {len(changed)} are not")
    return to


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise layout.DatasetError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()
