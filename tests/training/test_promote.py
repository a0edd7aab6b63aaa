from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as PillowImage

from plateblur.guidance import BUCKET_NAMES
from plateblur.sets.labels import xyxy_to_labels
from plateblur.sets.split import data_hash, is_kept_apart
from plateblur.types import BlurOptions
from training import gate
from training.card import (
    TABLE_CLOSES,
    TABLE_OPENS,
    missed_sentence,
    pages_with_figures,
)
from training.promote import Config, RefusedError, main, promote

pytestmark = pytest.mark.slow  # it measures two models on photos, each time

HW = (240, 320)
PLATE = [100.0, 100.0, 160.0, 120.0]  # 1:12
PHOTOS = 12
APART = 4


@pytest.fixture(autouse=True)
def few_plates_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "FEWEST_WITHIN_ON_TEST", PHOTOS)
    monkeypatch.setattr(gate, "FEWEST_KEPT_APART", APART)


def apart_names() -> list[str]:
    """Names of train photos of which a quarter is kept apart, those first that are."""
    sets = {f"t{number:02}.png": "drawn" for number in range(60)}
    apart = [name for name in sets if is_kept_apart(name, sets, of=["drawn"])]
    return [*apart[:APART], *(name for name in sets if name not in apart)][: 2 * APART]


def drawn_set(folder: Path) -> Path:
    """Grey photos with the same plate on each, and a manifest that names two sets."""
    manifest = ["image,split,set,source,licence,region"]
    names = {"test": [f"{number:02}.png" for number in range(PHOTOS)]}
    names |= {"train": apart_names(), "val": ["b.png"]}
    for split, listed in names.items():
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for number, name in enumerate(listed):
            pixels = np.full((*HW, 3), 90 + number, np.uint8)
            pixels[100:120, 100:160] = 255
            PillowImage.fromarray(pixels).save(folder / "images" / split / name)
            label = xyxy_to_labels(np.array([PLATE]), image_hw=HW)
            (folder / "labels" / split / name).with_suffix(".txt").write_text(label)
            of = "other,there,MIT,elsewhere" if split == "val" else "drawn,here,CC0,nowhere"
            manifest.append(f"images/{split}/{name},{split},{of}")
    manifest.append(manifest[1])
    (folder / "manifest.csv").write_text("\n".join(manifest) + "\n")
    data = folder / "data.yaml"
    data.write_text("train: images/train\nval: images/val\ntest: images/test\n")
    return data


def trained_on(folder: Path) -> Path:
    """What a run of the drawn set trained on: its train photos but for those kept apart."""
    listed = [f"{folder / 'set/images/train' / name}\n" for name in apart_names()[APART:]]
    (folder / "train.txt").write_text("".join(listed))
    data = folder / "train.yaml"
    data.write_text(f"train: train.txt\nval: {folder / 'set/images/val'}\n")
    return data


def run_with_model(folder: Path, box: list[float]) -> Path:
    """A run folder with the ONNX model of a detector that finds `box` on every photo."""
    (folder / "weights").mkdir(parents=True)
    weights = f"weights of {folder.name}".encode()
    (folder / "weights" / "best.pt").write_bytes(weights)
    base = folder.parents[1]
    record = {
        "config": {"model": "yolo26n.pt", "epochs": 5, "kept_apart": ["drawn"]},
        "weights": "yolo26n.pt",
        "commit": "c" * 40,
        "data_hash": data_hash(base / "train.yaml"),
        "hours": 1.5,
    }
    (folder / "run.json").write_text(json.dumps(record))
    x1, y1, x2, y2 = box
    answer = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.9]
    constant = numpy_helper.from_array(np.array(answer, np.float32).reshape(1, 5, 1), "found")
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["output"], value=constant)],
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 5, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = {
        "names": "{0: 'plate'}",
        "stride": "32",
        "imgsz": "[320, 320]",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "calibration": "[1.0, 0.0]",
        "calibration_fit": json.dumps(
            {"slope": 1.0, "shift": 0.0, "boxes_on_plates": 20, "boxes_elsewhere": 20}
        ),
    }
    helper.set_model_props(model, metadata)
    onnx.save(model, folder / "plates.onnx")
    return folder / "plates.onnx"


