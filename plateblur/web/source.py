"""The AGPL's source offer (section 13): people who use the service can get its source code.

Unless the operator sets another URL, the running code itself is offered as a zip file, so that the
offer is also right for a changed service.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse

LICENCE = "AGPL-3.0-only"
SOURCE_PATH = "/source.zip"
PACKAGE = Path(__file__).parents[1]
# By name, because anything else next to the package may be the operator's own.
CHECKOUT = (
    "CHANGELOG.md",
    "Caddyfile",
    "Dockerfile",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "app.py",
    "compose.yaml",
    "environment.yml",
    "pyproject.toml",
    "requirements.lock",
    "serve.py",
)
SCRIPTS = ("training/**/*.py", "training/**/*.yaml", "datasets/*.py", "datasets/*.md")
CHUNK_BYTES = 64 * 1024


def source_link(source_url: str) -> str:
    """Return where the link "Source code" leads.

    Args:
        source_url: the operator's; "" for the zip file of the running code.
    """
    return source_url or SOURCE_PATH


def add_source(app: FastAPI, source_url: str) -> None:
    """Offer the running code at `SOURCE_PATH`, unless the operator names another place."""
    if source_url:
        return

    @app.get(SOURCE_PATH, include_in_schema=False)
    async def source() -> Response:
        data = await to_thread.run_sync(source_zip)

        async def chunks() -> AsyncIterator[bytes]:
            # In pieces, so that a slow reader does not hold a copy of the whole in memory.
            for at in range(0, len(data), CHUNK_BYTES):
                yield data[at : at + CHUNK_BYTES]

        return StreamingResponse(
            chunks(),
            media_type="application/zip",
            headers={
                "Content-Disposition": 'attachment; filename="plateblur-source.zip"',
                "Content-Length": str(len(data)),
            },
        )


@cache
def source_zip() -> bytes:
    """Return the running code as a zip file, about as large as the shipped model.

    That is the package with its model and, in a checkout, the scripts and build files beside it. An
    installed package has the list of what it needs in its metadata instead.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, name in _source_files(PACKAGE):
            packed = zipfile.ZIP_STORED if path.suffix == ".onnx" else zipfile.ZIP_DEFLATED
            archive.write(path, f"plateblur/{name}", compress_type=packed)
    return out.getvalue()


def _source_files(package: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of the source and their names in the zip file.

    Args:
        package: the folder of `plateblur`.
    """
    root = package.parent
    found = [
        path
        for path in package.rglob("*")
        if "__pycache__" not in path.parts and not path.name.startswith(".")
    ]
    if (root / "pyproject.toml").is_file():
        found += [root / name for name in CHECKOUT]
        found += [path for pattern in SCRIPTS for path in root.glob(pattern)]
    else:
        found += list(root.glob("plateblur-*.dist-info/**/*"))
    for path in sorted(found):
        if path.is_file():
            yield path, path.relative_to(root).as_posix()
