"""Fill the marks of the reference pages from the code, so that a page can't say otherwise.

MkDocs calls `on_page_markdown` for each page; a mark is a line `<!-- generated: NAME -->`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer.main

from plateblur import errors
from plateblur.cli import app
from plateblur.types import BlurOptions
from plateblur.web.failures import SENTENCES, STATUSES
from plateblur.web.settings import PREFIX, Settings, written

ROOT = Path(__file__).parents[1]
CARD = ROOT / "plateblur" / "models" / "plates.json"
RESULTS = ROOT / "benchmarks" / "results"
MARK = re.compile(r"^<!-- generated: ([a-z0-9-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with the marks of this file filled; `measured*.py` fill the others."""
    return MARK.sub(
        lambda mark: GENERATED[mark[1]]() if mark[1] in GENERATED else mark[0], markdown
    )


def settings() -> str:
    """Return the table of all settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        shown = written(field.default)
        text = f"{field.description}{'' if field.repr else ' (secret)'}".replace("|", "\\|")
        rows.append([f"`{PREFIX}{name.upper()}`", f"`{shown}`" if shown else "", text])
    return _table(["variable", "default", "what it does"], rows)


def error_codes() -> str:
    """Return the table of the service's codes."""
    rows = [[f"`{cd}`", str(STATUSES[cd]), sentence] for cd, sentence in SENTENCES.items()]
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
    data = json.loads(CARD.read_text())
    near = CARD.with_name("plates-near.json")
    # The network for near plates began from the detector, so its card names the sets of both.
    sets = json.loads(near.read_text()) if near.exists() else data
    rows = [
        [
            one["set"],
            f"{one['source']}, {one['licence']}",
            *(str(one["photos"][s]) for s in ("train", "val", "test")),
        ]
        for one in sets["data_sets"]
    ]
    return "\n".join(
        [
            f"**{data['name']}**, {data['date']}, {data['bytes'] / 1e6:.1f} MB, licence "
            f"{data['licence']}, sha256 `{data['sha256'][:16]}`...",
            "",
            "## Intended use",
            "",
            data["intended_use"],
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in data["limits"]),
            "",
            "## Data sets",
            "",
            f"**{sets['training_photos']}** All photos were reduced in size and stored without "
            "metadata. Many labels were converted or corrected.",
            "",
            _table(["set", "source, licence as stated", "train", "val", "test"], rows),
        ]
    )


COMPARISON = "compare: "  # begins the names of entries of `training/record.py` for short runs

FIGURES = {
    "covered99, within 1:15": "within 1:15: covered99",
    "recall, within 1:15": "within 1:15: recall",
    "covered99, 1:15-1:30": "1:15 to 1:30: covered99",
    "covered99, 1:30-1:60": "1:30 to 1:60: covered99",
    "covered99": "all: covered99",
    "ap50": "AP50",
    "ap50_95": "AP50-95",
    "false_boxes_per_photo": "false boxes a photo",
}
"""Figures of `training/evaluate.py` that tables of detectors show, misses first."""


def training_step() -> str:
    """Return how fast each way to train is."""
    data = json.loads((RESULTS / "training_step.json").read_text())
    rows = [
        [way, f"{seconds:.3f}", f"{data['times_as_fast'][way]:.2f}"]
        for way, seconds in data["seconds_an_image"].items()
    ]
    return "\n".join(
        [
            f"On {data['machine']} ({data['cpu']}), {data['network']}:",
            "",
            _table(["way", "s an image", "times as fast"], rows),
        ]
    )


def runs() -> str:
    """Return the detectors that were measured on val, with what they were trained by."""
    columns = {}
    for name, entry in _entries(split="val").items():
        if "compared" not in entry and not name.startswith(COMPARISON):
            hours = entry.get("training", {}).get("hours")
            columns[name] = [
                "" if hours is None else f"{hours:g}",
                entry["labels"],
                f"{entry['margin']:g}",
                *_figures(entry["figures"]),
                f"{entry['detect_ms_median']:g}",
            ]
    rows = ["hours of training", "labels", "margin", *FIGURES.values(), "ms a photo"]
    return _side_by_side("val", rows, columns)


