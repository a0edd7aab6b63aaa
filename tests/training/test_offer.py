"""Offering a model beside the shipped one: nobody gets it unasked, and its card says all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from plateblur.detector import OnnxDetector
from tests.training.test_promote import config, few_plates_are_enough, run_with_model
from training.offer import offer
from training.promote import Config, RefusedError, promote

__all__ = ["config", "few_plates_are_enough"]  # fixtures

pytestmark = pytest.mark.slow

DATE = "2026-02-01"


@pytest.fixture
def offered(config: Config, tmp_path: Path) -> Config:
    """A worse model than the shipped one, which a gate would refuse."""
    promote(config, date="2026-01-31")
    candidate = run_with_model(tmp_path / "runs" / "clear", [10.0, 60.0, 34.0, 68.0])
    record = json.loads((candidate.parent / "run.json").read_text())
    (candidate.parent / "run.json").write_text(json.dumps(record | {"weights_run": None}))
    return replace(config, candidate=candidate)


def test_it_is_written_beside_the_shipped_model_with_a_card_of_its_own(offered: Config) -> None:
    shipped = offered.models / "plates.onnx"
    before = shipped.read_bytes(), shipped.with_suffix(".json").read_bytes()
    written = offer(offered, name="clear", date=DATE)
    assert [path.name for path in written] == [
        "plates-clear.onnx",
        "plates-clear.json",
        "promotion-looks.json",
    ]
    assert (shipped.read_bytes(), shipped.with_suffix(".json").read_bytes()) == before
    assert written[0].read_bytes() == offered.candidate.read_bytes()
    assert OnnxDetector(shipped)._near is None
    card = json.loads(written[1].read_text())
    assert card["sha256"] == hashlib.sha256(offered.candidate.read_bytes()).hexdigest()
    assert (card["name"], card["file"]) == ("plateblur-yolo26n-320-clear", "plates-clear.onnx")
    assert card["figures"]["overall"]["missed"] == card["figures"]["overall"]["plates"]
    assert card["compared"]["test"]["covered99, overall"]["second"] == 0
    assert card["compared"].keys() == {"test", "kept apart"}
    assert card["kept_apart"]["sets"] == ["drawn"]
    looks = json.loads(written[2].read_text())
    assert [one["outcome"] for one in looks][-2:] == ["offered as clear"] * 2


@pytest.mark.parametrize("name", ["near", "", "../clear", "Clear", "a-near"])
def test_a_name_is_one_word_and_not_that_of_the_network_for_near_plates(
    offered: Config, name: str
) -> None:
    with pytest.raises(ValueError, match="expected a name of small letters and digits"):
        offer(offered, name=name, date=DATE)


def test_a_model_of_another_run_is_refused_before_anything_is_looked_at(offered: Config) -> None:
    looks = (offered.docs / "promotion-looks.json").read_bytes()
    (offered.candidate.parent / "weights" / "best.pt").write_bytes(b"other weights")
    with pytest.raises(RefusedError, match="exported from the weights in clear/weights"):
        offer(offered, name="clear", date=DATE)
    assert (offered.docs / "promotion-looks.json").read_bytes() == looks
    assert not (offered.models / "plates-clear.onnx").exists()
