"""The report in Markdown, made from `metrics.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def report(metrics: Mapping[str, Any]) -> str:
    """Return the report as Markdown, from the content of `metrics.json`."""
    overall, within = metrics["overall"], metrics["ranges"]["within 1:15"]
    lines = [
        f"# {metrics['model']['file']} on {metrics['split']}",
        "",
        f"{overall['photos']} photos, {overall['plates']} plates, labels {metrics['labels']}; "
        f"minimum confidence {metrics['min_confidence']:g}, margin {metrics['margin']:g}. "
        f"Commit {metrics['commit'][:12]}, model sha256 {metrics['model']['sha256'][:12]}.",
        "",
        "## Missed plates",
        "",
        _misses_sentence("Within 1:15", within),
        _misses_sentence("Over all plates", overall),
        "",
        "Missed: not one pixel of the plate is hidden. covered99: at least 99 % of it is hidden. "
        "Recall: a box is on it at IoU 0.5. In brackets: 95 % Wilson intervals.",
        "",
        *_plate_table({**metrics["ranges"], "all": overall}, "plates"),
        "",
    ]
    if "labels_as_they_are" in metrics:
        before = metrics["labels_as_they_are"]
        lines += [
            "The same with the labels as they are, uncorrected:",
            "",
            *_plate_table({**before["ranges"], "all": before["overall"]}, "plates"),
            "",
            *_box_table({"corrected labels": overall, "labels as they are": before["overall"]}, ""),
            "",
        ]
    lines += [
        "## By plate ratio",
        "",
        *_plate_table(metrics["by_ratio"], "plate ratio"),
        "",
        *_box_table(metrics["by_ratio"], "plate ratio"),
        "",
        "![recall by plate ratio](recall-by-ratio.png)",
        "",
        "## Boxes: precision, AP, false boxes, over-blur",
        "",
        "A false box overlaps no labelled plate (IoU below 0.1). Over-blur is the share of the "
        "picture that is blurred outside plates.",
        "",
        *_box_table({"all": overall}, ""),
        "",
    ]
    if metrics["false_boxes_on"]:
        lines += _table(
            ["false boxes are on", "boxes"],
            [[k, str(v)] for k, v in metrics["false_boxes_on"].items()],
        )
        lines.append("")
    lines += ["![precision and recall](precision-recall.png)", ""]
    for key in ("set", "region"):
        if metrics[f"by_{key}"]:
            lines += [
                f"## By {key}",
                "",
                *_plate_table(metrics[f"by_{key}"], key),
                "",
                *_box_table(metrics[f"by_{key}"], key),
                "",
            ]
    if metrics["by_set"]:
        lines += [
            "AP50-95 by set and distance:",
            "",
            *_fit_table(metrics["by_set_and_distance"]),
            "",
        ]
    lines += ["## Thresholds", "", _recall_answer(metrics), "", *_threshold_table(metrics), ""]
    error = metrics["calibration"]["expected_calibration_error"]
    lines += [
        "## Calibration",
        "",
        f"Mean gap between confidence and precision: {_number(error)}, over boxes from "
        f"{metrics['min_confidence']:g} up.",
        "",
        "![calibration](calibration.png)",
        "",
    ]
    if "angles" in metrics:
        lines += _angles(metrics["angles"])
    if "compared" in metrics:
        lines += _comparison(metrics)
    if metrics["detect_ms_median"] is not None:
        lines += [f"Detecting took {metrics['detect_ms_median']:g} ms a photo (median).", ""]
    return "\n".join(lines)


def _misses_sentence(where: str, group: Mapping[str, Any]) -> str:
    missed, hidden = group["missed"]["count"], group["covered99"]["count"]
    return (
        f"- {where}: of {group['plates']} plates {missed} are missed, and "
        f"{group['plates'] - hidden - missed} more are less than 99 % hidden."
    )


def _plate_table(groups: Mapping[str, Mapping[str, Any]], key: str) -> list[str]:
    header = [key, "plates", "missed", "covered99", "recall", "mean coverage"]
    rows = [
        [
            name,
            str(group["plates"]),
            _share(group["missed"]),
            _share(group["covered99"]),
            _share(group["recall"]),
            _number(group["mean_coverage"]),
        ]
        for name, group in groups.items()
    ]
    return _table(header, rows)


def _box_table(groups: Mapping[str, Mapping[str, Any]], key: str) -> list[str]:
    header = [key, "photos", "false boxes", "a photo", "precision", "AP50", "AP50-95", "over-blur"]
    rows = [
        [
            name,
            str(group["photos"]),
            str(group["false_boxes"]),
            _number(group["false_boxes_per_photo"]),
            _share(group["precision"]),
            _number(group["ap50"]),
            _number(group["ap50_95"]),
            _number(group["over_blur"], digits=4),
        ]
        for name, group in groups.items()
    ]
    return _table(header, rows)


def _fit_table(distances: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    header = ["set", *(f"{part} {name}" for name in distances for part in ("plates", "AP50-95"))]
    rows = [
        [
            name,
            *(
                cell
                for by_set in distances.values()
                for cell in (str(by_set[name]["plates"]), _number(by_set[name]["ap50_95"]))
            ),
        ]
        for name in next(iter(distances.values()))
    ]
    return _table(header, rows)


def _recall_answer(metrics: Mapping[str, Any]) -> str:
    answer = metrics["target_recall"]
    if answer["min_confidence"] is None:
        return (
            f"A recall of {answer['target']:g} within 1:15 is out of reach: even at "
            f"{metrics['confidence_floor']:g} fewer plates have a box on them."
        )
    now = metrics["overall"]["false_boxes_per_photo"]
    return (
        f"A recall of {answer['target']:g} within 1:15 needs a minimum confidence of "
        f"{answer['min_confidence']:.3f}, at {answer['cost']['false_boxes_per_photo']:.3f} false "
        f"boxes a photo ({now:.3f} at {metrics['min_confidence']:g}). "
        "Choose a threshold on val; on test this line is for reporting only."
    )


def _threshold_table(metrics: Mapping[str, Any]) -> list[str]:
    header = [
        *("minimum confidence", "recall within 1:15", "covered99 within 1:15"),
        *("recall", "covered99", "false boxes a photo"),
    ]
    rows = [
        [
            f"{row['min_confidence']:g}",
            _number(row["within 1:15"]["recall"]["value"]),
            _number(row["within 1:15"]["covered99"]["value"]),
            _number(row["overall"]["recall"]["value"]),
            _number(row["overall"]["covered99"]["value"]),
            _number(row["false_boxes_per_photo"]),
        ]
        for row in metrics["thresholds"]
    ]
    return _table(header, rows)


def _angles(angles: Mapping[str, Any]) -> list[str]:
    groups = {
        f"{kind} {degree} deg": one for kind in angles for degree, one in angles[kind].items()
    }
    return [
        "## Angles",
        "",
        "Drawn scenes by day, one plate of 1:14 to 1:10 each, turned to either side or tilted. "
        "They show how an angle changes the result, not how good it is on photos.",
        "",
        *_plate_table(groups, "angle"),
        "",
        "![recall by angle](recall-by-angle.png)",
        "",
    ]


def _comparison(metrics: Mapping[str, Any]) -> list[str]:
    other = metrics["compared"]
    names = distinct_names(other["model"], metrics["model"])
    return [
        "## Compared",
        "",
        f"{names[1]} against {names[0]} on the same photos; intervals of 95 % from a paired "
        "bootstrap over photos. An interval with 0 in it shows no difference.",
        "",
        *difference_table(other["differences"], names),
        "",
        *_box_table({names[0]: other["overall"], names[1]: metrics["overall"]}, "model"),
        "",
    ]


def distinct_names(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, str]:
    """Return different names for two models that appear together.

    Args:
        first: file name and sha256 of the model that is compared with.
        second: of the model in question.
    """
    if first["file"] != second["file"]:
        return first["file"], second["file"]
    names = [f"{one['file']} ({one['sha256'][:8]})" for one in (first, second)]
    return (names[0], names[1]) if names[0] != names[1] else (f"{names[0]} compared", names[1])


def difference_table(rows: Mapping[str, Mapping[str, Any]], names: tuple[str, str]) -> list[str]:
    """Return the lines of a table of `differences`, as Markdown.

    Args:
        rows: by figure.
        names: of the first and of the second model.
    """
    cells = []
    for figure, row in rows.items():
        by = row["difference"]
        interval = "" if by["low"] is None else f" [{by['low']:+.3f}, {by['high']:+.3f}]"
        change = "-" if by["value"] is None else f"{by['value']:+.3f}{interval}"
        cells.append([figure, _number(row["first"]), _number(row["second"]), change])
    return _table(["figure", names[0], names[1], "difference"], cells)


def _share(one: Mapping[str, Any]) -> str:
    if one["value"] is None:
        return "-"
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _number(value: float | None, *, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
