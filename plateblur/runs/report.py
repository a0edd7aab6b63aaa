"""What a report says of a photo: its line of the manifest, without what resumes a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from plateblur.guidance import plate_ratios, ratio_text
from plateblur.runs.manifest import Manifest
from plateblur.runs.plan import Plan, Task
from plateblur.runs.progress import Done
from plateblur.types import Detections

NOT_BEGUN = "not begun: the run was stopped"
# Of a line of the manifest: what the report says in its own words, or not at all.
OF_MANIFEST = frozenset(
    {
        *("photo", "output", "state", "run", "input", "written", "replaces", "final"),
        *("seconds", "plates", "zones"),
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one photo in this run or an earlier one; None where it was not begun."""

    task: Task
    done: Done | None


def described(detections: Detections, image_hw: tuple[int, int], projection: str) -> dict[str, Any]:
    """Return detections, and how they were looked for, as the JSON that both commands write."""
    height, width = image_hw
    searched = detections.searched
    outlines: list[Any] = [None] * len(detections)
    if detections.corners is not None:
        outlines = detections.corners.tolist()
    return {
        "width": width,
        "height": height,
        **({} if projection == "flat" else {"projection": projection}),
        **({} if searched is None else asdict(searched)),
        "detections": [
            {
                "xyxy": [round(side, 1) for side in box],
                "confidence": round(confidence, 4),
                "plate_ratio": ratio_text(ratio),
                **_outline(corners),
            }
            for box, confidence, ratio, corners in zip(
                detections.xyxy.tolist(),
                detections.confidence.tolist(),
                plate_ratios(detections.xyxy, image_hw=image_hw).tolist(),
                outlines,
                strict=True,
            )
        ],
    }


def _outline(corners: list[list[float]] | None) -> dict[str, Any]:
    """Return the outline of a plate that is no upright rectangle; NaN says that it is one."""
    if corners is None or corners[0][0] != corners[0][0]:
        return {}
    return {"corners": [[round(side, 1) for side in corner] for corner in corners]}


def report_lines(outcomes: Iterable[Outcome], work: Plan, manifest: Manifest) -> Iterator[str]:
    """Yield the report: each photo in the order of the plan, then what was skipped."""
    for path, reason in work.failed:
        yield json.dumps({"photo": str(path), "error": reason})
    for outcome in outcomes:
        yield json.dumps(_record(outcome, manifest))
    for path, (reason, _) in work.skipped:
        yield json.dumps({"skipped": str(path), "reason": reason})


def _record(outcome: Outcome, manifest: Manifest) -> dict[str, Any]:
    task, done = outcome.task, outcome.done
    photo = {"photo": str(task.job.photo)}
    if done is None:
        return photo | {"error": NOT_BEGUN}
    if done.line is None:
        return done.record or photo
    line = manifest.line_at(done.line)
    if line["state"] == "failed":
        return photo | {"error": line["error"]}
    others = {name: value for name, value in line.items() if name not in OF_MANIFEST}
    return photo | {"output": str(task.target)} | others
