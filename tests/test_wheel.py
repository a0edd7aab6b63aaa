"""What is built holds what it should, and what is installed from it works."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from plateblur import drawn

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.split("\0") if name}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is tracked, because a build writes beside its source."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", str(out), str(source)),
        ],
        check=True,
        capture_output=True,
    )
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def held(wheel: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel) as archive:
        yield archive


def test_a_wheel_holds_every_file_of_the_package(held: zipfile.ZipFile) -> None:
    assert tracked("plateblur") - set(held.namelist()) == set()


def test_a_wheel_brings_licence_and_notices(held: zipfile.ZipFile) -> None:
    for name in ("LICENSE", "THIRD_PARTY.md"):
        (path,) = (one for one in held.namelist() if one.endswith(f".dist-info/licenses/{name}"))
        assert held.read(path) == (ROOT / name).read_bytes()


def test_a_wheel_takes_no_name_but_its_own(held: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in held.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"plateblur"}


def test_a_wheel_asks_for_ranges(held: zipfile.ZipFile) -> None:
    (name,) = (one for one in held.namelist() if one.endswith(".dist-info/METADATA"))
    wanted = message_from_bytes(held.read(name)).get_all("Requires-Dist") or []
    assert len(wanted) > 20
    assert [line for line in wanted if "==" in line.split(";")[0]] == []


def test_an_installed_wheel_blurs_and_detects(wheel: Path, tmp_path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--target", str(tmp_path / "site"), str(wheel)),
        ],
        check=True,
        capture_output=True,
    )
    photo = drawn.encode(drawn.draw_scene(1, image_hw=(270, 480), plates=1).image)
    (tmp_path / "photo.jpg").write_bytes(photo)
    program = (
        "import plateblur.cli, sys; "
        "assert plateblur.__file__.startswith(sys.argv.pop(1)), plateblur.__file__; "
        "plateblur.cli.app()"
    )
    alone = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}  # noqa: TID251 - for a child

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "site"), *words],
            cwd=tmp_path,
            env=alone,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert '"confidence"' in run("detect", "photo.jpg")
    run("blur", "photo.jpg", "-o", "blurred.jpg")
    assert (tmp_path / "blurred.jpg").read_bytes() != photo
    assert all(command in run("--help") for command in ("blur", "detect", "video"))


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `plateblur` command of an environment that holds the wheel and what it asks for alone."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    lock = str(ROOT / "requirements.lock")
    subprocess.run(
        [str(folder / "bin" / "pip"), "install", "--quiet", "-c", lock, str(wheel)],
        check=True,
        capture_output=True,
    )
    return folder / "bin" / "plateblur"


def run_clean(command: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "COLUMNS": "200"}  # and no PYTHONPATH
    return subprocess.run(
        [str(command), *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_a_clean_environment_blurs(clean: Path, tmp_path: Path) -> None:
    photo = drawn.encode(drawn.draw_scene(1, image_hw=(270, 480), plates=1).image)
    (tmp_path / "photo.jpg").write_bytes(photo)
    listed = run_clean(clean, "--help", cwd=tmp_path)
    done = run_clean(clean, "blur", "photo.jpg", "-o", "blurred.jpg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "blurred.jpg").read_bytes() != photo
    for command in ("blur", "detect", "video", "demo", "serve"):
        assert command in listed.stdout


@pytest.mark.parametrize(
    ("command", "extra"), [("demo", "demo"), ("serve", "serve"), ("accounts", "serve")]
)
def test_a_command_without_its_extra_says_what_to_install(
    clean: Path, tmp_path: Path, command: str, extra: str
) -> None:
    done = run_clean(clean, command, cwd=tmp_path)
    assert done.returncode == 2
    needs, install = done.stderr.splitlines()
    assert needs.startswith("This command requires the package ")
    assert install == f"Run: pip install 'plateblur[{extra}]'"


def test_a_source_archive_is_the_whole_checkout(source: Path, tmp_path: Path) -> None:
    # Not what a person leaves in the folders for data.
    (source / "datasets" / "out").mkdir()
    (source / "datasets" / "out" / "photo.jpg").write_bytes(b"photo")
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {name for name in tracked() if not name.startswith(".")} - names == set()
    assert [name for name in names if name.startswith("datasets/out")] == []
