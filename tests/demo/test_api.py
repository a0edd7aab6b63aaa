from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from plateblur.demo.api import LANGUAGES, on_screen, request_body, response_body, snippet
from plateblur.demo.photos import NO_PLATES, Limits, add_plate, open_photo
from plateblur.demo.visits import DroppedPhoto
from plateblur.photo import decode
from plateblur.web.body import MAX_BODY_BYTES
from tests.demo.fakes import IMAGE_HW, MISSED, PLATE, DrawnDetector, contrast, drawn_photo

NOW = datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)


def dropped() -> DroppedPhoto:
    return open_photo(DrawnDetector(), "car.jpg", drawn_photo(), Limits())


def answered(photo: DroppedPhoto, *, crops: bool = True) -> Any:
    return json.loads(response_body(DrawnDetector(), photo, crops, NOW, Limits()))


@pytest.mark.parametrize(("crops", "word"), [(True, "YES"), (False, "NO")], ids=["yes", "no"])
def test_the_request_is_the_documented_one(crops: bool, word: str) -> None:
    body = json.loads(request_body(dropped(), crops=crops))

    assert list(body) == ["base64_Photo_String", "photo_url", "boundingBoxCrop"]
    assert base64.b64decode(body["base64_Photo_String"]) == drawn_photo()
    assert (body["photo_url"], body["boundingBoxCrop"]) == ("NO", word)


def test_the_request_of_a_fetched_photo_names_its_url_instead() -> None:
    photo = DroppedPhoto("a", b"x", NO_PLATES, NO_PLATES, url="https://example.com/a.jpg")

    body = json.loads(request_body(photo, crops=False))

    assert body["base64_Photo_String"] == "NO"
    assert body["photo_url"] == "https://example.com/a.jpg"


@pytest.mark.parametrize("crops", [True, False], ids=["with crops", "without"])
def test_the_response_is_the_documented_one_and_hides_the_plate(crops: bool) -> None:
    body = answered(dropped(), crops=crops)

    assert list(body) == ["created", "predictions", "final_photo"]
    assert body["created"] == "2026-01-02T03:04:05.006Z"
    [prediction] = body["predictions"]
    assert ("boundingBoxPhoto" in prediction) is crops
    assert prediction["boundingBox"]["left"] == pytest.approx(PLATE[0] / IMAGE_HW[1])
    x1, y1, x2, y2 = PLATE
    inside = (x1 + 8, y1 + 8, x2 - 8, y2 - 8)  # within the box that is drawn
    assert contrast(decode(base64.b64decode(body["final_photo"])).pixels, inside) < 60


def test_corrections_by_hand_are_not_what_the_endpoint_answers() -> None:
    assert answered(add_plate(dropped(), list(MISSED))) == answered(dropped())


def test_a_request_over_the_limit_is_answered_with_its_error() -> None:
    photo = DroppedPhoto("a", bytes(MAX_BODY_BYTES), NO_PLATES, NO_PLATES)

    [error] = answered(photo)

    assert error["cd"] == "1013"


def test_a_photo_that_cannot_be_blurred_is_answered_with_its_error() -> None:
    [error] = answered(DroppedPhoto("a", b"damaged", NO_PLATES, NO_PLATES))

    assert error["cd"] == "2001"


def test_what_is_on_screen_is_short_json_of_the_same_form() -> None:
    body = response_body(DrawnDetector(), dropped(), True, NOW, Limits())

    shown = json.loads(on_screen(body))

    assert list(shown) == ["created", "predictions", "final_photo"]
    assert max(len(line) for line in on_screen(body).splitlines()) < 120
    whole = json.loads(body)["final_photo"]
    assert shown["final_photo"] == f"{whole[:24]}...{len(whole)} characters...{whole[-24:]}"


@pytest.mark.parametrize("language", [each for _, each, _ in LANGUAGES])
def test_a_hostile_endpoint_does_not_break_out_of_its_string(language: str) -> None:
    code = snippet(language, endpoint="http://a/$(reboot)'\"\n`x`\\", crops=True)

    assert "http://a/(reboot)x" in code


@contextmanager
def endpoint(answer: bytes) -> Iterator[tuple[str, list[Any]]]:
    """Answer posts at an address, and note what was sent."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/plateblurer.aspx", got
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("language", ["shell", "python"])
def test_a_snippet_sends_the_documented_request(tmp_path: Path, language: str) -> None:
    if language == "shell" and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    (tmp_path / "photo.jpg").write_bytes(drawn_photo())
    answer = response_body(DrawnDetector(), dropped(), True, NOW, Limits())
    with endpoint(answer) as (address, got):
        code = snippet(language, endpoint=address, crops=True)
        runner = ["bash", "-c"] if language == "shell" else [sys.executable, "-c"]
        done = subprocess.run(
            [*runner, code], cwd=tmp_path, capture_output=True, check=True, timeout=60
        )

    [(authorization, sent)] = got
    assert base64.b64decode(authorization.removeprefix("Basic ")).startswith(b"you@example.com:")
    assert sent == json.loads(request_body(dropped(), crops=True))
    if language == "shell":
        assert done.stdout == answer
    else:
        blurred = (tmp_path / "photo-blurred.jpg").read_bytes()
        assert base64.b64encode(blurred).decode() == json.loads(answer)["final_photo"]