LOOSE = [118.0, 100.0, 178.0, 120.0]  # on the plate, but leaves its left edge readable
ELSEWHERE = [10.0, 10.0, 70.0, 30.0]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A good candidate, and a repository without a shipped model."""
    data = drawn_set(tmp_path / "set")
    train_data = trained_on(tmp_path)
    return Config(
        candidate=run_with_model(tmp_path / "runs" / "good", PLATE),
        data=data,
        train_data=train_data,
        models=tmp_path / "repository" / "models",
        docs=tmp_path / "repository" / "docs",
        readme=tmp_path / "repository" / "README.md",
        threads=1,
        plots=False,
    )


def promoted(config: Config) -> list[str]:
    written = promote(config, date="2026-01-31")
    return [path.name for path in written]


def card_of(config: Config) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((config.models / "plates.json").read_text())
    return card


def test_the_first_model_is_shipped_with_card_and_figures(config: Config) -> None:
    assert promoted(config) == [
        "plates.onnx",
        "plates.json",
        "figures.json",
        "promotion-looks.json",
    ]
    assert (config.models / "plates.onnx").read_bytes() == config.candidate.read_bytes()
    assert sorted(path.name for path in config.models.iterdir()) == ["plates.json", "plates.onnx"]


def test_the_card_says_what_the_model_misses_and_is_made_of(config: Config) -> None:
    promoted(config)
    card = card_of(config)
    assert list(card)[:2] == ["name", "missed_on_test"]
    assert card["missed_on_test"][0].startswith("within 1:15: 0 of 12 plates missed; 100.0%")
    assert card["sha256"] == hashlib.sha256(config.candidate.read_bytes()).hexdigest()
    assert card["bytes"] == config.candidate.stat().st_size
    assert card["name"] == "plateblur-yolo26n-320"
    assert card["date"] == "2026-01-31"
    assert card["licence"] == "AGPL-3.0"
    assert card["blur"] == {
        "margin": BlurOptions().margin,
        "min_confidence": BlurOptions().min_confidence,
    }
    assert card["training"]["commit"] == "c" * 40
    assert card["training"]["hours"] == 1.5
    assert card["export"]["input_size"] == 320
    assert card["export"]["opset"] == 18
    assert card["export"]["classes"] == ["plate"]


def test_the_card_counts_each_photo_of_each_set_once(config: Config) -> None:
    promoted(config)
    sets = {one["set"]: one for one in card_of(config)["data_sets"]}
    assert sets["drawn"]["photos"] == {"train": 2 * APART, "val": 0, "test": PHOTOS}
    assert (sets["drawn"]["licence"], sets["other"]["licence"]) == ("CC0", "MIT")


def test_docs_get_the_figures_of_the_card(config: Config) -> None:
    promoted(config)
    quoted = json.loads((config.docs / "figures.json").read_text())
    card = card_of(config)
    assert quoted.pop("model") == card["name"]
    assert quoted == card["figures"]
    assert quoted["ranges"]["within 1:15"]["covered99"]["value"] == 1
    assert quoted["overall"]["false_boxes_per_photo"] == 0
    assert tuple(quoted["by_ratio"]) == BUCKET_NAMES


def test_pages_with_a_place_for_it_get_the_table(config: Config) -> None:
    config.docs.mkdir(parents=True)
    page = f"# Ours\n\n{TABLE_OPENS}\nold\n{TABLE_CLOSES}\n\nThe end.\n"
    config.readme.write_text(page)
    (config.docs / "model.md").write_text(page)
    (config.docs / "other.md").write_text("nothing to quote\n")
    assert promoted(config)[3:5] == ["README.md", "model.md"]
    text = config.readme.read_text()
    assert "| within 1:15 | 12 | 0 | 100.0%" in text
    assert "old" not in text
    assert text.startswith("# Ours")
    assert text.endswith(f"{TABLE_CLOSES}\n\nThe end.\n")
    assert (config.docs / "other.md").read_text() == "nothing to quote\n"


@pytest.mark.parametrize(
    "page", ["", f"{TABLE_OPENS} without an end", TABLE_CLOSES], ids=["empty", "open", "closed"]
)
def test_a_page_without_both_marks_stays_as_it_is(tmp_path: Path, page: str) -> None:
    (tmp_path / "page.md").write_text(page)
    figures = {
        "overall": {"photos": 0, "plates": 0, "false_boxes_per_photo": 0, "ap50": 0, "ap50_95": 0},
        **{"ranges": {}, "split": "test", "min_confidence": 0.25, "margin": 0.15},
    }
    assert pages_with_figures([tmp_path / "page.md", tmp_path / "none.md"], figures) == {}


def test_a_better_model_replaces_the_shipped_one(config: Config, tmp_path: Path) -> None:
    promoted(replace(config, candidate=run_with_model(tmp_path / "runs" / "loose", LOOSE)))
    promoted(config)
    assert (config.models / "plates.onnx").read_bytes() == config.candidate.read_bytes()


def test_the_shipped_model_itself_is_measured_anew_and_keeps_its_record(
    config: Config, tmp_path: Path
) -> None:
    promoted(config)
    before = card_of(config)
    for photo in (config.data.parent / "labels/test").iterdir():
        photo.write_text(photo.read_text() + xyxy_to_labels(np.array([ELSEWHERE]), image_hw=HW))
    again = replace(config, candidate=config.models / "plates.onnx", run=tmp_path / "again")
    written = promote(again, date="2026-02-01")
    assert [path.name for path in written] == [
        "plates.onnx",
        "plates.json",
        "figures.json",
        "promotion-looks.json",
    ]
    card = card_of(config)
    changed = {part for part in card if card[part] != before[part]}
    assert changed == {"missed_on_test", "figures", "limits", "looks"}
    assert (before["looks"], card["looks"]) == ({"test": 1}, {"test": 2})
    assert card["figures"]["overall"]["plates"] == 2 * PHOTOS


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (ELSEWHERE, "worse on test in recall, overall; covered99, overall; recall, within 1:15"),
        (LOOSE, "worse on the photos kept apart in covered99, overall; covered99, within 1:15"),
        (PLATE, "on neither split better"),
    ],
    ids=["finds nothing", "hides less", "the same"],
)
def test_a_downgrade_is_refused_with_the_table(
    config: Config, tmp_path: Path, box: list[float], reason: str
) -> None:
    promoted(config)
    looks = config.docs / "promotion-looks.json"

    def shipped() -> dict[Path, bytes]:
        files = config.models.parent.rglob("*.*")
        return {path: path.read_bytes() for path in files if path != looks}

    before = shipped()
    candidate = run_with_model(tmp_path / "runs" / "other", box)
    with pytest.raises(RefusedError, match=reason) as refusal:
        promoted(replace(config, candidate=candidate))
    assert "| figure | shipped | candidate | difference |" in str(refusal.value)
    assert shipped() == before
    told = [(one["split"], one["photos"], one["outcome"]) for one in json.loads(looks.read_text())]
    assert told[1:] == [("test", PHOTOS, "refused"), ("kept apart", APART, "refused")]
    kept = json.loads((candidate.parent / "refused.json").read_text())
    assert any(reason in one for one in kept["reasons"])
    assert {"test", "kept apart"} < kept.keys()


def test_a_model_without_the_record_of_its_run_is_refused(config: Config) -> None:
    (config.candidate.parent / "run.json").unlink()
    with pytest.raises(RefusedError, match=r"expected run\.json in good/, found none"):
        promoted(config)
    assert not config.models.exists()


def test_a_record_that_leaves_out_the_data_is_refused(config: Config) -> None:
    (config.candidate.parent / "run.json").write_text('{"config": {}, "weights": "a.pt"}')
    with pytest.raises(RefusedError, match=r"expected \['commit', 'data_hash'\]"):
        promoted(config)


def test_a_model_of_another_run_is_refused(config: Config, tmp_path: Path) -> None:
    run_with_model(tmp_path / "runs" / "other", PLATE)
    with pytest.raises(RefusedError, match="exported from the weights in other/weights"):
        promoted(replace(config, run=tmp_path / "runs" / "other"))


def test_other_training_data_than_the_runs_is_refused(config: Config) -> None:
    for label in (config.data.parent / "labels" / "train").iterdir():
        label.write_text("")
    with pytest.raises(RefusedError, match="the data set that good trained on"):
        promoted(config)


def metadata(path: Path, **changed: str | None) -> None:
    """Write entries of a model's metadata again, or take them out; its weights stay."""
    model = onnx.load(path)
    entries = {entry.key: entry.value for entry in model.metadata_props} | changed
    helper.set_model_props(model, {key: value for key, value in entries.items() if value})
    onnx.save(model, path)


