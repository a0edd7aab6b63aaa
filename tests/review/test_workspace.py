"""The workspace over HTTP: who may talk to it, what it shows, what it writes down."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from plateblur import cli
from tests.fakes import FixedDetector, boxes, encoded, street

pytest.importorskip("starlette", reason="needs the extra workspace")
with warnings.catch_warnings():  # Starlette 1.3 imports a name that AnyIO 4.14 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from starlette.testclient import TestClient

from plateblur.review.app import create_app
from plateblur.review.guard import MAX_BODY_BYTES
from plateblur.review.workspace import Workspace
from plateblur.runs.manifest import MANIFEST_NAME
from plateblur.runs.review_log import REVIEW_NAME, Sample

PORT, TOKEN = 7861, "a-token"
HOST = f"http://127.0.0.1:{PORT}"
PLATE, SMALL = [200.0, 200.0, 300.0, 230.0], [400.0, 0.0, 420.0, 6.0]
FOUND = {"xyxy": PLATE, "hide": True, "found": PLATE}
ADDED = {"xyxy": [10.0, 10.0, 60.0, 30.0], "hide": True}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that each test gets a copy of: its folder has the photos in `in` and `out`."""
    folder = tmp_path_factory.mktemp("run")
    detector = FixedDetector(boxes(PLATE, SMALL), (0.9, 0.5))
    (folder / "in").mkdir()
    photo = encoded(street(400, 600), "JPEG")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cli, "open_detector", lambda *_, **__: detector)
        # One after the other, so that the manifest has them as 0, 1 and 2.
        for name, data in (("a.jpg", photo), ("b.jpg", photo), ("c.jpg", b"\xff\xd8\xff no photo")):
            (folder / "in" / name).write_bytes(data)
            given = ["blur", f"{folder / 'in'}", "-o", f"{folder / 'out'}"]
            result = CliRunner().invoke(cli.app, given)
    assert result.exit_code == 1  # c.jpg is damaged
    return folder


@pytest.fixture
def run(first_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(first_run, tmp_path, dirs_exist_ok=True)  # with the times of the files
    manifest = tmp_path / "out" / MANIFEST_NAME
    manifest.write_text(manifest.read_text().replace(str(first_run), str(tmp_path)))
    return manifest.parent


@pytest.fixture
def workspace(run: Path) -> Workspace:
    return Workspace(run)


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    app = create_app(workspace, port=PORT, token=TOKEN)
    with TestClient(app, base_url=HOST) as opened:
        assert opened.get(f"/?token={TOKEN}").status_code == 200
        yield opened


def put(client: TestClient, number: int, *plates: Any, base: int = 0, **more: Any) -> Any:
    told = {"base": base, "by": "Ana", "looked_at": True, "plates": plates, "readable": None} | more
    return client.put(f"/api/photos/{number}", json=told, headers={"Origin": HOST})


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / REVIEW_NAME).read_text().splitlines()]


