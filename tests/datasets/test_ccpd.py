from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ccpd
from plateblur.sets import fetch, layout
from tests.datasets.drawn import draw

ROOT = Path(__file__).parents[2]


def name(plate: str, seed: int = 0) -> str:
    """Return a name of CCPD's form, with a box of 40x30 at (20, 30)."""
    return f"0{seed}-90_85-20&30_60&60-60&60_20&59_21&30_59&31-{plate}-97-{seed}"


def stand_in(root: Path) -> Path:
    """Draw 24 photos of 8 vehicles in two folders, a green one, and a car without a plate."""
    for vehicle in range(8):
        plate = f"0_0_22_27_27_33_{vehicle}"
        for time in range(3):
            folder = "ccpd_base" if time < 2 else "ccpd_tilt"
            path = root / folder / f"{name(plate, time)}.jpg"
            draw(path, 10 * vehicle + time, size_wh=(72, 116), plates=((20, 30, 60, 60),))
    draw(root / "ccpd_green" / "val" / f"{name('0_0_3_24_25_27_28_29')}.jpg", 90, size_wh=(72, 116))
    draw(root / "ccpd_np" / "3_1.jpg", 91, size_wh=(72, 116))
    return root


@pytest.mark.parametrize(
    ("stem", "box", "plate"),
    [
        (
            "025-95_113-154&383_386&473-386&473_177&454_154&383_363&402-0_0_22_27_27_33_16-37-15",
            (154, 383, 386, 473),
            "0_0_22_27_27_33_16",
        ),
        (
            "0.0254-90_267-158&448_542&553-541&553_162&551_158&448_542&450-0_1_3_24_27_33_30_24-99-6",
            (158, 448, 542, 553),
            "0_1_3_24_27_33_30_24",
        ),
    ],
    ids=["blue, from the README", "green, eight characters"],
)
def test_a_name_tells_box_and_plate(
    stem: str, box: tuple[float, float, float, float], plate: str
) -> None:
    boxes, found = ccpd.parse_name(stem)
    assert (boxes.tolist(), found) == ([list(box)], plate)


@pytest.mark.parametrize("stem", ["", "3_1", "025-95_113-154&383_386-0_0-37-15"])
def test_another_name_is_an_error(stem: str) -> None:
    with pytest.raises(layout.DatasetError, match="seven fields"):
        ccpd.parse_name(stem)


def test_the_stand_in_becomes_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ccpd.main([str(stand_in(tmp_path / "CCPD2019")), "--out", str(tmp_path / "out")])
    rows = layout.read_manifest(tmp_path / "out")
    assert len(rows) == 26
    assert "all        26      25               1" in capsys.readouterr().out
    (without,) = (row for row in rows if row.plates == 0)
    assert without.original_name == "ccpd_np/3_1.jpg"
    for row in rows:
        if row.plates:
            expected = [[20, 30, 60, 60]]
            np.testing.assert_allclose(
                layout.read_boxes(tmp_path / "out", row), expected, atol=0.001
            )


def test_a_vehicle_stands_in_one_split(tmp_path: Path) -> None:
    photos = list(ccpd.photos(stand_in(tmp_path), per_folder=None))
    names = [(Path(p.original_name).stem, p.split) for p in photos if len(p.xyxy)]
    splits = {(ccpd.parse_name(name)[1], split) for name, split in names}
    assert len(splits) == len({plate for plate, _ in splits}) == 9


def test_a_share_of_each_folder_can_be_taken(tmp_path: Path) -> None:
    photos = list(ccpd.photos(stand_in(tmp_path), per_folder=5))
    folders = [photo.original_name.split("/")[0] for photo in photos]
    assert {folder: folders.count(folder) for folder in sorted(set(folders))} == {
        "ccpd_base": 5,
        "ccpd_green": 1,
        "ccpd_np": 1,
        "ccpd_tilt": 5,
    }
    assert photos[0].path == next(ccpd.photos(tmp_path, per_folder=1)).path


def test_a_mirror_is_downloaded_and_checked(
    tmp_path: Path, serve_files: Callable[[Path], str]
) -> None:
    archive = tmp_path / "CCPD2019.tar.xz"
    with tarfile.open(archive, "w:xz", preset=0) as packed:
        packed.add(stand_in(tmp_path / "CCPD2019"), "CCPD2019")
    url = f"{serve_files(tmp_path)}/{archive.name}"
    ccpd.main(["--out", str(tmp_path / "out"), "--url", url, "--sha256", fetch.sha256_of(archive)])
    assert len(layout.read_manifest(tmp_path / "out")) == 26


@pytest.mark.parametrize("source", [[], ["--url", "http://127.0.0.1/a"], ["a", "--url", "b"]])
def test_the_command_line_wants_one_source(source: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        ccpd.main([*source, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "code", "says"),
    [("CCPD2019", 0, "photos"), ("absent", 1, "error: expected a folder or an archive")],
    ids=["there", "absent"],
)
def test_it_runs_as_a_script(folder: str, code: int, says: str, tmp_path: Path) -> None:
    stand_in(tmp_path / "CCPD2019")
    done = subprocess.run(
        [sys.executable, "datasets/ccpd.py", str(tmp_path / folder), "--out", str(tmp_path / "o")],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, says in done.stdout + done.stderr) == (code, True), done.stderr
