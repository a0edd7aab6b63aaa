"""What training does to pictures, and that labels say afterwards what can be seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A  # noqa: N812 - the name its own documentation uses
import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest
from PIL import Image
from ultralytics.data.augment import Albumentations, Compose

from training import augment, train
from training.checkout import ROOT

pytestmark = pytest.mark.slow  # each worker would take 5 s to import torch and albumentations

PLATE = (100.0, 60.0, 180.0, 84.0)


def made(step: Any, seed: int, plates: list[tuple[float, ...]]) -> tuple[Any, Any]:
    """Return picture and boxes after a step that is made to happen."""
    step.p = 1.0
    image = np.random.default_rng(7).integers(40, 200, (200, 300, 3), dtype=np.uint8)
    boxes = A.BboxParams(format="pascal_voc", label_fields=[])
    moves = isinstance(step, A.DualTransform)
    compose = A.Compose([step], bbox_params=boxes if moves else None, seed=seed)
    out = compose(image=image, bboxes=np.array(plates, dtype=np.float32).reshape(-1, 4))
    assert out["image"].shape == image.shape
    assert out["image"].dtype == np.uint8
    return image, (out["image"], np.asarray(out["bboxes"]).reshape(-1, 4))


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_plate_keeps_a_part_and_the_label_is_that_part(seed: int) -> None:
    _, (_, boxes) = made(augment.CutAtEdge(), seed, [PLATE])
    ((x1, y1, x2, y2),) = boxes
    share = (x2 - x1) * (y2 - y1) / (80 * 24)
    assert 0.3 < share < 0.8
    assert x1 == 0 or x2 == 300 or y2 == 200


@pytest.mark.parametrize("seed", range(5))
def test_a_farther_plate_is_smaller_by_the_scale_of_the_picture(seed: int) -> None:
    _, (_, boxes) = made(augment.Farther(), seed, [PLATE])
    ((x1, y1, x2, y2),) = boxes
    assert 0.34 < (x2 - x1) / 80 < 0.71
    assert (x2 - x1) / (y2 - y1) == pytest.approx(80 / 24, rel=0.01)


def test_a_moved_plate_is_where_its_label_says() -> None:
    step = augment.Farther(p=1.0)
    image = np.full((200, 300, 3), 40, np.uint8)
    image[60:84, 100:180] = 255
    boxes = A.BboxParams(format="pascal_voc", label_fields=[])
    out = A.Compose([step], bbox_params=boxes, seed=3)(image=image, bboxes=np.array([PLATE]))
    bright = np.argwhere(out["image"][..., 0] > 180)
    ((x1, y1, x2, y2),) = out["bboxes"]
    np.testing.assert_allclose(bright.min(axis=0), [y1, x1], atol=1.5)
    np.testing.assert_allclose(bright.max(axis=0) + 1, [y2, x2], atol=1.5)


@pytest.mark.parametrize("seed", range(5))
def test_a_covered_plate_stays_visible_in_part_and_keeps_its_label(seed: int) -> None:
    before, (after, boxes) = made(augment.PartlyCovered(), seed, [PLATE])
    np.testing.assert_allclose(boxes, [PLATE], atol=0.01)
    x1, y1, x2, y2 = map(int, PLATE)
    changed = (before != after).any(axis=2)[y1:y2, x1:x2].mean()
    assert 0.1 < changed < 0.5


@pytest.mark.parametrize(
    "step", [augment.CutAtEdge, augment.Farther, augment.Glare, augment.PartlyCovered]
)
def test_a_picture_without_plates_stays_as_it_is(step: Any) -> None:
    before, (after, boxes) = made(step(), 0, [])
    assert len(boxes) == 0
    np.testing.assert_array_equal(before, after)


def test_low_light_is_darker_and_infrared_is_grey() -> None:
    before, (dark, _) = made(augment.LowLight(), 0, [])
    _, (infrared, _) = made(augment.Infrared(), 0, [])
    assert dark.mean() < 0.6 * before.mean()
    assert (infrared == infrared[..., :1]).all()


def test_glare_is_brightest_on_the_plate() -> None:
    before, (lit, _) = made(augment.Glare(), 0, [PLATE])
    y, x = np.unravel_index(np.argmax((lit.astype(int) - before).sum(axis=2)), before.shape[:2])
    assert 100 <= x <= 180
    assert 60 <= y <= 84


@pytest.mark.parametrize("name", augment.LISTS)
def test_every_list_comes_back_from_what_ultralytics_keeps_of_it(name: str) -> None:
    kept = [A.to_dict(step) for step in augment.LISTS[name]()]
    steps = [lambda labels: labels, Compose([Albumentations(p=1.0, transforms=kept)])]
    augment.require_augmentations(SimpleNamespace(transforms=Compose(steps)), kept)


class Leaning(A.Affine):  # type: ignore[misc]
    """A transform that albumentations can write down and can't build again."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(rotate=(-45, 45), p=p)


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        ([Leaning()], [Leaning()]),
        ([A.ToGray()], [A.ToGray(), A.Blur()]),
        ([A.ToGray(p=0.1)], [A.ToGray(p=0.2)]),
        (None, [A.ToGray()]),  # ultralytics' own list
        (None, []),
    ],
    ids=["not built again", "one is missing", "another chance", "its own", "none asked for"],
)
def test_a_dataset_without_our_augmentations_is_refused(
    built: list[Any] | None, expected: list[Any]
) -> None:
    kept = None if built is None else [A.to_dict(step) for step in built]
    dataset = SimpleNamespace(transforms=Compose([Albumentations(p=1.0, transforms=kept)]))
    with pytest.raises(RuntimeError, match="would run without some of its augmentations"):
        augment.require_augmentations(dataset, [A.to_dict(step) for step in expected])


def test_a_process_of_several_gpus_knows_our_augmentations(tmp_path: Path) -> None:
    """Each GPU's process gets the trainer as ultralytics hands it over: pickled by value."""
    cloudpickle.register_pickle_by_value(train)
    try:
        trainer = cloudpickle.dumps(train.PlateTrainer)
    finally:
        cloudpickle.unregister_pickle_by_value(train)
    (tmp_path / "trainer.pkl").write_bytes(trainer)
    kept = [A.to_dict(step) for step in augment.any_way_augmentations()]
    (tmp_path / "kept.pkl").write_bytes(cloudpickle.dumps(kept))
    script = """
import pickle, sys
import albumentations as A
trainer, kept = (pickle.load(open(path, "rb")) for path in sys.argv[1:])
print(trainer.__name__, len([A.from_dict(step) for step in kept]), "training.train" in sys.modules)
"""
    files = [str(tmp_path / name) for name in ("trainer.pkl", "kept.pkl")]
    done = subprocess.run(
        [sys.executable, "-c", script, *files], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.split() == ["PlateTrainer", str(len(kept)), "False"], done.stderr[-2000:]


def test_the_sheet_shows_every_transform_by_name(tmp_path: Path) -> None:
    names = {name for name, *_ in augment.examples()}
    assert {"CutAtEdge", "PartlyCovered", "Farther", "Infrared", "RandomRain", "Glare"} <= names
    augment.draw_sheet(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == augment.COLUMNS * augment.CELL_PX
