"""The plots of a report."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plateblur.guidance import GUIDANCE_RATIO
from plateblur.sets.metrics import Scores, calibration, precision_recall_curve, share

# Source: Okabe and Ito, "Color Universal Design": distinct with every kind of colour vision.
BLUE, ORANGE, PINK, GREY = "#0072B2", "#E69F00", "#CC79A7", "#777777"
LINES = ("-", "--")  # of the model, and of the one beside it
SHIFTS = (0.99, 1.01)  # of their points, so that intervals don't cover each other


RATIO_EDGES = (1, 5, 7.5, 10, 12.5, 15, 17.5, 20, 25, 30, 40, 50, 60, 80, 120, 1e6)
"""Between which denominators of the plate ratio plates are counted together."""


def draw_recall_by_ratio(models: Mapping[str, Scores], path: Path, *, of: str) -> None:
    """Draw recall and covered99 against the plate ratio, with the guidance's 1:15 as a line.

    Args:
        models: by the name in the legend; the first is drawn solid, a second dashed.
        path: of the picture.
        of: what was measured, for the title.
    """
    figure, axes = _empty_plot("plate ratio (plate height : picture height)", "share of plates")
    for (name, scores), line, shift in zip(models.items(), LINES, SHIFTS, strict=False):
        denominators = 1 / np.maximum(scores.plate_ratio, 1e-6)
        near = scores.plate_ratio >= GUIDANCE_RATIO
        for label, flags, colour, marker in (
            ("recall at IoU 0.5", scores.recalled, BLUE, "o"),
            ("at least 99 % hidden", scores.hidden, ORANGE, "s"),
        ):
            points = []
            for low, high in pairwise(RATIO_EDGES):
                inside = (denominators > low) & (denominators <= high)
                one = share(int(flags[inside].sum()), int(inside.sum()))
                if one.value is not None and one.low is not None and one.high is not None:
                    middle = float(np.median(denominators[inside]))
                    points.append(
                        (middle * shift, one.value, one.value - one.low, one.high - one.value)
                    )
            if points:
                x, y, below, above = np.array(points).T
                within = f"{flags[near].mean():.3f} within 1:15" if near.any() else "none within"
                axes.errorbar(
                    x, y, yerr=[below, above], color=colour, marker=marker, linestyle=line,
                    alpha=1 if line == "-" else 0.6, capsize=3, label=f"{name}: {label}, {within}",
                )  # fmt: skip
    axes.axvline(1 / GUIDANCE_RATIO, color=GREY, linestyle=":", label="guidance: 1:15")
    axes.set_title(f"What is found and hidden by plate ratio\n{of}")
    axes.set_xscale("log")
    ticks = [5, 10, 15, 20, 30, 60, 100]
    axes.set_xticks(ticks, [f"1:{tick}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left", fontsize=8)
    figure.savefig(path)


def draw_precision_recall(models: Mapping[str, Scores], path: Path, *, of: str) -> None:
    """Draw precision against recall, for all plates and within 1:15, with the shipped threshold.

    Args:
        models: by the name in the legend; the first is drawn solid, a second dashed.
        path: of the picture.
        of: what was measured, for the title.
    """
    figure, axes = _empty_plot("recall (IoU 0.5, one box a plate)", "precision")
    for (name, scores), line in zip(models.items(), LINES, strict=False):
        correct = scores.match[0] >= 0
        plate_within = np.append(scores.plate_ratio >= GUIDANCE_RATIO, False)
        box_within = np.where(
            correct, plate_within[scores.match[0]], scores.box_ratio >= GUIDANCE_RATIO
        )
        for label, boxes, plates, colour in (
            ("all plates", np.ones_like(box_within), len(scores.plate_ratio), BLUE),
            ("within 1:15", box_within, int(plate_within.sum()), ORANGE),
        ):
            precision, recall, confidence = precision_recall_curve(
                scores.box_confidence[boxes], correct[boxes], plates=plates
            )
            kept = int((confidence >= scores.min_confidence).sum())
            if kept:
                label += f", {recall[kept - 1]:.3f} at precision {precision[kept - 1]:.3f}"
                axes.plot(recall[kept - 1], precision[kept - 1], color=colour, marker="o")
            axes.plot(
                recall, precision, color=colour, linestyle=line,
                alpha=1 if line == "-" else 0.6, label=f"{name}: {label}",
            )  # fmt: skip
    thresholds = sorted({scores.min_confidence for scores in models.values()})
    at = " and ".join(f"{threshold:g}" for threshold in thresholds)
    axes.plot([], [], color=GREY, marker="o", linestyle="", label=f"at confidence {at}")
    axes.set_title(f"Precision against recall\n{of}")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left", fontsize=8)
    figure.savefig(path)


def draw_calibration(models: Mapping[str, Scores], path: Path, *, of: str) -> None:
    """Draw how often boxes of each confidence are right, next to the ideal.

    Args:
        models: by the name in the legend; the first is drawn solid, with its numbers of boxes.
        path: of the picture.
        of: what was measured, for the title.
    """
    figure, axes = _empty_plot("confidence", "share of boxes that are on a plate (IoU 0.5)")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
    for (name, scores), line, colour in zip(models.items(), LINES, (BLUE, ORANGE), strict=False):
        bins = calibration(scores.box_confidence, scores.match[0] >= 0)
        points = [
            (
                b.mean_confidence,
                b.precision.value,
                b.precision.low,
                b.precision.high,
                b.precision.of,
            )
            for b in bins
            if b.mean_confidence is not None
        ]
        if not points:
            continue
        x, y, low, high, of_boxes = np.array(points, dtype=np.float64).T
        axes.errorbar(
            x, y, yerr=[y - low, high - y], color=colour, marker="o", linestyle=line, capsize=3,
            label=f"{name}: {int(of_boxes.sum())} boxes",
        )  # fmt: skip
        if line == "-":
            for at, height, count in zip(x, high, of_boxes, strict=True):
                axes.annotate(
                    f"{int(count)}", (at, min(height, 0.97)), xytext=(0, 3), fontsize=8,
                    textcoords="offset points", ha="center",
                )  # fmt: skip
    axes.set_title(f"Calibration\n{of}")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.05)
    axes.legend(loc="upper left", fontsize=8)
    figure.savefig(path)


def draw_angles(angles: Mapping[str, Any], path: Path) -> None:
    """Draw recall of drawn plates against side angle and tilt."""
    figure, axes = _empty_plot("angle of the drawn plate, degrees", "recall at IoU 0.5")
    for kind, colour, marker in (("side", BLUE, "o"), ("tilt", ORANGE, "s")):
        x = [float(degree) for degree in angles[kind]]
        shares = [group["recall"] for group in angles[kind].values()]
        y, low, high = (np.array([s[key] for s in shares]) for key in ("value", "low", "high"))
        axes.errorbar(
            x, y, yerr=[y - low, high - y], color=colour, marker=marker, capsize=3, label=kind
        )
    axes.set_title("Recall of drawn plates by angle")
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left")
    figure.savefig(path)


def _empty_plot(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 5.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes
