"""Change the code at random, one place at a time, and count how many changes the tests notice.

    pip install 'mutmut>=3.8,<4'
    python -m benchmarks.mutants [NAME ...] [--sample 40] [--seed 0] [--workers 1]

mutmut makes the changes: another sign, comparison, constant, argument or default, inside functions;
constants of modules and decorated functions stay as they are. Each change is a mutant. A random
sample of the mutants of each row of `ROWS` is tried with the row's own tests, those that aren't
slow, and with few cases for a property, as in `make quick`. So the shares are lower bounds of what
`make test` notices.

A mutant is too long if its tests need 10 s of processor time and four times what they all need
without a change. They may take much longer in wall-clock time, so a busy machine finds the same.

It works in a temporary copy of what git tracks or would track. The shares with their 95 % intervals
and the unnoticed changes go into `benchmarks/results/mutants.json`; with names, the other rows stay
as they were. Some survivors are no faults, because the changed code does the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import machine
from plateblur.sets.metrics import wilson_interval

ROOT = Path(__file__).parents[1]
OUT = Path(__file__).parent / "results" / "mutants.json"

# Source: mutmut 3.8, `stats.status_by_exit_code`. pytest ends with 1 if a test failed and with 3 if
# it broke; the others are signals and codes of a mutant that took too long or crashed.
NOTICED = {1: "failed", 3: "failed", 24: "too long", -24: "too long", 36: "too long"}
NOTICED |= {152: "too long", 255: "too long", -9: "crashed", -11: "crashed"}
UNNOTICED = {0: "survived", 5: "no test runs it", 33: "no test runs it"}


@dataclass(frozen=True, slots=True)
class Row:
    """Files that are changed together, and the tests that should notice.

    Attributes:
        files: patterns from the repository's root.
        tests: files or folders from there.
    """

    files: tuple[str, ...]
    tests: tuple[str, ...]


def _detection(name: str, *more: str) -> Row:
    tests = (f"tests/test_{name}.py", *(f"tests/test_{one}.py" for one in more))
    return Row((f"plateblur/{name}.py",), tests)


ROWS = {
    "blur": _detection("blur", "blur_golden"),
    "boxes": _detection("boxes"),
    "letterbox": _detection("letterbox"),
    "looks": _detection("looks", "detector"),
    "detector": _detection("detector"),
    "second_look": _detection("second_look"),
    "pipeline": Row(
        ("plateblur/pipeline.py",),
        (
            *(f"tests/test_{name}.py" for name in ("pipeline", "zones", "masks", "panorama")),
            *("tests/test_exact.py", "tests/test_rarer.py", "tests/runs/test_apply.py"),
        ),
    ),
    "outlines": _detection("outlines"),
    "rarer": _detection("rarer"),
    "masks": _detection("masks"),
    "zones": _detection("zones"),
    "tracks": _detection("tracks"),
    "panorama": _detection("panorama", "faces"),
    "equirectangular": Row(("plateblur/equirectangular.py",), ("tests/test_panorama.py",)),
    "sphere": _detection("sphere", "panorama"),
    "accounts": Row(("plateblur/accounts/*.py",), ("tests/accounts", "tests/console")),
    "web": Row(("plateblur/web/*.py",), ("tests/web",)),
}
DETECTION = [name for name in ROWS if name not in {"accounts", "web"}]


def mutants_of(files: Sequence[Path]) -> list[str]:
    """Return the names of all mutants of some files, in the order of the files and of their lines.

    Args:
        files: from the folder in which mutmut runs, which is the current one.
    """
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    return [
        get_mutant_name(path, name)
        for path in files
        for name in mutate_file_contents(str(path), path.read_text(encoding="utf-8")).mutant_names
    ]


def sample_of(mutants: Sequence[str], count: int, *, seed: int) -> list[str]:
    """Return `count` of the mutants, or all where there are fewer; the same ones each time."""
    if count >= len(mutants):
        return list(mutants)
    chosen = set(random.Random(seed).sample(range(len(mutants)), count))  # noqa: S311 - no secret
    return [name for number, name in enumerate(mutants) if number in chosen]


def row_of(codes: Mapping[str, int | None], *, mutants: int, changes: Mapping[str, str]) -> Any:
    """Return what is written about a row.

    Args:
        codes: exit code of each mutant of the sample.
        mutants: how many there are in all.
        changes: what those that nobody noticed change, as a diff.

    Raises:
        ValueError: a mutant was not tried, or in a way that says nothing.
    """
    unknown = {name: code for name, code in codes.items() if code not in NOTICED | UNNOTICED}
    if unknown:
        raise ValueError(f"expected a verdict on each mutant, got {unknown}")
    noticed = [NOTICED[code] for code in codes.values() if code in NOTICED]
    low, high = wilson_interval(len(noticed), len(codes))
    return {
        "mutants": mutants,
        "sample": len(codes),
        "noticed": len(noticed),
        "share": round(len(noticed) / len(codes), 4),
        "interval": [round(low, 4), round(high, 4)],
        "how": dict(sorted(Counter(noticed).items())),
        "unnoticed": {
            name: {"why": UNNOTICED[code], "change": changes.get(name, "")}
            for name, code in codes.items()
            if code in UNNOTICED
        },
    }


@contextlib.contextmanager
def checkout() -> Iterator[Path]:
    """Copy the files that git tracks or doesn't ignore, and make the copy the current folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    with TemporaryDirectory() as name:
        for file in filter(None, listed.stdout.split("\0")):
            if (ROOT / file).is_file():
                (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, Path(name) / file)
        with contextlib.chdir(name):
            yield Path(name)


