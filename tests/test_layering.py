"""Who may import whom: the table of the style guide, read from the code with `ast`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "plateblur"

BASE = {"types", "errors", "formats"}
DETECTION = {
    *("blur", "bounded", "boxes", "colours", "companions", "cores", "detector", "display", "draw"),
    *("engines", "equirectangular", "exact", "faces", "guidance", "headers", "jpeg", "key_frames"),
    *(
        "letterbox",
        "looks",
        "masks",
        "metadata",
        "outlines",
        "panorama",
        "photo",
        "pipeline",
        "rarer",
    ),
    *("second_look", "sphere", "tracks", "video", "zones"),
}
RUNS = {"runs"}
# Where parts meet. `app.py` and `serve.py` only start commands of `cli_serving`: what is installed
# has neither of them, so what they need is in `demo.serving` and `serving`.
JOINS = {
    *("__init__", "cli", "cli_live", "cli_options", "cli_review", "cli_runs", "cli_serving"),
    *("console", "demo", "serving"),
}
HEAVY = {"torch", "torchvision", "ultralytics", "gradio"}
WEB_FRAMEWORKS = {"fastapi", "starlette", "uvicorn", "pydantic"}
STORES = {"sqlalchemy", "alembic", "argon2"}
VISION = {"numpy", "cv2", "PIL", "pillow_heif", "onnxruntime", "openvino"}

FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """Return the part that a file belongs to: its folder's name, or its own."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


@cache
def imports_of(path: Path) -> set[str]:
    """Return the full names of what a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relative to itself; say the full name"
            # `from plateblur import types` and `from plateblur.types import x` give the same names.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(path: Path) -> set[str]:
    """Return the parts of plateblur that a file imports, "accounts.types" with its file's name."""
    parts = set()
    for name in imports_of(path):
        top, *rest = name.split(".")
        if top == "plateblur":
            depth = 2 if rest[:1] in (["accounts"], ["web"]) else 1
            parts.add(".".join(rest[:depth]) or "__init__")
    return parts


def others(path: Path) -> set[str]:
    """Return the packages of others that a file imports."""
    return {name.split(".")[0] for name in imports_of(path)} - {"plateblur"}


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def of(*parts: str) -> Callable[[Path], bool]:
    return lambda path: part_of(path) in parts


