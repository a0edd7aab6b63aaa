"""The recipe of the shipped model tells what its card tells, and the way through it runs."""

from __future__ import annotations

import csv
import hashlib
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from plateblur import drawn
from plateblur.detector import (
    OnnxDetector,
    model_file,
    near_model,
    offered_models,
    shipped_model,
)
from plateblur.sets.split import is_data_of
from training.reproduce import (
    RECIPE,
    NotReproducibleError,
    Options,
    choose_sets,
    chosen_data,
    config_of,
    overlay_of,
    place,
    read_recipe,
    reproduce,
)
from training.train import read_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "plates"
IMAGE_HW = (120, 160)
# ultralytics exports with what torch is about to drop, and torch says so in several places.
OLD_EXPORTER = "ignore::DeprecationWarning"


NEAR_RECIPE = RECIPE.with_name("shipped-near.yaml")
OF = {RECIPE: shipped_model(), NEAR_RECIPE: near_model(shipped_model())} | {
    RECIPE.with_name(f"shipped-{name}.yaml"): model_file(name) for name in offered_models()
}
each = pytest.mark.parametrize("of", list(OF), ids=[path.stem for path in OF])


def recipe(of: Path = RECIPE) -> dict[str, Any]:
    return read_recipe(of)


def model(of: Path) -> Path:
    path = OF[of]
    assert path is not None
    return path


def card(of: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(model(of).with_suffix(".json").read_text())
    return told


@each
def test_the_recipe_is_of_the_model_that_is_shipped(of: Path) -> None:
    told, shown = recipe(of), card(of)
    assert told["sha256"] == hashlib.sha256(model(of).read_bytes()).hexdigest()
    assert told["name"] == shown["name"]
    steps = [*told["stages"], told["calibration"]]
    more = [name for step in steps for name in step.get("more_sets", [])]
    assert {*told["sets"], *more} == {one["set"] for one in shown["data_sets"]}
    assert told["export"]["weights_sha256"] == shown["export"]["weights_sha256"]
    assert told["export"]["input_size"] == shown["export"]["input_size"]
    assert told["calibration"]["curve"] == shown["export"]["calibration"]


@each
def test_each_stage_is_told_as_the_card_tells_it(of: Path) -> None:
    record, stages = card(of)["training"], recipe(of)["stages"]
    for stage in reversed(stages):
        config = read_config(ROOT / stage["config"], [])
        # A field that came later is not in an early record.
        epochs = stage.get("planned_epochs", stage["epochs"])
        assert record["config"].items() <= {**vars_of(config), "epochs": epochs}.items()
        for name in ("commit", "data_hash", "hours"):
            assert record[name] == stage[name], stage["name"]
        if "averaged" in record:
            assert record["averaged"]["own"] == stage["average"]["share"]
        assert ("averaged" in record) == ("average" in stage)
        last, record = record, record.get("weights_run")
    assert record is None
    assert last["weights"] == recipe(of)["start"]["file"]


def vars_of(config: object) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}  # type: ignore[attr-defined]


@each
def test_a_stage_begins_from_an_earlier_one(of: Path) -> None:
    known = {"start"}
    for stage in recipe(of)["stages"]:
        assert stage["begins"].split("/")[0] in known
        known |= {stage["name"], f"{stage['name']}.start"}
        if "average" in stage:
            assert stage["average"]["with"].split("/")[0] in known
    assert recipe(of)["export"]["weights"].split("/")[0] in known


def test_every_set_of_the_recipe_is_told_of_on_its_page() -> None:
    page = (ROOT / "docs" / "howto" / "reproduce.md").read_text()
    for name in [*recipe()["sets"], "bangla", "zxing-neg"]:
        assert f"| {name} |" in page, name


@pytest.mark.skipif(not DATA.exists(), reason="the photos are not here")
def test_the_labels_that_the_first_stage_needs_are_those_that_are_here(tmp_path: Path) -> None:
    assert choose_sets(DATA, recipe()["sets"], out=tmp_path) == []
    recorded = recipe()["stages"][0]["data_hash"]
    assert is_data_of(tmp_path / "data.yaml", recorded)
    assert not is_data_of(tmp_path / "data.yaml", recorded[::-1])


def a_set(root: Path) -> Path:
    drawn.write_set(root, count=3, seed=1, image_hw=IMAGE_HW, split_shares=(0.4, 0.3, 0.3))
    return root / "data.yaml"


