"""Fill the marks that show what was measured or counted: thresholds, plans, licences, notices.

MkDocs calls it after `generate.py` and `measured_runs.py`, so a mark that none of them fills stops
the build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from plateblur.accounts.types import PREDICTIONS_PER_MONTH, PRICE_CENTS, PlanKind
from plateblur.detector import near_model, offered_models, shipped_model
from plateblur.looks import plan_looks
from plateblur.sets.licences import train_photos

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MARK = re.compile(r"^<!-- generated: ([a-z0-9-]+) -->$", re.MULTILINE)

SIZES = {
    "1920 x 1080": (1080, 1920),
    "4000 x 3000 (12 megapixels)": (3000, 4000),
    "8160 x 6120 (50 megapixels)": (6120, 8160),
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with each mark replaced by what it names.

    Raises:
        KeyError: a mark that no hook fills.
    """
    return MARK.sub(lambda mark: GENERATED[mark[1]](), markdown)


def thresholds() -> str:
    """Return what each minimum confidence misses and blurs without need."""
    results = _results("thresholds.json")
    if results is None:
        return "Not measured yet: run `benchmarks/thresholds.py`."
    first = results["corrected"][0], results["original"][0]
    header = [
        "minimum confidence",
        *(
            title
            for labels, row in zip(("corrected", "original"), first, strict=True)
            for title in (
                f"{labels} labels: missed within 1:15, of {row['within 1:15']['plates']}",
                f"missed of all {row['all']['plates']}",
                "false boxes in 100 photos",
            )
        ),
    ]
    rows = [
        [
            f"{corrected['min_confidence']:.2f}",
            *(
                cell
                for row in (corrected, original)
                for cell in (
                    str(row["within 1:15"]["missed"]),
                    str(row["all"]["missed"]),
                    f"{100 * row['false_boxes_per_photo']:.1f}",
                )
            ),
        ]
        for corrected, original in zip(results["corrected"], results["original"], strict=True)
    ]
    return f"{results['photos']} photos of {results['split']}:\n\n" + _table(header, rows)


def looks_by_size() -> str:
    """Return how often the model looks at photos of common sizes."""
    card = json.loads((ROOT / "plateblur" / "models" / "plates.json").read_text())
    model = {key: card["export"][key] for key in ("input_size", "stride")}
    ways: dict[str, dict[str, Any]] = {
        "`--fast`": {"effort": "fast"},
        "`--smallest-plate-px 24`": {"smallest_plate_px": 24.0},
        "default": {},
        "`--thorough`": {"effort": "thorough"},
    }

    def looks(size: tuple[int, int], way: Mapping[str, Any]) -> int:
        near = near_model(shipped_model()) and way.get("effort") != "fast"
        return plan_looks(size, **model, **way).searched.looks + bool(near)

    rows = [
        [name, *(str(looks(size, way)) for way in ways.values())] for name, size in SIZES.items()
    ]
    return _table(["photo", *ways], rows)


def plan_cost() -> str:
    """Return how many photos a month of a plan covers, and what 1,000 of them cost."""
    results = _results("thresholds.json")
    if results is None:
        return "Not measured yet: run `benchmarks/thresholds.py`."
    counted = results["counted"]
    photos = PREDICTIONS_PER_MONTH / counted["predictions_a_photo"]
    rows = [
        [kind.value, f"{cents / 100:.2f} USD", f"{cents / 100 / (photos / 1000):.2f} USD"]
        for kind, cents in (
            (PlanKind.MONTHLY, PRICE_CENTS[PlanKind.MONTHLY]),
            (PlanKind.YEARLY, PRICE_CENTS[PlanKind.YEARLY] / 12),
        )
    ]
    return (
        f"The photos of {results['split']} show {counted['plates_a_photo']:.2f} plates each on "
        f"average, and the detector keeps {counted['predictions_a_photo']:.2f} boxes of at least "
        f"{counted['floor']:g}, so {PREDICTIONS_PER_MONTH:,} predictions are about "
        f"{round(photos, -2):,.0f} such photos.\n\n"
        + _table(["plan", "a month", "1,000 such photos, if all are used"], rows)
    )


def data_card() -> dict[str, Any]:
    """Return the card that names every data set: of the network for near plates, the latest."""
    model = near_model(shipped_model()) or shipped_model()
    card: dict[str, Any] = json.loads(model.with_suffix(".json").read_text())
    return card


