"""What the docs say is so: commands run, links lead somewhere, figures come from a file."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plateblur import drawn
from plateblur.detector import shipped_model
from plateblur.web.failures import SENTENCES
from plateblur.web.settings import Settings
from tests.clips import drawn_clip, driving, recorded

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LINKED = [
    *PAGES, ROOT / "SECURITY.md", ROOT / "CODE_OF_CONDUCT.md",
    *sorted((ROOT / "datasets").glob("*.md")),
]  # fmt: skip
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
WRITTEN_LATER = ROOT / "plateblur" / "models"  # by training/promote.py
FIGURES = "figures: written by training/promote.py"


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[tuple[str, str]]:
    """Return kind and text of the blocks of a page that are to be run."""
    found = BLOCK.finditer(page.read_text())
    return [
        (block["kind"], block["body"])
        for block in found
        if block["kind"] in {"sh", "python"} and not block["why"]
    ]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what a commit of this tree would hold, with an environment and photos."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "street-survey").mkdir()
    photo = drawn.encode(drawn.draw_scene(1, image_hw=(270, 480), plates=1).image)
    for name in ("holiday.jpg", "street-survey/first.jpg"):
        (folder / name).write_bytes(photo)
    (folder / "drive.mp4").write_bytes(drawn_clip(driving(4), sound="aac"))
    (folder / "dashcam.ts").write_bytes(recorded([driving(4)], kind="mpegts", sounds=["mp2"]))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=named)
def test_the_commands_of_a_page_run(page: Path, clone: Path) -> None:
    if not shipped_model().is_file():
        pytest.skip("no model is shipped yet")
    offline = {**os.environ, "YOLO_OFFLINE": "True"}  # noqa: TID251 - for child processes
    for kind, body in commands(page):
        shell = ["bash", "-euo", "pipefail", "-c"] if kind == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*shell, body], cwd=clone, env=offline, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_block_says_in_which_language_it_is(page: Path) -> None:
    """Else a command could stand there that nobody runs."""
    kinds = {block["kind"] for block in BLOCK.finditer(page.read_text())}
    assert kinds <= {"sh", "python", "text", "json", "yaml"}


@pytest.mark.parametrize("page", LINKED, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith("https://") or link.startswith("#"):
            continue
        target = (page.parent / link.partition("#")[0]).resolve()
        assert target.exists() or WRITTEN_LATER in target.parents, link


@pytest.mark.parametrize(
    "page", [page for page in PAGES if f"<!-- {FIGURES} -->" in page.read_text()], ids=named
)
def test_figures_are_those_of_the_file_that_the_promotion_wrote(page: Path) -> None:
    from training.card import TABLE_CLOSES, TABLE_OPENS, figures_table

    between = page.read_text().split(TABLE_OPENS + "\n")[1].split(TABLE_CLOSES)[0].strip()
    written = DOCS / "figures.json"
    table = "\n".join(figures_table(json.loads(written.read_text()))) if written.exists() else ""
    assert between == table.strip()


def test_the_model_card_has_a_place_for_figures() -> None:
    assert f"<!-- {FIGURES} -->\n" in (DOCS / "model-card.md").read_text()


@pytest.mark.slow
def test_the_picture_shows_imports_that_the_code_has() -> None:
    architecture = importlib.import_module("docs.draw_architecture")
    drawn = architecture.drawing()  # raises where an arrow is no import
    assert architecture.OUT.read_text() == drawn, "run: python docs/draw_architecture.py"


def test_an_arrow_that_is_no_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = importlib.import_module("docs.draw_architecture")
    monkeypatch.setattr(architecture, "ARROWS", (("blur", "web"),))
    with pytest.raises(ValueError, match=r"plateblur/blur\.py does not import plateblur/web"):
        architecture.drawing()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def pages_of(site: Path) -> Iterator[str]:
    for path in sorted(site.rglob("*.html")):
        yield path.read_text()


@pytest.mark.slow
def test_the_site_has_every_setting_code_and_command(site: Path) -> None:
    settings = (site / "reference" / "settings" / "index.html").read_text()
    assert [name for name in Settings().to_environment() if name not in settings] == []
    codes = (site / "reference" / "error-codes" / "index.html").read_text()
    assert [cd for cd in SENTENCES if cd not in codes] == []
    cli = (site / "reference" / "cli" / "index.html").read_text()
    for command in ("blur", "detect", "accounts create"):
        assert f"plateblur {command}" in cli


@pytest.mark.slow
def test_the_site_has_the_logo_and_every_notebook(site: Path) -> None:
    logo = ROOT / "plateblur" / "web" / "static" / "logo.svg"
    assert (site / "assets" / "logo.svg").read_bytes() == logo.read_bytes()
    assert '<link rel="icon" href="assets/logo.svg">' in (site / "index.html").read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / path.stem / "index.html").is_file()


@pytest.mark.slow
def test_no_page_of_the_site_has_a_mark_left(site: Path) -> None:
    assert [page for page in pages_of(site) if "<!-- generated" in page] == []


@pytest.mark.slow
def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]+src=[\"']?(https?:)?//|<link[^>]+href=[\"']?//"
    )
    styles = re.compile(r"<link[^>]+stylesheet[^>]+https?://|<link[^>]+https?://[^>]+stylesheet")
    assert [page for page in pages_of(site) if loaded.search(page) or styles.search(page)] == []