def comparisons() -> str:
    """Return the short runs that were made to compare ways of training."""
    columns = {
        name.removeprefix(COMPARISON): [
            f"{entry['training']['hours']:g}",
            *_figures(entry["figures"]),
            f"{entry['detect_ms_median']:g}",
        ]
        for name, entry in _entries(split="val").items()
        if name.startswith(COMPARISON)
    }
    return _side_by_side("val", ["hours of training", *FIGURES.values(), "ms a photo"], columns)


def labels_corrected() -> str:
    """Return how many boxes the overlay corrects, by split, and the photos that it drops."""
    data = json.loads((ROOT / "docs" / "label-corrections.json").read_text())
    columns = {
        "add": "plates without a label, added",
        "move": "labels moved onto their plate",
        "mark": "false boxes named",
        "drop": "photos left out",
    }
    rows = [
        [split, *(str(corrected[action]) for action in columns)]
        for split, corrected in data.items()
    ]
    return _table(["split", *columns.values()], rows)


def label_findings() -> str:
    """Return what `datasets/review.py` found suspicious, by split and set."""
    data = json.loads((ROOT / "docs" / "label-findings.json").read_text())
    rows = [
        [split, name, *(str(number) for number in numbers.values())]
        for split, found in data.items()
        for name, numbers in found["sets"].items()
    ]
    kinds = next(iter(data["train"]["sets"].values()))
    return _table(["split", "set", *kinds], rows)


def label_corrections() -> str:
    """Return what the corrected labels change in the figures of a detector on test."""
    parts = []
    for name, entry in _entries(split="test").items():
        if "labels_as_they_are" in entry:
            columns = {
                "original labels": _figures(entry["labels_as_they_are"]),
                "corrected": _figures(entry["figures"]),
            }
            parts.append(_side_by_side(name, FIGURES.values(), columns))
    return "\n\n".join(parts)


def ap_by_set() -> str:
    """Return AP50-95 by set on test, near plates beside far ones, best first by the far ones."""
    parts = []
    for name, entry in _entries(split="test").items():
        near, far = entry["ap50_95_by_set"].values()
        sets = sorted(near | far, key=lambda one: -far.get(one, {"ap50_95": -1})["ap50_95"])
        rows = [[one, *_fit(near.get(one)), *_fit(far.get(one))] for one in sets]
        header = [name, "plates down to 1:30", "AP50-95", "plates below 1:30", "AP50-95"]
        parts.append(_table(header, rows))
    return "\n\n".join(parts)


def _fit(group: dict[str, float] | None) -> tuple[str, str]:
    """Return the cells of plates and AP50-95; a set may have no plate at a distance."""
    return ("0", "") if group is None else (str(group["plates"]), f"{group['ap50_95']:.3f}")


def redrawn() -> str:
    """Return how far plates that were drawn again agree with each other and with the labels."""
    data = json.loads((ROOT / "docs" / "redrawn.json").read_text())
    rows = [
        [group, *("" if share is None else str(share) for share in shares.values())]
        for group, shares in data.items()
    ]
    return _table(["group", *next(iter(data.values()))], rows)


def int8() -> str:
    """Return what 8-bit integers cost, of each detector that was measured in both."""
    return _differences(": int8", "fp32", "int8")


def second_look() -> str:
    """Return what the second look at unsure boxes changes, of each detector measured in both."""
    return _differences(": second look", "first look alone", "with the second")


def second_look_cost() -> str:
    """Return how many times as long as the first look alone detecting takes."""
    data = json.loads((RESULTS / "second_look.json").read_text())
    ratios = data["times_the_first_look"]
    rows = [[name, *(f"{ratio:g}" for ratio in each.values())] for name, each in ratios.items()]
    corner = f"{data['photos']} photos of {data['split']}, {data['machine']}"
    return _table([corner, *next(iter(ratios.values()))], rows)


