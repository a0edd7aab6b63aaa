"""Phrases that only a translation would use, in texts that people read.

Add a phrase when it is found in a text, and only if it is wrong wherever it occurs: a test that
cries wolf is switched off.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "plateblur"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEMPLATES = [
    *sorted(PACKAGE.rglob("*.html")),
    *sorted((PACKAGE / "demo" / "assets").glob("*.js")),
    *sorted((PACKAGE / "web" / "static").glob("*.js")),
    *sorted((PACKAGE / "console" / "static").glob("*.js")),
]
CODE = [
    path
    for folder in ("accounts", "console", "demo", "web")
    for path in sorted((PACKAGE / folder).glob("*.py"))
] + [PACKAGE / "serving.py"]
COMMANDS = [*sorted(PACKAGE.glob("cli*.py")), PACKAGE / "accounts" / "commands.py"]

EVERYWHERE = {
    r"\b(look|looks) into (your|the) mail\b": "check your inbox",
    r"\bunwanted mail\b": "spam folder",
    r"\b(a|the|this|each|no|your) letter (with|to|is|of|that|for)\b": "e-mail",
    r"\b(could not|couldn't|can't) be taken\b": "please fix the following; isn't supported",
    r"\b(is|are) of no use\b": "isn't supported",
    r"\bthrowaway (provider|address|e-mail)": "disposable e-mail addresses",
    r"\banew\b": "again; resets on",
    r"\bof late\b": "recently",
    r"\b(deleted|answered|active|blurred again) at once\b(?! by)": "immediately",
    r"\bno plan runs\b": "no active plan",
    r"\b(running package|no package runs)\b": "active plan",
    r"\bmoney back\b": "refund",
    r"\bworks? no more\b": "no longer works; has been revoked",
    r"\b(is|are) told of\b": "see",
    r"\bwhat is missed\b": "known limits",
    r"\bcolou?r profile only\b": "remove everything except the colour profile",
    r"\bone frame can't be done\b": "if any frame fails",
    r"\balso wrongly\b": "with more false hits",
    r"\bfor running no\b": "not needed to run it",
    r"\binf if not it\b": "infinity where they don't match",
    r"\bnot paid yet\b": "unpaid",
    r"\btoo many tries\b": "too many attempts",
    r"\bdealt with\b": "resolved",
    r"\b(opened|opens) nothing\b": "unmatched",
    r"\bnone of the page's\b": "invalid",
    r"\b(go|goes) on where\b": "continues where",
    r"\bbecause of themselves\b": "are damaged or unsupported",
    r"\b(one|an?) (JSON object|row|PNG|table) an? (photo|plate|line)\b": "one per photo",
    r"\bby the clock\b": "in wall-clock time",
    r"\bneeds? nothing set up\b": "needs no setup",
    r"\bfor people: an?\b": "leave it out",
}
# In code, docstrings and comments included. A stand-in and "stands for" are usual English.
BETWEEN_OURSELVES = EVERYWHERE | {
    r"\bstands?\b(?! (in|for)\b)(?!-)": "is, has or lists",
    r"\bto stand\b(?! (in|for)\b)": "to be",
    r"\b(is|are|was|were) told\b": "is said, called or asked",
    r"\btells? (of|how|what|which|whether|where|by|alike|apart)\b": "says, shows or measures",
    r"\btold (apart|alike|of|from)\b": "distinguished; in the same words",
    r"\b(says?|said|told) of (itself|it|them|themselves)\b": "says about itself; its metadata",
    r"\bthe command line fills it\b": "filled from the command line",
    r"\b(made|taken) anew\b": "again",
    r"\bof one's own\b": "your own",
    r"\bfor (local|this machine's) eyes\b": "to be kept private",
    r"\bnot any more\b|\bany more\b(?! than)": "no longer",
}
WORKSHOP = [
    path
    for folder in ("training", "datasets", "benchmarks", "plateblur/sets", "plateblur/drawn")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
NAMED = [ROOT / folder for folder in ("benchmarks", "datasets", "docs", "plateblur", "training")]
TRANSLATED_NAME = re.compile(r"(^|_)told(_|$)|AsTold")
RECIPES = sorted((ROOT / "datasets").glob("*.md"))
# Between ourselves, comments may speak of letters of the alphabet; the console's messages do not.
MESSAGES = EVERYWHERE | {
    r"(?<!two-)\bletters?\b(?!, digits| or digit| or an e-mail|s of the alphabet)": "e-mail",
    r"\bExpected (a|an|no|the|at most|at least) (name|subject|message|address|postal)": "enter a",
    r"\b(is|are|was) gone\b": "was deleted",
    r"\bnoted\b": "saved",
}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def strings(path: Path, *, docstrings: bool) -> Iterator[tuple[int, str]]:
    """Yield line and text of the strings of a Python file, f-strings in pieces."""
    tree = tree_of(path)
    skipped = set()
    if not docstrings:
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for node in ast.walk(tree):
            if isinstance(node, owners):
                skipped |= {
                    id(one.value)
                    for one in node.body
                    if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
                }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in skipped:
            yield node.lineno, str(node.value)


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of the comments of a Python file; neighbouring lines are one."""
    block, first, last = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1 and block:
                yield first, block
            if token.start[0] != last + 1:
                block, first = "", token.start[0]
            block, last = f"{block} {token.string.lstrip('# ')}", token.start[0]
    if block:
        yield first, block