FEW = '{"slope": 1.0, "shift": 0.0, "boxes_on_plates": 400, "boxes_elsewhere": 19}'


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"calibration_fit": None}, "expected a calibrated model"),
        ({"calibration": "[70.0, 3.0]"}, "expected a calibrated model"),
        ({"calibration_fit": FEW}, "at least 20 boxes of each kind, got one by 19"),
    ],
    ids=["never", "changed since", "by too few boxes"],
)
def test_a_model_that_is_not_calibrated_is_refused(
    config: Config, changed: dict[str, str | None], reason: str
) -> None:
    metadata(config.candidate, **changed)
    with pytest.raises(RefusedError, match=reason):
        promoted(config)


def record_of(config: Config) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((config.candidate.parent / "run.json").read_text())
    return record


def test_a_run_that_kept_no_photos_apart_is_refused(config: Config, tmp_path: Path) -> None:
    promoted(replace(config, candidate=run_with_model(tmp_path / "runs" / "loose", LOOSE)))
    record = record_of(config)
    del record["config"]["kept_apart"]
    (config.candidate.parent / "run.json").write_text(json.dumps(record))
    with pytest.raises(RefusedError, match="expected photos that the run never saw"):
        promoted(config)


def test_a_run_that_trained_on_the_photos_kept_apart_is_refused(
    config: Config, tmp_path: Path
) -> None:
    promoted(replace(config, candidate=run_with_model(tmp_path / "runs" / "loose", LOOSE)))
    record = record_of(config) | {"data_hash": data_hash(config.data)}
    (config.candidate.parent / "run.json").write_text(json.dumps(record))
    with pytest.raises(RefusedError, match=f"{APART} photos that were to be kept apart are in"):
        promoted(replace(config, train_data=config.data))


