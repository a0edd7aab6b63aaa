"""What a random sample says of all photos of a run: how many have a readable plate at most.

The bound is exact. Of N photos, M have a plate that can be read in their output; n are drawn
without replacement and looked at, and k of them have one. The bound is the largest M under which
as few as k in the sample would not be rarer than 1 - confidence: the argument of Clopper and
Pearson (1934) with the hypergeometric distribution, as Wendell and Schmee (1996) give it for
finite populations. For k = 0 and many photos it is the rule of three: about 3 / n at 95 %.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from plateblur.errors import RunError
from plateblur.runs.given import Reviewed
from plateblur.runs.plan import is_clip
from plateblur.runs.review_log import Sample, is_judged, is_written


def at_most(misses: int, *, looked_at: int, population: int, confidence: float) -> int:
    """Return how many photos have a readable plate at most, with this confidence.

    Args:
        misses: photos of the sample with one.
        looked_at: photos of the sample.
        population: photos that they were drawn from.
        confidence: above 0, below 1; one-sided.

    Raises:
        ValueError: the numbers contradict each other.
    """
    if not 0 <= misses <= looked_at <= population or not 0 < confidence < 1:
        raise ValueError(
            f"expected misses <= looked at <= photos and a confidence between 0 and 1, got "
            f"{misses}, {looked_at}, {population} and {confidence}"
        )
    rare = 1 - Fraction(str(confidence))
    low, high = misses, population - (looked_at - misses)  # as few and as many as there can be
    while low < high:
        middle = (low + high + 1) // 2
        if _share_of_draws(misses, looked_at, middle, population) > rare:
            low = middle
        else:
            high = middle - 1
    return low


def sample_size(*, population: int, share: float, confidence: float) -> int:
    """Return how many photos to look at to claim that fewer than `share` have a readable plate.

    If none of them has one.

    Args:
        population: photos of the run.
        share: of the photos, above 0, below 1.
        confidence: of the claim, above 0, below 1.

    Raises:
        ValueError: a share or a confidence that isn't between 0 and 1, or no photo.
    """
    if not 0 < share < 1 or not 0 < confidence < 1 or population < 1:
        raise ValueError(
            f"expected photos, and a share and a confidence between 0 and 1, got {population}, "
            f"{share} and {confidence}"
        )
    few = math.ceil(Fraction(str(share)) * population)  # already too many
    rare = 1 - Fraction(str(confidence))
    # With replacement, which needs more: an upper end that keeps the whole numbers small.
    of_many = math.ceil(math.log(float(rare)) / math.log1p(-share))
    low, high = 1, min(population, of_many)
    while low < high:
        middle = (low + high) // 2
        if _share_of_draws(0, middle, few, population) <= rare:
            high = middle
        else:
            low = middle + 1
    return low


def _share_of_draws(most: int, drawn: int, marked: int, population: int) -> Fraction:
    """Return in which share of all samples at most `most` are marked; exact."""
    few = sum(
        math.comb(marked, count) * math.comb(population - marked, drawn - count)
        for count in range(min(most, drawn) + 1)
    )
    return Fraction(few, math.comb(population, drawn))


def drawn(run: Reviewed, *, size: int | None, share: float, confidence: float, seed: int) -> Sample:
    """Return photos of a run drawn at random.

    Args:
        run: whose photos that were blurred are the population.
        size: how many; None for as many as the claim needs if none has a readable plate.
        share: of the claim.
        confidence: of the claim.
        seed: of the random numbers.

    Raises:
        RunError: there are no photos.
    """
    outputs = sorted(output for output, _, _ in run.lines())
    if not outputs:
        raise RunError("the run has no blurred photos to draw from")
    needed = sample_size(population=len(outputs), share=share, confidence=confidence)
    count = min(len(outputs), size or needed)
    order = np.random.default_rng(seed).permutation(len(outputs))[:count]
    return Sample(
        tuple(outputs[row] for row in order.tolist()), len(outputs), seed, share, confidence
    )


@dataclass(frozen=True, slots=True)
class Clips:
    """The clips of a run; the claim is about photos and says nothing about them.

    Attributes:
        done: that were blurred.
        failed: that were not, and have no output.
        plates: that are hidden in them.
        reviewed: that were looked at.
        corrected: in which a person changed a plate.
        unwritten: those of them whose outputs are still as before.
    """

    done: int = 0
    failed: int = 0
    plates: int = 0
    reviewed: int = 0
    corrected: int = 0
    unwritten: int = 0


@dataclass(frozen=True, slots=True)
class Audit:
    """What was run, what was looked at, and what follows.

    Attributes:
        run: name of the output folder.
        manifest_sha256: of the manifest, in hex.
        log_sha256: of the log of reviews, in hex.
        runs: the first line of each run that wrote photos that are there now, and how many.
        photos: that were blurred.
        failed: that were not, and have no output.
        plates: that are hidden.
        without_plates: photos in which nothing is hidden.
        reviewed: photos of the whole run that were looked at.
        corrected: photos of the whole run whose boxes a person changed.
        unwritten: those of them whose outputs are still as before.
        clips: what is known of the run's clips, which no sample is drawn from.
        sample: that was drawn.
        left: of the sample, what nobody has looked at, or what was blurred again since.
        misses: of the sample, the outputs in which a plate could be read.
        reviewers: of the sample, how many photos each looked at.
        times: of the sample, when the first and the last were looked at, ISO 8601.
    """

    run: str
    manifest_sha256: str
    log_sha256: str
    runs: tuple[tuple[dict[str, Any], int], ...]
    photos: int
    failed: int
    plates: int
    without_plates: int
    reviewed: int
    corrected: int
    unwritten: int
    clips: Clips
    sample: Sample
    left: tuple[str, ...]
    misses: tuple[str, ...]
    reviewers: dict[str, int]
    times: tuple[str, str]

    @property
    def looked_at(self) -> int:
        """How many photos of the sample were looked at."""
        return len(self.sample.outputs) - len(self.left)

    @property
    def most(self) -> int:
        """How many photos have a readable plate at most, with the sample's confidence."""
        return at_most(
            len(self.misses),
            looked_at=self.looked_at,
            population=self.sample.population,
            confidence=self.sample.confidence,
        )

    @property
    def holds(self) -> bool:
        """Whether the claim that the sample was drawn for holds."""
        is_below = self.most < Fraction(str(self.sample.share)) * self.sample.population
        return not self.left and is_below


