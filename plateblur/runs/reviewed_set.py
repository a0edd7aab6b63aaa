"""A data set of the photos of a run that people have looked at, to train on what was missed.

What they left as it was and what they corrected are the labels. Photos in which they added a plate
that the detector had missed are a part of their own, which `train.txt` lists several times, so
that a training run sees them more often.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from plateblur.errors import RunError
from plateblur.runs.given import Reviewed, original_at
from plateblur.runs.plan import File
from plateblur.runs.review_log import Review
from plateblur.sets import layout
from plateblur.sets.places import cell_of

MISSED = "missed"
"""Ends the name of the part whose photos have a plate that was missed."""

MISSED_TIMES = 3  # how often an epoch shows them: a choice; no figure depends on it

By = Literal["folder", "place", "photo"]
"""What photos that go to one split have in common: a folder (a ride), a place, or nothing."""


@dataclass(frozen=True, slots=True)
class Original:
    """A photo of a run, as it was when somebody looked at it.

    Attributes:
        file: where it is.
        sha256: of its bytes, in hex.
    """

    file: File
    sha256: str

    def read_bytes(self) -> bytes:
        """Return it.

        Raises:
            RunError: it was changed since.
            OSError: it can't be read.
        """
        data = self.file.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise RunError(
                f"{self.file} was changed after it was reviewed; blur and review it again"
            )
        return data


@dataclass(frozen=True, slots=True)
class Collected:
    """What a data set of a run has.

    Attributes:
        rows: of its manifest.
        left_out: how many photos are not in it, by the reason.
    """

    rows: list[layout.Row]
    left_out: Counter[str] = field(default_factory=Counter)


def write_reviewed(
    run: Reviewed,
    out: Path,
    card: layout.SetCard,
    *,
    by: By,
    group: re.Pattern[str] | None = None,
    times: int,
) -> Collected:
    """Write a data set of the photos that were looked at.

    Args:
        run: a run and its reviews.
        out: folder of the set.
        card: what is known about the photos.
        by: what photos of one split have in common.
        group: in place of `by`, finds it in an output's name: its first group, or all of it.
        times: how often `train.txt` lists a photo with a plate that was missed.

    Raises:
        RunError: no photo can be used, all of them are of one ride or place, one was changed since
            it was reviewed, or its place isn't known.
        DatasetError: `out` holds files, or a photo is damaged.
        OSError: a photo can't be read, or the set can't be written.
    """
    left_out: Counter[str] = Counter()
    chosen = list(_chosen(run, left_out))
    if not chosen:
        raise RunError("no photo of the run was looked at; start with plateblur review")
    groups = [_group(original, review, by, group) for original, review in chosen]
    splits = _splits_of(groups)

    def photos() -> Iterator[layout.SourcePhoto]:
        for (original, review), name in zip(chosen, groups, strict=True):
            missed = any(plate.hide and plate.found is None for plate in review.plates)
            boxes = [plate.xyxy for plate in review.plates if plate.hide]
            yield layout.SourcePhoto(
                original,
                np.array(boxes, np.float64).reshape(-1, 4),
                splits[name],
                review.output,
                part=f"{card.name}-{MISSED}" if missed else "",
            )

    oversample = {f"{card.name}-{MISSED}": times} if times > 1 else None
    return Collected(layout.write_set(out, card, photos(), oversample=oversample), left_out)


def _chosen(run: Reviewed, left_out: Counter[str]) -> Iterator[tuple[Original, Review]]:
    left_out.update("they are clips" for _ in run.clips())
    for output, entry, line in run.lines():
        review = run.log.reviews.get(output)
        reason = _unfit(review, line)
        if run.is_replaced(output, entry):
            reason = "their blurred photos have replaced them"
        if reason or review is None:
            left_out[reason] += 1
            continue
        yield Original(original_at(line["photo"]), review.sha256), review


def _unfit(review: Review | None, line: dict[str, Any]) -> str:
    """Return why a photo isn't for training; "" if it is."""
    if review is None or not review.looked_at:
        return "nobody has looked at them"
    if review.sha256 != line["input"]["sha256"]:
        return "they were blurred again, as other photos, after the review"
    return "they are panoramas" if "projection" in line else ""


def _group(original: Original, review: Review, by: By, group: re.Pattern[str] | None) -> str:
    if group is not None:
        match = group.search(review.output)
        if match is None:
            raise RunError(f"{review.output} doesn't match --group {group.pattern!r}")
        return match[1] if group.groups else match[0]
    if by == "folder":
        return Path(review.output).parent.as_posix()
    if by == "photo":
        return review.sha256
    cell = cell_of(original.read_bytes())
    if not cell:
        raise RunError(f"{original.file} has no position; choose --by folder or --group")
    return cell


def _splits_of(groups: Iterable[str]) -> dict[str, layout.Split]:
    """Return the split of each group: by its hash, and train and val have at least one.

    Raises:
        RunError: there is one group alone.
    """
    order: list[str] = sorted(set(groups), key=lambda one: hashlib.sha256(one.encode()).digest())
    if len(order) < 2:
        raise RunError(
            "all photos that were looked at are of one folder or place, so they can't be split "
            "into train and val; choose --group or --by photo"
        )
    splits = {name: layout.split_of(name) for name in order}
    needed: tuple[layout.Split, ...] = ("train", "val")
    for split in needed:
        count = Counter(splits.values())
        if count[split] == 0:
            giver = max(count, key=lambda other: (count[other] > 1, other == "test", count[other]))
            splits[next(name for name in order if splits[name] == giver)] = split
    return splits
