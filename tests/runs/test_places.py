"""Photos in ZIP files, lists, buckets and behind web addresses; credentials are never shown."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.photo import decode
from plateblur.runs.manifest import LOCK_NAME
from plateblur.runs.places import Remote, claimed, is_remote, without_credentials
from tests.buckets import SECRET, Bucket, bucket_of, wait_for
from tests.fakes import FixedDetector, boxes, encoded, street

STREET = street(90, 140)
PHOTO = encoded(STREET, "PNG")
PLATE = [40.0, 30.0, 90.0, 45.0]
SECRETS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING"}
IN_BUCKET = {*(f"{number:02}.png" for number in range(12)), "deep/last.png"}
MANIFEST = ["--manifest", "run.jsonl"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: FixedDetector(boxes(PLATE)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def is_blurred(data: bytes) -> bool:
    return bool((decode(data).pixels[30:45, 40:90] != STREET[30:45, 40:90]).any())


def outputs(folder: str = "out") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png")}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:8/a/b.jpg?sig=x#y", "https://host:8/a/b.jpg"),
        ("s3://bucket/a b.jpg", "s3://bucket/a b.jpg"),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    ("given", "remote"),
    [("s3://b/a", True), ("C://photos", False), ("a.jpg", False), ("://x", False)],
)
def test_a_url_is_told_from_a_path(given: str, remote: bool) -> None:
    assert is_remote(given) == remote


# --- ZIP files and lists --------------------------------------------------------------------


def test_a_zip_file_is_a_folder(here: Path) -> None:
    files = {"top/a.png": PHOTO, "top/deep/b.png": PHOTO, "top/note.txt": b"x"}
    Path("survey.zip").write_bytes(zipped(files))
    result = run("blur", "survey.zip", "-o", "out")
    assert result.exit_code == 0, result.output
    assert outputs() == {"top/a.png", "top/deep/b.png"}
    assert all(is_blurred(Path("out", name).read_bytes()) for name in outputs())
    assert "1 skipped: 1 .txt" in result.stderr
    assert "2 photos done before" in run("blur", "survey.zip", "-o", "out").stderr


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png"])
def test_a_zip_file_writes_nothing_outside_the_output_folder(here: Path, name: str) -> None:
    Path("deep").mkdir()
    Path("deep/survey.zip").write_bytes(zipped({name: PHOTO, "good.png": PHOTO}))
    run("blur", "deep/survey.zip", "-o", "deep/out")
    assert {path.name for path in here.rglob("*.png")} == {"good.png"}


def test_a_broken_zip_file_can_not_start(here: Path) -> None:
    Path("survey.zip").write_bytes(zipped({"a.png": PHOTO})[:-30])
    result = run("blur", "survey.zip", "-o", "out")
    assert result.exit_code == 2
    assert "survey.zip can't be read as a ZIP file" in result.stderr


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_a_zip_file_has_twice_is_said(here: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for data in (PHOTO, PHOTO + b" "):
            archive.writestr("a.png", data)
    Path("survey.zip").write_bytes(out.getvalue())
    result = run("blur", "survey.zip", "-o", "out")
    assert result.exit_code == 1
    assert "survey.zip: it holds a.png 2 times, and only the last can be read" in result.stderr
    assert outputs() == {"a.png"}


def test_a_list_names_photos_and_keeps_their_paths(here: Path) -> None:
    for name in ("x/a.png", "y/a.png"):
        Path(name).parent.mkdir()
        Path(name).write_bytes(PHOTO)
    Path("list.txt").write_text("# the survey\nx/a.png\n\ny/a.png\nnot/there.png\n../up.png\n")
    result = run("blur", "--list", "list.txt", "-o", "out")
    assert result.exit_code == 1
    assert outputs() == {"x/a.png", "y/a.png"}
    assert "not done: not/there.png: No such file" in result.stderr


# --- Any place that fsspec knows ------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[Any]:
    from fsspec.implementations.memory import MemoryFileSystem

    system = MemoryFileSystem()
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_from_one_place_to_another_and_again(here: Path, memory: Any) -> None:
    memory.pipe({"/in/a.png": PHOTO, "/in/deep/b.png": PHOTO, "/in/c.txt": b"x"})
    line = ["blur", "memory://in", "-o", "memory://out", "--recursive", *MANIFEST]
    result = run(*line)
    assert result.exit_code == 0, result.output
    assert set(memory.find("/out")) == {"/out/a.png", "/out/deep/b.png"}
    assert is_blurred(memory.cat("/out/deep/b.png"))
    told = [json.loads(each) for each in Path("run.jsonl").read_text().splitlines()]
    last = {each["output"]: each for each in told if "output" in each}
    assert set(last) == {"a.png", "deep/b.png"}
    assert last["a.png"]["written"]["size"] == len(memory.cat("/out/a.png"))
    again = run(*line)
    assert again.exit_code == 0, again.output
    assert "2 photos done before" in again.stderr
    memory.rm("/out/a.png")
    assert "1 photo done before" in run(*line).stderr
    assert memory.exists("/out/a.png")


def test_what_is_in_the_bucket_already_is_not_replaced(here: Path, memory: Any) -> None:
    Path("a.png").write_bytes(PHOTO)
    memory.pipe("/out/a.png", b"someone else's")
    result = run("blur", "a.png", "-o", "memory://out/", *MANIFEST)
    assert result.exit_code == 1
    assert "--overwrite replaces it" in result.stderr
    assert memory.cat("/out/a.png") == b"someone else's"
    assert run("blur", "a.png", "-o", "memory://out/", "--overwrite", *MANIFEST).exit_code == 0
    assert is_blurred(memory.cat("/out/a.png"))


def lock_of(memory: Any, token: str) -> None:
    told = {"run": token, "host": "other", "since": "2026-11-27T01:00:00Z"}
    memory.pipe(f"/out/{LOCK_NAME}", json.dumps(told).encode())


def test_a_bucket_that_another_run_writes_to_is_refused(here: Path, memory: Any) -> None:
    Path("a.png").write_bytes(PHOTO)
    lock_of(memory, "f00")
    line = ["blur", "a.png", "-o", "memory://out/", *MANIFEST]
    refused = run(*line)
    assert refused.exit_code == 2
    assert "another run is writing to memory://out" in refused.stderr
    assert set(memory.find("/out")) == {f"/out/{LOCK_NAME}"}
    assert run(*line).exit_code == 2  # and it is not taken for its own
    memory.rm(f"/out/{LOCK_NAME}")
    assert run(*line).exit_code == 0
    assert set(memory.find("/out")) == {"/out/a.png"}


def test_the_lock_of_a_killed_run_is_taken_over_by_the_same_line(here: Path, memory: Any) -> None:
    Path("a.png").write_bytes(PHOTO)
    line = ["blur", "a.png", "-o", "memory://out/", *MANIFEST]
    assert run(*line).exit_code == 0
    begun = json.loads(Path("run.jsonl").read_text().splitlines()[0])
    lock_of(memory, begun["lock"])
    assert run("blur", "a.png", "-o", "memory://out/", "--manifest", "other.jsonl").exit_code == 2
    assert run(*line).exit_code == 0
    assert set(memory.find("/out")) == {"/out/a.png"}


def test_a_lock_that_the_place_creates_twice_belongs_to_one(here: Path, memory: Any) -> None:
    """Some servers take the condition and don't hold it."""
    folder = Remote("memory://out", "/out", memory)
    with claimed(folder, "first", earlier=()):
        memory.rm(f"/out/{LOCK_NAME}")
        lock_of(memory, "second")
    assert json.loads(memory.cat(f"/out/{LOCK_NAME}"))["run"] == "second"


