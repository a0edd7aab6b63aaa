"""Joining sets into one: corrected, without near-duplicates, and no test photo in train.

The steps, in this order: read the sets and check each photo's sha256; apply the overlays; find
near-duplicates; refuse, with the names, where a photo of test is in train or val; remove other
near-duplicates; keep the licences requested; cap; write. Leaks are looked for before anything is
filtered, because figures elsewhere include a test photo that is left out here.

Beside the set's own files it writes `removed.csv` (what was left out and why) and
`distribution.csv` (plates by set, split and bucket of plate ratio).
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from plateblur.errors import PhotoError
from plateblur.guidance import BUCKET_NAMES, bucket_indices, plate_ratios
from plateblur.photo import decode
from plateblur.sets import layout
from plateblur.sets.bare import SUFFIXES, without_metadata
from plateblur.sets.corrections import Correction, correct
from plateblur.sets.labels import TruthBoxes

# Bits of the 64 in which the hashes of near-duplicates differ at most; always an even number.
# Source: our own data (../shared/data/plates). 300 photos drawn from it and written again at JPEG
# quality 30, halved or quartered differ in 2 bits at most, 2 % cropped in at most 6 (99 % of them).
# Among its 6,980 photos no pair within 8 comes from different sets; at 8 the photos of one fixed
# camera begin to look alike, at 10 photos that have nothing in common.
NEAR_BITS = 6
HASHES_A_BLOCK = 64  # compared with all others at once; for 100,000 photos that takes 50 MB


@dataclass(frozen=True, slots=True)
class Config:
    """What to keep, and how often; filled from the command line."""

    corrections: Sequence[Correction] = ()  # of labels
    wanted: Sequence[str] = ()  # patterns of licences to keep; none keeps every one
    unwanted: Sequence[str] = ()  # patterns of licences to leave out, even if kept above
    caps: dict[str, int] = field(default_factory=dict)  # the most train photos of a set
    oversample: dict[str, int] = field(default_factory=dict)  # times an epoch, by set
    near_bits: int = NEAR_BITS  # in which the hashes of near-duplicates differ at most
    drop_leaks: bool = False  # leave leaks out of train and val instead of refusing them


@dataclass(frozen=True, slots=True)
class Member:
    """One photo on its way into the joined set.

    Attributes:
        root: folder of its set.
        row: its row of that set's manifest.
        xyxy: (N, 4) float64, corrected, pixels of the upright image.
        looks: perceptual hash, 64 bits.
    """

    root: Path
    row: layout.Row
    xyxy: TruthBoxes
    looks: int


@dataclass(frozen=True, slots=True)
class Removed:
    """One photo that was left out.

    Attributes:
        row: its row.
        reason: "overlay", "test photo", "near-duplicate", "licence" or "cap".
        of: file name of the photo that it is a near-duplicate of, or empty.
    """

    row: layout.Row
    reason: str
    of: str = ""


def perceptual_hash(data: bytes) -> int:
    """Return 64 bits that stay nearly the same when a photo is resized or written again.

    Args:
        data: an encoded photo.

    Raises:
        PhotoError: no photo, or a damaged one.
    """
    bits = imagehash.phash(PillowImage.fromarray(decode(data).pixels)).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def read_members(root: Path, corrections: dict[str, list[Correction]]) -> list[Member]:
    """Return the photos of a set, their labels corrected.

    Args:
        root: folder of the set.
        corrections: by file name of the photo.

    Raises:
        DatasetError: a photo is missing, damaged or not the one of the manifest, or a correction
            does not fit the labels.
    """
    members = []
    for row in layout.read_manifest(root):
        path = root / row.image
        if not path.is_file():
            raise layout.DatasetError(f"expected the photo {path}, found none")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise layout.DatasetError(f"{path}: expected sha256 {row.sha256}, got another file")
        boxes = layout.read_boxes(root, row)
        try:
            looks = perceptual_hash(data)
            boxes = correct(boxes, corrections.get(row.name, ()))
            boxes = layout.clipped(boxes, image_hw=(row.height, row.width))
        except (PhotoError, ValueError) as error:
            raise layout.DatasetError(f"{path}: {error}") from error
        image_hw = (row.height, row.width)
        ratio = layout.smallest_ratio(boxes, image_hw=image_hw)
        corrected = replace(row, plates=len(boxes), smallest_plate_height_ratio=ratio)
        members.append(Member(root, corrected, boxes, looks))
    return members


def near_pairs(looks: NDArray[np.uint64], *, near_bits: int) -> Iterator[tuple[int, int, int]]:
    """Yield the pairs of hashes that differ in few bits, as two indices and the bits.

    Args:
        looks: (N,) uint64 perceptual hashes.
        near_bits: the most bits that a pair may differ in.
    """
    for start in range(0, len(looks), HASHES_A_BLOCK):
        block = looks[start : start + HASHES_A_BLOCK]
        bits = np.bitwise_count(block[:, None] ^ looks[None, start:])
        for i, j in zip(*np.nonzero(bits <= near_bits), strict=True):
            if i < j:
                yield start + int(i), start + int(j), int(bits[i, j])


def refuse_leaks(members: Sequence[Member], pairs: Sequence[tuple[int, int, int]]) -> None:
    """Refuse photos of train or val that are near-duplicates of test photos.

    Args:
        members: all photos.
        pairs: near-duplicates among them.

    Raises:
        DatasetError: there are some; the message names each pair.
    """
    lines = []
    for i, j, bits in pairs:
        test, other = sorted((members[i].row, members[j].row), key=lambda row: row.split != "test")
        if test.split == "test" != other.split:
            lines.append(f"  {other.image} ({other.set}) is {test.image} ({test.set}), {bits} bits")
    if lines:
        raise layout.DatasetError(
            f"photos of train or val show what a test photo shows ({len(lines)}); mend the split, "
            "or leave them out with --drop-leaks:\n" + "\n".join(sorted(lines))
        )


def without_duplicates(
    members: Sequence[Member], pairs: Sequence[tuple[int, int, int]]
) -> tuple[list[Member], list[Removed]]:
    """Return the photos without near-duplicates, and those left out.

    Of two photos the one of test is kept, else of val; within a split the larger one.

    Args:
        members: all photos.
        pairs: near-duplicates among them.
    """
    near: dict[int, set[int]] = defaultdict(set)
    for i, j, _ in pairs:
        near[i].add(j)
        near[j].add(i)

    def rank(index: int) -> tuple[int, int, int]:
        row = members[index].row
        return -layout.SPLITS.index(row.split), -row.width * row.height, index

    kept: set[int] = set()
    removed = []
    for index in sorted(range(len(members)), key=rank):
        twins = near[index] & kept
        if not twins:
            kept.add(index)
            continue
        twin, row = members[min(twins)].row, members[index].row
        is_leak = twin.split == "test" != row.split
        removed.append(Removed(row, "test photo" if is_leak else "near-duplicate", twin.name))
    return [members[index] for index in sorted(kept)], removed


def licensed(row: layout.Row, config: Config) -> bool:
    """Return whether a photo's licence is one of those requested.

    Patterns must match the whole licence as stated, because what follows its name often limits
    it: "CC BY 4.0 in data.yaml, but README says all rights reserved".

    Args:
        row: of the photo.
        config: holds the patterns.
    """
    licence = row.licence.lower()
    takes = not config.wanted or any(fnmatch(licence, one.lower()) for one in config.wanted)
    return takes and not any(fnmatch(licence, one.lower()) for one in config.unwanted)


def over_cap(members: Sequence[Member], caps: dict[str, int]) -> set[str]:
    """Return the file names of train photos beyond their set's cap, chosen by their hash.

    Args:
        members: the photos.
        caps: the most train photos of a set.
    """
    names = set()
    for name, cap in caps.items():
        of_set = [m.row for m in members if m.row.set == name and m.row.split == "train"]
        of_set.sort(key=lambda row: hashlib.sha256(row.sha256.encode()).digest())
        names |= {row.name for row in of_set[cap:]}
    return names


def write_merged(
    out: Path, members: Sequence[Member], oversample: dict[str, int]
) -> list[layout.Row]:
    """Write the joined set and return its manifest.

    Args:
        out: folder of the set, its folders made.
        members: the photos.
        oversample: as of `layout.write_manifest`.

    Raises:
        DatasetError: two different photos have one name.
    """
    rows: list[layout.Row] = []
    roots: dict[str, Path] = {}
    for member in members:
        name = Path(member.row.name)
        if name.stem in roots:  # labels are found by the stem
            raise layout.DatasetError(
                f"{roots[name.stem]} and {member.root} both hold a {name.stem}"
            )
        roots[name.stem] = member.root
        data, suffix, _ = without_metadata((member.root / member.row.image).read_bytes())
        if name.suffix.lower() not in (*SUFFIXES.values(), ".jpeg"):
            name = name.with_suffix(suffix)
        row = replace(
            member.row,
            image=f"images/{member.row.split}/{name}",
            sha256=hashlib.sha256(data).hexdigest(),
        )
        layout.write_photo(out, row, data, member.xyxy)
        rows.append(row)
    layout.write_manifest(out, rows, oversample=oversample)
    return rows


def distribution(members: Sequence[Member]) -> list[tuple[str, str, list[int]]]:
    """Return for each set and split that has photos how many plates each bucket holds.

    Args:
        members: the photos.

    Returns:
        set, split, and a count for each of `BUCKET_NAMES`; sorted.
    """
    found: Counter[tuple[str, int, int]] = Counter()
    for member in members:
        row = member.row
        ratios = plate_ratios(member.xyxy, image_hw=(row.height, row.width))
        found.update(
            (row.set, layout.SPLITS.index(row.split), int(b)) for b in bucket_indices(ratios)
        )
    present = sorted(
        {(member.row.set, layout.SPLITS.index(member.row.split)) for member in members}
    )
    return [
        (
            name,
            layout.SPLITS[split],
            [found[name, split, bucket] for bucket in range(len(BUCKET_NAMES))],
        )
        for name, split in present
    ]


def merge(sets: Sequence[Path], out: Path, config: Config) -> str:
    """Join sets into a new one and return what it holds, for people.

    Args:
        sets: folders of the sets.
        out: folder of the joined set, made here.
        config: what to keep.

    Raises:
        DatasetError: a test photo is in train or val, or a set can't be used.
    """
    corrections: dict[str, list[Correction]] = defaultdict(list)
    for correction in config.corrections:
        corrections[correction.image].append(correction)
    members = [member for root in sets for member in read_members(root, corrections)]
    present = {member.row.set for member in members}
    unknown = {*config.caps, *config.oversample} - present
    if unknown:
        raise layout.DatasetError(f"expected sets of {sorted(present)}, got {sorted(unknown)}")

    dropped = {one.image for one in config.corrections if one.action == "drop"}
    removed = [Removed(m.row, "overlay") for m in members if m.row.name in dropped]
    kept = [m for m in members if m.row.name not in dropped]
    looks = np.array([member.looks for member in kept], dtype=np.uint64)
    pairs = list(near_pairs(looks, near_bits=config.near_bits))
    if not config.drop_leaks:
        refuse_leaks(kept, pairs)
    kept, doubles = without_duplicates(kept, pairs)

    removed += doubles
    removed += [Removed(m.row, "licence") for m in kept if not licensed(m.row, config)]
    kept = [m for m in kept if licensed(m.row, config)]
    beyond = over_cap(kept, config.caps)
    removed += [Removed(m.row, "cap") for m in kept if m.row.name in beyond]
    kept = [m for m in kept if m.row.name not in beyond]
    if not kept:
        licences = sorted({member.row.licence for member in members})
        raise layout.DatasetError(f"no photo is left; the licences are {licences}")

    with layout.new_folder(out) as part:
        rows = write_merged(part, kept, config.oversample)
        plates = distribution(kept)
        _write_reports(part, removed, plates)
    here = {member.row.name for member in members}
    away = sum(correction.image not in here for correction in config.corrections)
    lines = [
        layout.counts(rows),
        "",
        layout.table(("plates", "split", *BUCKET_NAMES), [(s, p, *n) for s, p, n in plates]),
        *(f"left out, {why}: {n}" for why, n in Counter(one.reason for one in removed).items()),
    ]
    if config.corrections:
        applied = len(config.corrections) - away
        lines.append(f"corrections: {applied} applied, {away} of photos not here")
    return "\n".join(lines)


def _write_reports(
    out: Path, removed: Sequence[Removed], plates: Sequence[tuple[str, str, list[int]]]
) -> None:
    with (out / "removed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "set", "reason", "of"))
        writer.writerows((one.row.image, one.row.set, one.reason, one.of) for one in removed)
    with (out / "distribution.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("set", "split", "bucket", "plates"))
        for name, split, numbers in plates:
            writer.writerows(
                (name, split, b, n) for b, n in zip(BUCKET_NAMES, numbers, strict=True)
            )
