"""Make a run's model the shipped network for near plates, if it passes the gate.

    python -m training.promote_near runs/any-way/plates.onnx --data DATA.yaml

That network sees near plates any way round, in one small look at the whole photo, and what it finds
is added to what the shipped model finds. It is measured so, as it is served: beside the shipped
detector on the test split, on the photos that its run kept apart, and on the test split turned by a
quarter. `training/gate.py` has the rules. If the candidate is refused, only the looks are recorded
and the exit code is 1. Otherwise it becomes `plateblur/models/plates-near.onnx`, with a card beside
it. Run `training/promote.py` on the shipped model then: its figures are those of both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from plateblur.sets.licences import attribution, licences_sentence
from training.card import LICENCE, NEAR, as_json, replace_file
from training.checkout import run_step
from training.evaluate import evaluate
from training.evaluation.config import Config as EvaluationConfig
from training.evaluation.detections import describe
from training.gate import reasons_to_refuse_near
from training.promote import (
    Config,
    RefusedError,
    config_of_command_line,
    on_photos_kept_apart,
    read_candidate,
    refusal,
    write_looks,
)


def promote_near(config: Config, *, date: str) -> list[Path]:
    """Write the network and its card and return the files that were written.

    Args:
        config: what to promote, and where to.
        date: of today, YYYY-MM-DD.

    Raises:
        RefusedError: it has no record of its run, is not that run's model, is not calibrated, or
            didn't pass the gate; outside the run folder only the looks were recorded.
    """
    run = config.run or config.candidate.parent
    shipped = config.models / "plates.onnx"
    card = json.loads(shipped.with_suffix(".json").read_text())
    record, export, data_sets = read_candidate(config, run, card)

    upright = EvaluationConfig(
        data=config.data,
        out=run / "promotion",
        split="test",
        model=shipped,
        near=config.candidate,
        compare=shipped,
        manifest=config.manifest,
        labels_overlay=config.labels_overlay,
        threads=config.threads,
        plots=config.plots,
        contact_sheet=config.contact_sheet,
    )
    unseen = on_photos_kept_apart(upright, record)
    sideways = replace(upright, out=run / "promotion-turned", turn=1, contact_sheet=False)
    test, apart, turned = evaluate(upright), evaluate(unseen), evaluate(sideways)
    reasons = reasons_to_refuse_near(test, apart, turned)
    outcome = "refused for near plates" if reasons else "promoted for near plates"
    log = config.docs / "promotion-looks.json"
    looks = write_looks(
        log, test, apart, candidate=describe(config.candidate)["sha256"], date=date, outcome=outcome
    )
    if reasons:
        raise RefusedError(refusal(reasons, test, apart, turned=turned))
    near = config.models / NEAR
    written = {
        near: config.candidate.read_bytes(),
        near.with_suffix(".json"): as_json(
            near_card(
                {"test": test, "kept apart": apart, "test, turned": turned},
                record=record,
                export=export,
                data_sets=data_sets,
                date=date,
            )
            | {"looks": looks}
        ),
    }
    for path, content in written.items():
        replace_file(path, content)
    return [*written, log]


def near_card(
    measured: Mapping[str, Mapping[str, Any]],
    *,
    record: Mapping[str, Any],
    export: Mapping[str, Any],
    data_sets: list[dict[str, Any]],
    date: str,
) -> dict[str, Any]:
    """Return the card of a network for near plates: what it adds, and what it was made of.

    Args:
        measured: metrics of the shipped detector with it, compared with what was shipped before,
            by what they were measured on.
        record: of its run.
        export: the ONNX file's metadata.
        data_sets: with licences and counts.
        date: of the promotion.
    """
    network = Path(record["config"]["model"]).stem
    model = measured["test"]["model"]["near"]
    return {
        "name": f"plateblur-{network}-{export['input_size']}-near",
        "training_photos": licences_sentence(data_sets),
        "intended_use": "Beside plates.onnx, whose card says what both miss together.",
        "file": NEAR,
        "sha256": model["sha256"],
        "bytes": model["bytes"],
        "date": date,
        "licence": LICENCE,
        "compared": {on: one["compared"]["differences"] for on, one in measured.items()},
        "data_sets": [{**one, "attribution": attribution(one)} for one in data_sets],
        "training": dict(record),
        "export": dict(export),
    }


def main() -> None:
    """Read the command line and promote."""
    config = config_of_command_line((__doc__ or "").splitlines()[0])
    try:
        written = promote_near(config, date=time.strftime("%Y-%m-%d"))
    except RefusedError as reason:
        sys.exit(f"refused: {reason}")
    print("promoted; now measure both: python -m training.promote plateblur/models/plates.onnx")
    for path in written:
        print(f"  {path}")


if __name__ == "__main__":
    run_step(main)
