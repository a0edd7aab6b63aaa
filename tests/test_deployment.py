"""Dockerfile, compose file and Caddyfile: linted and parsed, and the proxy run before a server.

No Docker engine is asked for; hadolint and the compose schema come from PyPI.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from plateblur.web import Settings, create_app
from tests.ports import free_port
from tests.web.fakes import (
    FakeBlur,
    FakeGate,
    basic,
    documented_client,
    photo_bytes,
    running,
    text_of,
)

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
needs_caddy = pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")


def lines_of_dockerfile() -> list[tuple[str, str]]:
    """Return (instruction, rest) of each line, continued ones joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return parsed


@pytest.mark.slow
def test_the_dockerfile_has_no_lint() -> None:
    done = subprocess.run(
        [str(TOOLS / "hadolint"), "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
def test_the_compose_file_fits_the_specification() -> None:
    command = [str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, "compose.yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_image_holds_what_it_copies_and_starts_as_nobody_special() -> None:
    lines = lines_of_dockerfile()
    ignored = (ROOT / ".dockerignore").read_text()
    for rest in (rest for name, rest in lines if name == "COPY" and "--from" not in rest):
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source
    users = [rest for name, rest in lines if name == "USER"]
    assert users == ["10001:10001"]
    entry = json.loads(next(rest for name, rest in lines if name == "ENTRYPOINT"))
    assert entry[:2] == ["plateblur", "serve"]


def test_the_image_sets_what_the_settings_know() -> None:
    words = [
        word
        for name, rest in lines_of_dockerfile()
        if name == "ENV"
        for word in shlex.split(rest)
        if word.startswith("PLATEBLUR_")
    ]
    assert {word.partition("=")[0] for word in words} <= set(Settings().to_environment())
    assert "PLATEBLUR_MODE=production" in words


def test_compose_names_settings_that_are_there_and_holds_no_secret(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = compose["services"]["app"]["environment"]
    assert set(given) <= set(Settings().to_environment())
    secret = "8f1c2d7e" * 8
    told = {"PLATEBLUR_HOST": "blur.example", "POSTGRES_PASSWORD": secret}
    told |= {"PLATEBLUR_SECRET_KEY": secret, "PLATEBLUR_METRICS_TOKEN": secret}
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("PASSWORD", "SECRET", "TOKEN", "DATABASE")):
                assert ":?" in value, f"{name} must have no default"
    filled = {"PLATEBLUR_MODE": "production"}
    for name, value in given.items():
        for variable, content in told.items():
            start = value.find("${" + variable)
            if start >= 0:
                value = value[:start] + content + value[value.index("}", start) + 1 :]
        filled[name] = value
    for name, value in filled.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment()
    assert settings.public_url == "https://blur.example"
    assert settings.database_url == f"postgresql://plateblur:{secret}@postgres/plateblur"


def test_compose_joins_app_store_redis_and_proxy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"app", "postgres", "redis", "proxy"}
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    assert services["proxy"]["networks"] == ["front"]
    assert services["postgres"]["networks"] == services["redis"]["networks"] == ["back"]
    assert (services["app"]["read_only"], services["app"]["cap_drop"]) == (True, ["ALL"])
    grace_s = int(services["app"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings().shutdown_timeout_s
    trusted = services["app"]["environment"]["PLATEBLUR_TRUSTED_PROXIES"]
    assert trusted == compose["networks"]["front"]["ipam"]["config"][0]["subnet"]
    used = {one.split(":")[0] for each in services.values() for one in each.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == set(compose["volumes"])


@needs_caddy
def test_the_caddyfile_is_valid_for_a_host_name() -> None:
    done = subprocess.run(
        ["caddy", "validate", "--config", "Caddyfile", "--adapter", "caddyfile"],
        cwd=ROOT,
        env={"PATH": os.defpath, "PLATEBLUR_HOST": "blur.example", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Caddyfile's proxy, without TLS on loopback, before a server."""
    folder = tmp_path_factory.mktemp("caddy")
    url = f"http://127.0.0.1:{free_port()}"
    with running(create_app(FakeBlur(), FakeGate(), Settings())) as upstream:
        process = subprocess.Popen(
            ["caddy", "run", "--config", str(ROOT / "Caddyfile"), "--adapter", "caddyfile"],
            env={
                "PATH": os.defpath,
                "HOME": str(folder),
                "PLATEBLUR_HOST": url,
                "PLATEBLUR_UPSTREAM": upstream.removeprefix("http://"),
            },
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while not _answers(url):
            assert process.poll() is None, "caddy ended"
            assert time.monotonic() < deadline, "caddy did not start"
            time.sleep(0.1)
        yield url
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=10).is_success
    except httpx.HTTPError:
        return False


@needs_caddy
@pytest.mark.parametrize(
    ("text", "cd"),
    [
        (text_of(photo_bytes()), "answer"),
        ("A" * (6 * 1024 * 1024), "1013"),
        ("A" * (15 * 1024 * 1024), "1013"),
        ("no photo", "1014"),
    ],
    ids=["photo", "too long", "thrice too long", "no photo"],
)
@pytest.mark.slow
def test_a_documented_client_notices_no_proxy(proxied: str, text: str, cd: str) -> None:
    answer = httpx.post(
        f"{proxied}/plateblurer.aspx",
        json={"base64_Photo_String": text},
        headers={"Authorization": basic()},
        timeout=60,
    )
    assert documented_client(answer)[0] == cd


@needs_caddy
@pytest.mark.slow
def test_figures_stay_inside(proxied: str) -> None:
    assert httpx.get(f"{proxied}/metrics", timeout=60).status_code == 404
