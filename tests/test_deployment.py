"""Images, compose, Kubernetes and Caddy files, and workflows: linted, parsed, run where possible.

No Docker engine and no cluster are asked for; the linters and schemas come from PyPI.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.main import get_command

from plateblur import cli
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


def test_the_images_hold_what_they_copy_and_start_as_nobody_special() -> None:
    lines = lines_of_dockerfile()
    ignored = (ROOT / ".dockerignore").read_text()
    for rest in (rest for name, rest in lines if name == "COPY" and "--from" not in rest):
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source
    stages: dict[str, dict[str, str]] = {}
    for name, rest in lines:
        if name == "FROM":
            stages[rest.split()[-1]] = {}
        else:
            stages[list(stages)[-1]][name] = rest
    assert list(stages)[-1] == "service"  # what a build without --target makes
    for stage, entry in (("service", ["plateblur", "serve"]), ("runs", ["plateblur"])):
        assert stages[stage]["USER"] == "10001:10001"
        assert json.loads(stages[stage]["ENTRYPOINT"])[: len(entry)] == entry


def test_the_images_install_extras_that_are_there_at_locked_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = [rest for name, rest in lines_of_dockerfile() if "pip install" in rest]
    assert len(installs) == 2
    for rest in installs:
        extras = re.findall(r'"\.\[([a-z,]+)\]"', rest)[0].split(",")
        assert set(extras) <= set(project["optional-dependencies"])
        assert rest.count("pip install") == rest.count("-c requirements.lock")
    lock = (ROOT / "requirements.lock").read_text()
    assert re.findall(r"^onnxruntime==[0-9.]+$", lock, re.M)  # the image for GPUs reads it


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


# --- Kubernetes ------------------------------------------------------------------------------

KUBERNETES = ("1.29", "1.33")  # what the files are written for
DEPLOY = ROOT / "docs" / "deploy"


def parsed(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def pod_templates() -> dict[str, dict[str, Any]]:
    """Return the pods of both files: of the job, and of the Ray cluster's head and workers."""
    cluster = parsed("rayjob.yaml")[1]["spec"]["rayClusterSpec"]
    return {
        "job": parsed("job.yaml")[1]["spec"]["template"],
        "head": cluster["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
    }


@pytest.mark.slow
@pytest.mark.parametrize("version", KUBERNETES)
def test_the_kubernetes_files_fit_the_schema(version: str) -> None:
    kubernetes_validate = importlib.import_module("kubernetes_validate")  # takes seconds
    for document in [*parsed("job.yaml"), parsed("rayjob.yaml")[0]]:
        kubernetes_validate.validate(document, version, strict=True)
    # The schema of RayJob is KubeRay's; its pods are Kubernetes' own.
    for name, template in pod_templates().items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.slow
def test_a_wrong_kubernetes_file_would_be_noticed() -> None:
    kubernetes_validate = importlib.import_module("kubernetes_validate")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"contaners": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, KUBERNETES[0], strict=True)


def test_the_pods_have_no_rights_and_reports_are_off() -> None:
    for template in pod_templates().values():
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["image"].startswith("ghcr.io/OWNER/plateblur-runs:")
        for each in container.get("env", []):
            assert "SECRET" not in each["name"]
    for name in ("head", "cores"):
        (container,) = pod_templates()[name]["spec"]["containers"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]


def test_the_commands_in_the_pods_are_commands_of_ours() -> None:
    options = {
        name
        for parameter in get_command(cli.app).commands["blur"].params  # type: ignore[attr-defined]
        for name in parameter.opts
    }
    job = parsed("job.yaml")[1]["spec"]["template"]["spec"]["containers"][0]["args"]
    entry = shlex.split(parsed("rayjob.yaml")[1]["spec"]["entrypoint"])
    assert (job[0], entry[:2]) == ("blur", ["plateblur", "blur"])
    for word in (word for word in [*job, *entry] if word.startswith("-")):
        assert word.partition("=")[0] in options


def test_the_ray_of_the_cluster_is_the_one_of_the_lock() -> None:
    cluster = parsed("rayjob.yaml")[1]["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "requirements.lock").read_text().split()


# --- GitHub ----------------------------------------------------------------------------------

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.slow
def test_the_workflows_fit_the_schema_and_have_no_known_weakness() -> None:
    schema = [str(TOOLS / "check-jsonschema"), "--builtin-schema"]
    for command in (
        [*schema, "vendor.github-workflows", *map(str, WORKFLOWS)],
        [*schema, "vendor.dependabot", ".github/dependabot.yml"],
        [str(TOOLS / "zizmor"), "--offline", "--no-progress", "--format=plain", ".github"],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_pins_its_actions_and_starts_without_rights(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@v\d+(\.\d+)*", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_only_a_release_publishes_and_no_password_is_kept() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)
    assert set(re.findall(r"secrets\.(\w+)", text)) == {"GITHUB_TOKEN"}
    publish = yaml.safe_load((ROOT / ".github/workflows/wheel.yml").read_text())["jobs"]["publish"]
    assert publish["if"] == "github.event_name == 'release'"
    assert publish["permissions"] == {"id-token": "write"}


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
