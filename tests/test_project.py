"""The files around the code: versions stand in one place, nothing leaks into commits."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(line for extra in extras for line in extra)]


def pins() -> dict[str, str]:
    return dict(line.split("==") for line in requirements() if "==" in line)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_pre_commit_runs_the_ruff_that_the_tests_run() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    ruff = next(repo for repo in hooks["repos"] if repo["repo"].endswith("/ruff-pre-commit"))
    assert ruff["rev"] == f"v{pins()['ruff']}"


def test_conda_takes_every_version_from_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (by_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert by_pip == ["--editable .[all]"]


def test_every_requirement_is_pinned_once() -> None:
    others = [line for line in requirements() if not line.startswith("plateblur[")]
    names = [re.split(r"[=<>\[]", line)[0] for line in others]
    assert len(names) == len(set(names))
    assert [line for line in others if "==" not in line] == []


def test_running_needs_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    running = project["dependencies"] + extras["demo"] + extras["serve"]
    assert not [line for line in running if line.startswith(("torch", "ultralytics"))]


@pytest.mark.parametrize(
    "suffix", [".jpg", ".jpeg", ".webp", ".heic", ".pt", ".db", ".sqlite3", ".env"]
)
def test_no_photo_no_weights_and_no_store_is_committed(suffix: str) -> None:
    assert [path.name for path in tracked() if path.suffix == suffix] == []


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