def test_photos_of_val_are_for_everybody(config: Config, tmp_path: Path) -> None:
    promoted(replace(config, candidate=run_with_model(tmp_path / "runs" / "loose", LOOSE)))
    folder = config.data.parent
    name = next(
        name
        for name in (f"v{number}.png" for number in range(99))
        if is_kept_apart(name, {name: "drawn"}, of=["drawn"])
    )
    (folder / "images/val/b.png").rename(folder / "images/val" / name)
    (folder / "labels/val/b.txt").rename(folder / "labels/val" / name.replace("png", "txt"))
    manifest = folder / "manifest.csv"
    manifest.write_text(
        manifest.read_text().replace(
            "images/val/b.png,val,other,there,MIT", f"images/val/{name},val,drawn,here,CC0"
        )
    )
    assert config.train_data
    record = record_of(config) | {"data_hash": data_hash(config.train_data)}
    (config.candidate.parent / "run.json").write_text(json.dumps(record))
    promoted(config)


@pytest.mark.parametrize(
    ("earlier", "seen"),
    [
        ({"data_sets": [{"set": "drawn"}], "config": {"kept_apart": ["drawn"]}}, False),
        ({"data_sets": [{"set": "other"}], "config": {}}, False),
        ({"data_sets": [{"set": "drawn"}], "config": {}}, True),
        ({"config": {}}, True),
    ],
    ids=["kept apart there too", "another set", "trained on all of it", "nobody can say"],
)
def test_photos_that_an_earlier_run_saw_are_not_new(
    config: Config, tmp_path: Path, earlier: dict[str, Any], seen: bool
) -> None:
    promoted(replace(config, candidate=run_with_model(tmp_path / "runs" / "loose", LOOSE)))
    (config.candidate.parent / "run.json").write_text(
        json.dumps(record_of(config) | {"weights_run": earlier})
    )
    if seen:
        with pytest.raises(RefusedError, match="of drawn, a run before this one may have"):
            promoted(config)
    else:
        promoted(config)


