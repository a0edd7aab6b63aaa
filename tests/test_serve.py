"""`serve.py` as people start it: two workers, the shipped model, a store in a data folder."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image as PillowImage

from plateblur.accounts import signup
from plateblur.accounts.credentials import Hasher
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import open_store
from plateblur.accounts.types import Role
from plateblur.detector import shipped_model
from plateblur.web import Settings
from tests.counted import counted
from tests.ports import free_port
from tests.web.fakes import basic, documented_client, photo_bytes, text_of

pytestmark = pytest.mark.slow

SERVE = [sys.executable, str(Path(__file__).parents[1] / "serve.py")]
EMAIL, PASSWORD = "ana@example.com", "correct horse battery staple"
START_S = 300  # Two workers load the model; on a machine that trains beside it that takes a while.
PATH = "/plateblurer.aspx"
ENVIRONMENT = {"PATH": os.defpath, **counted()}


@dataclass
class Served:
    """What one run of `serve.py` shows to the outside."""

    url: str
    told: str
    process: subprocess.Popen[str]


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if not shipped_model().is_file():
        pytest.skip("no model is shipped yet")
    data_dir = tmp_path_factory.mktemp("data") / "made" / "by serve"
    store = open_store(data_dir)
    account_id = signup.create_account(
        store,
        Hasher(),
        email=EMAIL,
        username="",
        password=PASSWORD,
        role=Role.CUSTOMER,
        active=True,
        now=utc_now(),
    )
    signup.start_trial(store, account_id, now=utc_now())
    store.close()
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*SERVE, "--port", str(port), "--data-dir", str(data_dir), "--workers", "2"],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    told = process.stdout.readline()
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_S
    while not is_ready(url):
        assert process.poll() is None, f"serve.py ended: {log.read_text()}"
        assert time.monotonic() < deadline, f"serve.py did not become ready: {log.read_text()}"
        time.sleep(0.2)
    yield Served(url, told, process)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        process.kill()
        process.stdout.close()


def test_the_documented_client_gets_its_photo_and_the_request_is_counted(served: Served) -> None:
    headers = {"Authorization": basic(EMAIL, PASSWORD)}
    body = {"base64_Photo_String": text_of(photo_bytes(size_wh=(320, 240)))}
    answer = httpx.post(served.url + PATH, json=body, headers=headers, timeout=60)
    kind, told = documented_client(answer)
    assert kind == "answer"
    assert isinstance(told, dict)
    with PillowImage.open(io.BytesIO(base64.b64decode(told["final_photo"]))) as photo:
        assert (photo.format, photo.size) == ("JPEG", (320, 240))
    usage = httpx.get(f"{served.url}/v1/usage", headers=headers, timeout=60).json()
    assert (usage["requests"]["used"], usage["requests"]["left"]) == (1, 49)


@pytest.mark.parametrize(
    ("photo", "cd"),
    [(b"\xff\xd8\xff\xe0 and then nothing", "2001"), (b"no photo", "1014")],
    ids=["damaged", "no photo"],
)
def test_a_photo_that_cannot_be_blurred_is_told_by_its_code(
    served: Served, photo: bytes, cd: str
) -> None:
    headers = {"Authorization": basic(EMAIL, PASSWORD)}
    body = {"base64_Photo_String": text_of(photo)}
    answer = httpx.post(served.url + PATH, json=body, headers=headers, timeout=60)
    assert documented_client(answer)[0] == cd


def test_a_pixel_bomb_is_1014(served: Served) -> None:
    bomb = io.BytesIO()
    PillowImage.new("L", (12_000, 9_000)).save(bomb, "PNG")
    headers = {"Authorization": basic(EMAIL, PASSWORD)}
    body = {"base64_Photo_String": text_of(bomb.getvalue())}
    answer = httpx.post(served.url + PATH, json=body, headers=headers, timeout=60)
    assert documented_client(answer)[0] == "1014"


def test_a_photo_that_only_wears_out_a_decoder_is_1014_at_once(served: Served) -> None:
    photo = io.BytesIO()
    PillowImage.new("L", (2000, 2000)).save(photo, "JPEG", progressive=True)
    data = photo.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    body = {"base64_Photo_String": text_of(data[:-2] + scan * 5000 + data[-2:])}
    headers = {"Authorization": basic(EMAIL, PASSWORD)}
    started = time.monotonic()
    answer = httpx.post(served.url + PATH, json=body, headers=headers, timeout=60)
    assert documented_client(answer)[0] == "1014"
    assert time.monotonic() - started < 20


def test_photos_are_blurred_in_processes_that_do_not_outlive_the_service(tmp_path: Path) -> None:
    if not shipped_model().is_file():
        pytest.skip("no model is shipped yet")
    url = f"http://127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [*SERVE, "--port", url.rsplit(":", 1)[1], "--data-dir", str(tmp_path)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as service:
        deadline = time.monotonic() + START_S
        while not is_ready(url):
            assert service.poll() is None, "serve.py ended"
            assert time.monotonic() < deadline, "serve.py did not become ready"
            time.sleep(0.2)
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children")
        workers = [int(each) for each in children.read_text(encoding="ascii").split()]
        service.kill()
    assert workers
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.1)


def test_a_wrong_password_is_1015(served: Served) -> None:
    headers = {"Authorization": basic(EMAIL, "wrong")}
    answer = httpx.post(served.url + PATH, json={}, headers=headers, timeout=60)
    assert documented_client(answer)[0] == "1015"


def test_the_operators_account_is_made_and_told(served: Served) -> None:
    told = re.search(r"user (\S+) password (\S+)", served.told)
    assert told is not None
    headers = {"Authorization": basic(told[1], told[2])}
    answer = httpx.post(served.url + PATH, json={}, headers=headers, timeout=60)
    assert documented_client(answer)[0] == "1006"


def test_figures_are_of_all_workers(served: Served) -> None:
    def asked() -> float:
        text = httpx.get(f"{served.url}/metrics", timeout=60).text
        found = re.search(r'plateblur_requests_total{[^}]*route="/healthz"[^}]*} (\S+)', text)
        return float(found[1]) if found else 0.0

    before = asked()
    for _ in range(10):  # Each on a connection of its own, so that both workers get some.
        httpx.get(f"{served.url}/healthz", timeout=60)
    assert [asked() - before for _ in range(4)] == [10.0] * 4


def test_every_setting_is_listed() -> None:
    done = subprocess.run(
        [*SERVE, "--settings"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    for name in Settings().to_environment():
        assert name in done.stdout


def test_production_without_a_secret_is_refused_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SERVE, "--data-dir", str(tmp_path)],
        env=ENVIRONMENT | {"PLATEBLUR_MODE": "production"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("The service can't start: PLATEBLUR_SECRET_KEY must be")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"PLATEBLUR_MODEL": "nowhere/plates.onnx"}, "expected an ONNX model named plates.onnx"),
        ({"PLATEBLUR_MODEL": __file__}, "expected an ONNX model in test_serve.py"),
        ({"PLATEBLUR_DATABASE_URL": "mysql://x/y"}, "url must be of SQLite or PostgreSQL"),
        ({"PLATEBLUR_DATABASE_URL": "postgresql://x@/y?host=/nowhere"}, "expected the accounts'"),
        ({"PLATEBLUR_SECRET_KEY": "short"}, "secret must have at least 32 bytes"),
    ],
    ids=["no model", "no ONNX", "another database", "no database", "short secret"],
)
def test_what_no_worker_could_start_without_ends_it_at_once_in_one_line(
    tmp_path: Path, workers: str, settings: dict[str, str], told: str
) -> None:
    if "PLATEBLUR_MODEL" not in settings and not shipped_model().is_file():
        pytest.skip("no model is shipped yet")
    done = subprocess.run(
        [*SERVE, "--port", str(free_port()), "--data-dir", str(tmp_path), "--workers", workers],
        env=ENVIRONMENT | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_S,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"The service can't start: {told}")
    assert done.stderr.count("\n") == 1