def audit_of(run: Reviewed) -> Audit:
    """Return what the reviews of a run's sample say.

    Raises:
        RunError: no sample was drawn, or other photos were blurred since.
    """
    sample = run.log.sample
    if sample is None:
        raise RunError("no sample was drawn")
    lines = {output: (entry, line) for output, entry, line in run.lines()}
    if len(lines) != sample.population or not set(sample.outputs) <= lines.keys():
        raise RunError(
            f"the sample was drawn from {sample.population} photos and the run has {len(lines)}: "
            "draw a new one with --new"
        )
    reviews = {
        output: review
        for output, review in run.log.reviews.items()
        if output in lines and review.sha256 == lines[output][1]["input"]["sha256"]
    }
    said = {
        output: reviews[output]
        for output in sample.outputs
        if output in reviews and is_judged(reviews[output], lines[output][1])
    }
    times = sorted(review.at for review in said.values())
    by_run = Counter(entry.run for entry, _ in lines.values())
    corrected = {output for output, review in reviews.items() if review.is_corrected}
    return Audit(
        run=run.folder.absolute().name,
        manifest_sha256=_sha256(run.manifest.path.read_bytes()),
        log_sha256=_sha256(run.log.path.read_bytes()),
        runs=tuple((run.manifest.runs[which], count) for which, count in sorted(by_run.items())),
        photos=len(lines),
        failed=sum(not is_clip(Path(photo)) for photo in _failed(run)),
        plates=sum(len(line["detections"]) for _, line in lines.values()),
        without_plates=sum(not line["detections"] for _, line in lines.values()),
        reviewed=sum(review.looked_at for review in reviews.values()),
        corrected=len(corrected),
        unwritten=sum(not is_written(reviews[one], lines[one][1]) for one in corrected),
        clips=_clips(run),
        sample=sample,
        left=tuple(output for output in sample.outputs if output not in said),
        misses=tuple(output for output, review in said.items() if review.readable),
        reviewers=dict(Counter(review.by for review in said.values()).most_common()),
        times=(times[0], times[-1]) if times else ("", ""),
    )


def _failed(run: Reviewed) -> list[str]:
    """Return where the photos and clips are that have no output."""
    return [each.photo for each in run.manifest.entries.values() if each.state == "failed"]


def _clips(run: Reviewed) -> Clips:
    lines = {output: line for output, _, line in run.clips()}
    said = [
        (review, lines[output])
        for output, review in run.log.reviews.items()
        if output in lines and review.sha256 == lines[output]["input"]["sha256"]
    ]
    corrected = [(review, line) for review, line in said if review.is_corrected]
    return Clips(
        done=len(lines),
        failed=sum(is_clip(Path(clip)) for clip in _failed(run)),
        plates=sum(line["plates"] for line in lines.values()),
        reviewed=sum(review.looked_at for review, _ in said),
        corrected=len(corrected),
        unwritten=sum(not is_written(review, line) for review, line in corrected),
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
