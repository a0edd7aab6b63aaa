from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as PillowImage

from plateblur.errors import DetectionError
from plateblur.guidance import plate_ratios, within_guidance
from plateblur.sets.labels import xyxy_to_labels
from plateblur.sets.predictions import read_predictions, run_detector, write_predictions
from plateblur.sets.split import LabelledPhoto, read_split
from plateblur.types import Detections, Image
from training.checkout import require_private
from training.evaluate import evaluate, plot_names
from training.evaluation.angles import draw_one_plate, recall_by_angle
from training.evaluation.config import Config as FullConfig
from training.evaluation.plots import draw_angles
from training.evaluation.report import report

pytestmark = pytest.mark.slow

SCORER = Path(__file__).resolve().parents[3] / "shared" / "tools" / "score.py"
HW = (300, 400)
Config = partial(FullConfig, plots=False)  # drawing takes most of the time


def stand_in(folder: Path, *, photos: int = 40, seed: int = 0) -> Path:
    """A drawn set: grey photos with white plates of many sizes, labels and a manifest."""
    rng = np.random.default_rng(seed)
    for part in ("images/test", "labels/test"):
        (folder / part).mkdir(parents=True)
    manifest = ["image,split,set,region"]
    for number in range(photos):
        pixels = np.full((*HW, 3), 90, np.uint8)
        truth = random_boxes(rng, count=int(rng.integers(0, 4)))
        for x1, y1, x2, y2 in truth.round().astype(int).tolist():
            pixels[y1:y2, x1:x2] = 255
        PillowImage.fromarray(pixels).save(folder / f"images/test/{number:03}.png")
        (folder / f"labels/test/{number:03}.txt").write_text(xyxy_to_labels(truth, image_hw=HW))
        manifest.append(f"images/test/{number:03}.png,test,set-{number % 2},region-{number % 3}")
    (folder / "manifest.csv").write_text("\n".join(manifest) + "\n")
    data = folder / "data.yaml"
    data.write_text("test: images/test\nnames: {0: plate}\n")
    return data


def random_boxes(rng: np.random.Generator, *, count: int) -> NDArray[np.float64]:
    corner = rng.uniform(0, [300, 250], (count, 2))
    size = rng.uniform(2, [100, 50], (count, 2)) ** rng.uniform(0.4, 1, (count, 1))
    return np.hstack([corner, corner + size])