def each(chosen: Callable[[Path], bool]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of a rule for a file: a test for each file would cost more than the rule."""

    def made(rule: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            files = [path for path in FILES if chosen(path)]
            assert files, "no file is of this part"
            broken = {}
            for path in files:
                try:
                    rule(path)
                except AssertionError as error:
                    broken[named(path)] = str(error)
            assert broken == {}

        test.__name__ = rule.__name__
        return test

    return made


def test_every_file_has_its_place_in_the_table() -> None:
    known = BASE | DETECTION | RUNS | JOINS | {"accounts", "drawn", "review", "sets", "web"}
    assert {part_of(path) for path in FILES} == known


@each(of(*BASE))
def test_the_base_imports_only_numpy(path: Path) -> None:
    standard = set(sys.stdlib_module_names)
    assert others(path) - standard <= ({"numpy"} if path.stem == "types" else set())
    assert ours(path) == set()


@each(of(*DETECTION))
def test_detection_files_import_only_each_other(path: Path) -> None:
    assert ours(path) <= DETECTION | BASE
    assert not others(path) & (HEAVY | WEB_FRAMEWORKS | STORES)


@pytest.mark.slow
@each(lambda path: part_of(path) in DETECTION - {"engines"})
def test_one_file_has_the_inference_engines(path: Path) -> None:
    assert not others(path) & {"onnxruntime", "openvino"}


@each(lambda path: part_of(path) != "demo")
def test_only_the_demo_draws_its_page(path: Path) -> None:
    starts_it = part_of(path) in {"cli_serving", "serving"}
    assert starts_it or "demo" not in {part.split(".")[0] for part in ours(path)}
    assert "gradio" not in others(path)


@pytest.mark.slow
def test_only_the_commands_know_the_service() -> None:
    assert {named(path) for path in FILES if "serving" in ours(path)} == {"cli_serving.py"}


@pytest.mark.parametrize("starter", ["app.py", "serve.py"])
def test_the_starters_only_start_a_command(starter: str) -> None:
    assert ours(ROOT / starter) == {"cli_serving"}
    assert others(ROOT / starter) == {"typer"}


@each(of("boxes", "guidance", "key_frames", "tracks"))
def test_pure_files_need_numpy_alone(path: Path) -> None:
    assert others(path) - set(sys.stdlib_module_names) <= {"numpy"}


@each(of("sets"))
def test_sets_know_the_detection_files_and_themselves(path: Path) -> None:
    assert ours(path) <= DETECTION | BASE | {"sets"}
    assert not others(path) & (HEAVY | WEB_FRAMEWORKS | STORES)


@each(of("drawn"))
def test_drawn_scenes_need_the_base_install_alone(path: Path) -> None:
    assert ours(path) <= BASE | {"drawn", "sets"}
    assert others(path) - set(sys.stdlib_module_names) <= {"numpy", "cv2", "PIL"}


@pytest.mark.parametrize("folder", ["training", "datasets"])
def test_training_and_recipes_know_neither_the_service_nor_the_page(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert ours(path) <= DETECTION | BASE | {"sets", "drawn"}, path
        assert not others(path) & (WEB_FRAMEWORKS | STORES | {"gradio"}), path


def modules() -> dict[str, Path]:
    """Return the files of the package and of training, by the full name of each module."""
    found = {}
    for path in [*FILES, *(ROOT / "training").rglob("*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


@pytest.mark.slow
def test_no_import_goes_round_in_a_circle() -> None:
    known = modules()
    graph = {
        name: {
            longest
            for imported in imports_of(path)
            for longest in [next((m for m in prefixes(imported) if m in known), None)]
            if longest is not None and longest != name
        }
        for name, path in known.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def prefixes(name: str) -> list[str]:
    """Return the module names that an import may mean, the longest first."""
    words = name.split(".")
    return [".".join(words[:count]) for count in range(len(words), 0, -1)]


MOST_LINES = 540  # a page that grows beyond this does several jobs


@pytest.mark.parametrize("folder", ["plateblur", "training", "datasets", "benchmarks", "docs"])
def test_no_file_is_longer_than_a_person_reads(folder: str) -> None:
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert [path.name for path, count in lines.items() if count > MOST_LINES] == []


HACKS = re.compile(
    r"sys\.path\.(append|extend|insert)|sys\.path \+=|sys\.path\[:0\]|spec_from_file_location"
    r"|if TYPE_CHECKING or|\n    import layout"
)


@pytest.mark.parametrize("folder", ["plateblur", "training", "datasets", "benchmarks", "docs"])
def test_no_file_bends_where_imports_come_from(folder: str) -> None:
    bent = [path for path in (ROOT / folder).rglob("*.py") if HACKS.search(path.read_text())]
    assert bent == []


@each(of(*RUNS))
def test_runs_leave_decoding_and_blurring_to_the_detection_files(path: Path) -> None:
    assert ours(path) <= DETECTION | BASE | RUNS | {"sets"}  # it writes the label files of a run
    assert not others(path) & (HEAVY | WEB_FRAMEWORKS | STORES | VISION - {"numpy"})


@each(of("review"))
def test_the_workspace_knows_runs_and_a_web_server_and_no_service(path: Path) -> None:
    assert ours(path) <= DETECTION | BASE | RUNS | {"review"}
    assert not others(path) & (HEAVY | STORES | {"fastapi", "pydantic"})


@each(of("accounts"))
def test_accounts_know_neither_images_nor_the_web(path: Path) -> None:
    for part in ours(path):
        assert part == "errors" or part.split(".")[0] == "accounts", part
    assert not others(path) & (HEAVY | WEB_FRAMEWORKS | VISION)


@each(of("web"))
def test_the_web_knows_only_what_the_parts_hand_to_each_other(path: Path) -> None:
    for part in ours(path):
        handed = BASE | {"accounts.job_types", "accounts.types"}
        assert part in handed or part.split(".")[0] == "web", part
    assert not others(path) & (HEAVY | STORES | VISION - {"numpy"})  # it reads `Detections`


@each(of("console"))
def test_the_console_joins_web_and_accounts_and_knows_neither_photos_nor_sql(path: Path) -> None:
    for part in ours(path):
        assert part == "errors" or part.split(".")[0] in {"accounts", "web", "console"}, part
    assert not others(path) & (HEAVY | STORES | VISION)


# FiftyOne reads from there that it must not report to its makers, and only while it is imported.
ENVIRONMENT = {PACKAGE / "web" / "settings.py", PACKAGE / "sets" / "in_fiftyone.py"}


@each(lambda path: path not in ENVIRONMENT)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    nodes = ast.walk(ast.parse(text)) if re.search("environ|getenv", text) else ()
    read = [
        node.lineno
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
    ]
    assert read == []


def test_the_folder_of_recipes_is_no_package() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["plateblur", "plateblur.pipeline", "plateblur.cli", "plateblur.drawn"]
)
def test_importing_the_library_drags_in_no_part_that_is_optional(module: str) -> None:
    program = (
        f"import {module}, sys; "
        "print(*sorted({name.split('.')[0] for name in sys.modules}), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    assert not loaded & (HEAVY | WEB_FRAMEWORKS | STORES | {"openvino", "onnx", "httpx", "av"})


@pytest.mark.slow
def test_the_demo_loads_neither_a_store_nor_payments() -> None:
    """So a quick start installs none of them: the extra `demo` leaves them out."""
    program = (
        "import plateblur.demo.serving, sys; "
        "print(*{name.split('.')[0] for name in sys.modules}, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert "gradio" in loaded
    assert not loaded & (STORES | {"stripe", "psycopg", "redis", "limits", "fpdf", "torch"})
