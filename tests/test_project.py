"""The files around the code: versions stand in one place, nothing leaks into commits."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(line for extra in extras for line in extra)]


def locked() -> dict[str, str]:
    """Return the version of each package in the lock that this Python on this system gets."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in here}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_pre_commit_runs_the_ruff_that_the_tests_run() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    ruff = next(repo for repo in hooks["repos"] if repo["repo"].endswith("/ruff-pre-commit"))
    assert ruff["rev"] == f"v{locked()['ruff']}"


def test_conda_takes_every_version_from_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (by_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert by_pip == ["--constraint requirements.lock", "--editable .[all]"]


@pytest.mark.slow
def test_every_requirement_is_a_range_that_the_lock_falls_into() -> None:
    for line in requirements():
        wanted = Requirement(line)
        if wanted.name != "plateblur":
            assert not any(one.operator in ("==", "~=") for one in wanted.specifier), line
            assert locked()[canonicalize_name(wanted.name)] in wanted.specifier, line


def test_what_others_install_beside_their_packages_has_a_lower_and_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in project["dependencies"] + extras["web"] + extras["demo"]:
        wanted = Requirement(line)
        operators = {one.operator for one in wanted.specifier}
        assert wanted.name == "plateblur" or operators == {">=", "<"}, line


def test_a_package_is_asked_for_in_one_way() -> None:
    ways: dict[str, set[str]] = {}
    for line in requirements():
        wanted = Requirement(line)
        if wanted.name != "plateblur":
            ways.setdefault(canonicalize_name(wanted.name), set()).add(str(wanted.specifier))
    assert {name: told for name, told in ways.items() if len(told) > 1} == {}


def test_the_lock_names_no_place_to_get_packages_from() -> None:
    assert re.search(r"://|^-|@|\\|/", (ROOT / "requirements.lock").read_text(), re.M) is None


def test_what_installs_takes_its_versions_from_the_lock() -> None:
    for name in ("Makefile", "Dockerfile"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            if "pip install" in line and "--no-deps" not in line:
                assert "-c requirements.lock" in line or "-c $(LOCK)" in line, line


def test_running_needs_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    running = project["dependencies"] + extras["demo"] + extras["serve"] + extras["web"]
    assert not [line for line in running if line.startswith(("torch", "ultralytics"))]


@pytest.mark.parametrize(
    "suffix", [".jpg", ".jpeg", ".webp", ".heic", ".pt", ".db", ".sqlite3", ".env"]
)
def test_no_photo_no_weights_and_no_store_is_committed(suffix: str) -> None:
    # tests/test_pictures.py draws what is there once more.
    drawn = {
        ROOT / folder
        for folder in ("docs/assets", "plateblur/web/static", "plateblur/demo/examples")
    }
    assert [p.name for p in tracked() if p.suffix == suffix and p.parent not in drawn] == []


@pytest.mark.slow
def test_no_path_of_this_machine_is_committed() -> None:
    # Put together here, so that this file does not hold them itself.
    places = [f"/{folder}/" for folder in ("root", "work")]
    pattern = re.compile("|".join(rf"(?<![\w.~}}]){place}" for place in places).encode())
    found = [
        path.relative_to(ROOT)
        for path in tracked()
        if path.is_file() and pattern.search(path.read_bytes())
    ]
    assert found == []
