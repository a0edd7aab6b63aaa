"""Clips in the workspace over HTTP: what it shows of them, what it takes, what it refuses."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from plateblur import cli
from plateblur.runs.manifest import MANIFEST_NAME
from plateblur.video import Reel
from tests.clips import RATE, drawn_clip, driving, frames_of
from tests.fakes import FixedDetector, boxes

pytest.importorskip("starlette", reason="needs the extra workspace")
with warnings.catch_warnings():  # Starlette 1.3 imports a name that AnyIO 4.14 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from starlette.testclient import TestClient

from plateblur.review import clips
from plateblur.review.app import create_app
from plateblur.review.workspace import Workspace
from plateblur.runs.review_log import REVIEW_NAME

PORT, TOKEN = 7861, "a-token"
HOST = f"http://127.0.0.1:{PORT}"
FRAME_US = 1_000_000 // RATE
KEYS = [[0, 100, 80, 140, 100], [3 * FRAME_US, 100, 80, 140, 100]]
ADDED: dict[str, Any] = {"keys": KEYS, "hide": True, "found": None}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    detector = FixedDetector(boxes([20.0, 20.0, 60.0, 40.0]), (0.5,))
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: detector)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(drawn_clip(driving(8)))
    options = ["--method", "solid", "--margin", "0"]
    told = ["video", f"{tmp_path / 'in'}", "-o", f"{tmp_path / 'out'}", *options]
    result = CliRunner().invoke(cli.app, told)
    assert result.exit_code == 0, result.output
    return tmp_path / "out"


@pytest.fixture
def client(run: Path) -> Iterator[TestClient]:
    workspace = Workspace(run)
    with TestClient(create_app(workspace, port=PORT, token=TOKEN), base_url=HOST) as opened:
        assert opened.get(f"/?token={TOKEN}").status_code == 200
        yield opened
    workspace.close()


def put(client: TestClient, *plates: Any, base: int = 0, **more: Any) -> Any:
    told = {"base": base, "by": "Ana", "looked_at": True, "plates": plates} | more
    return client.put("/api/photos/0", json=told, headers={"Origin": HOST})


def found(client: TestClient) -> list[dict[str, Any]]:
    plates: list[dict[str, Any]] = client.get("/api/photos/0").json()["plates"]
    return plates


def frame(client: TestClient, side: str, time_us: int, more: str = "") -> Any:
    answer = client.get(f"/photos/0/{side}?at={time_us}{more}")
    assert answer.status_code == 200, answer.text
    return np.array(PillowImage.open(io.BytesIO(answer.content))).astype(int)


def test_a_clip_is_listed_with_its_length_its_plates_and_a_mark(client: TestClient) -> None:
    (clip,) = client.get("/api/photos").json()["photos"]
    assert (clip["name"], clip["plates"], clip["length_s"]) == ("a.mp4", 1, 0.7)
    assert clip["marks"] == ["unsure"]
    assert PillowImage.open(io.BytesIO(client.get("/photos/0/thumb").content)).size == (160, 120)


def test_frames_are_shown_before_and_after_at_their_times(client: TestClient, run: Path) -> None:
    times = client.get("/api/photos/0/times").json()["times_us"]
    assert times == [number * FRAME_US for number in range(8)]
    original = frames_of((run.parent / "in" / "a.mp4").read_bytes())
    for number in (5, 6, 2):
        shown = frame(client, "before", times[number])
        assert np.abs(shown - original[number][1]).mean() < 4
    hidden = frame(client, "after", times[4])[23:37, 23:57]
    assert hidden.std() < 4
    assert frame(client, "after", times[4], "&part=20,20,60,40&longest=20").shape == (10, 20, 3)
    for path in ("before", "after?at=x", "after?at=0&part=0,0,900,9", "after?at=--1"):
        assert client.get(f"/photos/0/{path}").status_code in (404, 422), path


def test_after_shows_a_frame_as_it_will_be_written(client: TestClient, run: Path) -> None:
    on_disk = (run / "a.mp4").read_bytes()
    assert put(client, *found(client), ADDED).status_code == 200
    hidden = [frame(client, "after", number * FRAME_US)[83:97, 103:137].std() for number in (3, 4)]
    assert hidden[0] < 4 < hidden[1]
    assert (run / "a.mp4").read_bytes() == on_disk
    told = json.loads((run / REVIEW_NAME).read_text().splitlines()[-1])
    assert (told["plates"], len(told["tracks"]), told["looked_at"]) == ([], 2, True)
    assert told["tracks"][1] == {"keys": KEYS, "hide": True}


def test_what_was_found_may_be_moved_and_stays_known(client: TestClient) -> None:
    (plate,) = found(client)
    assert plate["found"] is True
    moved = plate | {"keys": KEYS, "found": plate["keys"]}
    (saved,) = put(client, moved).json()["plates"]
    assert (saved["confidence"], saved["found"]) == (0.5, plate["keys"])
    (back,) = put(client, plate, base=1).json()["plates"]
    assert back["found"] is True
    assert client.get("/api/photos/0").json()["is_written"] is True


def test_boxes_are_clipped_to_the_frame(client: TestClient) -> None:
    answer = put(client, ADDED | {"keys": [[0, -5, 100, 20, 200]]})
    assert answer.json()["plates"][0]["keys"] == [[0, 0, 100, 20, 120]]


def test_the_second_of_two_reviewers_is_told_what_the_first_did(client: TestClient) -> None:
    assert put(client, *found(client), ADDED).status_code == 200
    refused = put(client, by="Ben")
    assert refused.status_code == 409
    assert (refused.json()["by"], len(refused.json()["plates"])) == ("Ana", 2)


NONSENSE: list[Any] = [
    {"keys": [], "hide": True},
    {"keys": [[5, 0, 0, 9, 9], [5, 0, 0, 9, 9]], "hide": True},
    {"keys": [[5, 0, 0, 9, 9], [4, 0, 0, 9, 9]], "hide": True},
    {"keys": [[0, 0, 0, 9]], "hide": True},
    {"keys": [["x", 0, 0, 9, 9]], "hide": True},
    {"keys": [[1e400, 0, 0, 9, 9]], "hide": True},
    {"keys": [[1e300, 0, 0, 9, 9]], "hide": True},
    {"keys": [[0, 0, 0, 1e400, 9]], "hide": True},
    {"keys": [[0, 500, 0, 900, 9]], "hide": True},
    {"keys": [[0, 9, 9, 1, 1]], "hide": True},
    {"keys": [[0, 0, 0, 9, 9]], "hide": True, "found": True},
    {"keys": KEYS, "hide": True, "found": [[0, 1, 1, 2, 2]]},
    {"keys": KEYS},
    {"xyxy": [0, 0, 9, 9], "hide": True},
    None,
]


@pytest.mark.parametrize("plate", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_refused_and_not_written(client: TestClient, run: Path, plate: Any) -> None:
    told = {"base": 0, "by": "Ana", "looked_at": True, "plates": [plate]}
    body = json.dumps(told).replace("Infinity", "1e400")
    answer = client.put("/api/photos/0", content=body, headers={"Origin": HOST})
    assert answer.status_code == 422, answer.text
    assert not (run / REVIEW_NAME).exists()


def test_too_many_plates_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MOST_MOVING", 1)
    assert put(client, ADDED, ADDED).status_code == 422


def test_an_original_that_was_changed_is_not_shown(client: TestClient, run: Path) -> None:
    (run.parent / "in" / "a.mp4").write_bytes(drawn_clip(driving(9)))
    for path in ("/api/photos/0/times", "/photos/0/before?at=0"):
        answer = client.get(path)
        assert answer.status_code == 422
        assert "changed since the run" in answer.json()["error"]
    assert client.get("/photos/0/after?at=0").status_code == 200  # the output is there


def test_an_original_that_is_gone_is_said(client: TestClient, run: Path) -> None:
    (run.parent / "in" / "a.mp4").unlink()
    answer = client.get("/api/photos/0/times")
    assert (answer.status_code, "No such file" in answer.json()["error"]) == (404, True)


def test_few_clips_are_open_at_a_time(
    client: TestClient, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Reel] = []
    close = Reel.close

    def noted(reel: Reel) -> None:
        closed.append(reel)
        close(reel)

    monkeypatch.setattr(clips, "MOST_OPEN", 1)
    monkeypatch.setattr(Reel, "close", noted)
    for side in ("before", "after", "before"):
        frame(client, side, 0)
    assert len(closed) == 2


def test_a_clip_of_an_earlier_version_is_listed_and_cannot_be_corrected(run: Path) -> None:
    manifest = run / MANIFEST_NAME
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        line.pop("tracks", None)
    manifest.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with TestClient(create_app(Workspace(run), port=PORT, token=TOKEN), base_url=HOST) as opened:
        opened.get(f"/?token={TOKEN}")
        (clip,) = opened.get("/api/photos").json()["photos"]
        assert "--redo" in clip["error"]
        assert put(opened, ADDED).status_code == 422
