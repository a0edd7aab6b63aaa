"""Promoting a network for near plates: measured as it is served, beside the shipped detector."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plateblur.detector import OnnxDetector
from tests.training.test_promote import (
    config,
    few_plates_are_enough,
    run_with_model,
)
from training import promote_near as module
from training.evaluate import evaluate
from training.evaluation.config import Config as EvaluationConfig
from training.promote import Config, RefusedError, promote
from training.promote_near import promote_near

__all__ = ["config", "few_plates_are_enough"]  # fixtures

pytestmark = pytest.mark.slow

DATE = "2026-02-01"
GAIN = {"difference": {"value": 0.5, "low": 0.4, "high": 0.6}}


@pytest.fixture
def near(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A candidate beside a shipped detector; on turned photos it is made to gain."""
    promote(config, date="2026-01-31")
    monkeypatch.setattr(module, "evaluate", gaining)
    candidate = run_with_model(tmp_path / "runs" / "near", [10.0, 60.0, 34.0, 68.0])
    record = json.loads((candidate.parent / "run.json").read_text())
    (candidate.parent / "run.json").write_text(json.dumps(record | {"weights_run": None}))
    return replace(config, candidate=candidate)


def gaining(config: EvaluationConfig) -> dict[str, Any]:
    """Measure really; tiny constant models see no difference between upright and turned."""
    metrics = evaluate(config)
    metrics["overall"]["false_boxes_per_photo"] = 0.0
    if config.turn:
        metrics["compared"]["differences"]["covered99, within 1:15"] = GAIN
    return metrics


def test_it_becomes_a_file_beside_the_detector_and_is_loaded_with_it(near: Config) -> None:
    written = promote_near(near, date=DATE)
    assert [path.name for path in written] == [
        "plates-near.onnx",
        "plates-near.json",
        "promotion-looks.json",
    ]
    shipped = near.models / "plates.onnx"
    assert (near.models / "plates-near.onnx").read_bytes() == near.candidate.read_bytes()
    assert OnnxDetector(shipped)._near is not None
    card = json.loads(written[1].read_text())
    assert card["sha256"] == hashlib.sha256(near.candidate.read_bytes()).hexdigest()
    assert card["name"] == "plateblur-yolo26n-320-near"
    assert card["compared"].keys() == {"test", "kept apart", "test, turned"}
    assert card["compared"]["test, turned"]["covered99, within 1:15"] == GAIN
    assert card["training"]["commit"] == "c" * 40
    assert card["looks"] == {"test": 2, "kept apart": 1}


def test_the_detector_is_then_measured_with_it(near: Config) -> None:
    promote_near(near, date=DATE)
    shipped = near.models / "plates.onnx"
    before = json.loads(shipped.with_suffix(".json").read_text())
    promote(replace(near, candidate=shipped), date=DATE)
    after = json.loads(shipped.with_suffix(".json").read_text())
    assert after["sha256"] == before["sha256"]
    # A box elsewhere on each photo, of the network that finds the same whatever it sees.
    assert after["figures"]["overall"]["false_boxes_per_photo"] > 0
    assert before["figures"]["overall"]["false_boxes_per_photo"] == 0


def test_a_refusal_writes_the_looks_alone(near: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "evaluate", evaluate)
    files = sorted(near.models.iterdir())
    with pytest.raises(RefusedError, match="on turned photos not better within 1:15"):
        promote_near(near, date=DATE)
    assert sorted(near.models.iterdir()) == files
    looks = json.loads((near.docs / "promotion-looks.json").read_text())
    assert [one["outcome"] for one in looks][-2:] == ["refused for near plates"] * 2
    candidate = hashlib.sha256(near.candidate.read_bytes()).hexdigest()
    assert looks[-1]["model_sha256"] == candidate
