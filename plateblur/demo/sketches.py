"""Drawings for the guidance, as SVG: the side angle, the tilt angle, and a plate in a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

GOOD, BAD = "#16a34a", "#dc2626"
MODEST_DEG, STEEP_DEG = 20, 60
PLATE_WH = (88.0, 18.6)  # 520 : 110, as a European plate
INK = "currentColor"


def angle_sketches() -> str:
    """Return HTML with four sketches: side and tilt angle, each modest and steep."""
    figures = [
        _figure(_side(MODEST_DEG), "Side angle: good", _kept(MODEST_DEG, "width"), good=True),
        _figure(_side(STEEP_DEG), "Side angle: too steep", _kept(STEEP_DEG, "width"), good=False),
        _figure(_tilt(MODEST_DEG), "Tilt angle: good", _kept(MODEST_DEG, "height"), good=True),
        _figure(_tilt(STEEP_DEG), "Tilt angle: too steep", _kept(STEEP_DEG, "height"), good=False),
    ]
    return f'<div class="pb-sketches">{"".join(figures)}</div>'


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


def _figure(drawing: str, title: str, caption: str, *, good: bool) -> str:
    mark, colour = ("&#10003;", GOOD) if good else ("&#10007;", BAD)
    return (
        f'<figure><svg viewBox="0 0 260 200" role="img" aria-label="{title}: {caption}">{drawing}'
        f'</svg><figcaption><strong><span style="color:{colour}">{mark}</span> {title}</strong>'
        f"<br/>{caption}</figcaption></figure>"
    )


def _kept(angle_deg: float, side: str) -> str:
    share = math.cos(math.radians(angle_deg))
    return f"At {angle_deg}&#176; the plate keeps {share:.0%} of its {side}."


def _side(angle_deg: float) -> str:
    """Return a car from above, its plate at its end, and a camera beside its axis."""
    x, y, far = 75.0, 84.0, 92.0
    turn = math.radians(angle_deg)
    camera = (x + far * math.sin(turn), y + far * math.cos(turn))
    arc = (x + 48 * math.sin(turn), y + 48 * math.cos(turn))
    return (
        f'<rect x="{x - 32}" y="4" width="64" height="78" rx="13" fill="none" stroke="{INK}" '
        f'stroke-width="2"/><rect x="{x - 25}" y="30" width="50" height="34" rx="7" fill="none" '
        f'stroke="{INK}"/>'
        f'<line x1="{x - 14}" y1="83" x2="{x + 14}" y2="83" stroke="#eab308" stroke-width="5"/>'
        + _sight((x, y), (x, y + far), camera, arc, angle_deg=angle_deg)
        + _camera(camera, -angle_deg)
        + _seen(across=math.cos(turn), upright=1.0)
    )


def _tilt(angle_deg: float) -> str:
    """Return a car from the side, its plate at its end, and a camera above it."""
    x, y, far = 84.0, 160.0, 116.0
    turn = math.radians(angle_deg)
    camera = (x + far * math.cos(turn), y - far * math.sin(turn))
    arc = (x + 52 * math.cos(turn), y - 52 * math.sin(turn))
    return (
        f'<path d="M4 172 V150 L20 144 L34 122 H68 L80 146 V172 Z" fill="none" stroke="{INK}" '
        f'stroke-width="2"/><circle cx="24" cy="174" r="9" fill="{INK}"/>'
        f'<circle cx="64" cy="174" r="9" fill="{INK}"/>'
        f'<line x1="82" y1="154" x2="82" y2="167" stroke="#eab308" stroke-width="5"/>'
        f'<line x1="0" y1="184" x2="260" y2="184" stroke="{INK}"/>'
        f'<line x1="{camera[0]:.1f}" y1="{camera[1]:.1f}" x2="{camera[0]:.1f}" y2="184" '
        f'stroke="{INK}" stroke-width="1.5"/>'
        + _sight((x, y), (x + far, y), camera, arc, angle_deg=angle_deg, flat=True)
        + _camera(camera, -90 - angle_deg)
        + _seen(across=1.0, upright=math.cos(turn))
    )


def _sight(
    plate: tuple[float, float],
    straight: tuple[float, float],
    camera: tuple[float, float],
    arc: tuple[float, float],
    *,
    angle_deg: float,
    flat: bool = False,
) -> str:
    """Return the axis of the plate, the line of sight, and the angle between them."""
    (x, y), radius = plate, math.dist(plate, arc)
    start = (x + radius, y) if flat else (x, y + radius)
    half = math.radians(angle_deg / 2)
    out = radius + (20 if angle_deg < 45 else 15)
    label = (
        (x + out * math.cos(half), y - out * math.sin(half))
        if flat
        else (x + out * math.sin(half), y + out * math.cos(half))
    )
    return (
        f'<line x1="{x}" y1="{y}" x2="{straight[0]}" y2="{straight[1]}" stroke="{INK}" '
        f'stroke-dasharray="4 4"/><line x1="{x}" y1="{y}" x2="{camera[0]:.1f}" '
        f'y2="{camera[1]:.1f}" stroke="#3b82f6" stroke-width="2"/>'
        f'<path d="M{start[0]:.1f} {start[1]:.1f} A{radius:.1f} {radius:.1f} 0 0 0 '
        f'{arc[0]:.1f} {arc[1]:.1f}" fill="none" stroke="#3b82f6"/>'
        f'<text x="{label[0]:.1f}" y="{label[1] + 4:.1f}" font-size="12" text-anchor="middle" '
        f'fill="{INK}">{angle_deg}&#176;</text>'
    )


def _camera(at: tuple[float, float], turn_deg: float) -> str:
    """Return a camera that looks up the page, turned by so many degrees clockwise."""
    return (
        f'<g transform="translate({at[0]:.1f} {at[1]:.1f}) rotate({turn_deg})" fill="#3b82f6">'
        '<rect x="-8" y="2" width="16" height="16" rx="3"/><path d="M-7 -5 H7 L4 3 H-4 Z"/></g>'
    )


def _seen(*, across: float, upright: float) -> str:
    """Return the plate as the camera sees it, in the corner that the sketch leaves free."""
    return (
        f'<text x="204" y="14" font-size="11" text-anchor="middle" fill="{INK}">as seen</text>'
        f'<g transform="translate(204 34) scale({across:.3f} {upright:.3f})">'
        f'<rect x="{-PLATE_WH[0] / 2}" y="{-PLATE_WH[1] / 2}" width="{PLATE_WH[0]}" '
        f'height="{PLATE_WH[1]}" rx="2" fill="#fff" stroke="#111"/>'
        '<text y="5.5" font-size="15" font-weight="bold" text-anchor="middle" fill="#111">'
        "AB 12 XYZ</text></g>"
    )