def panoramas() -> str:
    """Return how many plates of panoramas are hidden, by width and by the way of looking."""
    data = json.loads((RESULTS / "panoramas.json").read_text())
    parts = [f"Photos of {data['split']}, projected at several heights ({data['machine']})."]
    for width, measured in data["by width"].items():
        hidden = measured["hidden"]
        groups = hidden["views"]
        rows = [
            [
                f"{name}, {found['plates']} plates",
                *(f"{of[name]['covered99']:.3f}" for of in hidden.values()),
            ]
            for name, found in groups.items()
        ]
        for figure in ("false boxes a panorama", "CPU seconds a panorama"):
            rows.append([figure, *(f"{measured[figure].get(way, '')}" for way in hidden)])
        corner = f"{measured['panoramas']} panoramas of {int(width):,} px: covered99"
        parts.append(_table([corner, *hidden], rows))
    large = data["100 MP"]
    memory = large["peak MB above the decoded photo"]
    parts.append(
        f"A panorama of {large['megapixels']:g} megapixels takes {large['looks']} looks, "
        f"{large['CPU seconds']:g} CPU seconds "
        f"and at most {memory} MB above the decoded photo, from bytes to bytes."
    )
    return "\n\n".join(parts)


def outlines() -> str:
    """Return what hiding outlines instead of boxes would change in drawn scenes."""
    data = json.loads((RESULTS / "outlines.json").read_text())
    rows = [
        [f"{tilt} degrees: {figure}", *(f"{value:g}" for value in measured[figure].values())]
        for tilt, measured in data.items()
        for figure in measured
        if figure != "plates"
    ]
    ways = next(iter(data.values()))["covered99"]
    return _table(["camera tilted", *ways], rows)


def looks() -> str:
    """Return what the looks hide of large, cut and turned photos, of far plates, by engine."""
    data = _looks_results()
    parts = []
    if "frames" in data:
        rows = [
            [
                f"{layout} photos side by side, {each['frames']['photos']} frames",
                str(each["frames"]["plates"]),
                *(f"{each[name]:.3f}" for name in SHARES_OF_FRAMES),
                f"{each['false boxes a look']:.3f}",
            ]
            for layout, each in data["frames"]["figures"].items()
        ]
        names = ["of what is hidden one by one", "12 px and more", "false boxes a look"]
        parts.append(_table(["frames", "plates", *names], rows))
    for piece, title in LOOKED_AT.items():
        if piece in data:
            parts.append(_looked_at(title, data[piece]["figures"]))
    return "\n\n".join(parts) or NOT_MEASURED


def _looks_results() -> dict[str, Any]:
    path = RESULTS / "looks.json"
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return data


NOT_MEASURED = "Not measured yet: run `benchmarks/looks.py`."
SHARES_OF_FRAMES = ("share of one by one", "share of one by one, 12 px and more")
LOOKED_AT = {
    "fill": "the plate fills so much of the width",
    "turned": "turned by degrees",
    "effort": "photos with a plate below 1:60",
    "engines": "the whole split",
}


def _looked_at(title: str, figures: dict[str, Any]) -> str:
    """Return a table of what was found, from {name: found} or {name: {effort: found}}."""
    found = {
        name if effort is None else f"{name}, {effort}": each
        for name, one in figures.items()
        for effort, each in ([(None, one)] if "plates" in one else one.items())
    }
    rows = [
        [
            name,
            str(each["plates"]),
            f"{each['covered99']:.3f}",
            "" if each["covered99 below 1:60"] is None else f"{each['covered99 below 1:60']:.3f}",
            f"{each['false boxes a photo']:.3f}",
            f"{each['looks a photo']:g}",
        ]
        for name, each in found.items()
    ]
    columns = ["plates", "at least 99 % hidden", "below 1:60", "false boxes a photo", "looks"]
    return _table([title, *columns], rows)