# --- Who may talk to it ---------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/api/photos", "/photos/0/before", "/assets/review.js"])
def test_nothing_is_shown_without_the_token(workspace: Workspace, path: str) -> None:
    with TestClient(create_app(workspace, port=PORT, token=TOKEN), base_url=HOST) as stranger:
        assert stranger.get(path).status_code == 403
        assert stranger.get("/?token=guess").status_code == 403


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(
    workspace: Workspace,
) -> None:
    with TestClient(create_app(workspace, port=PORT, token=TOKEN), base_url=HOST) as stranger:
        answer = stranger.get(f"/?token={TOKEN}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_a_name_that_was_rebound_to_this_machine_is_refused(client: TestClient) -> None:
    for host in ("evil.example", f"evil.example:{PORT}", "127.0.0.1:1", ""):
        assert client.get("/api/photos", headers={"Host": host}).status_code == 421
    assert client.get("/api/run", headers={"Host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_page_in_the_same_browser_is_refused(client: TestClient, site: str) -> None:
    for path in ("/api/photos", "/photos/0/before", "/assets/review.js"):
        assert client.get(path, headers={"Sec-Fetch-Site": site}).status_code == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9999", "null", "https://evil.example", None])
def test_a_change_from_another_page_is_refused(
    client: TestClient, run: Path, origin: str | None
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    told = {"base": 0, "by": "Ana", "looked_at": True, "plates": []}
    assert client.put("/api/photos/0", json=told, headers=headers).status_code == 403
    assert not (run / REVIEW_NAME).exists()


def test_a_body_of_no_length_or_too_long_is_not_read(client: TestClient) -> None:
    origin = {"Origin": HOST}
    chunked = client.put("/api/photos/0", content=iter([b"{}"]), headers=origin)
    assert chunked.status_code == 411
    long = client.put("/api/photos/0", content=b" " * (MAX_BODY_BYTES + 1), headers=origin)
    assert long.status_code == 413


def test_the_page_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "http" not in policy
    for path in ("/assets/review.js", "/api/photos", "/photos/0/before"):
        assert client.get(path).headers["content-security-policy"] == policy
    assert client.get("/photos/0/before").headers["cache-control"] == "no-store"


# --- What it shows --------------------------------------------------------------------------


def test_each_photo_is_listed_with_why_it_wants_a_look(client: TestClient) -> None:
    photos = {one["name"]: one for one in client.get("/api/photos").json()["photos"]}
    assert photos["a.jpg"]["plates"] == 2
    assert photos["a.jpg"]["marks"] == ["edge", "small", "unsure"]
    assert photos["c.jpg"]["error"]
    assert photos["c.jpg"]["worry"] > photos["a.jpg"]["worry"]


def test_pictures_are_small_and_parts_are_at_full_size(client: TestClient) -> None:
    def size(path: str) -> tuple[int, int]:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        return PillowImage.open(io.BytesIO(answer.content)).size

    assert size("/photos/0/thumb") == (192, 128)
    assert size("/photos/0/before") == (600, 400)
    assert size("/photos/0/after?part=100,100,300,250&longest=200") == (200, 150)
    for part in ("0,0,0,0", "0,0,700,10", "1,2,3", "a,b,c,d", "-1,0,5,5"):
        assert client.get(f"/photos/0/after?part={part}&longest=9").status_code in (404, 422)


def test_after_shows_what_was_changed_before_it_is_written(client: TestClient, run: Path) -> None:
    on_disk = (run / "a.jpg").read_bytes()
    written = client.get("/photos/0/after").content
    assert put(client, 0, FOUND, ADDED).status_code == 200
    assert client.get("/photos/0/after").content != written
    assert (run / "a.jpg").read_bytes() == on_disk


def test_an_original_that_was_changed_is_not_shown(client: TestClient, run: Path) -> None:
    (run.parent / "in" / "a.jpg").write_bytes(encoded(street(400, 600, seed=5), "JPEG"))
    answer = client.get("/photos/0/before")
    assert answer.status_code == 422
    assert "changed since the run" in answer.json()["error"]


# --- What it writes down --------------------------------------------------------------------


def test_a_change_is_on_the_disk_when_it_is_answered(client: TestClient, run: Path) -> None:
    answer = put(client, 0, FOUND | {"hide": False}, ADDED)
    assert answer.json()["revision"] == 1
    told = lines(run)[-1]
    assert (told["output"], told["by"], told["looked_at"]) == ("a.jpg", "Ana", True)
    assert told["plates"][0] == {"xyxy": PLATE, "hide": False, "confidence": 0.9, "found": PLATE}
    assert told["plates"][1] == ADDED
    assert client.get("/api/changes?since=0&size=0").json() == {"is_new": True}


def test_the_second_of_two_reviewers_is_told_what_the_first_did(client: TestClient) -> None:
    assert put(client, 0, FOUND, ADDED).status_code == 200
    refused = put(client, 0, by="Ben")
    assert refused.status_code == 409
    assert (refused.json()["by"], len(refused.json()["plates"])) == ("Ana", 2)
    assert put(client, 0, by="Ben", base=1).json()["revision"] == 2


def test_reviewers_hear_of_each_other(client: TestClient) -> None:
    begun = client.get("/api/photos").json()
    assert put(client, 1, FOUND, ADDED).status_code == 200
    heard = client.get(f"/api/changes?since={begun['changes']}&size={begun['size']}").json()
    assert [(one["name"], one["by"], one["plates"]) for one in heard["photos"]] == [
        ("b.jpg", "Ana", 2)
    ]


def test_boxes_are_clipped_to_the_photo(client: TestClient, run: Path) -> None:
    assert put(client, 0, {"xyxy": [-5, 390, 20, 450], "hide": True}).status_code == 200
    assert lines(run)[-1]["plates"][0]["xyxy"] == [0, 390, 20, 400]


NONSENSE: list[dict[str, Any]] = [
    {"plates": [{"xyxy": [700, 0, 800, 10], "hide": True}]},
    {"plates": [{"xyxy": [20, 20, 10, 30], "hide": True}]},
    {"plates": [{"xyxy": ["x", 0, 1, 1], "hide": True}]},
    {"plates": [{"xyxy": [0, 0, 1e400, 1], "hide": True}]},
    {"plates": [{"xyxy": [0, 0, 10], "hide": True}]},
    {"plates": [{"xyxy": PLATE, "hide": True, "found": [1, 1, 9, 9]}]},
    {"plates": [{"xyxy": PLATE}]},
    {"plates": [FOUND] * 501},
    {"plates": {}},
    {"plates": [ADDED | {"corners": [[0, 0], [50, 50], [50, 0], [0, 50]]}]},
    {"by": ""},
    {"by": "x" * 81},
    {"by": "a\nb"},
    {"base": "x"},
    {"readable": "yes"},
]


@pytest.mark.parametrize("told", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_refused_and_not_written(
    client: TestClient, run: Path, told: dict[str, Any]
) -> None:
    plain = {"base": 0, "by": "Ana", "looked_at": True, "readable": None, "plates": []} | told
    body = json.dumps(plain).replace("Infinity", "1e400")
    answer = client.put("/api/photos/0", content=body, headers={"Origin": HOST})
    assert answer.status_code == 422, answer.text
    assert not (run / REVIEW_NAME).exists()


@pytest.mark.parametrize("number", [2, 3, 99])
def test_a_photo_that_was_not_blurred_cannot_be_reviewed(client: TestClient, number: int) -> None:
    assert put(client, number).status_code == 422


def test_a_sample_is_marked_and_judged(client: TestClient, workspace: Workspace, run: Path) -> None:
    workspace._reviewed.log.draw(Sample(("b.jpg",), 2, 1, 0.01, 0.95))
    photos = {one["name"]: one for one in client.get("/api/photos").json()["photos"]}
    assert [name for name, one in photos.items() if one.get("in_sample")] == ["b.jpg"]
    assert put(client, 1, FOUND, readable=False).json()["readable"] is False
    manifest = (run / "plateblur-manifest.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in manifest if '"b.jpg"' in line][-1]["written"]
    assert lines(run)[-1]["seen"] == written["sha256"]
