"""Drawings of the camera, as SVG: the side angle and the tilt angle, each modest and steep.

The front page, the demo and the documentation show the same ones.
"""

from __future__ import annotations

import math

GOOD, BAD = "#16a34a", "#dc2626"
MODEST_DEG, STEEP_DEG = 20, 60
PLATE_WH = (88.0, 18.6)  # 520 : 110, as a European plate
INK = "currentColor"
FIGURE_WH = (260, 200)


def angle_sketches() -> str:
    """Return HTML with four sketches: side and tilt angle, each modest and steep."""
    figures = [
        _figure(drawing, title, caption, good=good) for drawing, title, caption, good in _angles()
    ]
    return f'<div class="pb-sketches">{"".join(figures)}</div>'


def angles_svg() -> str:
    """Return the four sketches as one picture on a light ground, for the documentation."""
    width, height = FIGURE_WH
    cells = [
        f'<g transform="translate({column * (width + 20) + 10} 12)">{drawing}'
        f'{_verdict(good=good)}<text x="4" y="{height + 20}" font-size="14" font-weight="bold" '
        f'fill="{INK}">{title}</text></g>'
        for column, (drawing, title, _, good) in enumerate(_angles())
    ]
    size = (4 * (width + 20), height + 46)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
        'font-family="sans-serif" color="#1f2937"><rect width="100%" height="100%" rx="10" '
        f'fill="#f5f7fa"/>{"".join(cells)}</svg>\n'
    )


def _angles() -> list[tuple[str, str, str, bool]]:
    """Return drawing, title, caption and whether it is good, of each sketch."""
    return [
        (_side(MODEST_DEG), "Side angle: good", _kept(MODEST_DEG, "width"), True),
        (_side(STEEP_DEG), "Side angle: too steep", _kept(STEEP_DEG, "width"), False),
        (_tilt(MODEST_DEG), "Tilt angle: good", _kept(MODEST_DEG, "height"), True),
        (_tilt(STEEP_DEG), "Tilt angle: too steep", _kept(STEEP_DEG, "height"), False),
    ]


def _figure(drawing: str, title: str, caption: str, *, good: bool) -> str:
    width, height = FIGURE_WH
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}: {caption}">'
        f"{drawing}{_verdict(good=good)}</svg>"
        f"<figcaption><strong>{title}</strong><br/>{caption}</figcaption></figure>"
    )


def _verdict(*, good: bool) -> str:
    """Return a tick or a cross in the lower right corner; no style, which a page may forbid."""
    mark, colour = ("M-5 0L-1.5 4L5.5 -4", GOOD) if good else ("M-4 -4L4 4M4 -4L-4 4", BAD)
    return (
        f'<g transform="translate(242 166)"><circle r="11" fill="{colour}"/><path d="{mark}" '
        'fill="none" stroke="#fff" stroke-width="2.4" stroke-linecap="round"/></g>'
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
