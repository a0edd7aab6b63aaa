"""What is drawn, counted and written of random changes; mutmut itself on a small example."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import mutants

ROOT = Path(__file__).parents[1]


def test_every_row_names_files_and_tests_that_are_there() -> None:
    for name, row in mutants.ROWS.items():
        assert all(list(ROOT.glob(pattern)) for pattern in row.files), name
        assert all((ROOT / path).exists() for path in row.tests), name


def test_the_rows_cover_the_files_that_hide_plates() -> None:
    assert {"blur", "boxes", "detector", "letterbox", "pipeline"} <= set(mutants.DETECTION)
    assert set(mutants.ROWS) - set(mutants.DETECTION) == {"accounts", "web"}


def test_a_sample_is_the_same_each_time_and_in_order() -> None:
    names = [f"m{number:03}" for number in range(200)]
    sample = mutants.sample_of(names, 40, seed=0)
    assert sample == mutants.sample_of(names, 40, seed=0) != mutants.sample_of(names, 40, seed=1)
    assert sample == sorted(set(sample))
    assert len(sample) == 40
    assert mutants.sample_of(names, 200, seed=0) == mutants.sample_of(names, 999, seed=0) == names


def test_a_row_counts_what_failed_was_too_slow_or_crashed_as_noticed() -> None:
    codes = {"a": 1, "b": 3, "c": -24, "d": -11, "e": 0, "f": 33}
    row = mutants.row_of(codes, mutants=60, changes={"e": "-1\n+2"})
    assert (row["mutants"], row["sample"], row["noticed"], row["share"]) == (60, 6, 4, 0.6667)
    assert row["how"] == {"crashed": 1, "failed": 2, "too long": 1}
    assert row["unnoticed"] == {
        "e": {"why": "survived", "change": "-1\n+2"},
        "f": {"why": "no test runs it", "change": ""},
    }
    low, high = row["interval"]
    assert 0.29 < low < 0.31
    assert 0.90 < high < 0.91


@pytest.mark.parametrize("code", [None, 2, 35, 4])
def test_a_mutant_without_a_verdict_is_an_error(code: int | None) -> None:
    with pytest.raises(ValueError, match="expected a verdict on each mutant"):
        mutants.row_of({"a": 1, "b": code}, mutants=2, changes={})


def test_rows_are_joined_by_how_many_mutants_they_have() -> None:
    rows = {
        "a": {"mutants": 300, "share": 0.9, "sample": 96, "noticed": 86},
        "b": {"mutants": 100, "share": 0.5, "sample": 96, "noticed": 48},
    }
    joined = mutants.joined(rows)
    assert (joined["mutants"], joined["share"]) == (400, 0.8)
    # Worked out by hand: 0.8 +- 1.96 * sqrt(0.75**2 * 0.88 * 0.12 / 100 + 0.25**2 * 0.25 / 100).
    assert joined["interval"] == [0.7463, 0.8537]


def test_a_row_in_which_all_were_noticed_is_not_taken_as_certain() -> None:
    low, high = mutants.joined({"a": {"mutants": 9, "share": 1.0, "sample": 9, "noticed": 9}})[
        "interval"
    ]
    assert (low < 0.85, high) == (True, 1.0)


def test_names_that_are_no_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mutants.main(["blurr"])
    assert "unknown: blurr" in capsys.readouterr().err


def test_the_settings_are_read_by_mutmut_as_they_are_meant(tmp_path: Path) -> None:
    (tmp_path / "plateblur").mkdir()
    (tmp_path / "tests").mkdir()
    row = mutants.Row(("plateblur/blur.py",), ("tests/test_blur.py",))
    mutants.configure(tmp_path, row, plain="[project]\nname = 'plateblur'\n")
    tomllib = pytest.importorskip("tomllib")
    settings = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["mutmut"]
    assert settings["only_mutate"] == ["plateblur/blur.py"]
    assert settings["also_copy"] == ["tests"]
    assert settings["pytest_add_cli_args"][:2] == ["-m", "not slow"]
    assert settings["pytest_add_cli_args"][-2:] == ["-p", "mutant_limit"]


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "code"), [("", 0), ("m.x_f__mutmut_1", -signal.SIGXCPU)])
def test_only_a_mutant_is_ended_when_it_computes_for_too_long(
    mutant: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "test_busy.py").write_text(
        "import time\n\ndef test_busy():\n    while time.process_time() < 4: pass\n"
    )
    if mutant:  # as if the tests had taken no time, and as if 10 s were 1 s
        (tmp_path / "clean-cpu-s.txt").write_text("-2.25")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "mutant_limit",
            "-p",
            "no:cacheprovider",
        ],
        cwd=tmp_path,
        env={**os.environ, "MUTANT_UNDER_TEST": mutant, "PYTHONPATH": str(ROOT / "benchmarks")},  # noqa: TID251
        check=False,
    )
    assert done.returncode == code
    if not mutant:
        assert float((tmp_path / "clean-cpu-s.txt").read_text()) > 4


@pytest.mark.slow
def test_mutmut_names_a_files_mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mutmut")
    (tmp_path / "pyproject.toml").write_text("[tool.mutmut]\nsource_paths = ['small']\n")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "sum.py").write_text("def add(a, b):\n    return a + b\n")
    monkeypatch.chdir(tmp_path)
    assert mutants.mutants_of([Path("small/sum.py")]) == ["small.sum.x_add__mutmut_1"]


def test_what_is_written_is_what_the_page_shows() -> None:
    if not mutants.OUT.exists():
        pytest.skip("not measured yet")
    results = json.loads(mutants.OUT.read_text())
    assert set(results["rows"]) | set(results["missing"]) == set(mutants.ROWS)
    rows = results["rows"]
    detection = {name: rows[name] for name in mutants.DETECTION if name in rows}
    assert results["detection"] == mutants.joined(detection)
    for name in results["missing"]:
        assert name in importlib.import_module("docs.measured").mutants()
    assert results["detection"]["share"] >= 0.85