def offered() -> str:
    """Return the models that are shipped beside the default, with their figures beside its own."""
    models = ROOT / "plateblur" / "models"
    cards = {
        name: json.loads((models / file).with_suffix(".json").read_text())
        for name, file in {
            "default": "plates",
            **{f"`{name}`": f"plates-{name}" for name in offered_models()},
        }.items()
    }

    def share(covered: dict[str, float]) -> str:
        return "{value:.1%} ({low:.1%} to {high:.1%})".format(**covered)

    figures = [card["figures"] for card in cards.values()]
    first = figures[0]
    rows = [
        ["training photos", *(str(train_photos(card["data_sets"])[1]) for card in cards.values())],
        [
            "of them from sets without a clear licence",
            *(str(train_photos(card["data_sets"])[0]) for card in cards.values()),
        ],
        [
            "size",
            *(
                f"{(card['bytes'] + (card.get('near') or {'bytes': 0})['bytes']) / 1e6:.0f} MB"
                for card in cards.values()
            ),
        ],
        *(
            [
                f"{name}, {group['plates']} plates: at least 99 % hidden",
                *(share(one["ranges"][name]["covered99"]) for one in figures),
            ]
            for name, group in first["ranges"].items()
        ),
        [
            "false boxes a photo",
            *(f"{one['overall']['false_boxes_per_photo']:.3f}" for one in figures),
        ],
    ]
    title = f"{first['overall']['photos']} photos of the {first['split']} split, corrected labels"
    return _table([title, *cards], rows)


def licences() -> str:
    """Return which share of the training photos of what is shipped has no clear licence."""
    return f"**{data_card()['training_photos']}**"


def attributions() -> str:
    """Return the credit of each data set behind what is shipped."""
    return "\n".join(f"- {one['attribution']}" for one in data_card()["data_sets"])


def third_party() -> str:
    """Return the table of `THIRD_PARTY.md`."""
    text = (ROOT / "THIRD_PARTY.md").read_text()
    return text[text.index("| package") :].strip()


def _results(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def any_way(name: str = "any_way.json") -> str:
    """Return what detectors hide of photos that are turned, tilted, shaken or all plate."""
    results = _results(name)
    if results is None:
        return "Not measured yet: run `benchmarks/any_way.py`."
    names = list(results["figures"])
    rows = []
    for kind, first in results["figures"][names[0]].items():
        for size in (key for key in first if key not in ("photos", "false boxes")):
            hidden = [results["figures"][name][kind][size]["hidden"] for name in names]
            label = f"{kind}, {size}"
            rows.append([label, str(first[size]["plates"]), *map(str, hidden)])
        false = [results["figures"][name][kind]["false boxes"] for name in names]
        rows.append([f"{kind}: false boxes in {first['photos']} photos", "", *map(str, false)])
    how = "one look" if results["effort"] == "fast" else "the looks of the default"
    return _table([f"hidden to 99 %, {how}", "plates", *names], rows)


def near_gate() -> str:
    """Return what the gate compared when it let the network for near plates pass."""
    near = near_model(shipped_model())
    if near is None:
        return "No network for near plates is shipped."
    card = json.loads(near.with_suffix(".json").read_text())
    return _differences(card["compared"], ("without it", "with it"))


def mutants() -> str:
    """Return the share of random changes of the code that the tests notice."""
    results = _results("mutants.json")
    if results is None:
        return "Not measured yet: run `python -m benchmarks.mutants`."
    rows = [
        [
            ", ".join(f"`{pattern}`" for pattern in row["files"]),
            str(row["mutants"]),
            f"{row['noticed']} of {row['sample']}",
            f"{row['share']:.0%}",
            f"{row['interval'][0]:.0%} to {row['interval'][1]:.0%}",
        ]
        for row in results["rows"].values()
    ]
    missing = results["missing"]
    which = "these" if missing else "the"
    header = ["files", "possible changes", "noticed", "share", "95 % interval"]
    text = (
        f"{_table(header, rows)}\n\nOf all changes of {which} detection files about "
        f"{results['detection']['share']:.0%} are noticed (95 % interval: "
        f"{results['detection']['interval'][0]:.0%} to {results['detection']['interval'][1]:.0%}), "
        "each row weighing as many as it has."
    )
    return f"{text} Not measured yet: {', '.join(missing)}." if missing else text


def any_way_gate() -> str:
    """Return what the gate compared when it refused the detector of 896 px."""
    results = _results("any_way_gate.json")
    if results is None:
        return "Not measured yet: `training/promote.py` asks the gate."
    splits = {split: results[split] for split in ("test", "kept apart")}
    return _differences(splits, ("shipped", "896, own 1"))


def _differences(splits: Mapping[str, Mapping[str, Any]], names: tuple[str, str]) -> str:
    rows = []
    for split, figures in splits.items():
        for figure, row in figures.items():
            change = row["difference"]
            if change["value"] is None:
                continue
            rows.append(
                [
                    f"{split}: {figure}",
                    f"{row['first']:.3f}",
                    f"{row['second']:.3f}",
                    f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]",
                ]
            )
    return _table(["", *names, "difference, 95 % interval"], rows)


