"""What goes with a shipped model: its card, and the figures that the docs quote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plateblur.types import BlurOptions

TABLE_OPENS = "<!-- figures: written by training/promote.py -->"
TABLE_CLOSES = "<!-- /figures -->"
"""Between these marks in a page stands the table of figures."""

LICENCE = "AGPL-3.0"  # Source: that of the ultralytics weights which every run starts from.

INTENDED_USE = (
    "Finding the licence plates of vehicles in still photos so that they can be hidden. Photos as "
    "the guidance asks: properly exposed, unobstructed, plates at least 1:15 of the picture's "
    "height."
)

LIMITS = (
    "No detector finds every plate: look at the output, above all where a plate is smaller than "
    "1:15, cut by the picture's edge, half covered, or strongly tilted.",
    "Lettering on vehicles and street signs is sometimes taken for a plate and blurred.",
    "It finds plates; it does not read them, and nothing else that identifies a person (faces, "
    "house numbers, stickers) is found.",
)
"""What is so for every model; `limits_on` adds what its own test set says."""

FEW_PLATES = 30  # a range with fewer has an interval of more than 10 points even where all is found


def earlier_runs(
    record: Mapping[str, Any], card: Mapping[str, Any] | None
) -> Iterator[tuple[Mapping[str, Any], list[dict[str, Any]] | None]]:
    """Yield the runs before a run, latest first, each with its data sets or None if unknown.

    A restored model ends the list, because its card names the sets of all runs before its own.

    Args:
        record: of the run.
        card: of the shipped model, which may be what the run was restored from.
    """
    before = record.get("weights_run")
    while before:
        if "card" in before:
            yield before, before["card"]["data_sets"]
            return
        if card is not None and before == card["training"]:
            yield before, card["data_sets"]
            return
        yield before, before.get("data_sets")
        before = before.get("weights_run")


def all_data_sets(
    own: Iterable[dict[str, Any]], record: Mapping[str, Any], card: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return the sets of a run and of all runs before it, because weights carry both.

    Args:
        own: of the run.
        record: of the run.
        card: of the shipped model.
    """
    sets = {one["set"]: one for one in own}
    for _, earlier in earlier_runs(record, card):
        for one in earlier or [UNKNOWN_SETS]:
            sets.setdefault(one["set"], {"trained_on_by": "an earlier run", **one})
    return list(sets.values())


UNKNOWN_SETS = {
    "set": "unknown",
    "source": "an earlier run that didn't write down its sets",
    "licence": "unknown",
    "region": "unknown",
    "photos": {"train": 0, "val": 0, "test": 0},
}


