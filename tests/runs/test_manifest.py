"""The manifest: what a kill leaves of it, what is refused, and what threads do to it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from plateblur.errors import RunError
from plateblur.runs.manifest import FORMAT, Manifest, Version

RUN = {"manifest": FORMAT, "run": 1, "software": "plateblur 1", "settings": {"margin": 0.25}}
GIVEN = Version(10, "123", b"\1" * 32)
WRITTEN = Version(9, "456", b"\2" * 32)


def photo_line(name: str = "a.jpg", **changes: Any) -> dict[str, Any]:
    line = {
        **{"photo": f"/in/{name}", "output": name, "state": "done", "run": 1},
        **{"input": GIVEN.as_json(), "written": WRITTEN.as_json(), "plates": 2},
    }
    return line | changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "manifest.jsonl"


def filled(path: Path, *lines: dict[str, Any]) -> None:
    manifest = Manifest(path)
    for line in (RUN, *lines):
        manifest.append(line)
    manifest.close()


def test_what_was_written_is_read_again(path: Path) -> None:
    filled(path, photo_line(), photo_line("b.jpg", state="failed", written=None, final=True))
    manifest = Manifest(path)
    assert manifest.runs == {1: RUN}
    done, failed = manifest.entries["a.jpg"], manifest.entries["b.jpg"]
    assert (done.state, done.given, done.written, done.run) == ("done", GIVEN, WRITTEN, 1)
    assert (failed.state, failed.written, failed.is_final) == ("failed", None, True)
    assert manifest.line_at(done.offset) == photo_line()
    manifest.close()


def test_the_last_line_of_an_output_counts(path: Path) -> None:
    filled(path, photo_line(), photo_line(state="failed", written=None), photo_line(plates=7))
    manifest = Manifest(path)
    assert manifest.line_at(manifest.entries["a.jpg"].offset)["plates"] == 7
    manifest.close()


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_last_line_that_was_cut_short_is_dropped_and_the_next_begins_afresh(
    path: Path, cut: int
) -> None:
    filled(path, photo_line(), photo_line("b.jpg"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    manifest = Manifest(path)
    assert set(manifest.entries) == {"a.jpg"}
    assert manifest.damaged == 0
    manifest.append(photo_line("c.jpg"))
    manifest.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("output") for line in lines] == [None, "a.jpg", "c.jpg"]


@pytest.mark.slow
def test_a_kill_at_any_byte_leaves_a_manifest_that_opens(path: Path) -> None:
    filled(path, photo_line(), photo_line("b.jpg"))
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        manifest = Manifest(path)
        assert len(manifest.entries) == max(0, whole[:length].count(b"\n") - 1)
        manifest.close()


@pytest.mark.parametrize(
    "line", [b"\0" * 100, b'{"output": "b.jpg"}', b"[1]", b'"x"', b"\xff\xfe"], ids=repr
)
def test_a_damaged_line_in_the_middle_costs_no_other(path: Path, line: bytes) -> None:
    filled(path, photo_line())
    with path.open("ab") as file:
        file.write(line + b"\n" + json.dumps(photo_line("c.jpg")).encode() + b"\n")
    manifest = Manifest(path)
    assert set(manifest.entries) == {"a.jpg", "c.jpg"}
    assert manifest.damaged == 1
    manifest.close()


@pytest.mark.parametrize(
    "content", [b"a photo", b'{"photo": "a.jpg"}\n', b"\x89PNG\r\n\x1a\n", b"\n"], ids=repr
)
def test_a_file_of_another_kind_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RunError, match="no manifest of plateblur"):
        Manifest(path)
    assert path.read_bytes() == content


def test_a_manifest_of_a_later_version_is_refused_and_left_alone(path: Path) -> None:
    filled(path)
    later = json.dumps(RUN | {"manifest": FORMAT + 1}).encode() + b"\nwhatever comes"
    path.write_bytes(later)
    with pytest.raises(RunError, match="later version"):
        Manifest(path)
    assert path.read_bytes() == later


def test_threads_write_whole_lines_and_each_is_found_again(path: Path) -> None:
    manifest = Manifest(path)
    manifest.append(RUN)
    offsets: dict[str, int] = {}

    def write(number: int) -> None:
        for photo in range(20):
            name = f"{number}-{photo}.jpg"
            offsets[name] = manifest.append(photo_line(name, note="x" * 300 * number))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(offsets) == 120
    for name, offset in offsets.items():
        assert manifest.line_at(offset)["output"] == name
    manifest.close()
    again = Manifest(path)
    assert len(again.entries) == 120
    again.close()


def test_a_line_is_on_the_disk_when_append_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    manifest = Manifest(path)
    manifest.append(RUN)
    manifest.append(photo_line())
    assert synced[-1] == path.stat().st_size
    manifest.close()


def test_a_disk_that_is_full_leaves_no_half_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(path)
    manifest.append(RUN)
    whole = os.write
    with monkeypatch.context() as patch:

        def half(handle: int, data: Any) -> int:
            if len(data) < 100:
                raise OSError(28, "No space left on device")
            return whole(handle, data[: len(data) - 50])

        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            manifest.append(photo_line())
    manifest.append(photo_line("b.jpg"))
    manifest.close()
    again = Manifest(path)
    assert (set(again.entries), again.damaged) == ({"b.jpg"}, 0)
    again.close()


@pytest.mark.parametrize(
    ("seen", "same"),
    [((10, "123"), True), ((11, "123"), False), ((10, "124"), False), (None, False)],
)
def test_a_file_looks_unchanged_by_size_and_stamp(seen: Any, same: bool) -> None:
    assert GIVEN.is_seen_in(seen) == same
    assert not Version(10, "", GIVEN.sha256).is_seen_in((10, ""))
