"""The card of the shipped model and the tables of the docs, written from its figures.

    python -m training.card

`training/promote.py` writes both when it promotes a model. This module writes them again without
measuring anything, after a change of their wording.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plateblur.sets.licences import attribution, licences_sentence
from plateblur.types import BlurOptions
from training.checkout import ROOT

TABLE_OPENS = "<!-- figures: written by training/promote.py -->"
TABLE_CLOSES = "<!-- /figures -->"
"""The table of figures goes between these marks in a page."""

NEAR = "plates-near.onnx"  # the file of the network for near plates, beside plates.onnx

LICENCE = "AGPL-3.0"  # Source: that of the ultralytics weights which every run starts from.

INTENDED_USE = (
    "Finding the licence plates of vehicles in still photos so that they can be hidden. Photos as "
    "the guidance asks: properly exposed, unobstructed, plates at least 1:15 of the picture's "
    "height."
)

LIMITS = (
    "No detector finds every plate. Check the output, above all where a plate is smaller than "
    "1:15, cut by the picture's edge, half covered, or strongly tilted.",
    "Lettering on vehicles and street signs is sometimes taken for a plate and blurred.",
    "It finds plates and does not read them. It finds nothing else that identifies a person, such "
    "as faces, house numbers and stickers.",
)

FEW_PLATES = 30  # a range with fewer has an interval of more than 10 points even where all is found

CORRECTED = (
    "**Corrected labels** are this project's own. Many plates had no label, and some labels were "
    "beside their plate. Candidates were found with the help of the project's own detectors, and "
    "the boxes were drawn by a vision model on enlarged photos under rulers, not by people. This "
    "favours PlateBlur. **Original labels** are those of the data sets, unchanged: a plate "
    "without a label counts there as a false box."
)


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


def limits_on(figures: Mapping[str, Any], data_sets: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the known limits of a model, and what its test set can't show.

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


def model_card(
    metrics: Mapping[str, Any],
    *,
    figures: Mapping[str, Any],
    record: Mapping[str, Any],
    export: Mapping[str, Any],
    data_sets: list[dict[str, Any]],
    date: str,
    file: str = "plates.onnx",
    tested_on: Iterable[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the card of a model: what it misses, what it is for, and what it was made of.

    Args:
        metrics: of `evaluate` on the test split.
        figures: those that are quoted.
        record: of the run.
        export: the ONNX file's metadata.
        data_sets: with licences and counts.
        date: of the promotion.
        file: its name among the models.
        tested_on: the sets of the test split, if it has others than those trained on.
    """
    before = figures.get("labels_as_they_are", {})
    before = {**before.get("ranges", {}), "all plates": before["overall"]} if before else {}
    network = Path(record["config"].get("model", record["weights"])).stem
    return {
        "name": f"plateblur-{network}-{export['input_size']}",
        "missed_on_test": [
            missed_sentence(name, group, original=before.get(name))
            for name, group in {**figures["ranges"], "all plates": figures["overall"]}.items()
            if group["plates"]
        ],
        "training_photos": licences_sentence(data_sets),
        "intended_use": INTENDED_USE,
        "limits": [*LIMITS, *limits_on(figures, tested_on or data_sets)],
        "file": file,
        "sha256": metrics["model"]["sha256"],
        "bytes": metrics["model"]["bytes"],
        "near": metrics["model"].get("near"),  # the network for near plates beside it, if any
        "date": date,
        "licence": LICENCE,
        "blur": {
            "margin": BlurOptions().margin,
            "min_confidence": BlurOptions().min_confidence,
        },
        "figures": dict(figures),
        "data_sets": [{**one, "attribution": attribution(one)} for one in data_sets],
        "training": dict(record),
        "export": dict(export),
    }


def pages_with_figures(pages: Iterable[Path], figures: Mapping[str, Any]) -> dict[Path, bytes]:
    """Return the new content of each page that has a place for the table of figures.

    Args:
        pages: Markdown files; those that don't exist or lack the two marks are skipped.
        figures: those that are quoted.
    """
    content = {}
    for page in pages:
        before, opened, rest = (page.read_text() if page.exists() else "").partition(TABLE_OPENS)
        _, closed, after = rest.partition(TABLE_CLOSES)
        if opened and closed:
            table = "\n".join(figures_table(figures))
            content[page] = f"{before}{opened}\n\n{table}\n\n{closed}{after}".encode()
    return content