def limits_on(figures: Mapping[str, Any], data_sets: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what a model can't do, or what nobody knows of it, by its own test set.

    Args:
        figures: those that are quoted, on test.
        data_sets: with their regions and photos by split.
    """
    overall = figures["overall"]
    regions = sorted({one["region"] for one in data_sets if one["photos"]["test"]})
    lines = [
        f"The figures are about photos like the {overall['photos']} of the test split: "
        f"{'; '.join(regions) or 'regions unknown'}. Other regions were not measured."
    ]
    for name, group in figures["ranges"].items():
        if group["plates"] < FEW_PLATES:
            lines.append(
                f"{name}: the test split has {group['plates']} plates, too few to say how many are "
                "missed."
            )
        elif group["covered99"]["value"] < 1:
            lines.append(
                f"{name}: {1 - group['covered99']['value']:.1%} of the plates of the test split "
                "are not fully hidden."
            )
    lines.append(
        f"{overall['false_boxes_per_photo']:.3f} boxes a photo are on something that is no plate."
    )
    return lines


def figures_to_quote(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that card and docs give, misses first, rounded as they are printed."""

    def plates(group: Mapping[str, Any]) -> dict[str, Any]:
        shares = {
            key: {part: _rounded(group[key][part]) for part in ("value", "low", "high")}
            for key in ("covered99", "recall")
        }
        counts = {"plates": group["plates"], "missed": group["missed"]["count"]}
        return {**counts, "miss_rate": _rounded(group["missed"]["value"]), **shares}

    def boxes(group: Mapping[str, Any]) -> dict[str, Any]:
        rounded = {
            key: _rounded(group[key])
            for key in ("false_boxes_per_photo", "ap50", "ap50_95", "over_blur")
        }
        return {
            "photos": group["photos"],
            **plates(group),
            "precision": _rounded(group["precision"]["value"]),
            **rounded,
        }

    def all_of(groups: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "ranges": {name: plates(group) for name, group in groups["ranges"].items()},
            "by_ratio": {name: plates(group) for name, group in groups["by_ratio"].items()},
            "overall": boxes(groups["overall"]),
            "by_set": {name: boxes(group) for name, group in groups["by_set"].items()},
        }

    quoted = {
        "split": metrics["split"],
        "min_confidence": metrics["min_confidence"],
        "margin": metrics["margin"],
        "labels": metrics["labels"],
        **all_of(metrics),
    }
    if "labels_as_they_are" in metrics:
        quoted["labels_as_they_are"] = all_of(metrics["labels_as_they_are"])
    return quoted


def model_card(
    metrics: Mapping[str, Any],
    *,
    figures: Mapping[str, Any],
    record: Mapping[str, Any],
    export: Mapping[str, Any],
    data_sets: list[dict[str, Any]],
    date: str,
) -> dict[str, Any]:
    """Return the card of a model: what it misses, what it is for, and what it was made of.

    Args:
        metrics: of `evaluate` on the test split.
        figures: those that are quoted.
        record: of the run.
        export: what the ONNX file says of itself.
        data_sets: with licences and counts.
        date: of the promotion.
    """
    network = Path(record["config"].get("model", record["weights"])).stem
    return {
        "name": f"plateblur-{network}-{export['input_size']}",
        "missed_on_test": [
            missed_sentence(name, group)
            for name, group in [*figures["ranges"].items(), ("all plates", figures["overall"])]
            if group["plates"]
        ],
        "intended_use": INTENDED_USE,
        "limits": [*LIMITS, *limits_on(figures, data_sets)],
        "file": "plates.onnx",
        "sha256": metrics["model"]["sha256"],
        "bytes": metrics["model"]["bytes"],
        "date": date,
        "licence": LICENCE,
        "blur": {
            "margin": BlurOptions().margin,
            "min_confidence": BlurOptions().min_confidence,
        },
        "figures": dict(figures),
        "data_sets": data_sets,
        "training": dict(record),
        "export": dict(export),
    }


def pages_with_figures(pages: Iterable[Path], figures: Mapping[str, Any]) -> dict[Path, bytes]:
    """Return the new content of each page that has a place for the table of figures.

    Args:
        pages: Markdown files; those without the two marks, or that don't exist, are left out.
        figures: those that are quoted.
    """
    table = "\n".join(["", *figures_table(figures), ""])
    content = {}
    for page in pages:
        before, opened, rest = (page.read_text() if page.exists() else "").partition(TABLE_OPENS)
        _, closed, after = rest.partition(TABLE_CLOSES)
        if opened and closed:
            content[page] = f"{before}{opened}\n{table}\n{closed}{after}".encode()
    return content


def figures_table(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table that the docs show, misses first."""
    overall = figures["overall"]
    lines = [
        f"On {overall['photos']} photos of the {figures['split']} split, "
        f"{overall['plates']} plates, minimum confidence {figures['min_confidence']:g} and margin "
        f"{figures['margin']:g} (in brackets 95 % intervals):",
        "",
        "| plates | number | not hidden at all | at least 99 % hidden | found (IoU 0.5) |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, group in [*figures["ranges"].items(), ("all", overall)]:
        if group["plates"]:
            shares = [
                f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})"
                for share in (group["covered99"], group["recall"])
            ]
            cells = [name, str(group["plates"]), str(group["missed"]), *shares]
            lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"Boxes on something that is no labelled plate: {overall['false_boxes_per_photo']:.3f} a "
        f"photo. AP50 {overall['ap50']:.3f}, AP50-95 {overall['ap50_95']:.3f}.",
    ]


def missed_sentence(name: str, group: Mapping[str, Any]) -> str:
    """Return how many plates of a group stay readable, for people."""
    return (
        f"{name}: {group['missed']} of {group['plates']} plates missed; "
        f"{group['covered99']['value']:.1%} at least 99 % hidden "
        f"(95 % interval {group['covered99']['low']:.1%} to {group['covered99']['high']:.1%})"
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
