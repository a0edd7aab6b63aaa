"""Drawings for the guidance, as SVG: a plate in a picture, and how many plates are found."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from plateblur.web.sketches import BAD, GOOD, INK, PLATE_WH


def picture_sketch(share: float, least: float) -> str:
    """Return HTML with a 16:9 picture and a plate in it, true to scale.

    Args:
        share: the plate's height as a share of the picture's.
        least: the smallest share that the guidance asks for, drawn beside it.
    """
    colour = GOOD if share >= least else BAD
    height = 180 * share
    width = height * PLATE_WH[0] / PLATE_WH[1]
    wanted = 180 * least
    wanted_width = wanted * PLATE_WH[0] / PLATE_WH[1]
    return (
        '<svg viewBox="0 0 320 180" role="img" class="pb-picture" aria-label="The plate in the '
        f'picture, true to scale, above the smallest that the guidance asks for">'
        f'<rect x="1" y="1" width="318" height="178" rx="4" fill="none" stroke="{INK}"/>'
        f'<rect x="{160 - width / 2:.1f}" y="{80 - height / 2:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" fill="{colour}"/>'
        f'<rect x="{160 - wanted_width / 2:.1f}" y="{158 - wanted / 2:.1f}" '
        f'width="{wanted_width:.1f}" height="{wanted:.1f}" fill="none" stroke="{INK}" '
        'stroke-dasharray="3 3"/>'
        f'<text x="{168 + wanted_width / 2:.1f}" y="162" fill="{INK}" font-size="11">1:15</text>'
        "</svg>"
    )


def recall_plot(figures: Mapping[str, Any]) -> str:
    """Return HTML with the model's recall by plate ratio, as its card gives it.

    Args:
        figures: those of the card: `by_ratio` holds for each bucket `plates` and `recall`.
    """
    groups = [(name, group) for name, group in figures["by_ratio"].items() if group["plates"]]
    bars = []
    for row, (name, group) in enumerate(groups):
        top, share = 26 * row, float(group["recall"]["value"])
        bars.append(
            f'<text x="92" y="{top + 16}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="100" y="{top + 3}" width="200" height="18" rx="3" fill="{INK}" '
            f'opacity=".12"/><rect x="100" y="{top + 3}" width="{200 * share:.1f}" height="18" '
            f'rx="3" fill="#3b82f6"/><text x="308" y="{top + 16}">{share:.1%} of '
            f"{group['plates']}</text>"
        )
    return (
        f'<svg viewBox="0 0 420 {26 * len(groups)}" role="img" class="pb-recall" font-size="12" '
        f'fill="{INK}" aria-label="Share of plates found, by plate ratio">{"".join(bars)}</svg>'
    )