def test_missing_sets_are_named(tmp_path: Path) -> None:
    options = Options(tmp_path / "out", data=a_set(tmp_path / "set"))
    told = {**recipe(), "sets": ["drawn", "iran"]}
    with pytest.raises(NotReproducibleError, match="photos of iran in"):
        chosen_data(told, {}, options)
    with (tmp_path / "out" / "data" / "manifest.csv").open() as file:
        assert {row["set"] for row in csv.DictReader(file)} == {"drawn"}


def test_a_step_takes_the_sets_that_came_later(tmp_path: Path) -> None:
    options = Options(tmp_path / "out", data=a_set(tmp_path / "set"))
    told = {**recipe(), "sets": []}
    chosen = chosen_data(told, {"more_sets": ["drawn"]}, options)
    with chosen.with_name("manifest.csv").open() as file:
        assert {row["set"] for row in csv.DictReader(file)} == {"drawn"}
    with pytest.raises(NotReproducibleError, match="photos of iran in"):
        chosen_data(told, {"more_sets": ["drawn", "iran"]}, options)


def test_other_labels_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    data = a_set(tmp_path / "set")
    start = tmp_path / "start.pt"
    start.write_bytes(b"weights")
    told = {**recipe(), "sets": ["drawn"]}
    told["start"] = {"file": "start.pt", "sha256": hashlib.sha256(b"weights").hexdigest()}
    with pytest.raises(NotReproducibleError, match="yolo26n-640: expected data with the hash"):
        reproduce(told, Options(tmp_path / "out", data=data, start=start))
    assert not (tmp_path / "out" / "yolo26n-640").exists()


@pytest.mark.parametrize(
    ("start", "says"),
    [(None, "expected --start"), (b"others", "expected sha256")],
    ids=["missing", "others"],
)
def test_the_first_weights_are_asked_for_by_their_hash(
    start: bytes | None, says: str, tmp_path: Path
) -> None:
    if start is not None:
        (tmp_path / "start.pt").write_bytes(start)
    options = Options(tmp_path, start=None if start is None else tmp_path / "start.pt")
    with pytest.raises(NotReproducibleError, match=says):
        place("start", recipe(), options)


def test_an_overlay_comes_out_of_gits_history_in_the_version_that_is_told(tmp_path: Path) -> None:
    version = recipe()["stages"][1]["overlay"]
    try:
        file = overlay_of(version, Options(tmp_path))
    except NotReproducibleError:
        pytest.skip("a shallow clone")
    assert file is not None
    assert hashlib.sha256(file.read_bytes()).hexdigest() == version["sha256"]
    with pytest.raises(NotReproducibleError, match=r"git has no .* git fetch --unshallow"):
        overlay_of({**version, "sha256": "0" * 64}, Options(tmp_path))
    assert config_of(recipe()["stages"][1], Options(tmp_path)).overlay == str(file.resolve())


@pytest.mark.slow
@pytest.mark.xdist_group("training")
@pytest.mark.filterwarnings(OLD_EXPORTER)
def test_a_smoke_run_takes_the_whole_way(tmp_path: Path) -> None:
    """Two stages of the six have all that is in any: restored, stopped early and averaged."""
    told = deepcopy(recipe())
    first, last = told["stages"][0], told["stages"][-1]
    last |= {"begins": f"{first['name']}/last.pt", "restored_at": 768}
    last["average"]["with"] = f"{last['name']}.start/restored.pt"
    told["stages"] = [first, last]
    reproduced = reproduce(told, Options(tmp_path / "out", smoke=True, device="cpu"))

    out = tmp_path / "out"
    records = [json.loads((out / s["name"] / "run.json").read_text()) for s in (first, last)]
    assert records[1]["weights"] == "restored.pt"
    assert records[1]["averaged"] == {"of": "epoch0.pt", "with": "restored.pt", "own": 0.6}
    metadata = OnnxDetector(out / "plates.onnx").metadata
    assert (metadata.input_size, metadata.classes) == (64, ("plate",))
    assert list(metadata.calibration) == reproduced["curve now"]
    assert reproduced["same_bytes"] is False
    # Both are measured with the shipped network for near plates, as they would be served.
    assert reproduced["val"]["shipped"]["recall"] >= reproduced["val"]["now"]["recall"] > 0
    assert json.loads((out / "reproduced.json").read_text()) == reproduced
