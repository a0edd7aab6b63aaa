"""Corrected labels, far plates, a budget of hours, and the same run twice."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A  # noqa: N812 - the name its own documentation uses
import numpy as np
import pytest
import torch
import yaml
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG
from ultralytics.utils.loss import v8DetectionLoss

from plateblur.sets.labels import labels_to_xyxy
from plateblur.sets.split import data_hash, read_split, split_photos
from tests.datasets.drawn import draw
from training import augment, train
from training.int8 import calibration_photos
from training.runs import count_from_the_start, hours_trained, tell_progress
from training.train import (
    Config,
    loss_in_float32,
    prepare_data,
    ultralytics_loss,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NEAR = (40.0, 60.0, 120.0, 84.0)  # 24 px of 240: 1:10
FAR = (40.0, 60.0, 60.0, 66.0)  # 1:40


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the `data.yaml` of six drawn photos, one of them with a far plate."""
    for split, plates in (("train", [NEAR, NEAR, NEAR, FAR]), ("val", [NEAR, NEAR])):
        for number, (x1, y1, x2, y2) in enumerate(plates):
            name = f"{split}-{number}"
            draw(
                tmp_path / "set" / "images" / split / f"{name}.png",
                number,
                plates=((x1, y1, x2, y2),),
            )
            label = tmp_path / "set" / "labels" / split / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            cxcywhn = np.array([x1 + x2, y1 + y2, 2 * (x2 - x1), 2 * (y2 - y1)]) / 2
            shares = cxcywhn / [320, 240, 320, 240]
            label.write_text("0 " + " ".join(f"{share:.6f}" for share in shares) + "\n")
    described = {"train": "images/train", "val": "images/val", "names": {0: "plate"}}
    (tmp_path / "set" / "data.yaml").write_text(yaml.safe_dump(described))
    return tmp_path / "set" / "data.yaml"


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """Return an overlay that adds a plate to a train photo, and one of a photo that is not here."""
    add = {"action": "add", "boxes": [[200, 100, 280, 124]], "reason": "unlabelled plate"}
    lines = [json.dumps({"image": name, **add}) for name in ("train-0.png", "elsewhere.png")]
    (tmp_path / "overlay.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "overlay.jsonl"


def test_a_set_that_is_trained_on_as_it_is_is_not_copied(data: Path, tmp_path: Path) -> None:
    assert prepare_data(Config(), data=data, out=tmp_path / "copy") == data
    assert not (tmp_path / "copy").exists()


def test_a_cache_on_disk_lies_beside_links_and_not_beside_the_photos(
    data: Path, tmp_path: Path
) -> None:
    prepared = prepare_data(Config(cache="disk"), data=data, out=tmp_path / "copy")
    assert prepared.parent == tmp_path / "copy"
    assert all(link.is_symlink() for link in (tmp_path / "copy" / "images" / "train").iterdir())


def test_a_cache_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'ram' or 'disk', got 'tape'"):
        Config(cache="tape")


def test_corrections_are_trained_on_and_the_set_stays_as_it_is(
    data: Path, overlay: Path, tmp_path: Path
) -> None:
    before = data_hash(data)
    prepared = prepare_data(Config(overlay=str(overlay)), data=data, out=tmp_path / "copy")
    label = (tmp_path / "copy" / "labels" / "train" / "train-0.txt").read_text()
    boxes = labels_to_xyxy(label, image_hw=(240, 320))
    np.testing.assert_allclose(boxes, [NEAR, (200, 100, 280, 124)], atol=0.01)
    assert data_hash(data) == before
    assert data_hash(prepared) != before


def test_a_dropped_photo_of_train_is_not_trained_on(data: Path, tmp_path: Path) -> None:
    drop = {"action": "drop", "boxes": [], "reason": "also in val"}
    lines = [json.dumps({"image": name, **drop}) for name in ("train-1.png", "val-1.png")]
    (tmp_path / "overlay.jsonl").write_text("\n".join(lines) + "\n")
    config = Config(overlay=str(tmp_path / "overlay.jsonl"))
    prepared = prepare_data(config, data=data, out=tmp_path / "copy")
    names = {
        split: [photo.stem for photo in split_photos(prepared, split)] for split in ("train", "val")
    }
    assert names == {"train": ["train-0", "train-2", "train-3"], "val": ["val-0", "val-1"]}
    assert not (tmp_path / "copy" / "labels" / "train" / "train-1.txt").exists()


def test_a_photo_with_a_far_plate_comes_several_times_an_epoch_in_train_alone(
    data: Path, tmp_path: Path
) -> None:
    prepared = prepare_data(Config(far_times=3), data=data, out=tmp_path / "copy")
    names = [photo.name for photo in split_photos(prepared, "train")]
    assert {name: names.count(name) for name in names} == {
        **{f"train-{number}.png": 1 for number in range(3)},
        "train-3.png": 3,
    }
    assert len(split_photos(prepared, "val")) == 2


def test_a_photo_with_something_that_is_taken_for_a_plate_comes_several_times_too(
    data: Path, tmp_path: Path
) -> None:
    mark = {"action": "mark", "boxes": [[5, 5, 60, 20]], "reason": "lettering"}
    marked = ("train-0.png", "train-3.png", "val-0.png")
    lines = [json.dumps({"image": name, **mark}) for name in marked]
    (tmp_path / "overlay.jsonl").write_text("\n".join(lines) + "\n")
    config = Config(overlay=str(tmp_path / "overlay.jsonl"), far_times=3, marked_times=2)
    prepared = prepare_data(config, data=data, out=tmp_path / "copy")
    names = [photo.stem for photo in split_photos(prepared, "train")]
    assert [names.count(f"train-{number}") for number in range(4)] == [2, 1, 1, 3]
    assert len(split_photos(prepared, "val")) == 2


def test_of_every_few_train_photos_one_is_trained_on(data: Path, tmp_path: Path) -> None:
    prepared = prepare_data(Config(every=3), data=data, out=tmp_path / "copy")
    names = {
        split: [photo.stem for photo in split_photos(prepared, split)] for split in ("train", "val")
    }
    assert names == {"train": ["train-0", "train-3"], "val": ["val-0", "val-1"]}


def test_a_prepared_set_can_be_prepared_again(data: Path, tmp_path: Path) -> None:
    once = prepare_data(Config(far_times=2), data=data, out=tmp_path / "once")
    twice = prepare_data(Config(far_times=2), data=once, out=tmp_path / "twice")
    names = [photo.name for photo in split_photos(twice, "train")]
    assert names.count("train-3.png") == 4
    assert data_hash(once) == data_hash(twice)


def test_an_oversampled_set_works_in_every_later_step(data: Path, tmp_path: Path) -> None:
    """`merge.py --oversample` names a list of photos where other sets name a folder."""
    photos = split_photos(data, "train")
    listed = data.with_name("train.txt")
    listed.write_text("".join(f"./{p.relative_to(data.parent)}\n" for p in [*photos, photos[0]]))
    oversampled = data.with_name("oversampled.yaml")
    oversampled.write_text(data.read_text().replace("images/train", "train.txt"))
    assert data_hash(oversampled) == data_hash(data)
    assert calibration_photos(oversampled, most=9) == photos
    assert len(read_split(oversampled, "train")) == len(photos)
    prepared = prepare_data(Config(cache="disk"), data=oversampled, out=tmp_path / "copy")
    assert len(split_photos(prepared, "train")) == len(photos) + 1


def test_a_stale_correction_stops_the_run_before_it_trains(data: Path, tmp_path: Path) -> None:
    stale = {"image": "train-0.png", "action": "remove", "boxes": [[0, 0, 9, 9]], "reason": "none"}
    (tmp_path / "stale.jsonl").write_text(json.dumps(stale) + "\n")
    with pytest.raises(ValueError, match=r"train-0\.png: expected one labelled box"):
        prepare_data(
            Config(overlay=str(tmp_path / "stale.jsonl")), data=data, out=tmp_path / "copy"
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [("augmentation", "none"), ("far_times", 0), ("marked_times", 0), ("every", 0)],
    ids=["list", "far", "marked", "every"],
)
def test_a_config_that_would_fail_later_is_refused_at_once(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Config(**{field: value})  # type: ignore[arg-type]


def test_the_hours_of_a_run_are_those_of_its_last_epoch(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("epoch,time\n1,1800\n2,5400\n")
    assert hours_trained(tmp_path / "results.csv") == 1.5


def test_a_resumed_run_counts_hours_and_epochs_from_its_first_stretch_on() -> None:
    trainer = SimpleNamespace(start_epoch=3, train_time_start=10_000.0)
    for _ in range(2):  # each epoch asks, only the first one counts
        count_from_the_start(trainer, hours=1.5)
    assert (trainer.start_epoch, trainer.train_time_start) == (0, 4600.0)


def predictions(dtype: torch.dtype) -> dict[str, Any]:
    """Return what a one-class head gives for a 768 px picture, the same in either precision."""
    torch.manual_seed(0)
    features = [torch.zeros(2, 1, side, side, dtype=dtype) for side in (96, 48, 24)]
    cells = sum(feature[0, 0].numel() for feature in features)
    boxes, scores = torch.rand(2, 4, cells) * 4, torch.randn(2, 1, cells)
    exact = {"boxes": boxes.bfloat16().to(dtype), "scores": scores.bfloat16().to(dtype)}
    return {**exact, "feats": features}


def test_losses_of_bf16_predictions_are_those_in_floats() -> None:
    network = DetectionModel("yolo26n.yaml", nc=1, verbose=False)
    network.args = DEFAULT_CFG
    criterion = v8DetectionLoss(network)
    plates = [[0.9, 0.8, 0.06, 0.02], [0.7, 0.9, 0.1, 0.04]]
    batch = {
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor(plates),
    }
    rough, exact = predictions(torch.bfloat16), predictions(torch.float32)
    expected = ultralytics_loss(criterion, exact, batch)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss_in_float32(criterion, rough, batch)[1]
        without = ultralytics_loss(criterion, rough, batch)[1]
    assert torch.equal(got, expected)
    assert not torch.allclose(without, expected, rtol=0.001)


def test_after_an_epoch_it_is_told_when_the_last_one_will_be_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = SimpleNamespace(epoch=1, epochs=5, start_epoch=0, train_time_start=0.0)
    tell_progress(trainer)
    assert capsys.readouterr().err.startswith("epoch 2 of 5, ")
    trainer.epoch = 5  # the last validation, after training
    tell_progress(trainer)
    assert capsys.readouterr().err == ""


def trained(run: Path, data: Path, overlay: Path, *more: str) -> list[dict[str, str]]:
    """Train a tiny network with everything on and return the rows of its results."""
    words = [
        *(str(ROOT / "training" / "configs" / "smoke.yaml"), "--data", str(data)),
        *("--run", str(run), "--set", f"overlay={overlay}"),
        *("--set", "far_times=2", "--set", "augmentation=plates", *more),
    ]
    told = io.StringIO()
    with redirect_stderr(told):
        train.main(words)
    assert "corrections: 1 applied, of 2" in told.getvalue()
    with (run / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_same_config_seed_and_data_give_the_same_run(
    data: Path, overlay: Path, tmp_path: Path
) -> None:
    first = trained(tmp_path / "first", data, overlay)
    second = trained(tmp_path / "second", data, overlay)
    records = [json.loads((tmp_path / run / "run.json").read_text()) for run in ("first", "second")]
    assert records[0]["data_hash"] == records[1]["data_hash"]
    assert records[0]["config"] == records[1]["config"]
    for run in ("first", "second"):
        head = YOLO(tmp_path / run / "weights" / "best.pt").model.model[-1]
        assert not hasattr(head, "one2one_cv2")
    for one, other in zip(first, second, strict=True):
        for name in set(one) - {"time"}:
            assert float(one[name]) == pytest.approx(float(other[name]), rel=0.01, abs=0.001)


@pytest.mark.slow
def test_a_budget_of_hours_ends_a_run_and_is_kept_for_its_resumption(
    data: Path, overlay: Path, tmp_path: Path
) -> None:
    rows = trained(tmp_path / "run", data, overlay, "--set", "epochs=1000", "--hours", "0.0005")
    assert 1 <= len(rows) < 1000
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["hours_budget"] == 0.0005


def test_a_run_that_would_train_without_its_augmentations_fails(
    data: Path, overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaning(A.Affine):  # type: ignore[misc]
        def __init__(self, p: float = 0.5) -> None:
            super().__init__(rotate=(-45, 45), p=p)

    monkeypatch.setitem(augment.LISTS, "plates", lambda: [A.ToGray(), Leaning()])
    with pytest.raises(RuntimeError, match="would run without some of its augmentations"):
        trained(tmp_path / "run", data, overlay)
    assert not (tmp_path / "run" / "results.csv").exists()


@pytest.mark.parametrize("weights", ["best.pt", "last.pt", "restored.pt"])
def test_a_run_is_never_overwritten(
    data: Path, overlay: Path, tmp_path: Path, weights: str
) -> None:
    kept = tmp_path / "run" / "weights" / weights
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"days of work")
    with pytest.raises(FileExistsError, match="holds a run, which is never overwritten"):
        trained(tmp_path / "run", data, overlay)
    assert kept.read_bytes() == b"days of work"


def test_a_finished_run_is_not_overwritten_when_its_weights_are_gone(
    data: Path, overlay: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"hours": 2}')
    with pytest.raises(FileExistsError, match="holds a run, which is never overwritten"):
        trained(tmp_path / "run", data, overlay)


def test_a_run_is_not_resumed_with_values_that_its_checkpoint_overrules(
    data: Path, overlay: Path, tmp_path: Path
) -> None:
    (tmp_path / "run" / "weights").mkdir(parents=True)
    (tmp_path / "run" / "weights" / "last.pt").write_bytes(b"weights")
    begun = {"config": {"epochs": 4, "seed": 0, "cache": "disk"}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(begun))
    with pytest.raises(ValueError, match=r"begun with epochs 4 \(now 1\), and a resumed run keeps"):
        trained(tmp_path / "run", data, overlay, "--resume")


def test_a_run_that_has_ended_is_not_resumed(data: Path, overlay: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "weights").mkdir(parents=True)
    (tmp_path / "run" / "weights" / "last.pt").write_bytes(b"weights")
    (tmp_path / "run" / "run.json").write_text('{"hours": 2}')
    with pytest.raises(FileExistsError, match="has ended; go on from its weights"):
        trained(tmp_path / "run", data, overlay, "--resume")


@pytest.mark.slow
def test_a_budget_of_hours_is_used_although_the_config_has_one_epoch(
    data: Path, tmp_path: Path
) -> None:
    config = train.read_config(ROOT / "training" / "configs" / "smoke.yaml", ["epochs=1"])
    run = tmp_path / "run"
    train.train(
        config, data=data, run=run, weights=config.model, resume=False, hours=1.0, stop_after=2
    )
    with (run / "results.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