def test_a_bucket_for_outputs_needs_a_manifest_on_a_disk(here: Path, memory: Any) -> None:
    Path("a.png").write_bytes(PHOTO)
    result = run("blur", "a.png", "-o", "memory://out/")
    assert result.exit_code == 2
    assert "need --manifest FILE" in result.stderr


@pytest.mark.parametrize("url", ["nosuch://bucket/a", f"nosuch://u:{SECRET}@bucket/a?x={SECRET}"])
def test_a_place_that_is_not_known_is_said_without_credentials(here: Path, url: str) -> None:
    result = run("blur", url, "-o", "out")
    assert result.exit_code == 2
    assert "nosuch://bucket/a can't be reached" in result.stderr
    assert SECRET not in result.output


def test_photos_of_a_bucket_are_not_replaced_in_place(here: Path, memory: Any) -> None:
    memory.pipe("/in/a.png", PHOTO)
    result = run("blur", "memory://in", "--in-place")
    assert result.exit_code == 2
    assert memory.cat("/in/a.png") == PHOTO


def test_a_long_list_asks_a_bucket_once_a_photo(
    here: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe({"/in/a.png": PHOTO, "/in/b.png": PHOTO})
    Path("list.txt").write_text("memory://in/a.png\nmemory://in/b.png\n")
    asked: list[str] = []
    monkeypatch.setattr(type(memory), "isdir", lambda _, path: asked.append(path))
    assert run("blur", "--list", "list.txt", "-o", "out").exit_code == 0
    assert asked == []


def test_no_more_is_asked_for_than_there_is() -> None:
    """gcsfs splits what is asked for into parts, and a part beyond the end is an error."""

    class File(io.BytesIO):
        size = 3

        def read(self, most: int | None = -1) -> bytes:
            assert most is not None
            assert 0 <= most <= self.size
            return super().read(most)

    class System:
        def open(self, *_: object, **__: object) -> File:
            return File(b"abc")

    assert Remote("gs://b/a", "b/a", System()).read_bytes() == b"abc"


def test_detect_reads_from_there_too(here: Path, memory: Any) -> None:
    memory.pipe("/in/a.png", PHOTO)
    result = run("detect", "memory://in")
    assert json.loads(result.stdout)["photo"] == "memory://in/a.png"


# --- Real servers, from a process of its own ------------------------------------------------

PROGRAM = """
import sys
from plateblur import cli
from tests.fakes import FixedDetector, boxes
cli.open_detector = lambda *_, **__: FixedDetector(boxes([40, 30, 90, 45]))
cli.app(sys.argv[1:])
"""


def command(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    everything = {**os.environ, **(environment or {})}  # noqa: TID251
    everything["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=everything, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


class Signed(BaseHTTPRequestHandler):
    """Gives photos to whoever has the signature."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        parts = urlsplit(self.path)
        status = 403 if SECRET not in parts.query else 200 if parts.path == "/x/a.png" else 404
        body = PHOTO if status == 200 else b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Signed)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("aiohttp"), reason="needs the extra buckets")
def test_signed_urls_are_fetched_and_their_signature_is_never_shown(here: Path, web: str) -> None:
    Path("list.txt").write_text(
        f"{web}/x/a.png?sig={SECRET}\n{web}/x/gone.png?sig={SECRET}\n{web}/x/shut.png?key=wrong\n"
    )
    done = command(
        "blur", "--list", "list.txt", "-o", "out", "--report", "r.jsonl", "--csv", "t.csv"
    )
    assert done.returncode == 1, done.stderr
    assert outputs() == {"x/a.png"}
    assert is_blurred(Path("out/x/a.png").read_bytes())
    assert f"not done: {web}/x/gone.png: " in done.stderr
    written = [path.read_text() for path in here.rglob("*") if path.suffix in (".jsonl", ".csv")]
    assert len(written) == 3
    for text in (done.stderr, done.stdout, *written):
        assert SECRET not in text
        assert "key=wrong" not in text


@pytest.fixture(scope="module", params=["s3", "az", "gs"])
def bucket(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bucket]:
    """Yield a bucket with 13 photos in `in`, on a server of each kind."""
    with bucket_of(request.param, tmp_path_factory.mktemp("bucket")) as made:
        made.put({f"in/{name}": PHOTO for name in IN_BUCKET})
        yield made


@pytest.mark.slow
def test_from_a_bucket_to_a_disk(here: Path, bucket: Bucket) -> None:
    line = ["blur", f"{bucket.url}/in", "-o", "out", "--recursive"]
    done = command(*line, environment=bucket.environment)
    assert done.returncode == 0, done.stderr
    assert outputs() == IN_BUCKET
    again = command(*line, environment=bucket.environment)
    assert "13 photos done before" in again.stderr
    for text in (done.stderr, next(Path("out").glob("*.jsonl")).read_text()):
        for name, secret in bucket.environment.items():
            assert name not in SECRETS or secret not in text


@pytest.mark.slow
def test_from_bucket_to_bucket_killed_and_resumed(here: Path, bucket: Bucket) -> None:
    line = ["blur", f"{bucket.url}/in", "-o", f"{bucket.url}/out", "--recursive", *MANIFEST]
    program = [sys.executable, "-c", PROGRAM, *line, "--workers", "1", "-q"]
    path = Path("run.jsonl")
    with subprocess.Popen(program, env=bucket.everything()) as child:
        wait_for(
            lambda: (
                child.poll() is not None or (path.exists() and path.read_bytes().count(b"\n") > 5)
            )
        )
        child.kill()
    assert LOCK_NAME in bucket.files("out")
    other = command(*line[:-1], "other.jsonl", environment=bucket.environment)
    assert other.returncode == 2, other.stderr
    assert f"another run is writing to {bucket.url}/out, since 20" in other.stderr
    assert f"delete {bucket.url}/out/{LOCK_NAME}" in other.stderr
    done = command(*line, environment=bucket.environment)
    assert done.returncode == 0, done.stderr
    written = bucket.files("out")
    assert set(written) == IN_BUCKET  # and no lock any more
    assert all(is_blurred(data) for data in written.values())
    again = command(*line, environment=bucket.environment)
    assert "13 photos done before" in again.stderr, again.stderr


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_said(here: Path, bucket: Bucket) -> None:
    place = bucket.url.replace("survey", "nothere")
    done = command("blur", f"{place}/in", "-o", "out", environment=bucket.environment)
    assert done.returncode in (1, 2)
    assert f"{place}/in" in done.stderr
    assert "Traceback" not in done.stderr
