"""Run the notebooks, and show each on the documentation site as it ran.

    python -m docs.notebook_pages          # runs those that changed since they last ran

`make docs` runs this before it builds the site. The notebooks in the repository have no outputs;
those that ran are kept in `runs/notebooks/`, which git ignores, with a digest of what they ran on.
`tests/test_notebooks.py` keeps its runs there too, so after `make test` nothing is left to run.
MkDocs calls `on_files`; a notebook that has not run is shown without outputs, and says so.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbclient
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RAN = ROOT / "runs" / "notebooks"
RUNS_ON = (
    "plateblur/**/*.py", "plateblur/models/*", "training/**/*.py", "training/configs/*.yaml",
    "datasets/*.py", "docs/figures.json", "docs/draw_recall.py",
)  # fmt: skip
LOGO = ROOT / "plateblur" / "web" / "static" / "logo.svg"
CELL_S = 1800  # no cell takes as long, not even on a machine that trains at the same time
NOT_RUN = (
    '!!! note "Without outputs"\n\n    This notebook did not run for this build of the site. '
    "`make docs` runs it.\n\n"
)


def execute(path: Path, parameters: Mapping[str, object] | None = None) -> Any:
    """Return a notebook with the outputs of its cells.

    Args:
        path: of the notebook; its folder is where it runs.
        parameters: set after the cell with the tag `parameters`, as Papermill does.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
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
    return notebook


def keep(path: Path, notebook: Any) -> None:
    """Keep a notebook as it ran, for the site."""
    notebook.metadata["ran_on"] = digest(path)
    RAN.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, RAN / path.name)


def kept(path: Path) -> Any | None:
    """Return the notebook as it ran; None if it did not run on what is here now."""
    ran = RAN / path.name
    if not ran.exists():
        return None
    notebook = nbformat.read(ran, as_version=4)
    return notebook if notebook.metadata.get("ran_on") == digest(path) else None


def digest(path: Path) -> str:
    """Return the SHA-256 of a notebook and of all code, weights and figures that it may use."""
    found = hashlib.sha256(path.read_bytes())
    for pattern in RUNS_ON:
        for file in sorted(ROOT.glob(pattern)):
            if file.is_file():
                found.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return found.hexdigest()


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each notebook with its pictures, and the logo, to the files of the site."""
    files.append(File.generated(config, "assets/logo.svg", content=LOGO.read_bytes()))
    for path in NOTEBOOKS:
        text, pictures = page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=data))
    return files


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown and its pictures by their names in it."""
    ran = kept(path)
    notebook = ran or nbformat.read(path, as_version=4)
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, {"unique_key": path.stem, "output_files_dir": path.stem}
    )
    title, rest = text.lstrip().split("\n", 1)
    return f"{title}\n\n{'' if ran else NOT_RUN}{rest}", dict(resources["outputs"])


def main() -> None:
    """Run what changed."""
    for path in NOTEBOOKS:
        if kept(path) is None:
            began_s = time.monotonic()
            keep(path, execute(path))
            sys.stdout.write(f"{path.name}: ran in {time.monotonic() - began_s:.0f} s\n")


if __name__ == "__main__":
    main()
