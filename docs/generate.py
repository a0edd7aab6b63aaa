"""Fill the marks of the reference pages from the code, so that a page can't say otherwise.

MkDocs calls `on_page_markdown` for each page; a mark is a line `<!-- generated: NAME -->`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer.main

from plateblur import errors
from plateblur.cli import app
from plateblur.types import BlurOptions
from plateblur.web.failures import SENTENCES, STATUSES
from plateblur.web.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
CARD = ROOT / "plateblur" / "models" / "plates.json"
MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with each mark replaced by what it names.

    Raises:
        KeyError: a mark that nothing here fills.
    """
    return MARK.sub(lambda mark: GENERATED[mark[1]](), markdown)


def settings() -> str:
    """Return the table of all settings."""
    rows = []
    for item in fields(Settings):
        default = item.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
        name = f"`{PREFIX}{item.name.upper()}`"
        secret = " (secret)" if item.metadata.get("secret") else ""
        told = f"{item.metadata['help']}{secret}".replace("|", "\\|")
        rows.append([name, f"`{shown}`" if shown else "", told])
    return _table(["variable", "default", "what it does"], rows)


def error_codes() -> str:
    """Return the table of the service's codes."""
    rows = [[f"`{cd}`", str(STATUSES[cd]), told] for cd, told in SENTENCES.items()]
    return _table(["cd", "status on `/v1`", "description starts with"], rows)


def error_tree() -> str:
    """Return the library's errors as `errors.py` draws them."""
    drawn = inspect.cleandoc((errors.__doc__ or "").split("\n\n")[1])
    return f"```text\n{drawn}\n```"


def options() -> str:
    """Return the defaults of the whole project."""
    rows = [[f"`{item.name}`", f"`{item.default!r}`"] for item in fields(BlurOptions)]
    return _table(["option", "default"], rows)


def commands() -> str:
    """Return the help of every command."""
    group = typer.main.get_command(app)
    return "\n".join(_command(group, "plateblur"))


def card() -> str:
    """Return what the card of the shipped model says, beside its figures."""
    if not CARD.exists():
        return "No model is shipped in this checkout."
    told = json.loads(CARD.read_text())
    rows = [
        [one["set"], one["licence"], *(str(one["photos"][s]) for s in ("train", "val", "test"))]
        for one in told["data_sets"]
    ]
    return "\n".join(
        [
            f"**{told['name']}**, {told['date']}, {told['bytes'] / 1e6:.1f} MB, licence "
            f"{told['licence']}, sha256 `{told['sha256'][:16]}`...",
            "",
            "## Intended use",
            "",
            told["intended_use"],
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in told["limits"]),
            "",
            "## Data sets",
            "",
            _table(["set", "licence as stated", "train", "val", "test"], rows),
        ]
    )


def _command(command: Any, path: str) -> list[str]:
    """Return the Markdown of one command, or of those below it where it is a group.

    Args:
        command: of click, or of the copy of it that typer brings along.
        path: what is typed to call it.
    """
    context = command.context_class(command, info_name=path)
    if hasattr(command, "list_commands"):
        named = [
            (name, command.get_command(context, name)) for name in command.list_commands(context)
        ]
        return [line for name, one in named for line in _command(one, f"{path} {name}")]
    rows = []
    for one in command.params:
        told = getattr(one, "help", None) or ""
        if one.param_type_name == "argument":
            rows.append([f"`{one.metavar or one.name.upper()}`", "", told])
        elif one.name != "help":
            plain = (
                one.default is not None and one.default is not False and not callable(one.default)
            )
            rows.append([f"`{', '.join(one.opts)}`", f"`{one.default}`" if plain else "", told])
    return [
        f"## `{path}`",
        "",
        inspect.cleandoc(command.help or ""),
        "",
        _table(["argument or option", "default", "what it does"], rows),
        "",
    ]


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


GENERATED: dict[str, Callable[[], str]] = {
    "card": card,
    "commands": commands,
    "error-codes": error_codes,
    "error-tree": error_tree,
    "options": options,
    "settings": settings,
}
