from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageOps

import synthetic
from plateblur import drawn
from plateblur.drawn import examples
from plateblur.sets.labels import xyxy_to_labels

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = (360, 640)


def scene_of(seed: int = 1, **arguments: Any) -> drawn.Scene:
    return drawn.draw_scene(seed, **{"image_hw": SMALL, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [{}, {"place": "car_park", "lit": "dusk"}, {"plates": 0, "lit": "night"}],
    ids=["street", "car-park", "no-plates"],
)
def test_the_same_seed_draws_the_same_bits(arguments: dict[str, Any]) -> None:
    first, again = scene_of(7, **arguments), scene_of(7, **arguments)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.quads, again.quads)
    assert first.texts == again.texts


def test_another_seed_draws_another_scene() -> None:
    assert not np.array_equal(scene_of(1).image, scene_of(2).image)


@pytest.mark.parametrize("image_hw", [(360, 640), (480, 360)], ids=["landscape", "portrait"])
def test_an_image_has_the_size_that_was_asked_for(image_hw: tuple[int, int]) -> None:
    image = scene_of(image_hw=image_hw).image
    assert image.shape == (*image_hw, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("seed", range(4))
def test_boxes_lie_tight_around_the_plates_and_inside_the_image(seed: int) -> None:
    scene = scene_of(seed, plates=4, side_deg=(-50, 50), tilt_deg=(-15, 15))
    assert len(scene.xyxy) >= 1
    assert np.array_equal(scene.xyxy[:, :2], scene.quads.min(axis=1))
    assert np.array_equal(scene.xyxy[:, 2:], scene.quads.max(axis=1))
    assert scene.xyxy.min() >= 0
    assert (scene.xyxy[:, 2:] <= SMALL[::-1]).all()
    assert len(scene.texts) == len(scene.regions) == len(scene.side_deg) == len(scene.xyxy)


def test_the_plate_lies_where_its_box_says() -> None:
    scene = scene_of(
        3, plates=1, regions=("uk",), ratios=(0.1, 0.1), side_deg=(0, 0), tilt_deg=(0, 0)
    )
    x1, y1, x2, y2 = np.rint(scene.xyxy[0]).astype(int)
    inside = scene.image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
    frame = np.concatenate([scene.image[y1 - 3, x1:x2], scene.image[y2 + 2, x1:x2]])
    assert np.median(inside[..., 0]) > 170  # white or yellow ground
    assert np.median(frame[..., 0]) < 90  # the dark holder around it


@pytest.mark.parametrize(
    "ratios", [(1 / 40, 1 / 40), (1 / 12, 1 / 8), (1 / 6, 1 / 6)], ids=["far", "near", "close-up"]
)
def test_plates_are_as_large_as_was_asked_for(ratios: tuple[float, float]) -> None:
    scene = scene_of(5, ratios=ratios)
    assert (scene.ratios >= ratios[0] * 0.99).all()
    assert (scene.ratios <= ratios[1] * 1.01).all()


@pytest.mark.parametrize("side", [-60.0, 0.0, 45.0], ids=["left", "head-on", "right"])
def test_a_plate_gets_narrower_the_more_it_is_seen_from_the_side(side: float) -> None:
    scene = scene_of(2, plates=1, regions=("eu",), side_deg=(side, side), tilt_deg=(0, 0))
    assert scene.side_deg.tolist() == [side]
    top, right, bottom, left = (
        float(np.linalg.norm(edge)) for edge in scene.quads[0] - np.roll(scene.quads[0], -1, axis=0)
    )
    seen = (top + bottom) / (right + left)
    assert seen == pytest.approx(520 / 110 * np.cos(np.deg2rad(side)), rel=0.08)


@pytest.mark.parametrize("tilt", [-20.0, 0.0, 20.0], ids=["left", "upright", "right"])
def test_a_tilted_camera_tilts_the_plate(tilt: float) -> None:
    scene = scene_of(2, plates=1, regions=("eu",), side_deg=(0, 0), tilt_deg=(tilt, tilt))
    across = scene.quads[0, 1] - scene.quads[0, 0]
    assert abs(np.rad2deg(np.arctan2(across[1], across[0]))) == pytest.approx(abs(tilt), abs=4)
    assert scene.tilt_deg == tilt


def test_a_scene_may_have_no_plates() -> None:
    scene = scene_of(plates=0)
    assert scene.xyxy.shape == (0, 4)
    assert scene.quads.shape == (0, 4, 2)
    assert scene.texts == ()
    assert xyxy_to_labels(scene.xyxy, image_hw=SMALL) == ""


def test_a_car_that_approaches_gets_larger_and_one_behind_the_camera_is_not_drawn() -> None:
    def yellow(z_m: float) -> list[int]:
        """Return how many pixels a yellow plate has in two frames, a second apart."""
        driver = drawn.Driver(4, "uk", "hatchback", False, (28, 58, 120), 0.0, z_m, -4.0)
        frames = drawn.draw_traffic(5, [driver], image_hw=(216, 384), frames=2, rate=1)
        red, green, blue = 0, 1, 2
        return [
            int(((f[..., red] > 150) & (f[..., green] > 110) & (f[..., blue] < 70)).sum())
            for f in map(np.asarray, frames)
        ]

    first, second = yellow(12.0)
    assert 20 < first < second
    assert yellow(3.0)[1] == 0


@pytest.mark.parametrize("region", drawn.REGIONS)
def test_every_region_has_a_readable_plate(region: str) -> None:
    plate = drawn.draw_plate(np.random.default_rng(1), region=region, front=False)
    height, width = plate.image.shape[:2]
    assert plate.region == region
    assert width / height == pytest.approx(plate.size_wh_m[0] / plate.size_wh_m[1], rel=0.02)
    assert np.ptp(plate.image[..., 1]) > 100  # dark on light or light on dark
    assert scene_of(4, plates=1, regions=(region,)).regions == (region,)


@pytest.mark.parametrize(
    "arguments",
    [
        {"plates": -1},
        {"ratios": (0.1, 0.05)},
        {"ratios": (0.1, 0.6)},
        {"side_deg": (0, 71)},
        {"tilt_deg": (-46, 0)},
        {"regions": ("mars",)},
        {"regions": ()},
        {"image_hw": (63, 640)},
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        scene_of(**arguments)


def test_labels_name_the_same_boxes() -> None:
    scene = scene_of(9, plates=3)
    labels = xyxy_to_labels(scene.xyxy, image_hw=SMALL)
    numbers = np.array([line.split() for line in labels.splitlines()], np.float64)
    assert (numbers[:, 0] == 0).all()
    centre, size = numbers[:, 1:3], numbers[:, 3:5]
    xyxy = np.hstack([centre - size / 2, centre + size / 2]) * (*SMALL[::-1], *SMALL[::-1])
    assert np.allclose(xyxy, scene.xyxy, atol=0.01)


def test_the_command_writes_a_data_set(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "datasets/synthetic.py",
        str(tmp_path),
        "--count",
        "5",
        "--seed",
        "3",
    ]
    command += ["--split-shares", "0.6", "0.2", "0.2", "--image-hw", "180", "320"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["train: 3", "val: 1", "test: 1"]
    with (tmp_path / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    for row in rows:
        photo = tmp_path / row["image"]
        label = tmp_path / "labels" / row["split"] / f"{photo.stem}.txt"
        assert hashlib.sha256(photo.read_bytes()).hexdigest() == row["sha256"]
        assert len(label.read_text().splitlines()) == int(row["plates"])
        assert (row["set"], row["licence"]) == ("drawn", "AGPL-3.0")
        assert (row["smallest_plate_height_ratio"] == "") == (row["plates"] == "0")
    assert "0: plate" in (tmp_path / "data.yaml").read_text()


def test_shares_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split_shares"):
        drawn.write_set(tmp_path, count=1, seed=0, split_shares=(0.5, 0.1, 0.1))


def test_the_command_writes_six_examples_one_of_them_lying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {  # a quarter of the side is enough here
        name: {**given, "image_hw": tuple(n // 4 for n in given.get("image_hw", (1080, 1920)))}
        for name, given in drawn.EXAMPLES.items()
    }
    monkeypatch.setattr(examples, "EXAMPLES", small)
    synthetic.main([str(tmp_path), "--examples"])
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.stem for path in paths] == list(small)
    with Pil.open(tmp_path / f"{drawn.LYING}.jpg") as photo:
        assert photo.getexif()[0x0112] == 6
        assert photo.width > photo.height
        upright = np.asarray(ImageOps.exif_transpose(photo), np.int16)
    truth = drawn.draw_scene(**small[drawn.LYING]).image
    assert upright.shape == truth.shape
    assert np.abs(upright - truth).mean() < 6  # JPEG's own losses


def _read(crop: NDArray[np.uint8]) -> str:
    # OCR as a witness: it was never shown how the plates are drawn.
    rapidocr = pytest.importorskip("rapidocr_onnxruntime")
    found, _ = _reader(rapidocr)(crop[..., ::-1], use_det=False, use_cls=False)
    return "".join(char for char in found[0][0].upper() if char.isalnum())


_READERS: list[Any] = []


def _reader(rapidocr: Any) -> Any:
    if not _READERS:
        _READERS.append(rapidocr.RapidOCR(intra_op_num_threads=1))
    return _READERS[0]


@pytest.mark.slow
@pytest.mark.parametrize("region", ["eu", "uk", "india"])
def test_a_large_plate_seen_head_on_can_be_read(region: str) -> None:
    scene = scene_of(
        6, plates=1, regions=(region,), ratios=(0.14, 0.14), side_deg=(0, 0), tilt_deg=(0, 0)
    )
    x1, y1, x2, y2 = np.rint(scene.xyxy[0]).astype(int)
    blue = 0.10 if region in {"eu", "india"} else 0.0  # without the strip that names the country
    crop = scene.image[y1:y2, x1 + round(blue * (x2 - x1)) : x2]
    text = "".join(char for char in scene.texts[0] if char.isalnum())
    assert _read(crop) == text
