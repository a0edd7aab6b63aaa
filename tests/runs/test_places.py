"""Photos in ZIP files, lists, buckets and behind web addresses; credentials are never shown."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
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
from plateblur.runs.places import is_remote, without_credentials
from tests.fakes import FixedDetector, boxes, encoded, street
from tests.ports import free_port

STREET = street(90, 140)
PHOTO = encoded(STREET, "PNG")
PLATE = [40.0, 30.0, 90.0, 45.0]
SECRET = "SeCr3tSignature"
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


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """Yield the environment of a moto server with the bucket `survey`."""
    if not (find_spec("moto") and find_spec("s3fs")):
        pytest.skip("needs moto and the extra buckets")
    port = free_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIAKEYOFTESTS",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    server = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            wait_for(port, child)
            client = s3_client(environment)
            client.create_bucket(Bucket="survey")
            for number in range(12):
                client.put_object(Bucket="survey", Key=f"in/{number:02}.png", Body=PHOTO)
            client.put_object(Bucket="survey", Key="in/deep/last.png", Body=PHOTO)
            client.close()
            yield environment
        finally:
            child.terminate()


def wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end and child.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the S3 server didn't start")


def s3_client(environment: dict[str, str]) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


def listed(environment: dict[str, str], prefix: str) -> dict[str, bytes]:
    client = s3_client(environment)
    found = client.list_objects_v2(Bucket="survey", Prefix=prefix).get("Contents", [])
    data = {
        each["Key"]: client.get_object(Bucket="survey", Key=each["Key"])["Body"].read()
        for each in found
    }
    client.close()
    return data


@pytest.mark.slow
def test_from_s3_to_a_disk(here: Path, s3: dict[str, str]) -> None:
    done = command("blur", "s3://survey/in", "-o", "out", "--recursive", environment=s3)
    assert done.returncode == 0, done.stderr
    assert outputs() == {*(f"{n:02}.png" for n in range(12)), "deep/last.png"}
    again = command("blur", "s3://survey/in", "-o", "out", "--recursive", environment=s3)
    assert "13 photos done before" in again.stderr
    for text in (done.stderr, next(Path("out").glob("*.jsonl")).read_text()):
        assert SECRET not in text
        assert "AKIAKEYOFTESTS" not in text


@pytest.mark.slow
def test_from_s3_to_s3_killed_and_resumed(here: Path, s3: dict[str, str]) -> None:
    line = ["blur", "s3://survey/in", "-o", "s3://survey/out", "--recursive", *MANIFEST]
    everything = {**os.environ, **s3, "PYTHONPATH": str(Path(__file__).parents[2])}  # noqa: TID251
    program = [sys.executable, "-c", PROGRAM, *line, "--workers", "1", "-q"]
    with subprocess.Popen(program, env=everything) as child:
        path = Path("run.jsonl")
        end = time.monotonic() + 300
        while child.poll() is None and time.monotonic() < end:
            if path.exists() and path.read_bytes().count(b"\n") > 5:
                break
            time.sleep(0.005)
        child.kill()
    done = command(*line, environment=s3)
    assert done.returncode == 0, done.stderr
    written = listed(s3, "out/")
    assert set(written) == {*(f"out/{n:02}.png" for n in range(12)), "out/deep/last.png"}
    assert all(is_blurred(data) for data in written.values())
    again = command(*line, environment=s3)
    assert "13 photos done before" in again.stderr, again.stderr
    assert SECRET not in path.read_text()


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_said(here: Path, s3: dict[str, str]) -> None:
    done = command("blur", "s3://nothere/in", "-o", "out", environment=s3)
    assert done.returncode in (1, 2)
    assert "s3://nothere/in" in done.stderr
    assert "Traceback" not in done.stderr
