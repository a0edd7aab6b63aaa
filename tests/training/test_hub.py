"""A model with its card goes to a hub and comes back; the hub is a stand-in on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from plateblur.detector import shipped_model
from training import hub

COMMIT = "c" * 40


@pytest.fixture
def stand_in() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Give the address of a hub that keeps one repository, and what it keeps."""
    kept: dict[str, bytes] = {}

    class Hub(BaseHTTPRequestHandler):
        def answer(self, body: bytes, **headers: str) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if self.headers.get("Transfer-Encoding") == "chunked":
                text = b""
                while size := int(self.rfile.readline(), 16):
                    text += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                text = self.rfile.read(length)
            told: object = {}
            if self.path.endswith("/create"):
                told = {"url": f"{address}/ana/plates", "name": "ana/plates"}
            elif "/preupload/" in self.path:
                paths = [one["path"] for one in json.loads(text)["files"]]
                whole = {"uploadMode": "regular", "shouldIgnore": False}
                told = {"files": [{"path": path, **whole} for path in paths]}
            elif "/commit/" in self.path:
                for line in map(json.loads, text.splitlines()):
                    if line["key"] == "file":
                        kept[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                url = f"{address}/ana/plates/commit/{COMMIT}"
                told = {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""}
            self.answer(json.dumps(told).encode(), Content_Type="application/json")

        def do_GET(self) -> None:
            data = kept.get(self.path.rpartition("/")[2].partition("?")[0])
            if data is None:
                self.send_error(404)
                return
            tag = hashlib.sha256(data).hexdigest()
            self.answer(data, X_Repo_Commit=COMMIT, ETag=f'"{tag}"')

        do_HEAD = do_GET  # noqa: N815 - the server asks for this name

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address, kept
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a small file in the model's place, with the shipped model's card made to fit it."""
    file = tmp_path / "plates.onnx"
    file.write_bytes(b"a model")
    card = json.loads(shipped_model().with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(b"a model").hexdigest()
    card["near"] = None
    file.with_suffix(".json").write_text(json.dumps(card))
    return file


@pytest.mark.slow
def test_a_model_goes_with_its_card_and_comes_back(
    stand_in: tuple[str, dict[str, bytes]], model: Path, tmp_path: Path
) -> None:
    address, kept = stand_in
    hub.main(["push", str(model), "--to", "ana/plates", "--endpoint", address])
    assert sorted(kept) == ["README.md", "plates.json", "plates.onnx"]
    page = kept["README.md"].decode()
    card = json.loads(model.with_suffix(".json").read_text())
    assert page.startswith("---\nlicense: agpl-3.0\n")
    assert all(limit in page for limit in card["limits"])
    assert all(one["licence"] in page for one in card["data_sets"])

    pulled = hub.pull("ana/plates", out=tmp_path / "pulled", endpoint=address)
    assert pulled.read_bytes() == b"a model"
    assert json.loads(pulled.with_suffix(".json").read_text()) == card


@pytest.mark.slow
def test_a_model_that_is_not_the_card_s_is_refused_on_both_ways(
    stand_in: tuple[str, dict[str, bytes]], model: Path, tmp_path: Path
) -> None:
    address, kept = stand_in
    hub.push(model, to="ana/plates", endpoint=address)
    kept["plates.onnx"] = b"another"
    with pytest.raises(ValueError, match=r"expected plates\.onnx of the card"):
        hub.pull("ana/plates", out=tmp_path / "pulled", endpoint=address)
    assert not (tmp_path / "pulled" / "plates.onnx").exists()
    model.write_bytes(b"another")
    with pytest.raises(ValueError, match=r"expected plates\.onnx of the card"):
        hub.push(model, to="ana/plates", endpoint=address)
    model.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="expected the card"):
        hub.push(model, to="ana/plates", endpoint=address)


@pytest.mark.slow
def test_the_network_for_near_plates_goes_along(
    stand_in: tuple[str, dict[str, bytes]], model: Path, tmp_path: Path
) -> None:
    address, kept = stand_in
    near = model.with_name("plates-near.onnx")
    near.write_bytes(b"near")
    near.with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match=r"expected plates-near\.onnx of the card, sha256 none"):
        hub.push(model, to="ana/plates", endpoint=address)
    card = json.loads(model.with_suffix(".json").read_text())
    card["near"] = {"sha256": hashlib.sha256(b"near").hexdigest()}
    model.with_suffix(".json").write_text(json.dumps(card))
    hub.push(model, to="ana/plates", endpoint=address)
    pulled = hub.pull("ana/plates", out=tmp_path / "pulled", endpoint=address)
    assert pulled.with_name("plates-near.onnx").read_bytes() == b"near"
    assert pulled.with_name("plates-near.json").exists()
    kept["plates-near.onnx"] = b"another"
    with pytest.raises(ValueError, match=r"expected plates-near\.onnx of the card"):
        hub.pull("ana/plates", out=tmp_path / "again", endpoint=address)
    assert list((tmp_path / "again").glob("*.onnx")) == []
