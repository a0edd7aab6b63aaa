"""Draw recall by plate ratio as an SVG, from the figures that `training/promote.py` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIZE_WH = (760, 400)
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 84, 78  # around the plot
NAMES = {">=1:10": "1:10 or larger", "<1:60": "below 1:60"}
WITHIN_GUIDANCE = 2  # of the buckets; the guidance ends at 1:15
# Colours by Okabe and Ito. A dark page gets a dark card; a card of its own looks well on any page.
STYLE = """
.card{fill:#fff;stroke:#d8dee9}
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:#334155}
.title{font-size:17px;font-weight:600;fill:#0f172a}.soft{fill:#64748b}.value{font-size:12px;font-weight:600;fill:#0f172a}
.grid{stroke:#e2e8f0}.near{fill:#0072b2;opacity:.08}.guide{stroke:#64748b;stroke-dasharray:5 4}
.first{stroke:#0072b2;fill:#0072b2}.second{stroke:#d55e00;fill:#fff}
@media(prefers-color-scheme:dark){.card{fill:#161b22;stroke:#30363d}text{fill:#c9d1d9}
.title,.value{fill:#f0f6fc}.soft{fill:#9aa4b2}.grid{stroke:#2b323b}.near{fill:#56b4e9;opacity:.1}
.guide{stroke:#9aa4b2}.first{stroke:#56b4e9;fill:#56b4e9}.second{stroke:#e69f00;fill:#161b22}}
"""


def recall_svg(figures: Mapping[str, Any]) -> str:
    """Return the plot: a point and a 95 % interval for each range of plate ratios.

    Args:
        figures: of `docs/figures.json`. Where they hold the figures for the original labels, those
            are drawn beside the ones for corrected labels.
    """
    series = [("first", figures["labels"], figures["by_ratio"])]
    if "labels_as_they_are" in figures:
        series.append(("second", "original", figures["labels_as_they_are"]["by_ratio"]))
    buckets = [name for name, group in figures["by_ratio"].items() if group["plates"]]
    lowest = min(group[name]["recall"]["low"] for _, _, group in series for name in buckets)
    floor = int(lowest * 10 - 0.5) / 10  # with room for the value under the interval
    width, height = SIZE_WH
    step = (width - LEFT - RIGHT) / len(buckets)
    bottom = height - BOTTOM

    def y(share: float) -> float:
        return round(bottom - (share - floor) / (1 - floor) * (bottom - TOP), 1)

    def x(bucket: int) -> float:
        return round(LEFT + (bucket + 0.5) * step, 1)

    overall = figures["overall"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>Recall by plate ratio, with 95 % intervals</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="12"/>',
        f'<text class="title" x="{LEFT - 38}" y="34">Plates found, by size in the picture</text>',
        f'<text class="soft" x="{LEFT - 38}" y="56">{overall["photos"]} test photos, '
        f"{overall['plates']} plates, confidence {figures['min_confidence']:g}; "
        "recall at IoU 0.5 with 95 % intervals</text>",
    ]
    guide = LEFT + WITHIN_GUIDANCE * step
    parts.append(
        f'<rect class="near" x="{LEFT}" y="{TOP}" width="{guide - LEFT:.1f}" '
        f'height="{bottom - TOP}"/>'
    )
    for tenth in range(round(floor * 10), 11):
        at = y(tenth / 10)
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{width - RIGHT}"/>')
        parts.append(
            f'<text class="soft" x="{LEFT - 10}" y="{at + 4:.1f}" text-anchor="end">'
            f"{tenth * 10}%</text>"
        )
    parts.append(f'<path class="guide" d="M{guide:.1f} {TOP}V{bottom}"/>')
    parts.append(
        f'<text class="soft" x="{guide - 8:.1f}" y="{bottom - 10}" text-anchor="end">'
        "guidance: 1:15 or larger</text>"
    )
    for number, name in enumerate(buckets):
        shown = NAMES.get(name, name.replace("-", " to "))
        parts.append(f'<text x="{x(number)}" y="{bottom + 24}" text-anchor="middle">{shown}</text>')
        parts.append(
            f'<text class="soft" x="{x(number)}" y="{bottom + 43}" text-anchor="middle">'
            f"{figures['by_ratio'][name]['plates']} plates</text>"
        )
    parts.append(
        f'<text class="soft" x="{(LEFT + width - RIGHT) / 2}" y="{height - 12}" '
        'text-anchor="middle">plate height : picture height</text>'
    )
    for place, (style, _, groups) in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * 36
        for number, name in enumerate(buckets):
            one = groups[name]["recall"]
            at, low, high = x(number) + shift, y(one["low"]), y(one["high"])
            parts.append(
                f'<path class="{style}" stroke-width="2.5" '
                f'd="M{at} {low}V{high}M{at - 5} {low}h10M{at - 5} {high}h10"/>'
            )
            parts.append(
                f'<circle class="{style}" stroke-width="2.5" cx="{at}" cy="{y(one["value"])}" '
                'r="5"/>'
            )
            parts.append(
                f'<text class="value" x="{at}" y="{low + 17:.1f}" text-anchor="middle">'
                f"{one['value']:.0%}</text>"
            )
    if len(series) > 1:
        for place, (style, labels, _) in enumerate(series):
            at = width - 300 + place * 130
            parts.append(
                f'<circle class="{style}" stroke-width="2.5" cx="{at}" cy="{TOP - 12}" r="5"/>'
                f'<text x="{at + 12}" y="{TOP - 7}">{labels} labels</text>'
            )
    return "\n".join([*parts, "</svg>", ""])
