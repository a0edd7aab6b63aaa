"""A search of hyperparameters on Ray, its training played by a formula."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

import optuna
import pytest
import ray
from filelock import FileLock

from plateblur import drawn
from tests.rays import ENVIRONMENT
from training import run as line
from training import tune
from training.train import Config, read_config

pytestmark = pytest.mark.slow  # torch and Ray take seconds to start


@pytest.fixture
def search(tmp_path: Path) -> tune.Search:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = tmp_path / "set"
    drawn.write_set(data, count=4, seed=7, image_hw=(90, 160), split_shares=(0.5, 0.5, 0.0))
    base = Config(model="yolo26n.yaml", batch=4)  # a network, so there are no weights to restore
    return tune.Search(base, data / "data.yaml", tmp_path / "out", trials=2, parallel=2)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to begin before Ray is started: what is wrong is said first."""

    def refused(_: Any) -> NoReturn:
        pytest.fail("Ray was started")

    monkeypatch.setattr(tune, "on_ray", refused)


def trials(search: tune.Search) -> list[dict[str, str]]:
    with (search.out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_what_is_searched_are_fields_of_a_run() -> None:
    assert set(tune.SPACE) <= {field.name for field in fields(Config)}


def test_trials_run_at_once_a_failed_one_alone_is_lost_and_a_search_goes_on(
    search: tune.Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def play(config: Config, options: line.Options) -> float:
        number = int(options.out.name.removeprefix("trial-"))
        options.out.mkdir(exist_ok=True)
        (options.out / "begun").touch()
        other = options.out.with_name(f"trial-{1 - number}") / "begun"
        until = time.monotonic() + 300
        while number < 2 and not other.exists():  # the first two run beside each other
            assert time.monotonic() < until
            time.sleep(0.05)
        if number == 1:
            raise ValueError("no memory is left")
        figures = {"covered99": 0.5, "recall": 0.75, "false_boxes_per_photo": 0.25}
        summary = {"val": {"this": figures}}
        (options.out / "summary.json").write_text(json.dumps(summary))
        return 0.5 - abs(config.degrees - 4) / 100

    with tune.on_ray(None):  # once for both searches
        monkeypatch.setattr(tune, "on_ray", lambda _: FileLock(search.out.with_name("no-ray")))
        tune.tune(search, play)
        assert [row["state"] for row in trials(search)] == ["complete", "fail"]
        assert trials(search)[1]["reason"] == "ValueError: no memory is left"
        assert trials(search)[0]["recall"] == "0.75"

        study = tune.tune(search, play)  # nothing is left to do
        assert len(study.trials) == 2

        begun = study.ask(tune.SPACE)  # the command was killed here
        study = tune.tune(replace(search, trials=4), play)
    rows = trials(search)
    assert [row["state"] for row in rows[2:]] == ["complete"] * 2
    assert float(rows[2]["degrees"]) == begun.params["degrees"]
    assert len({row["degrees"] for row in rows}) == 4  # a resumed search chooses new values
    best = read_config(search.out / "best.yaml", [])
    assert best == replace(search.base, **study.best_params)


def test_a_trial_is_judged_by_how_many_plates_its_served_model_hides(
    search: tune.Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"val": {"this": {"covered99": 0.5}, "shipped": {"covered99": 0.9}}}
    monkeypatch.setattr(line, "run", lambda config, options: told)
    assert tune.hidden_share(search.base, tune.options_of(search, "trial-0")) == 0.5


def test_a_trial_has_the_hours_and_weights_of_the_search(search: tune.Search) -> None:
    given = tune.options_of(replace(search, hours=0.1), "trial-0", "shared.pt")
    assert given == line.Options(search.data, search.out / "trial-0", "shared.pt", 0.1)


def test_a_search_with_other_values_is_not_continued(search: tune.Search) -> None:
    search.out.mkdir()
    tune.open_study(search)
    tune.open_study(replace(search, trials=9))
    with pytest.raises(ValueError, match="another hours; its trials"):
        tune.open_study(replace(search, hours=1.0))
    with pytest.raises(ValueError, match="another config; its trials"):
        tune.open_study(replace(search, base=replace(search.base, epochs=9)))
    next(search.data.parent.glob("labels/val/*.txt")).write_text("")
    with pytest.raises(ValueError, match="another data_hash; its trials"):
        tune.open_study(search)


def test_a_trial_that_was_killed_before_it_had_values_counts_as_failed(search: tune.Search) -> None:
    search.out.mkdir()
    study = tune.open_study(search)
    study.ask()
    assert tune.unfinished(study) == []
    assert study.trials[0].state is optuna.trial.TrialState.FAIL


@pytest.mark.usefixtures("no_ray")
def test_a_val_without_plates_is_refused_before_anything_is_trained(search: tune.Search) -> None:
    for label in search.data.parent.glob("labels/val/*.txt"):
        label.write_text("")
    with pytest.raises(ValueError, match="expected plates on val"):
        tune.tune(search)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("given", [{"trials": 0}, {"parallel": 0}, {"parallel": -1}])
def test_a_search_without_trials_is_refused(given: dict[str, Any], search: tune.Search) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        tune.tune(replace(search, **given))


@pytest.mark.usefixtures("no_ray")
def test_a_folder_is_searched_by_one_process_alone(search: tune.Search) -> None:
    search.out.mkdir()
    with (
        FileLock(search.out / ".lock"),
        pytest.raises(ValueError, match="another search is writing"),
    ):
        tune.tune(search)


@pytest.mark.parametrize(
    ("there", "given", "room"),
    [
        ({}, {}, (1, 0)),
        ({}, {"parallel": 2}, (2, 0)),
        ({"GPU": 4.0}, {}, (4, 1)),
        ({"GPU": 1.0}, {"parallel": 2, "gpus": 0.5}, (2, 0.5)),
        ({"GPU": 1.0}, {"gpus": 2.0}, None),
        ({}, {"gpus": 1.0}, None),
    ],
    ids=["CPU", "two on a CPU", "four GPUs", "half a GPU each", "too many GPUs", "no GPU"],
)
def test_each_trial_has_a_gpu_where_there_is_one(
    there: dict[str, float],
    given: dict[str, Any],
    room: tuple[int, float] | None,
    search: tune.Search,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    asked = replace(search, parallel=None)
    asked = replace(asked, **given)
    if room is None:
        with pytest.raises(ValueError, match="expected --gpus up to the"):
            tune.room_for(asked)
    else:
        assert tune.room_for(asked) == room
