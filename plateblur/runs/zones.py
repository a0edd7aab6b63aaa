"""Which zones a photo has: those of the command, and those of zone files in its folders.

A zone file is text, a zone a line: `ignore` or `hide`, then four shares of the photo or the path
of a mask picture, relative to the file. `#` begins a comment.

    ignore 0,0.85,1,1    # our own bonnet
    hide logo.png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plateblur.errors import PhotoError, RunError
from plateblur.runs.files import explain
from plateblur.runs.plan import Job
from plateblur.zones import NO_ZONES, Zone, Zones, mask_zone, rectangle

MOST_FILE_BYTES = 1_000_000


class ZoneFiles:
    """The zones of every photo of a run; each file is read once."""

    def __init__(self, always: Zones = NO_ZONES, *, name: str | None = None) -> None:
        """Give all photos the zones `always`, and those of files called `name` in their folders.

        A file holds for its folder and for those in it, up to the folder that was given.
        """
        self._always = always
        self._name = name
        self._of_folder: dict[Path, Zones] = {}
        self._joined: dict[tuple[Path, ...], tuple[Zones, str]] = {(): (always, always.named())}

    def of(self, job: Job) -> tuple[Zones, str]:
        """Return the zones of a photo, and what tells them from others.

        Raises:
            RunError: a zone file can't be read, or the photo isn't on a disk.
        """
        if self._name is None:
            return self._joined[()]
        if not isinstance(job.photo, Path):
            raise RunError(f"zone files are read from folders on a disk, not from {job.photo}")
        depth = max(1, len(job.inside.parts))
        folders = tuple(reversed(list(job.photo.absolute().parents)[:depth]))
        if folders not in self._joined:
            zones = self._always
            for folder in folders:
                if folder not in self._of_folder:
                    self._of_folder[folder] = _read(folder / self._name)
                zones = zones.and_those(self._of_folder[folder])
            self._joined[folders] = zones, zones.named()
        return self._joined[folders]


def zones_of(ignore: Sequence[str], hide: Sequence[str]) -> Zones:
    """Return the zones that a command was given.

    Raises:
        RunError: one is neither four shares nor a mask picture that can be read.
    """
    here = Path()
    return Zones(
        ignore=tuple(_zone(text, beside=here) for text in ignore),
        hide=tuple(_zone(text, beside=here) for text in hide),
    )


def _read(file: Path) -> Zones:
    try:
        if not file.exists():
            return NO_ZONES
        if file.stat().st_size > MOST_FILE_BYTES:
            raise RunError(f"{file} is too large for a zone file")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file} can't be read as a zone file: {explain(error)}") from error
    kinds: dict[str, list[Zone]] = {"ignore": [], "hide": []}
    for number, line in enumerate(text.splitlines(), start=1):
        kind, _, zone = line.partition("#")[0].strip().partition(" ")
        if not kind:
            continue
        if kind not in kinds or not zone.strip():
            raise RunError(f"{file}, line {number}: expected ignore or hide, then a zone")
        try:
            kinds[kind].append(_zone(zone.strip(), beside=file.parent))
        except RunError as error:
            raise RunError(f"{file}, line {number}: {error}") from error
    return Zones(tuple(kinds["ignore"]), tuple(kinds["hide"]))


def _zone(text: str, *, beside: Path) -> Zone:
    try:
        if (beside / text).is_file():
            return mask_zone((beside / text).read_bytes())
        return rectangle(text)
    except (OSError, PhotoError, ValueError) as error:
        raise RunError(
            f"{text!r} is no zone: expected LEFT,TOP,RIGHT,BOTTOM in shares of the photo, or a "
            f"mask picture; {explain(error)}"
        ) from error
