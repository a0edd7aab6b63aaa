"""Runs on a Ray cluster of several nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plateblur.drawn.scene import draw_scene
from plateblur.errors import RunError
from plateblur.photo import decode
from plateblur.runs.manifest import MANIFEST_NAME
from tests.fakes import encoded
from tests.rays import ENVIRONMENT, Nodes, ray_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("ray"), reason="needs the extra cluster"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Ray's processes
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of Ray about its next version
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CALL = "from plateblur.cli import app; app()"  # as the installed command does
LONGEST_S = 580  # a machine that does other work too


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """Yield a cluster of two nodes with a core each, beside a head without any."""
    with ray_cluster(nodes=2) as made:
        yield made


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Yield a folder of drawn photos, each with content of its own."""
    folder = tmp_path_factory.mktemp("photos")
    scenes = [draw_scene(seed=seed, plates=2, image_hw=(360, 640)).image for seed in range(4)]
    for number in range(40):
        image = scenes[number % 4].copy()
        image[0, :3] = np.random.default_rng(number).integers(0, 256, (3, 3))
        (folder / f"{number:02}.jpg").write_bytes(encoded(image, quality=90))
    return folder


def begin(*arguments: object, cluster: Nodes, address: str | None = None) -> subprocess.Popen[str]:
    line = [*map(str, arguments), "--cluster", address or cluster.address]
    command = [sys.executable, "-c", CALL, *line]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT}  # noqa: TID251


def end(run: subprocess.Popen[str]) -> str:
    try:
        _, told = run.communicate(timeout=LONGEST_S)
    finally:
        run.kill()
    return told


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / MANIFEST_NAME).read_text().splitlines()]


def wait_until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)


def check_against_manifest(given: Path, out: Path) -> None:
    """Raise unless every photo has one output, and each is as its last line says."""
    last = {line["output"]: line for line in lines(out) if "output" in line}
    names = sorted(path.name for path in given.glob("*.jpg"))
    assert sorted(path.name for path in out.glob("*.jpg")) == sorted(last) == names
    for name, line in last.items():
        assert line["state"] == "done"
        for told, path in ((line["input"], given / name), (line["written"], out / name)):
            assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not list(out.glob("*.part"))


def test_a_run_from_outside_the_cluster(cluster: Nodes, photos: Path, tmp_path: Path) -> None:
    """Through Ray's client protocol, in which the driver isn't part of the cluster."""
    given, out = tmp_path / "in", tmp_path / "out"
    given.mkdir()
    for path in sorted(photos.iterdir())[:6]:
        (given / path.name).write_bytes(path.read_bytes())
    run = begin("blur", given, "-o", out, cluster=cluster, address=cluster.client_address)
    told = end(run)
    assert run.returncode == 0, told
    check_against_manifest(given, out)


def test_a_node_is_killed_in_the_middle_and_every_photo_is_done_once(
    cluster: Nodes, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = begin("blur", photos, "-o", out, cluster=cluster)
    manifest = out / MANIFEST_NAME
    try:
        wait_until(
            lambda: (
                run.poll() is not None
                or (manifest.exists() and manifest.read_bytes().count(b'"state"') >= 6)
            )
        )
        cluster.kill_one()
    finally:
        told = end(run)
        cluster.add(cores=1)
    assert run.returncode == 0, told
    check_against_manifest(photos, out)
    assert lines(out)[-1]["outcome"]["done"] == 40, told
    again = begin("blur", photos, "-o", out, cluster=cluster)
    assert "40 photos done before" in end(again)
    assert lines(out)[-1]["outcome"]["done"] == 0


def test_the_outputs_are_those_of_one_machine(cluster: Nodes, photos: Path, tmp_path: Path) -> None:
    """Also with zones, masks and options, which go to the workers."""
    some = tmp_path / "in"
    some.mkdir()
    for path in sorted(photos.glob("*.jpg"))[:4]:
        (some / path.name).write_bytes(path.read_bytes())
    (some / "broken.jpg").write_bytes((some / "00.jpg").read_bytes()[:500])
    how = ["--always-hide", "0,0,0.2,0.2", "--method", "solid", "--min-confidence", "0.3"]
    there, here = tmp_path / "there", tmp_path / "here"
    masks = ["--masks", tmp_path / "masks"]
    run = begin("blur", some, "-o", there, *how, *masks, cluster=cluster)
    told = end(run)
    assert run.returncode == 1, told
    assert "1 photo not done" in told
    alone = [sys.executable, "-c", CALL, "blur", str(some), "-o", str(here), *how]
    done = subprocess.run(alone, stderr=subprocess.DEVNULL, check=False, env=environment())
    assert done.returncode == 1
    for name in ("00.jpg", "01.jpg", "02.jpg", "03.jpg"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
        assert np.ptp(decode((there / name).read_bytes()).pixels[:40, :60]) < 8  # one colour
        assert (tmp_path / "masks" / f"{name}.png").exists()
    assert not (there / "broken.jpg").exists()


def test_what_keeps_workers_from_starting_is_said(
    cluster: Nodes, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"no model")
    model = ["--model", tmp_path / "mine.onnx"]
    run = begin("blur", photos, "-o", tmp_path / "out", *model, cluster=cluster)
    told = end(run)
    assert run.returncode == 2, told
    assert "plateblur: " in told.splitlines()[-1]
    assert "Traceback" not in told
    assert not list((tmp_path / "out").glob("*.jpg"))


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    command = [sys.executable, "-c", CALL, "blur", "a.jpg", "-o", "out", "--cluster", "127.0.0.1:9"]
    told = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST_S, check=False,
        env=environment(),
    )  # fmt: skip
    assert told.returncode == 2, told.stderr
    assert "there is no Ray cluster at 127.0.0.1:9" in told.stderr
    assert not (tmp_path / "out").exists()


def test_why_a_cluster_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from plateblur.runs import cluster

    def refuse(**_: object) -> None:
        raise RuntimeError("Version mismatch: the cluster has Ray 2.0.0\nmore")

    monkeypatch.setattr("ray.init", refuse)
    with (
        pytest.raises(RunError, match=r"at auto: Version mismatch: the cluster has Ray 2\.0\.0$"),
        cluster.connected("auto"),
    ):
        pass
