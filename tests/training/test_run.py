"""One line for all steps: start, fit, export, calibrate, evaluate, compare; resumable."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from plateblur import drawn
from training import run as line
from training.calibrate import CalibrationRefusedError
from training.checkout import ROOT
from training.train import Config

pytestmark = pytest.mark.slow  # torch takes seconds to import


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let each step write what it writes, without the work; return their names as they come."""
    taken: list[str] = []

    def train(config: Config, *, run: Path, weights: str, resume: bool, **_: Any) -> None:
        taken.append(f"train {Path(weights).name}{' resumed' if resume else ''}")
        (run / "weights").mkdir(parents=True, exist_ok=True)
        (run / "weights" / "best.pt").write_bytes(b"best")
        (run / "run.json").write_text('{"hours": 1}')

    def restore(config: Any) -> None:
        taken.append(f"restore {config.network}")
        (config.out / "weights").mkdir(parents=True)
        (config.out / "weights" / "restored.pt").touch()

    def export(config: Any) -> None:
        taken.append("export")
        config.out.write_bytes(b"model")
        entries["weights_sha256"] = hashlib.sha256(config.weights.read_bytes()).hexdigest()

    def calibrate(config: Any) -> None:
        taken.append("calibrate")
        entries["calibration_fit"] = "{}"

    def evaluate(config: Any) -> dict[str, Any]:
        taken.append(f"evaluate {config.split}")
        sha256 = hashlib.sha256(config.model.read_bytes()).hexdigest()
        metrics = {"model": {"sha256": sha256}, "compared": {"differences": {}}}
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "metrics.json").write_text(json.dumps(metrics))
        return metrics

    entries: dict[str, str] = {}
    for step in (train, restore, export, calibrate, evaluate):
        monkeypatch.setattr(line, step.__name__, step)
    monkeypatch.setattr(line, "metadata_of", lambda _: entries)
    monkeypatch.setattr(line, "headline", lambda _: {})
    monkeypatch.setattr(line, "check_trainable", lambda _: [])
    return taken


def test_the_line_takes_every_step_once_and_goes_on_where_it_was(
    steps: list[str], tmp_path: Path
) -> None:
    options = line.Options(tmp_path / "data.yaml", tmp_path / "mine")
    line.run(Config(), options)
    every = ["restore yolo26n.yaml", "train restored.pt", "export", "calibrate", "evaluate val"]
    assert steps == every
    line.run(Config(), options)
    assert steps == every

    (tmp_path / "mine" / "run.json").write_text("{}")  # killed while it trained
    (tmp_path / "mine" / "weights" / "last.pt").touch()
    line.run(Config(), options)
    assert steps[len(every) :] == ["train restored.pt resumed"]


def test_new_weights_are_exported_and_measured_again(steps: list[str], tmp_path: Path) -> None:
    options = line.Options(tmp_path / "data.yaml", tmp_path / "mine", weights="own.pt")
    line.run(Config(), options)
    assert steps[0] == "train own.pt"
    (tmp_path / "mine" / "weights" / "best.pt").write_bytes(b"better")
    line.run(Config(), options)
    assert steps[4:] == ["export"]


@pytest.mark.parametrize("model", ["yolo26s.pt", "yolo26n.yaml"])
def test_another_network_begins_from_its_own(model: str, steps: list[str], tmp_path: Path) -> None:
    line.run(Config(model=model), line.Options(tmp_path / "data.yaml", tmp_path / "mine"))
    assert steps[0] == f"train {model}"


def test_a_refused_calibration_is_told_and_the_figures_come_all_the_same(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrate(_: Any) -> None:
        raise CalibrationRefusedError("val has too few boxes")

    monkeypatch.setattr(line, "calibrate", calibrate)
    out = tmp_path / "mine"
    line.run(Config(), line.Options(tmp_path / "data.yaml", out))
    told = json.loads((out / "summary.json").read_text())
    assert (told["calibration"], told["calibration_refused"]) == (None, "val has too few boxes")
    assert steps[-1] == "evaluate val"


def test_a_run_folder_that_git_would_commit_is_refused_before_anything_is_trained(
    steps: list[str], tmp_path: Path
) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(ValueError, match="is inside a git tree and not ignored"):
        line.run(Config(), line.Options(tmp_path / "data.yaml", tmp_path / "mine"))
    assert steps == []


@pytest.mark.xdist_group("training")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("network", ["yolo26n.yaml", "yolo26s.yaml", "yolo26m.yaml"])
def test_the_line_on_drawn_scenes(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "set"
    drawn.write_set(data, count=12, seed=7, image_hw=(270, 480), split_shares=(0.6, 0.4, 0.0))
    config = ROOT / "training" / "configs" / "smoke.yaml"
    words = [str(config), "--data", str(data / "data.yaml"), "--out", str(tmp_path / "mine")]
    words += ["--set", f"model={network}", "--device", "cpu"]
    line.main(words)
    said = capsys.readouterr().out
    assert "\non val " in said
    assert f"tables and plots: {tmp_path / 'mine' / 'val' / 'report.md'}" in said
    told = json.loads((tmp_path / "mine" / "summary.json").read_text())
    assert told["val"]["shipped"]["recall"] > 0
    assert told["calibration"] is None  # a network without weights finds nothing to fit
    assert (tmp_path / "mine" / "val" / "report.md").exists()
    written = (tmp_path / "mine" / "weights" / "best.pt").stat().st_mtime_ns
    line.main(words)
    assert (tmp_path / "mine" / "weights" / "best.pt").stat().st_mtime_ns == written