def configure(folder: Path, row: Row, *, plain: str) -> None:
    """Write mutmut's settings for a row into the copy's `pyproject.toml`.

    Args:
        folder: the copy.
        row: what is changed, and tested.
        plain: the file as it is in the repository.
    """
    beside = [path.name for path in folder.iterdir() if path.name not in {"mutants", "plateblur"}]
    settings = {
        "source_paths": ["plateblur"],
        "only_mutate": list(row.files),
        "also_copy": sorted(beside),
        "pytest_add_cli_args": [
            "-m",
            "not slow",
            "-p",
            "no:cacheprovider",
            "-p",
            "mutant_limit",
        ],
        "pytest_add_cli_args_test_selection": list(row.tests),
        # Workers come from a process that has imported the tests and run none of them, because
        # threads of a detector don't survive a fork.
        "process_isolation": "forkserver",
        # Wall-clock time, beside what the mutant's tests take, and times 15: five minutes for what
        # waits and doesn't compute. `mutant_limit` limits the processor time.
        "timeout_constant": 20.0,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    text = "\n".join([plain, "[tool.mutmut]", *lines, ""])
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def mutmut(*words: str) -> str:
    """Run mutmut in the current folder and return what it prints.

    Raises:
        RuntimeError: it failed; the message is the end of its output.
    """
    # For `mutant_limit`. Nothing else of the path, so that the copy is what is tested.
    here = {**os.environ, "PYTHONPATH": str(Path("benchmarks").absolute())}  # noqa: TID251
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mutmut")), *words],
        env=here,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"mutmut {words[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def measure(folder: Path, row: Row, *, sample: int, seed: int, workers: int, plain: str) -> Any:
    """Try a sample of a row's mutants in a copy of the repository; see `row_of`."""
    shutil.rmtree(folder / "mutants", ignore_errors=True)
    configure(folder, row, plain=plain)
    files = sorted(path for pattern in row.files for path in Path().glob(pattern))
    mutants = mutants_of(files)
    chosen = sample_of(mutants, sample, seed=seed)
    mutmut("run", "--max-children", str(workers), *chosen)
    codes: dict[str, int | None] = {}
    for path in files:
        record = folder / "mutants" / f"{path}.meta"
        if record.exists():
            codes |= json.loads(record.read_text())["exit_code_by_key"]
    tried = {name: codes[name] for name in chosen}
    changes = {name: mutmut("show", name) for name, code in tried.items() if code in UNNOTICED}
    return row_of(tried, mutants=len(mutants), changes=changes)


def joined(rows: Mapping[str, Any]) -> Any:
    """Return the share of all mutants of some rows, each row weighing as many as it has.

    The interval of 95 % is that of a stratified sample. Each row's variance is that of Agresti and
    Coull, so that a row in which all of a small sample were noticed doesn't count as certain.
    """
    mutants = sum(row["mutants"] for row in rows.values())
    share = sum(row["mutants"] * row["share"] for row in rows.values()) / mutants
    variance = 0.0
    for row in rows.values():
        tried = row["sample"] + 4
        likely = (row["noticed"] + 2) / tried
        variance += (row["mutants"] / mutants) ** 2 * likely * (1 - likely) / tried
    reach = 1.96 * math.sqrt(variance)
    interval = [round(max(0.0, share - reach), 4), round(min(1.0, share + reach), 4)]
    return {"mutants": mutants, "share": round(share, 4), "interval": interval}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(ROWS)}")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="mutants tried at once")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(argv)
    if unknown := set(given.names) - set(ROWS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    out = given.out.resolve()
    with checkout() as folder:
        plain = (folder / "pyproject.toml").read_text(encoding="utf-8")
        for name in given.names or ROWS:
            row = {"files": list(ROWS[name].files), "tests": list(ROWS[name].tests)}
            row["seed"] = given.seed
            row |= measure(
                folder,
                ROWS[name],
                sample=given.sample,
                seed=given.seed,
                workers=given.workers,
                plain=plain,
            )
            # Not before: other rows may have been measured meanwhile, beside this one.
            rows = json.loads(out.read_text())["rows"] if out.exists() else {}
            rows[name] = row
            print(f"{name}: {rows[name]['noticed']} of {rows[name]['sample']}", flush=True)
            kept = {one: rows[one] for one in ROWS if one in rows}
            detection = {one: kept[one] for one in DETECTION if one in kept}
            written = {
                "machine": machine(),
                "mutmut": version("mutmut"),
                "detection": joined(detection) if detection else None,
                "missing": [one for one in ROWS if one not in kept],
                "rows": kept,
            }
            out.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