def figures_table(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table that the docs show, misses first, both kinds of labels."""
    kinds = {"": figures}
    if "labels_as_they_are" in figures:
        kinds = {"corrected labels": figures, "original labels": figures["labels_as_they_are"]}
    header = ["plates"]
    for kind in kinds:
        header += [f"{kind}: plates" if kind else "number", "missed", "at least 99 % hidden"]
    rows = []
    for name in [*figures["ranges"], "all"]:
        cells = []
        for groups in kinds.values():
            group = groups["overall"] if name == "all" else groups["ranges"][name]
            share = group["covered99"]
            cells += [str(group["plates"]), str(group["missed"]), _interval(share)]
        if any(cell not in ("0", "") for cell in cells):
            rows.append([name, *cells])
    return [
        f"On {figures['overall']['photos']} photos of the {figures['split']} split, at a minimum "
        f"confidence of {figures['min_confidence']:g} and a margin of {figures['margin']:g}, with "
        "95 % intervals in brackets:",
        "",
        *(
            f"| {' | '.join(row)} |"
            for row in [header, ["---", *["--:"] * (len(header) - 1)], *rows]
        ),
        "",
        "Missed: not one pixel of the plate is hidden. "
        + " ".join(
            f"{f'{kind}: '.capitalize() if kind else ''}"
            f"{groups['overall']['false_boxes_per_photo']:.3f} false boxes a photo, "
            f"AP50 {groups['overall']['ap50']:.3f}, AP50-95 {groups['overall']['ap50_95']:.3f}."
            for kind, groups in kinds.items()
        ),
        *(["", CORRECTED] if len(kinds) > 1 else []),
    ]


def missed_sentence(
    name: str, group: Mapping[str, Any], *, original: Mapping[str, Any] | None = None
) -> str:
    """Return a sentence that says how many plates of a group stay readable.

    Args:
        name: of the group.
        group: its figures.
        original: the same with the original labels of the data sets, if they were corrected.
    """
    if original is not None:
        own = missed_sentence(name, group)
        return f"{own}; original labels: {_missed(original)}"
    return f"{name}: {_missed(group)}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _missed(group: Mapping[str, Any]) -> str:
    share = group["covered99"]
    hidden = (
        ""
        if share["value"] is None
        else (
            f"; {share['value']:.1%} at least 99 % hidden "
            f"(95 % interval {share['low']:.1%} to {share['high']:.1%})"
        )
    )
    return f"{group['missed']} of {group['plates']} plates missed{hidden}"


def _interval(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return ""
    return f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})"


def as_json(value: Mapping[str, Any]) -> bytes:
    """Return a value as the card and the figures are written."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, because the service may be reading the one in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(data)
    beside.replace(path)


def rewrite(*, models: Path, docs: Path, readme: Path) -> list[Path]:
    """Write the card and the tables again from the figures in the card; return the files.

    Args:
        models: folder of the shipped model and its card.
        docs: folder of the pages.
        readme: another page.
    """
    path = models / "plates.json"
    card = json.loads(path.read_text())
    named = {key: card[key] for key in ("figures", "export", "data_sets", "date")}
    model = {key: card[key] for key in ("sha256", "bytes", "near") if key in card}
    again = model_card({"model": model}, record=card["training"], **named)
    written = {
        path: as_json(again | {key: card[key] for key in card if key not in again}),
        **pages_with_figures([readme, *sorted(docs.rglob("*.md"))], card["figures"]),
    }
    for file, content in written.items():
        replace_file(file, content)
    return list(written)


def main() -> None:
    """Write the card and the tables again."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    models, docs = ROOT / "plateblur" / "models", ROOT / "docs"
    for path in rewrite(models=models, docs=docs, readme=ROOT / "README.md"):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