@cache
def any_of(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern that matches where one of the phrases does: most texts have none."""
    return re.compile("|".join(phrases), re.IGNORECASE)


def found_in(text: str, phrases: dict[str, str]) -> list[str]:
    plain = " ".join(text.split())
    if not any_of(tuple(phrases)).search(plain):
        return []
    return [
        f"{match[0]!r}: say {better!r}"
        for pattern, better in phrases.items()
        for match in re.finditer(pattern, plain, re.IGNORECASE)
    ]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_page_reads_as_english(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert found_in(text, EVERYWHERE) == []


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_the_page_of_a_recipe_reads_as_english(path: Path) -> None:
    text = re.sub(r"^    .*$", "", path.read_text(), flags=re.MULTILINE)
    assert found_in(text, BETWEEN_OURSELVES) == []


@pytest.mark.parametrize("path", WORKSHOP, ids=named)
def test_the_code_of_training_and_sets_reads_as_english(path: Path) -> None:
    found = {
        line: wrong
        for line, text in [*strings(path, docstrings=True), *comments(path)]
        if (wrong := found_in(text, BETWEEN_OURSELVES))
    }
    assert found == {}


def names_of(tree: ast.AST) -> set[str]:
    """Return every name that a file gives or uses: variables, arguments, attributes, functions."""
    names = set()
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name"):
            if isinstance(name := getattr(node, field, None), str):
                names.add(name)
    return names


@pytest.mark.parametrize("folder", NAMED, ids=named)
def test_names_in_the_code_are_english(folder: Path) -> None:
    found = {
        f"{named(path)}: {name}"
        for path in sorted(folder.rglob("*.py"))
        if "told" in path.read_text(encoding="utf-8").lower()  # few do, and parsing takes long
        for name in names_of(tree_of(path))
        if TRANSLATED_NAME.search(name)
    }
    assert found == set()


def test_names_in_the_scripts_of_the_pages_are_english() -> None:
    scripts = [path for path in TEMPLATES if path.suffix == ".js"]
    scripts += sorted((PACKAGE / "review" / "assets").glob("*.js"))
    found = [named(path) for path in scripts if re.search(r"(?<![-\w])told\b", path.read_text())]
    assert found == []


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_a_template_reads_as_english(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert found_in(text, EVERYWHERE if path.suffix == ".js" else MESSAGES) == []


@pytest.mark.parametrize("path", CODE, ids=named)
def test_the_messages_of_a_file_read_as_english(path: Path) -> None:
    of_accounts = path.parent.name in {"accounts", "console"}
    phrases = MESSAGES if of_accounts else EVERYWHERE
    found = {
        line: wrong
        for line, text in strings(path, docstrings=False)
        if (wrong := found_in(text, phrases))
    }
    assert found == {}


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_the_help_of_the_commands_reads_as_english(path: Path) -> None:
    found = {
        line: wrong
        for line, text in strings(path, docstrings=True)
        if (wrong := found_in(text, EVERYWHERE))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Look into your\n mail", 1), ("A letter with a link is on its way", 2),
        ("anew on 1 May", 1),
        ("3 to 32 letters, digits", 0), ("starting with a letter or digit", 0),
        ("a two-letter country code", 0), ("This user name is taken.", 0),
        ("photos blurred at once in one worker", 0), ("a renewal", 0),
    ],
)  # fmt: skip
def test_phrases_are_found_across_lines_and_usual_english_is_left_alone(
    text: str, count: int
) -> None:
    assert len(found_in(text, MESSAGES)) == count
