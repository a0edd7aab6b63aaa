"""The source offer: a link on every page and in the API's description, and the code behind it."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.types import Message

from plateblur.web import Settings, SettingsError
from plateblur.web.source import CHUNK_BYTES, PACKAGE, _source_files, add_source, source_zip
from tests.web.fakes import make_stand

pytestmark = pytest.mark.anyio
CHANGED = "https://blur.example/our-changes.git"


@pytest.mark.parametrize(
    ("source_url", "link"), [("", "/source.zip"), (CHANGED, CHANGED)], ids=["ours", "changed"]
)
@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_every_page_links_to_the_source_code(path: str, source_url: str, link: str) -> None:
    stand = make_stand(settings=Settings(source_url=source_url))
    footer = (await stand.client.get(path)).text.partition("<footer>")[2]
    assert f'<a href="{link}">Source code (AGPL)</a>' in footer


@pytest.mark.parametrize(
    ("source_url", "link"),
    [("", "https://blur.example/source.zip"), (CHANGED, CHANGED)],
    ids=["ours", "changed"],
)
async def test_the_description_names_the_licence_and_the_source_code(
    source_url: str, link: str
) -> None:
    settings = Settings(source_url=source_url, public_url="https://blur.example/")
    described = (await make_stand(settings=settings).client.get("/openapi.json")).json()
    assert described["info"]["license"]["identifier"] == "AGPL-3.0-only"
    assert described["externalDocs"]["url"] == link


@pytest.mark.slow
async def test_the_source_code_is_what_runs() -> None:
    answer = await make_stand().client.get("/source.zip")
    assert answer.headers["content-type"] == "application/zip"
    assert int(answer.headers["content-length"]) == len(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = archive.namelist()
        for path in PACKAGE.rglob("*.py"):
            name = f"plateblur/{path.relative_to(PACKAGE.parent).as_posix()}"
            assert archive.read(name) == path.read_bytes()
    assert {"plateblur/LICENSE", "plateblur/pyproject.toml", "plateblur/serve.py"} <= set(names)
    assert "plateblur/plateblur/models/plates.onnx" in names
    assert "plateblur/training/train.py" in names
    assert not [name for name in names if "__pycache__" in name or "/data/" in name]


async def test_an_operator_with_another_place_serves_no_copy() -> None:
    stand = make_stand(settings=Settings(source_url=CHANGED))
    assert (await stand.client.get("/source.zip")).status_code == 404


async def test_the_copy_is_made_once_and_sent_in_pieces() -> None:
    made = source_zip()
    assert source_zip() is made
    pieces: list[int] = []

    async def receive() -> Message:
        await asyncio.sleep(3600)  # the client stays and says nothing
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            pieces.append(len(message.get("body", b"")))

    app = FastAPI()
    add_source(app, "")
    scope = {
        "type": "http", "method": "GET", "path": "/source.zip", "headers": [],
        "query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    assert sum(pieces) == len(made)
    assert max(pieces) <= CHUNK_BYTES


def test_only_the_code_is_taken_from_a_folder_and_nothing_that_lies_beside_it(
    tmp_path: Path,
) -> None:
    for name in (
        "pyproject.toml", "serve.py", ".env", "data/secret.key", "notes.txt",
        "plateblur/blur.py", "plateblur/.hidden", "plateblur/__pycache__/blur.pyc",
        "training/train.py", "training/runs/photo.jpg", "datasets/out/photo.jpg",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    found = {name for _, name in _source_files(tmp_path / "plateblur")}
    assert found == {"plateblur/blur.py", "pyproject.toml", "serve.py", "training/train.py"}


def test_an_installed_package_brings_its_metadata(tmp_path: Path) -> None:
    for name in (
        "plateblur/blur.py", "plateblur-1.dist-info/METADATA", "numpy/core.py",
        "plateblur-1.dist-info/licenses/LICENSE",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    found = {name for _, name in _source_files(tmp_path / "plateblur")}
    assert "plateblur-1.dist-info/METADATA" in found
    assert "plateblur-1.dist-info/licenses/LICENSE" in found
    assert "numpy/core.py" not in found


@pytest.mark.parametrize("source_url", ["javascript:alert(1)", "ftp://a.example", "blur.example"])
def test_a_link_that_is_no_web_address_is_refused(source_url: str) -> None:
    with pytest.raises(SettingsError, match="SOURCE_URL"):
        Settings(source_url=source_url)
