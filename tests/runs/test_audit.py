"""The claim: its bound against SciPy's distributions, and what becomes of a sample."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.runs.audit import at_most, audit_of, sample_size
from plateblur.runs.given import reviewed_run
from plateblur.runs.review_log import Plate, Review, plates_of
from tests.fakes import FixedDetector, boxes, encoded, street

PLATE = [40.0, 30.0, 90.0, 45.0]


@pytest.mark.slow  # SciPy takes half a second to import
@pytest.mark.parametrize("misses", [0, 1, 3, 10])
@pytest.mark.parametrize(("looked_at", "population"), [(20, 50), (300, 2_000), (300, 300)])
def test_the_bound_is_the_one_of_the_hypergeometric_distribution(
    misses: int, looked_at: int, population: int
) -> None:
    stats = pytest.importorskip("scipy.stats")
    most = at_most(misses, looked_at=looked_at, population=population, confidence=0.95)
    assert stats.hypergeom.cdf(misses, population, most, looked_at) > 0.05
    if most < population - (looked_at - misses):
        assert stats.hypergeom.cdf(misses, population, most + 1, looked_at) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("misses", [0, 2])
def test_among_very_many_photos_it_is_the_bound_of_clopper_and_pearson(misses: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    many = 10_000_000
    most = at_most(misses, looked_at=300, population=many, confidence=0.95)
    assert most / many == pytest.approx(stats.beta.ppf(0.95, misses + 1, 300 - misses), rel=1e-3)


def test_the_sample_is_as_large_as_the_claim_needs() -> None:
    assert sample_size(population=10_000_000, share=0.01, confidence=0.95) == 299  # rule of three
    for population in (1, 40, 250, 2_000, 50_000):
        size = sample_size(population=population, share=0.01, confidence=0.95)
        most = at_most(0, looked_at=size, population=population, confidence=0.95)
        assert most < 0.01 * population or size == population
        if size > 1:
            fewer = at_most(0, looked_at=size - 1, population=population, confidence=0.95)
            assert fewer >= 0.01 * population


@pytest.mark.parametrize("numbers", [(3, 2, 10), (0, 11, 10), (-1, 2, 10)])
def test_numbers_that_contradict_each_other_are_refused(numbers: tuple[int, int, int]) -> None:
    misses, looked_at, population = numbers
    with pytest.raises(ValueError, match="expected misses"):
        at_most(misses, looked_at=looked_at, population=population, confidence=0.95)


# --- A run ----------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    detector = FixedDetector(boxes(PLATE), (0.9,))
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: detector)
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number in range(12):
        Path("in", f"{number:02}.png").write_bytes(encoded(street(90, 140, seed=number), "PNG"))
    assert run("blur", "in", "-o", "out").exit_code == 0
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def judge(*, readable: int = 0, left: int = 0) -> None:
    """Look at the photos of the sample, except the last `left`; the first `readable` have one."""
    reviewed = reviewed_run(Path("out"))
    assert reviewed.log.sample is not None
    lines = {output: line for output, _, line in reviewed.lines()}
    outputs = reviewed.log.sample.outputs
    for row, output in enumerate(outputs[: len(outputs) - left]):
        line = lines[output]
        review = Review(
            output,
            line["input"]["sha256"],
            plates_of(line) + ((Plate((5.0, 5.0, 25.0, 15.0)),) if row < readable else ()),
            looked_at=True,
            readable=row < readable,
            seen=line["written"]["sha256"],
            by="Ana Pop",
        )
        base = reviewed.log.reviews[output].revision if output in reviewed.log.reviews else 0
        reviewed.log.save(review, base=base)


@pytest.mark.slow
def test_a_sample_is_drawn_looked_at_and_reported(here: Path) -> None:
    pytest.importorskip("fpdf", reason="needs the extra workspace")
    drawn = run("audit", "out", "--share", "0.3", "--seed", "7")
    assert drawn.exit_code == 0, drawn.output
    first = reviewed_run(Path("out")).log.sample
    assert first is not None
    assert len(set(first.outputs)) == len(first.outputs) < 12
    unfinished = run("audit", "out")
    assert unfinished.exit_code == 1
    assert "Not finished: 0 of" in unfinished.stdout
    judge()
    done = run("audit", "out")
    assert done.exit_code == 0, done.output
    assert "none has a readable plate" in done.stdout
    page = Path("out/plateblur-audit.html").read_text()
    assert "Ana Pop" in page
    assert "seed 7" in page
    assert Path("out/plateblur-audit.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.slow
def test_a_readable_plate_is_counted_also_when_it_was_corrected(here: Path) -> None:
    pytest.importorskip("fpdf", reason="needs the extra workspace")
    assert run("audit", "out", "--share", "0.3").exit_code == 0
    judge(readable=1)
    before = run("audit", "out")
    assert before.exit_code == 1
    assert "1 has a readable plate" in before.stdout
    assert "that is not shown" in before.stdout
    assert run("apply", "out").exit_code == 0
    told = audit_of(reviewed_run(Path("out")))
    assert (len(told.misses), told.corrected, told.unwritten, told.left) == (1, 1, 0, ())


def test_a_photo_that_was_blurred_again_must_be_looked_at_again(here: Path) -> None:
    assert run("audit", "out", "--sample", "12").exit_code == 0
    judge()
    assert run("blur", "in", "-o", "out", "--method", "solid").exit_code == 0
    assert len(audit_of(reviewed_run(Path("out"))).left) == 12


def test_other_photos_need_a_new_sample(here: Path) -> None:
    assert run("audit", "out").exit_code == 0
    Path("in", "new.png").write_bytes(encoded(street(90, 140, seed=99), "PNG"))
    assert run("blur", "in", "-o", "out").exit_code == 0
    assert run("audit", "out").exit_code == 2
    assert run("audit", "out", "--new").exit_code == 0
    sample = reviewed_run(Path("out")).log.sample
    assert sample is not None
    assert sample.population == 13


@pytest.mark.slow
def test_a_name_is_escaped_on_the_page(here: Path) -> None:
    report = pytest.importorskip("plateblur.review.report", reason="needs the extra workspace")
    assert run("audit", "out").exit_code == 0
    judge()
    told = replace(audit_of(reviewed_run(Path("out"))), reviewers={"<b>Ana</b>": 1})
    page = report.audit_html(told, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert "&lt;b&gt;Ana" in page
    assert "<b>Ana" not in page
