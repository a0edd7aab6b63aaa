"""Recipe > tiny epoch > export > parity > evaluation, each by the command that a person types.

The first of them run as programs of their own; the others call a page's `main` with the same words,
because each program would spend ten seconds on importing torch.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from plateblur.demo.photos import Limits, add_plate, open_photo
from plateblur.demo.review import Review, example_of
from plateblur.detector import OnnxDetector
from plateblur.engines import int8_model
from plateblur.sets.split import data_hash
from tests.demo.fakes import MISSED, DrawnDetector, drawn_photo
from training import evaluate, export, restore, train
from training.average import average
from training.int8 import calibration_photos, head_nodes, quantise
from training.train import Config, mixed_precision, read_config

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    # ultralytics exports with what torch is about to drop, and torch says so in several places.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def run(*words: str | Path) -> str:
    """Run a script of the project and return its standard output; fail with what it said."""
    offline = {**os.environ, "YOLO_OFFLINE": "True"}  # noqa: TID251 - for a child process
    offline.pop("PYTEST_CURRENT_TEST", None)  # ultralytics writes nothing for TensorBoard in tests
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, env=offline
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def trained(data: Path, run: Path, *more: str) -> None:
    """Train the tiny network in this process."""
    config = str(ROOT / "training" / "configs" / "smoke.yaml")
    train.main([config, "--data", str(data), "--run", str(run), *more])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    run("datasets/synthetic.py", folder, "--count", "16", "--seed", "7")
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    run("-m", "training.train", "training/configs/smoke.yaml", "--data", data, "--run", folder)
    return folder


@pytest.fixture(scope="module")
def model(run_folder: Path) -> Path:
    out = run_folder / "plates.onnx"
    export.main([str(run_folder / "weights" / "best.pt"), "--out", str(out)])
    return out


def test_photos_that_visitors_donated_are_trained_on_as_they_are(tmp_path: Path) -> None:
    donated = Review(tmp_path / "donated")
    detector = DrawnDetector()
    for number in range(6):  # of which one or more are for validation
        photo = open_photo(detector, "car.jpg", drawn_photo(quality=90 - number), Limits())
        example = example_of(detector, add_plate(photo, MISSED), 0.25)
        donated.save(example, visitor=f"visitor {number}", now=datetime(2026, 1, 2, tzinfo=UTC))
    data = tmp_path / "donated" / "data.yaml"

    trained(data, tmp_path / "run")

    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data_hash"] == data_hash(data)
    assert (tmp_path / "run" / "weights" / "best.pt").is_file()


def test_a_run_keeps_what_it_was_made_of(run_folder: Path, data: Path) -> None:
    record = json.loads((run_folder / "run.json").read_text())
    assert record["config"]["input_size"] == 64
    assert record["data_hash"] == data_hash(data)
    assert record["environment"]["packages"]["torch"]
    assert record["hours"] >= 0
    assert (run_folder / "weights" / "last.pt").exists()
    assert (run_folder / "results.csv").exists()
    assert list(run_folder.glob("events.out.tfevents.*"))  # for TensorBoard


def test_an_export_agrees_with_torch_and_tells_of_its_run(model: Path, data: Path) -> None:
    parity = json.loads(model.with_suffix(".parity.json").read_text())
    assert all(row["boxes_px"] <= parity["most_allowed"]["boxes_px"] for row in parity["inputs"])
    entries = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert entries["data_hash"] == data_hash(data)
    assert entries["names"] == "{0: 'plate'}"


def test_an_export_names_no_path_of_the_machine_that_made_it(model: Path) -> None:
    content = model.read_bytes()
    assert str(ROOT).encode() not in content
    assert str(model.parent).encode() not in content


def test_every_engine_that_is_installed_is_compared_with_torch(model: Path) -> None:
    parity = json.loads(model.with_suffix(".parity.json").read_text())
    engines = {row["engine"] for row in parity["inputs"]}
    assert engines == {"onnxruntime", "openvino"}


def test_a_model_in_8_bit_integers_is_served_and_keeps_its_head_in_floats(
    model: Path, data: Path, tmp_path: Path
) -> None:
    in_floats = Path(shutil.copy(model, tmp_path))
    photos = calibration_photos(data, most=2)
    assert len(photos) == 2
    quantise(in_floats, int8_model(in_floats), photos)
    quantised = onnx.load(int8_model(in_floats))
    entries = {entry.key: entry.value for entry in quantised.metadata_props}
    assert entries["precision"] == "int8"
    assert {e.key: e.value for e in onnx.load(in_floats).metadata_props}.items() <= entries.items()
    kept = {one.name for one in quantised.graph.initializer}
    convolutions = [node for node in quantised.graph.node if node.op_type == "Conv"]
    in_integers = [node.name for node in convolutions if node.input[1] not in kept]
    assert len(in_integers) > len(convolutions) / 2
    assert not set(in_integers) & set(head_nodes(onnx.load(in_floats)))
    # Of 7 bits, because larger ones overflow on CPUs without VNNI.
    weights = [
        onnx.numpy_helper.to_array(one)
        for one in quantised.graph.initializer
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4
    ]
    assert len(weights) >= len(in_integers)
    assert all(np.abs(each.astype(int)).max() <= 64 for each in weights)
    image = np.full((90, 160, 3), 128, np.uint8)
    detections = OnnxDetector(in_floats, engine="openvino-int8").detect(image, min_confidence=0.001)
    assert detections.xyxy.shape == (len(detections), 4)


def test_the_served_detector_runs_what_was_exported(model: Path) -> None:
    image = np.full((90, 160, 3), 128, np.uint8)
    detections = OnnxDetector(model).detect(image, min_confidence=0.001)
    assert detections.xyxy.shape == (len(detections), 4)


def test_the_evaluation_reports_on_what_was_exported(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", data, "--split", "val", "--model", model, "--out", tmp_path / "val")
    evaluate.main([str(word) for word in words])
    told = capsys.readouterr().out
    metrics = json.loads((tmp_path / "val" / "metrics.json").read_text())
    assert metrics["overall"]["plates"] > 0
    assert "## Missed plates" in told


def test_a_killed_run_goes_on_from_its_last_whole_epoch(data: Path, tmp_path: Path) -> None:
    words = [
        *(
            sys.executable,
            "-m",
            "training.train",
            "training/configs/smoke.yaml",
            "--data",
            str(data),
        ),
        *("--run", str(tmp_path / "killed"), "--set", "epochs=3"),
    ]
    results = tmp_path / "killed" / "results.csv"
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 1800  # never so long, however busy the machine
    while not (tmp_path / "killed" / "weights" / "last.pt").exists():
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.05)
    child.kill()
    child.wait()
    done_before = len(results.read_text().splitlines()) - 1

    record_file = tmp_path / "killed" / "run.json"
    came_from = {"weights": "start.pt", "weights_run": {"config": {}, "hours": 2}}
    record_file.write_text(json.dumps(json.loads(record_file.read_text()) | came_from))

    trained(data, tmp_path / "killed", "--set", "epochs=3", "--resume")
    epochs = [line.split(",")[0] for line in results.read_text().splitlines()[1:]]
    record = json.loads(record_file.read_text())
    assert 1 <= done_before < 3
    assert epochs == ["1", "2", "3"]
    assert len(record["earlier_stretches"]) == 1
    assert {name: record[name] for name in came_from} == came_from


def test_the_command_line_overrides_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("epochs: 3\nbatch: 2\n")
    assert read_config(file, ["epochs=9", "learning_rate=0.01"]) == Config(
        epochs=9, batch=2, learning_rate=0.01
    )


def test_an_unknown_field_is_refused_and_the_known_ones_are_named(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("epoch: 3\n")
    with pytest.raises(ValueError, match=r"unknown config fields \['epoch'\]; there are: model"):
        read_config(file, [])


def test_resuming_without_a_checkpoint_says_what_is_missing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a checkpoint at"):
        trained(data, tmp_path / "none", "--resume")


def test_mixed_precision_is_one_that_this_machine_computes() -> None:
    assert mixed_precision() in (True, False, "bf16")


def test_an_export_becomes_weights_again_that_compute_the_same_and_can_be_trained(
    model: Path, run_folder: Path, data: Path, tmp_path: Path
) -> None:
    words = ("--model", model, "--data", data, "--out", tmp_path / "again", "--photos", "4")
    restore.main([str(word) for word in words])
    weights = tmp_path / "again" / "weights" / "restored.pt"
    export.main([str(weights), "--out", str(tmp_path / "again.onnx"), "--input-size", "64"])
    image = np.random.default_rng(2).integers(0, 255, (90, 160, 3), np.uint8)
    before, after = (
        OnnxDetector(path).detect(image, min_confidence=1e-4)
        for path in (model, tmp_path / "again.onnx")
    )
    assert len(before) == len(after) > 0
    np.testing.assert_allclose(after.confidence, before.confidence, atol=1e-4)
    np.testing.assert_allclose(after.xyxy, before.xyxy, atol=0.05)

    trained(data, tmp_path / "further", "--weights", str(weights))
    record = json.loads((tmp_path / "further" / "run.json").read_text())
    assert record["weights"] == "restored.pt"


def test_frozen_modules_keep_their_weights_and_the_others_learn(
    data: Path, run_folder: Path, tmp_path: Path
) -> None:
    start = run_folder / "weights" / "last.pt"
    trained(data, tmp_path / "neck", "--weights", str(start), "--set", "freeze=11")
    before, after = (
        torch.load(weights, weights_only=False)["model"].float().state_dict()
        for weights in (start, tmp_path / "neck" / "weights" / "last.pt")
    )
    changed = {name.split(".")[1] for name in before if not before[name].equal(after[name])}
    assert changed
    assert min(map(int, changed)) >= 11


def test_a_model_of_another_network_is_refused(model: Path, data: Path, tmp_path: Path) -> None:
    config = restore.Config(model, "yolo11n.yaml", data, tmp_path / "other", photos=1)
    with pytest.raises(ValueError, match="is it of another network"):
        restore.restore(config)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_averaged_weights_lie_between_a_run_s_first_and_last(
    run_folder: Path, tmp_path: Path, share: float
) -> None:
    mine = tmp_path / "mine"
    (mine / "weights").mkdir(parents=True)
    for name in ("run.json", "weights/epoch0.pt"):
        (mine / name).write_bytes((run_folder / name).read_bytes())
    first = torch.load(run_folder / "weights" / "last.pt", weights_only=False)
    ends = {name: value.float() for name, value in first["model"].state_dict().items()}
    network = first["model"].float()
    network.load_state_dict({name: value + 4 for name, value in ends.items()})
    torch.save(first, tmp_path / "first.pt")

    averaged = average(mine, start=tmp_path / "first.pt", share=share, own="epoch0.pt")
    made = torch.load(averaged, weights_only=False)["model"].state_dict()
    name = "model.0.conv.weight"
    torch.testing.assert_close(made[name], ends[name] + 4 * (1 - share))
    told = json.loads((mine / "run.json").read_text())["averaged"]
    assert told == {"of": "epoch0.pt", "with": "first.pt", "own": share}


def test_a_share_out_of_range_is_refused(run_folder: Path) -> None:
    with pytest.raises(ValueError, match="share must be 0 to 1"):
        average(run_folder, start=run_folder / "weights" / "best.pt", share=1.5)