def looks_cost() -> str:
    """Return what looking for smaller plates costs on large frames."""
    data = _looks_results()
    if "cost" not in data:
        return NOT_MEASURED
    rows = [
        [
            name,
            f"{each['looks a photo']:g}",
            f"{each['times one look']:g}",
            f"{each['covered99']:.3f}",
        ]
        for name, each in data["cost"]["figures"].items()
    ]
    corner = f"7680 x 3840, {data['cost']['machine']}, {data['cost']['engine']}"
    return _table([corner, "looks", "times one look", "at least 99 % hidden"], rows)


def _differences(ending: str, first: str, second: str) -> str:
    """Return the comparisons on val whose entries have names with this ending."""
    parts = []
    for name, entry in _entries(split="val").items():
        if "compared" in entry and name.endswith(ending):
            found = entry["compared"]["differences"]
            rows = [
                [
                    figure.replace(",", ":"),
                    f"{row['first']:.3f}",
                    f"{row['second']:.3f}",
                    "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**row["difference"]),
                ]
                for figure, row in found.items()
                if row["difference"]["value"] is not None
            ]
            parts.append(_table([name.removesuffix(ending), first, second, "difference"], rows))
    return "\n\n".join(parts)


def rivals() -> str:
    """Return other detectors beside ours, on the same photos and counted by the same code."""
    data = json.loads((RESULTS / "rivals.json").read_text())
    parts = []
    for labels, key in (("corrected", "figures"), ("original", "labels as they are")):
        columns = {name: one[key] for name, one in data["detectors"].items()}
        corner = f"{data['photos']} photos of {data['split']}, {labels} labels"
        shown = {name: _figures(one) for name, one in columns.items()}
        parts += [_side_by_side(corner, FIGURES.values(), shown), _ahead(labels, columns)]
    return "\n\n".join(parts)


def _ahead(labels: str, columns: dict[str, dict[str, float]]) -> str:
    """Return in which rows our detector, the last column, is ahead of every other."""
    ours, others = columns["PlateBlur"], [one for n, one in columns.items() if n != "PlateBlur"]
    behind = [
        title
        for key, title in FIGURES.items()
        for best in [min if key == "false_boxes_per_photo" else max]
        if best(ours[key], *(one[key] for one in others)) != ours[key]
    ]
    where = "in every row" if not behind else f"in every row but {', '.join(behind)}"
    return f"With {labels} labels PlateBlur is ahead {where}."


def _side_by_side(corner: str, rows: Iterable[str], columns: dict[str, list[str]]) -> str:
    """Return a table with a row a figure, because a page has more room below than beside."""
    lines = [list(line) for line in zip(rows, *columns.values(), strict=True)]
    return _table([corner, *columns], lines)


def _entries(*, split: str) -> dict[str, Any]:
    """Return the measured detectors that `training/record.py` kept, on one split."""
    kept = json.loads((ROOT / "docs" / "training-runs.json").read_text())
    return {name: entry for name, entry in kept.items() if entry["split"] == split}


def _figures(figures: dict[str, float | None]) -> list[str]:
    values = (figures[name] for name in FIGURES)
    return ["" if value is None else f"{value:.3f}" for value in values]


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
        text = getattr(one, "help", None) or ""
        if one.param_type_name == "argument":
            rows.append([f"`{one.metavar or one.name.upper()}`", "", text])
        elif one.name != "help":
            plain = (
                one.default is not None and one.default is not False and not callable(one.default)
            )
            rows.append([f"`{', '.join(one.opts)}`", f"`{one.default}`" if plain else "", text])
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
    "ap-by-set": ap_by_set,
    "card": card,
    "commands": commands,
    "comparisons": comparisons,
    "error-codes": error_codes,
    "error-tree": error_tree,
    "int8": int8,
    "label-corrections": label_corrections,
    "label-findings": label_findings,
    "labels-corrected": labels_corrected,
    "looks": looks,
    "looks-cost": looks_cost,
    "options": options,
    "outlines": outlines,
    "panoramas": panoramas,
    "redrawn": redrawn,
    "rivals": rivals,
    "runs": runs,
    "second-look": second_look,
    "second-look-cost": second_look_cost,
    "settings": settings,
    "training-step": training_step,
}
