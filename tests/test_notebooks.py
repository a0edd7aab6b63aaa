"""Each notebook runs from top to bottom, as someone new would run it, on drawn data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from plateblur import drawn
from plateblur.detector import shipped_model

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NEEDS = {"02": "fiftyone", "03": "ultralytics", "07": "ultralytics"}
CELL_S = 1800  # what no cell takes, not even on a machine that trains beside it

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run(path: Path, parameters: Mapping[str, object] | None = None) -> str:
    """Execute a notebook and return what its cells print.

    Args:
        path: of the notebook; its folder is where it runs.
        parameters: set after the cell with the tag `parameters`, as Papermill does.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        tagged = [
            i
            for i, cell in enumerate(notebook.cells)
            if "parameters" in cell.metadata.get("tags", [])
        ]
        source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(source))
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_S,
        startup_timeout=CELL_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    # The database goes while the process that fills it may still be closing.
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        alone = {
            "YOLO_OFFLINE": "True",
            "FIFTYONE_DO_NOT_TRACK": "true",
            "FIFTYONE_DATABASE_DIR": f"{home}/database",
            "FIFTYONE_CONFIG_PATH": f"{home}/none.json",
        }
        client.execute(env={**os.environ, **alone})  # noqa: TID251 - for a child process
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )


@notebooks
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)


@notebooks
def test_a_notebook_asks_a_question_and_answers_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    told = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    title = told[0].splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith("?")
    assert any(text.startswith("## Answer") for text in told)


@pytest.mark.slow
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
    assert run(path)


@pytest.mark.slow
def test_a_parameter_puts_labelled_photos_in_place_of_drawn_ones(tmp_path: Path) -> None:
    if not shipped_model().is_file():
        pytest.skip("no model is shipped yet")
    pytest.importorskip("matplotlib")
    counts = drawn.write_set(tmp_path, count=4, seed=5, split_shares=(0, 0, 1), image_hw=(270, 480))
    assert counts["test"] == 4
    labels = [file.read_text().splitlines() for file in (tmp_path / "labels").rglob("*.txt")]
    plates = sum(map(len, labels))
    told = run(
        FOLDER / "04_is_1_to_15_enough.ipynb",
        {"DATA": str(tmp_path / "data.yaml"), "SCENES_AN_ANGLE": 1},
    )
    rows = [line.split() for line in told.splitlines() if line.startswith((">=1:", "1:", "<1:"))]
    assert sum(int(row[1]) for row in rows) == plates