def test_of_a_restored_model_the_card_knows_the_sets() -> None:
    training = {"config": {}, "commit": "a"}
    card = {"training": training, "data_sets": [{"set": "drawn"}]}
    record = {"weights_run": dict(training)}
    assert gate.seen_before(["drawn", "new"], record, card) == ["drawn"]
    assert gate.seen_before(["new"], record, card) == []
    assert gate.seen_before(["new"], record, None) == ["new"]


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "a run of its own"])
def test_a_fine_tune_keeps_the_sets_and_licences_of_its_ancestors(
    config: Config, tmp_path: Path, restored: bool
) -> None:
    old = {
        **{"set": "old", "source": "x", "licence": "research only", "region": "Iran"},
        "photos": {"train": 9, "val": 0, "test": 0},
    }
    sets: dict[str, Any] = {"card": {"data_sets": [old]}} if restored else {"data_sets": [old]}
    (config.candidate.parent / "run.json").write_text(
        json.dumps(record_of(config) | {"weights_run": {"config": {}, **sets}})
    )
    promoted(config)
    told = {one["set"]: one["licence"] for one in card_of(config)["data_sets"]}
    assert told == {"drawn": "CC0", "other": "MIT", "old": "research only"}


def test_an_ancestor_whose_sets_nobody_knows_is_said_to_be_one(config: Config) -> None:
    (config.candidate.parent / "run.json").write_text(
        json.dumps(record_of(config) | {"weights_run": {"config": {}}})
    )
    promoted(config)
    assert card_of(config)["data_sets"][-1]["licence"] == "unknown"


def test_the_limits_are_those_of_its_own_test_set(config: Config) -> None:
    promoted(config)
    limits = card_of(config)["limits"]
    assert any("the 12 of the test split: nowhere. Other regions were" in one for one in limits)
    assert "below 1:60: the test split has 0 plates, too few to say how many are missed." in limits


def test_the_card_tells_of_the_photos_kept_apart(config: Config, tmp_path: Path) -> None:
    promoted(replace(config, candidate=run_with_model(tmp_path / "runs" / "loose", LOOSE)))
    promoted(config)
    card = card_of(config)
    told = card["kept_apart"]
    assert (told["sets"], told["photos"], told["plates"]) == (["drawn"], APART, APART)
    assert told["covered99, within 1:15"] == 1
    assert card["looks"] == {"test": 2, "kept apart": 1}


def test_the_copy_that_a_run_trained_on_is_found_beside_it(config: Config, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / "good.data"
    copy.mkdir()
    lists = {"train.txt": "train.txt", "train.yaml": "data.yaml"}
    for name, new in lists.items():
        (copy / new).write_text((tmp_path / name).read_text())
    promoted(replace(config, train_data=None))


def test_data_without_stated_licences_is_refused(config: Config) -> None:
    (config.data.parent / "manifest.csv").unlink()
    with pytest.raises(RefusedError, match="each set and its licence"):
        promoted(config)


@pytest.mark.parametrize("recorded", [True, False], ids=["with run.json", "without"])
def test_the_command_says_what_to_commit_or_why_not(
    config: Config,
    recorded: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = config.candidate.parent / "run.json"
    if not recorded:
        record.unlink()
    assert config.train_data
    paths = {
        "--data": config.data,
        "--train-data": config.train_data,
        "--models": config.models,
        "--docs": config.docs,
    }
    words = [str(word) for pair in paths.items() for word in pair]
    monkeypatch.setattr(
        "sys.argv",
        ["promote", str(config.candidate), *words, "--readme", str(config.readme), "--no-plots"],
    )
    if recorded:
        main()
        assert f"  {config.models / 'plates.onnx'}\n" in capsys.readouterr().out
    else:
        with pytest.raises(SystemExit) as refusal:
            main()
        # A text makes the exit code 1 and is printed on standard error.
        assert str(refusal.value.code).startswith("refused: expected run.json")
    assert (config.models / "plates.onnx").exists() == recorded


def test_people_are_told_how_many_stay_readable() -> None:
    group = {
        "plates": 412,
        "missed": 3,
        "covered99": {"value": 0.951, "low": 0.926, "high": 0.968},
    }
    assert missed_sentence("within 1:15", group) == (
        "within 1:15: 3 of 412 plates missed; 95.1% at least 99 % hidden "
        "(95 % interval 92.6% to 96.8%)"
    )