def moving() -> str:
    """Return the share of plates in frames that each way of looking at a clip hides."""
    results = _results("moving.json")
    if results is None:
        return "Not measured yet: run `python -m benchmarks.moving`."
    kinds = {"photos": "dashcam photos", "mosaics": "street photos, 2 x 2"}
    rows = []
    for name, kind in results["figures"]["val"].items():
        for way, figures in kind.items():
            if not isinstance(figures, dict):
                continue
            shares = [figures.get(ratio) for ratio in ("within 1:15", "1:15-1:30", "1:30-1:60")]
            beside = figures["scenery hidden beside plates, share of a frame"]
            rows.append(
                [
                    f"{kind['clips']} of {kinds[name]}",
                    f"`{way}`" if way == "plateblur video" else way,
                    *(f"{each['share']:.3f} of {each['plates in frames']}" if each else "none"
                      for each in shares),
                    f"{beside:.2%}",
                ]
            )  # fmt: skip
    header = ["clips", "way", "within 1:15", "1:15 to 1:30", "1:30 to 1:60", "hidden beside plates"]
    return _table(header, rows)


def cases() -> str:
    """Return the inputs that went wrong for others, what each must give, and whether it does."""
    results = _results("cases.json")
    if results is None:
        return "Not measured yet: run `python -m benchmarks.cases`."
    rows = []
    for case in results["cases"]:
        failed = [what for what, holds in case["checks"].items() if not holds]
        outcome = f"not: {', '.join(failed)}" if failed else f"yes, {len(case['checks'])} checks"
        rows.append([f"`{case['file']}`", case["required"], outcome])
    return _table(["input", "required", "as required"], rows)


def long_clip() -> str:
    """Return what an hour of 1080p took, killed twice and resumed."""
    results = _results("long_clip.json")
    if results is None:
        return "Not measured yet: run `python -m benchmarks.long_clip`."
    out, kills = results["output"], len(results["killed_after"])
    return (
        f"{results['clip']} on {results['machine']}, killed {kills} times and resumed: at most "
        f"{results['memory_mb_most']:.0f} MB of memory; {out['frames_out']} of {out['frames']} "
        f"frames, {out['plates_hidden']} of {out['plates_in_them']} plates hidden in the "
        f"{out['frames_looked_at']} frames that were checked, {out['beeps']} beeps of the sound, "
        f"none out of step by more than {out['sound_out_of_step_ms_most']} ms."
    )


def live_memory() -> str:
    """Return the memory of a live picture over time."""
    results = _results("live.json")
    if results is None:
        return "Not measured yet: run `python -m benchmarks.live`."
    settled = results["memory_mb_settled"]
    return (
        f"{results['source']}: {settled['first_quarter']} MB of memory in the first quarter after "
        f"two minutes, {settled['last_quarter']} MB in the last, {results['memory_mb_most']:.0f} "
        "MB at most."
    )


GENERATED: dict[str, Callable[[], str]] = {
    "any-way": any_way,
    "any-way-gpu": partial(any_way, "any_way_gpu.json"),
    "any-way-averages": partial(any_way, "any_way_averages.json"),
    "any-way-once": partial(any_way, "any_way_once.json"),
    "near": partial(any_way, "near.json"),
    "near-both": partial(any_way, "near_both.json"),
    "clear": partial(any_way, "clear.json"),
    "offered": offered,
    "near-gate": near_gate,
    "any-way-gate": any_way_gate,
    "attributions": attributions,
    "cases": cases,
    "licences": licences,
    "live-memory": live_memory,
    "long-clip": long_clip,
    "looks-by-size": looks_by_size,
    "moving": moving,
    "mutants": mutants,
    "plan-cost": plan_cost,
    "third-party": third_party,
    "thresholds": thresholds,
}
