"""A search of hyperparameters, its training played by a formula."""

from __future__ import annotations

import csv
import json
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from training import tune
from training.train import Config

pytestmark = pytest.mark.slow  # torch takes seconds to import


@pytest.fixture
def config(tmp_path: Path) -> tune.Config:
    base = tmp_path / "base.yaml"
    base.write_text("model: yolo26n.pt\nbatch: 4\n")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return tune.Config(base, tmp_path / "data.yaml", tmp_path / "out", trials=3, hours=0.1)


def trials(config: tune.Config) -> list[dict[str, str]]:
    with (config.out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_what_is_searched_are_fields_of_a_run() -> None:
    assert set(tune.SPACE) <= {field.name for field in fields(Config)}


def test_a_search_goes_on_where_it_stopped_and_writes_the_best_as_a_config(
    config: tune.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(_: tune.Config, values: dict[str, Any], run: Path) -> float:
        if run.name == "trial-1":
            raise subprocess.CalledProcessError(1, "train.py")
        return 0.5 - abs(float(values["degrees"]) - 4) / 100

    monkeypatch.setattr(tune, "train_one", play)
    tune.tune(config)
    study = tune.tune(config)
    rows = trials(config)
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [row["state"] for row in rows][:2] == ["complete", "fail"]
    best = yaml.safe_load((config.out / "best.yaml").read_text())
    assert best["batch"] == 4
    assert best["degrees"] == study.best_params["degrees"]
    assert Config(**best).far_times >= 1


def test_a_trial_is_a_run_with_its_own_values_and_the_same_hours(
    config: tune.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def run(words: list[str], **_: Any) -> None:
        called.append(words)
        (tmp_path / "trial").mkdir()
        told = {"val": {"this": {"covered99": 0.5}, "shipped": {"covered99": 0.9}}}
        (tmp_path / "trial" / "summary.json").write_text(json.dumps(told))

    monkeypatch.setattr(subprocess, "run", run)
    assert tune.train_one(config, {"degrees": 2.5}, tmp_path / "trial") == 0.5
    assert called[0][-2:] == ["--set", "degrees=2.5"]
    assert called[0][called[0].index("--hours") + 1] == "0.1"
