"""Each notebook runs from top to bottom, as someone new would run it, on drawn data."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from plateblur import drawn
from plateblur.detector import shipped_model

pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

pages = pytest.importorskip("docs.notebook_pages")

pytestmark = pytest.mark.slow  # what runs a notebook takes seconds to import

NOTEBOOKS: list[Path] = pages.NOTEBOOKS
FOLDER = NOTEBOOKS[0].parent
NEEDS = {"02": "fiftyone", "03": "ultralytics", "07": "ultralytics"}


def printed(notebook: Any) -> str:
    """Return what the cells of a notebook that ran print."""
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.xdist_group(path.stem)) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_from_top_to_bottom(path: Path) -> None:
    if needed := NEEDS.get(path.stem[:2]):
        pytest.importorskip(needed)
    if not shipped_model().is_file():
        pytest.skip("no model is shipped yet")
    notebook = pages.execute(path)
    assert printed(notebook)
    pages.keep(path, notebook)  # so that the site shows it without a second run


def test_a_parameter_puts_labelled_photos_in_place_of_drawn_ones(tmp_path: Path) -> None:
    if not shipped_model().is_file():
        pytest.skip("no model is shipped yet")
    pytest.importorskip("matplotlib")
    counts = drawn.write_set(tmp_path, count=4, seed=5, split_shares=(0, 0, 1), image_hw=(270, 480))
    assert counts["test"] == 4
    labels = [file.read_text().splitlines() for file in (tmp_path / "labels").rglob("*.txt")]
    plates = sum(map(len, labels))
    notebook = pages.execute(
        FOLDER / "04_is_1_to_15_enough.ipynb",
        {"DATA": str(tmp_path / "data.yaml"), "SCENES_AN_ANGLE": 1},
    )
    rows = [
        line.split()
        for line in printed(notebook).splitlines()
        if line.startswith((">=1:", "1:", "<1:"))
    ]
    assert sum(int(row[1]) for row in rows) == plates


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a notebook of which a run is kept that printed a line and drew a picture."""
    monkeypatch.setattr(pages, "RAN", tmp_path / "ran")
    path = tmp_path / "01_a_question.ipynb"
    make = nbformat.v4
    notebook = make.new_notebook(
        cells=[make.new_markdown_cell("# A question?\n\nText."), make.new_code_cell("ask()")]
    )
    nbformat.write(notebook, path)
    picture = base64.b64encode(b"a picture").decode()
    notebook.cells[1].outputs = [
        make.new_output("stream", name="stdout", text="two plates hidden\n"),
        make.new_output("display_data", {"image/png": picture}),
    ]
    pages.keep(path, notebook)
    return path


def test_the_site_shows_a_notebook_as_it_ran(ran: Path) -> None:
    text, pictures = pages.page(ran)
    assert text.startswith("# A question?\n")
    assert "two plates hidden" in text
    assert pages.NOT_RUN not in text
    ((name, data),) = pictures.items()
    assert f"]({name})" in text
    assert data == b"a picture"


def test_a_run_of_another_notebook_or_other_code_is_not_shown(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pages.kept(ran) is not None
    monkeypatch.setattr(pages, "RUNS_ON", ("Makefile",))  # as if another code were here
    assert pages.kept(ran) is None
    text, pictures = pages.page(ran)
    assert pages.NOT_RUN in text
    assert "two plates hidden" not in text
    assert pictures == {}
