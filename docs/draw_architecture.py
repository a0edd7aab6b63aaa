"""Draw the data's way through the code as docs/assets/architecture.svg.

    python docs/draw_architecture.py

Places are set by hand; every arrow must be an import that the code has, so the picture can't
show a way that no longer exists. `tests/test_docs.py` holds the file to what this draws.
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = Path(__file__).parent / "assets" / "architecture.svg"
BOX_WH = (176, 52)

# Of each box: column, row, the file or folder, what it does.
BOXES: dict[str, tuple[float, float, str, str]] = {
    "cli": (0, 0, "plateblur/cli.py", "photos and folders"),
    "demo": (1, 0, "plateblur/demo", "the demo's page"),
    "serve": (2.5, 0, "plateblur/serving.py", "joins the service"),
    "bounded": (1, 1, "plateblur/bounded.py", "work that can be ended"),
    "web": (2, 1, "plateblur/web", "routes, JSON, codes"),
    "console": (3, 1, "plateblur/console", "pages for people"),
    "accounts": (2.5, 2, "plateblur/accounts", "who may, how much is left"),
    "pipeline": (1, 2, "plateblur/pipeline.py", "blur_photo: the whole way"),
    "photo": (0, 3, "plateblur/photo.py", "bytes to image and back"),
    "detector": (1, 3, "plateblur/detector.py", "image to boxes"),
    "blur": (2, 3, "plateblur/blur.py", "hides what is in boxes"),
    "letterbox": (0, 4, "plateblur/letterbox.py", "scales, and undoes it"),
    "looks": (1, 4, "plateblur/looks.py", "plans looks, merges boxes"),
    "boxes": (2, 4, "plateblur/boxes.py", "NMS, whole pixels"),
}
ARROWS = (
    ("cli", "pipeline"), ("demo", "bounded"), ("serve", "bounded"), ("bounded", "pipeline"),
    ("serve", "web"),
    ("serve", "console"), ("serve", "accounts"), ("web", "accounts"), ("console", "accounts"),
    ("console", "web"), ("pipeline", "photo"), ("pipeline", "blur"),
    ("serve", "detector"), ("detector", "letterbox"), ("detector", "looks"), ("looks", "boxes"),
    ("blur", "boxes"),
)  # fmt: skip

STYLE = (
    "text{font:13px system-ui,sans-serif;text-anchor:middle;fill:#1c2330}"
    ".text{font-size:11px;fill:#4a5568}"
    "rect{fill:#eef2fb;stroke:#3f51b5;stroke-width:1.3}"
    "path{fill:none;stroke:#3f51b5;stroke-width:1.3;marker-end:url(#head)}"
)


def drawing() -> str:
    """Return the picture as SVG.

    Raises:
        ValueError: an arrow that is no import of the code.
    """
    for source, target in ARROWS:
        if not imports(source, target):
            raise ValueError(f"{BOXES[source][2]} does not import {BOXES[target][2]}")
    boxes = [_box(name) for name in BOXES]
    arrows = [_arrow(source, target) for source, target in ARROWS]
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 470" role="img" '
            'aria-label="The data\'s way through the code">',
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" '
            'style="fill:#3f51b5;stroke:none"/></marker></defs>',
            '<rect width="800" height="470" style="fill:#fff;stroke:none"/>',
            *arrows,
            *boxes,
            "</svg>",
            "",
        ]
    )


def imports(source: str, target: str) -> bool:
    """Return whether any file of the box `source` imports the box `target`."""
    wanted = BOXES[target][2].removesuffix(".py").replace("/", ".")
    path = ROOT / BOXES[source][2]
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            if any(f"{name}.".startswith(f"{wanted}.") for name in names):
                return True
    return False


def _corner(name: str) -> tuple[float, float]:
    column, row, *_ = BOXES[name]
    return 14 + column * 198, 14 + row * 96


def _box(name: str) -> str:
    x, y = _corner(name)
    width, height = BOX_WH
    _, _, path, text = BOXES[name]
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width}" height="{height}" rx="6"/>'
        f'<text x="{x + width / 2:g}" y="{y + 22:g}">{escape(path)}</text>'
        f'<text class="text" x="{x + width / 2:g}" y="{y + 40:g}">{escape(text)}</text>'
    )


def _arrow(source: str, target: str) -> str:
    """Return a line from the source's lower edge to the target's upper one, or side to side."""
    (x1, y1), (x2, y2) = _corner(source), _corner(target)
    width, height = BOX_WH
    if x1 > x2 + width and y1 + height < y2 - height:  # around what is between
        along = f"H{x2 + width + 11:g} V{y2 + height / 2:g} H{x2 + width:g}"
        return f'<path d="M{x1:g} {y1 + height / 2:g} {along}"/>'
    if y1 == y2:
        leftward = x2 < x1
        start = (x1 if leftward else x1 + width, y1 + height / 2)
        end = (x2 + width if leftward else x2, y2 + height / 2)
    else:
        lean = max(-60.0, min(60.0, (x2 - x1) / 4))  # apart where several lines end at one box
        start = (x1 + width / 2 + lean, y1 + height)
        end = (x2 + width / 2 - lean, y2)
    return f'<path d="M{start[0]:g} {start[1]:g} {end[0]:g} {end[1]:g}"/>'


if __name__ == "__main__":
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(drawing())