def unsure_predictions(data: Path, *, seed: int = 1) -> dict[str, NDArray[np.float64]]:
    """Boxes near the truth, doubles, stray boxes and misses, of every confidence."""
    rng = np.random.default_rng(seed)
    predictions = {}
    for photo in read_split(data, "test"):
        near = np.repeat(photo.truth, 2, axis=0)[rng.random(2 * len(photo.truth)) < 0.7]
        shaken = near + rng.normal(0, 0.12, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
        shaken[:, 2:] = np.maximum(shaken[:, 2:], shaken[:, :2] + 1)
        both = np.vstack([shaken, random_boxes(rng, count=int(rng.integers(0, 3)))])
        confidence = rng.uniform(0.01, 1, (len(both), 1))
        rows = np.hstack([both, confidence]).astype(np.float32).astype(np.float64)
        predictions[photo.path.name] = rows
    return predictions


def stored(data: Path, path: Path, *, seed: int = 1) -> Path:
    write_predictions(unsure_predictions(data, seed=seed), path)
    return path


def scored(data: Path, predictions: Path, *arguments: str) -> Mapping[str, float]:
    """The figures that the project's scorer computes."""
    spec = importlib.util.spec_from_file_location("score", SCORER)
    assert spec is not None
    assert spec.loader is not None
    scorer: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    figures: Mapping[str, float] = scorer.main(
        [str(data.parent / "test"), "--pred", str(predictions), *arguments]
    )
    return figures


@pytest.mark.skipif(not SCORER.exists(), reason="the project's scorer is not here")
@pytest.mark.parametrize(("min_confidence", "margin"), [(0.25, 0.15), (0.5, 0.0), (0.01, 0.4)])
def test_the_figures_are_those_of_the_projects_scorer(
    tmp_path: Path, min_confidence: float, margin: float
) -> None:
    data = stand_in(tmp_path / "set", photos=60)
    model = stored(data, tmp_path / "found.jsonl")
    config = Config(data, tmp_path / "out", model=model)
    ours = evaluate(replace(config, min_confidence=min_confidence, margin=margin))
    theirs = scored(
        data,
        tmp_path / "out" / "predictions.jsonl",
        *("--conf", str(min_confidence), "--margin", str(margin)),
    )
    overall, ranges = ours["overall"], ours["ranges"]
    assert {
        "recall50": overall["recall"]["value"],
        "recall50_15": ranges["within 1:15"]["recall"]["value"],
        "covered99": overall["covered99"]["value"],
        "covered99_15": ranges["within 1:15"]["covered99"]["value"],
        "covered99_15_30": ranges["1:15-1:30"]["covered99"]["value"],
        "covered99_30_60": ranges["1:30-1:60"]["covered99"]["value"],
        "false_per_image": overall["false_boxes_per_photo"],
        "ap50": overall["ap50"],
        "missing": 0,
    } == pytest.approx(dict(theirs), abs=1e-12)
    assert 0 < overall["recall"]["value"] < 1


def test_the_report_leads_with_what_is_missed(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set")
    config = Config(data, tmp_path / "out", model=stored(data, tmp_path / "found.jsonl"))
    metrics = evaluate(replace(config, plots=True))
    report = (tmp_path / "out" / "report.md").read_text()
    headings = [line for line in report.splitlines() if line.startswith("## ")]
    assert headings[0] == "## Missed plates"
    assert f"{metrics['overall']['missed']['count']} are missed" in report
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        *("metrics.json", "report.md", "predictions.jsonl"),
        *("recall-by-ratio.png", "precision-recall.png", "calibration.png"),
    }


def test_plates_are_counted_by_ratio_set_and_region(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set")
    metrics = evaluate(Config(data, tmp_path / "out", model=stored(data, tmp_path / "found.jsonl")))
    overall = metrics["overall"]["plates"]
    assert list(metrics["by_set"]) == ["set-0", "set-1"]
    assert list(metrics["by_region"]) == ["region-0", "region-1", "region-2"]
    for key in ("by_ratio", "by_set", "by_region", "ranges"):
        assert sum(group["plates"] for group in metrics[key].values()) == overall
        assert (
            sum(group["false_boxes"] for group in metrics[key].values())
            == metrics["overall"]["false_boxes"]
        )


def test_plates_of_a_set_are_counted_near_and_far(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set")
    metrics = evaluate(Config(data, tmp_path / "out", model=stored(data, tmp_path / "found.jsonl")))
    near, far = metrics["by_set_and_distance"].values()
    for name, whole in metrics["by_set"].items():
        assert near[name]["plates"] + far[name]["plates"] == whole["plates"]
    assert sum(one["plates"] for one in far.values()) == sum(
        metrics["ranges"][name]["plates"] for name in ("1:30-1:60", "below 1:60")
    )
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| set | plates down to 1:30 | AP50-95 down to 1:30 | plates below 1:30 |" in report


def test_without_a_manifest_there_are_no_sets(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=5)
    (tmp_path / "set" / "manifest.csv").unlink()
    metrics = evaluate(Config(data, tmp_path / "out", model=stored(data, tmp_path / "found.jsonl")))
    assert metrics["by_set"] == {}
    assert "## By set" not in (tmp_path / "out" / "report.md").read_text()


def test_a_split_without_plates_still_has_its_report_and_plots(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=3)
    for label in (tmp_path / "set/labels/test").iterdir():
        label.unlink()
    none = tmp_path / "none.jsonl"
    write_predictions({p.path.name: np.zeros((0, 5)) for p in read_split(data, "test")}, none)
    metrics = evaluate(Config(data, tmp_path / "out", model=none, plots=True, contact_sheet=True))
    assert (metrics["overall"]["plates"], metrics["overall"]["false_boxes"]) == (0, 0)
    assert metrics["calibration"]["expected_calibration_error"] is None


def test_thresholds_below_the_floor_are_not_told(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=3)
    config = Config(data, tmp_path / "out", model=stored(data, tmp_path / "found.jsonl"))
    thresholds = evaluate(replace(config, confidence_floor=0.2))["thresholds"]
    assert thresholds[0]["min_confidence"] == 0.2


def test_the_threshold_for_a_recall_gives_that_recall(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set")
    config = Config(data, tmp_path / "out", model=stored(data, tmp_path / "found.jsonl"))
    answer = evaluate(replace(config, target_recall=0.6))["target_recall"]
    assert answer["cost"]["within 1:15"]["recall"]["value"] >= 0.6
    at_it = evaluate(
        replace(config, out=tmp_path / "again", min_confidence=answer["min_confidence"])
    )
    assert at_it["ranges"]["within 1:15"]["recall"] == answer["cost"]["within 1:15"]["recall"]
    assert at_it["overall"]["covered99"] == answer["cost"]["overall"]["covered99"]
    assert at_it["overall"]["false_boxes_per_photo"] == answer["cost"]["false_boxes_per_photo"]


def test_a_recall_out_of_reach_is_said_to_be(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set")
    model = tmp_path / "nothing.jsonl"
    write_predictions({p.path.name: np.zeros((0, 5)) for p in read_split(data, "test")}, model)
    metrics = evaluate(Config(data, tmp_path / "out", model=model))
    assert metrics["target_recall"]["cost"] is None
    assert "out of reach" in (tmp_path / "out" / "report.md").read_text()
    assert metrics["ranges"]["within 1:15"]["missed"]["value"] == 1


def test_two_models_stand_side_by_side(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set")
    config = Config(
        data,
        tmp_path / "out",
        model=stored(data, tmp_path / "new.jsonl", seed=2),
        compare=stored(data, tmp_path / "old.jsonl", seed=3),
        resamples=200,
    )
    compared = evaluate(config)["compared"]
    row = compared["differences"]["recall, overall"]
    assert row["difference"]["value"] == pytest.approx(row["second"] - row["first"])
    assert row["difference"]["low"] <= row["difference"]["value"] <= row["difference"]["high"]
    assert row["first"] == pytest.approx(compared["overall"]["recall"]["value"])
    assert (
        "| figure | old.jsonl | new.jsonl | difference |"
        in (tmp_path / "out" / "report.md").read_text()
    )


def test_figures_are_given_with_and_without_corrections(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set")
    photos = [photo for photo in read_split(data, "test") if len(photo.truth)]
    wrong, marked = photos[0], photos[1]
    stray = [350.0, 280.0, 390.0, 295.0]
    predictions = {p.path.name: np.zeros((0, 5)) for p in read_split(data, "test")}
    predictions[marked.path.name] = np.array([[*stray, 0.9]])
    write_predictions(predictions, tmp_path / "found.jsonl")
    corrections = [
        {"action": "remove", "image": wrong.path.name, "boxes": wrong.truth.tolist()},
        {"action": "mark", "image": marked.path.name, "boxes": [stray]},
    ]
    overlay = tmp_path / "corrections.jsonl"
    overlay.write_text(
        "".join(json.dumps({**c, "reason": "lettering of a van"}) + "\n" for c in corrections)
    )
    config = Config(data, tmp_path / "out", model=tmp_path / "found.jsonl", labels_overlay=overlay)
    metrics = evaluate(config)
    before, after = metrics["labels_as_they_are"]["overall"], metrics["overall"]
    assert before["plates"] - after["plates"] == len(wrong.truth)
    assert metrics["false_boxes_on"] == {"lettering of a van": 1}
    assert "labels as they are, uncorrected" in (tmp_path / "out" / "report.md").read_text()


def test_contact_sheets_are_drawn_when_asked_for(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=8)
    config = Config(data, tmp_path / "out", model=stored(data, tmp_path / "found.jsonl"))
    evaluate(replace(config, contact_sheet=True))
    for name in ("misses.jpg", "false-boxes.jpg"):
        with PillowImage.open(tmp_path / "out" / name) as sheet:
            assert sheet.width == 1600


@pytest.fixture
def git_tree(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("runs/\n")
    return tmp_path


@pytest.mark.parametrize("folder", ["docs", ".", "training/out"])
def test_nothing_is_written_where_git_would_commit_it(git_tree: Path, folder: str) -> None:
    with pytest.raises(ValueError, match="inside a git tree and not ignored"):
        require_private(git_tree / folder)


@pytest.mark.parametrize("folder", ["runs", "runs/first/test"])
def test_an_ignored_folder_may_be_written(git_tree: Path, folder: str) -> None:
    require_private(git_tree / folder)


def test_a_refused_folder_stays_unmade(git_tree: Path) -> None:
    data = stand_in(git_tree / "set", photos=2)
    config = Config(data, git_tree / "docs", model=stored(data, git_tree / "found.jsonl"))
    with pytest.raises(ValueError, match="not ignored"):
        evaluate(config)
    assert not (git_tree / "docs").exists()


class WhiteBox:
    """Finds the white pixels as one plate, sure or unsure."""

    def __init__(self, confidence: float) -> None:
        self.confidence = confidence

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        rows, columns = np.nonzero((image == 255).all(axis=2))
        if len(rows) == 0 or self.confidence < min_confidence:
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Detections(np.array([box], np.float32), np.array([self.confidence], np.float32))


class Broken:
    """Fails on every image."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        raise DetectionError(f"no answer for {image.shape} at {min_confidence}")


@pytest.fixture
def one_plate(tmp_path: Path) -> list[LabelledPhoto]:
    pixels = np.zeros((*HW, 3), np.uint8)
    pixels[100:120, 50:90] = 255
    PillowImage.fromarray(pixels).save(tmp_path / "a.png")
    return [LabelledPhoto(tmp_path / "a.png", HW, np.array([[50.0, 100, 90, 120]]), {})]


@pytest.mark.parametrize(("confidence", "found"), [(0.02, 1), (0.005, 0)], ids=["above", "below"])
def test_the_detector_runs_once_down_to_the_floor(
    one_plate: list[LabelledPhoto], confidence: float, found: int
) -> None:
    predictions, milliseconds = run_detector(WhiteBox(confidence), one_plate, confidence_floor=0.01)
    assert predictions["a.png"].shape == (found, 5)
    assert predictions["a.png"][:, :4].tolist() == [[50, 100, 90, 120]] * found
    assert milliseconds >= 0


def test_a_failing_detector_gives_no_figures(one_plate: list[LabelledPhoto]) -> None:
    with pytest.raises(DetectionError):
        run_detector(Broken(), one_plate, confidence_floor=0.01)


def one_white_plate(seed: int, side_deg: float, tilt_deg: float) -> tuple[Image, Any]:
    """A white plate that is grey, and so not found, once it is turned or tilted far."""
    pixels = np.full((*HW, 3), seed, np.uint8)
    pixels[100:130, 50:90] = 255 if abs(side_deg) < 50 and abs(tilt_deg) < 25 else 128
    return pixels, np.array([[50.0, 100, 90, 130]])


def test_recall_is_told_by_angle() -> None:
    config = Config(Path("data.yaml"), Path("out"), angles=4)
    angles = recall_by_angle(WhiteBox(0.9), one_white_plate, config)
    recall = {
        kind: {degree: one["recall"]["value"] for degree, one in groups.items()}
        for kind, groups in angles.items()
    }
    assert recall == {
        "side": {"0": 1, "15": 1, "30": 1, "45": 1, "60": 0},
        "tilt": {"0": 1, "10": 1, "20": 1, "30": 0},
    }
    assert angles["side"]["60"]["missed"]["count"] == 4


def test_a_drawn_plate_is_within_the_guidance_and_turned_as_asked() -> None:
    (image, head_on), (_, turned) = draw_one_plate(0, 0.0, 0.0), draw_one_plate(0, 45.0, 0.0)
    assert within_guidance(plate_ratios(head_on, image_hw=image.shape[:2])[0])
    width, height = (head_on[0, 2:] - head_on[0, :2]).tolist()
    turned_width, turned_height = (turned[0, 2:] - turned[0, :2]).tolist()
    assert turned_width / turned_height < width / height


def test_angles_are_a_part_of_the_report(tmp_path: Path) -> None:
    angles = recall_by_angle(
        WhiteBox(0.9), one_white_plate, Config(Path("data.yaml"), Path("out"), angles=1)
    )
    draw_angles(angles, tmp_path / "recall-by-angle.png")
    with PillowImage.open(tmp_path / "recall-by-angle.png") as plot:
        assert plot.width > 0
    data = stand_in(tmp_path / "set", photos=3)
    config = Config(data, tmp_path / "out", model=stored(data, tmp_path / "found.jsonl"))
    assert "| side 60 deg | 1 | 1.000" in report({**evaluate(config), "angles": angles})


def test_predictions_are_read_back_to_the_last_digit(tmp_path: Path) -> None:
    rows = np.array([[0.1, 1 / 3, 7e3, 8e-3, 0.25]]).astype(np.float32).astype(np.float64)
    write_predictions({"a.png": rows, "b.png": np.zeros((0, 5))}, tmp_path / "p.jsonl")
    back = read_predictions(tmp_path / "p.jsonl")
    assert (back["a.png"] == rows).all()
    assert back["b.png"].shape == (0, 5)


def test_a_file_of_predictions_must_hold_every_photo(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=3)
    write_predictions({"000.png": np.zeros((0, 5))}, tmp_path / "p.jsonl")
    with pytest.raises(ValueError, match=r"2 are missing, the first 001\.png"):
        evaluate(Config(data, tmp_path / "out", model=tmp_path / "p.jsonl"))


def test_a_floor_above_the_threshold_is_refused(tmp_path: Path) -> None:
    config = Config(tmp_path / "data.yaml", tmp_path / "out", min_confidence=0.1)
    with pytest.raises(ValueError, match="floor"):
        evaluate(replace(config, confidence_floor=0.2))


def test_a_photo_on_its_side_has_the_size_that_people_see(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=1)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    stored_on_its_side = PillowImage.new("RGB", (400, 300))
    stored_on_its_side.save(tmp_path / "set/images/test/zz.jpg", exif=exif)
    sizes = {photo.path.name: photo.image_hw for photo in read_split(data, "test")}
    assert sizes["zz.jpg"] == (400, 300)


@pytest.mark.parametrize(
    ("described", "complaint"),
    [
        ("train: images/train\n", "expected `test:` with a folder"),
        ("test:\n", "expected `test:` with a folder"),
        ("[]\n", "expected `test:` with a folder"),
        ("test: [images/a, images/b]\n", "a list of photos for `test`, got images/a"),
        ("test: photos.txt\n", "a list of photos for `test`, got photos.txt"),
    ],
    ids=["no such split", "an empty one", "no mapping", "absent folders", "an absent list"],
)
def test_a_split_that_is_not_there_is_refused(
    tmp_path: Path, described: str, complaint: str
) -> None:
    data = tmp_path / "data.yaml"
    data.write_text(described)
    with pytest.raises(ValueError, match=complaint):
        read_split(data, "test")


def test_a_malformed_label_is_named(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=2)
    (tmp_path / "set/labels/test/001.txt").write_text("0 12 12 4 4\n")
    with pytest.raises(ValueError, match=r"001\.txt: label line 1"):
        read_split(data, "test")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=0)
    with pytest.raises(ValueError, match="found none"):
        read_split(data, "test")


@pytest.mark.parametrize("path", ["deeper", None], ids=["`path` in data.yaml", "beside data.yaml"])
def test_a_split_is_found_as_ultralytics_finds_it(tmp_path: Path, path: str | None) -> None:
    stand_in(tmp_path / (path or "."), photos=2)
    data = tmp_path / "other.yaml"
    data.write_text("test: images/test\n" + (f"path: {path}\n" if path else ""))
    assert [photo.path.name for photo in read_split(data, "test")] == ["000.png", "001.png"]


@pytest.mark.parametrize(
    "described",
    [
        "test: images\n",
        "test: [images/test, images/more]\n",
        "test: photos.txt\n",
        "test: [photos.txt, images/more]\n",
        "test: ../images\n",  # as Roboflow writes it
    ],
    ids=["folders in a folder", "several folders", "a list", "both", "Roboflow's"],
)
def test_a_split_may_be_several_folders_or_a_list(tmp_path: Path, described: str) -> None:
    root = tmp_path / "set"
    stand_in(root, photos=2)
    for kind, name in (("images", "002.png"), ("labels", "002.txt")):
        (root / kind / "more").mkdir()
        source = root / kind / "test" / name.replace("002", "001")
        (root / kind / "more" / name).write_bytes(source.read_bytes())
    for name in (".DS_Store", "._000.png", "notes.txt"):  # as macOS leaves them
        (root / "images" / "test" / name).write_bytes(b"no photo")
    more = "" if "more" in described else "images/more/002.png\n"
    (root / "photos.txt").write_text(f"./images/test/000.png\nimages/test/001.png\n\n{more}")
    (root / "data.yaml").write_text(described)
    photos = read_split(root / "data.yaml", "test")
    assert [photo.path.name for photo in photos] == ["000.png", "001.png", "002.png"]
    assert len(photos[2].truth) == len(photos[1].truth)


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    stand_in(root, photos=1)
    (root / "images" / "more").mkdir()
    (root / "images" / "more" / "000.png").write_bytes(
        (root / "images" / "test" / "000.png").read_bytes()
    )
    (root / "data.yaml").write_text("test: images\n")
    with pytest.raises(ValueError, match="photos need different names"):
        read_split(root / "data.yaml", "test")


def test_two_models_of_one_file_name_keep_a_row_each(tmp_path: Path) -> None:
    data = stand_in(tmp_path / "set", photos=5)
    model = stored(data, tmp_path / "found.jsonl")
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "found.jsonl"
    write_predictions({p.path.name: np.zeros((0, 5)) for p in read_split(data, "test")}, other)
    for compared in (other, model):
        evaluate(Config(data, tmp_path / "out", model=model, compare=compared))
        table = (tmp_path / "out" / "report.md").read_text().split("| model |")[1].splitlines()
        names = [line.split("|")[1].strip() for line in table if line.startswith("| found")]
        assert len(set(names)) == 2


def test_the_plots_show_both_models_under_different_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = stand_in(tmp_path)
    for folder in ("new", "old"):
        (tmp_path / folder).mkdir()
    model, other = tmp_path / "new" / "plates.jsonl", tmp_path / "old" / "plates.jsonl"
    legends: list[list[str]] = []

    def keep(figure: Figure, _: Path) -> None:
        legend = figure.axes[0].get_legend()
        assert legend is not None
        assert figure.axes[0].get_title().endswith("plates in 40 photos")
        legends.append([text.get_text() for text in legend.get_texts()])

    monkeypatch.setattr(Figure, "savefig", keep)
    evaluate(
        FullConfig(
            data,
            tmp_path / "out",
            model=stored(data, model, seed=2),
            compare=stored(data, other, seed=3),
        )
    )

    assert len(legends) == 3
    for legend in legends:
        assert any(text.startswith("plates (new): ") for text in legend)
        assert any(text.startswith("plates (compared): ") for text in legend)
    assert plot_names(Config(data, tmp_path, model=model)) == ("plates", "")
