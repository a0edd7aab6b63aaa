"""Settings from the environment, and what the log may hold."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from plateblur.errors import DetectionError
from plateblur.web import Settings, SettingsError
from plateblur.web.logs import JsonLines
from plateblur.web.settings import hand_to_workers, settings_help
from tests.web.fakes import KEY, PASSWORD, USER, FakeBlur, basic, make_stand, photo_bytes, text_of

STRONG = "8f1c2d7e" * 8


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("PLATEBLUR_")]:  # noqa: TID251
        monkeypatch.delenv(name)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Reads settings from an environment with these variables."""

    def read_from(environment: dict[str, str], **overrides: object) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Settings.from_environment(**overrides)

    return read_from


Read = Callable[..., Settings]


def test_nothing_has_to_be_set(read: Read) -> None:
    assert read({}) == Settings()


def test_a_value_made_from_arguments_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATEBLUR_QUEUE_LIMIT", "7")
    assert Settings().queue_limit != 7
    assert Settings.from_environment().queue_limit == 7


def test_settings_do_not_change_and_know_their_names() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Settings(), "demo", True)  # noqa: B010 - mypy knows that it can't be set
    with pytest.raises(SettingsError, match="PLATEBLUR_BLUR_THREDS"):
        Settings(blur_threds=2)


def test_each_kind_of_value_is_read(read: Read) -> None:
    settings = read(
        {
            "PLATEBLUR_DATA_DIR": "/srv/blur",
            "PLATEBLUR_REAL_STATUS_CODES": "yes",
            "PLATEBLUR_PHOTO_URL": "FALSE",
            "PLATEBLUR_PHOTO_URL_PORTS": "80, 443,8443",
            "PLATEBLUR_BODY_TIMEOUT_S": "2.5",
            "PLATEBLUR_QUEUE_LIMIT": "0",
            "PLATEBLUR_CORS_ORIGINS": "",
            "OTHER": "x",
        }
    )
    assert settings.data_dir == Path("/srv/blur")
    assert (settings.real_status_codes, settings.photo_url) == (True, False)
    assert settings.photo_url_ports == (80, 443, 8443)
    assert (settings.body_timeout_s, settings.queue_limit) == (2.5, 0)
    assert settings.cors_origins == ()


def test_the_command_line_goes_before_the_environment(read: Read) -> None:
    environment = {"PLATEBLUR_DATA_DIR": "/srv/a", "PLATEBLUR_LOG_LEVEL": "error"}
    settings = read(environment, data_dir=Path("/srv/b"), log_level=None)
    assert (settings.data_dir, settings.log_level) == (Path("/srv/b"), "error")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODE", "prod"),
        ("PHOTO_URL", "maybe"),
        ("BLUR_THREADS", "two"),
        ("BLUR_THREADS", "0"),
        ("QUEUE_LIMIT", "-1"),
        ("BODY_TIMEOUT_S", "0"),
        ("BODY_TIMEOUT_S", "nan"),
        ("PHOTO_URL_PORTS", "80,70000"),
        ("SMTP_PORT", "0"),
        ("MAX_PIXELS", ""),
        ("PHOTO_URL_NAMESERVERS", "ns.example"),
        ("PHOTO_URL_PORTS", "80,http"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable(read: Read, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"PLATEBLUR_{name}"):
        read({f"PLATEBLUR_{name}": value})


@pytest.mark.parametrize(
    ("secret", "public_url", "sound"),
    [
        (STRONG, "https://blur.example", True),
        ("", "https://blur.example", False),
        ("a" * 31, "https://blur.example", False),
        ("change-me-change-me-change-me-change-me", "https://blur.example", False),
        ("Example-" + STRONG, "https://blur.example", False),
        (STRONG, "http://blur.example", False),
    ],
    ids=["sound", "missing", "short", "sample", "other sample", "no TLS"],
)
def test_production_refuses_missing_and_sample_secrets(
    read: Read, secret: str, public_url: str, sound: bool
) -> None:
    environment = {
        "PLATEBLUR_MODE": "production",
        "PLATEBLUR_SECRET_KEY": secret,
        "PLATEBLUR_PUBLIC_URL": public_url,
    }
    if sound:
        assert read(environment).mode == "production"
        return
    with pytest.raises(SettingsError) as caught:
        read(environment)
    assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "url", "sound"),
    [
        ("DATABASE_URL", f"postgresql://plateblur:{STRONG}@postgres/plateblur", True),
        ("DATABASE_URL", "postgresql://plateblur@/plateblur?host=/run/postgresql", True),
        ("DATABASE_URL", "postgresql://plateblur:change-me@postgres/plateblur", False),
        ("DATABASE_URL", "postgresql://[::1/plateblur", False),
        ("REDIS_URL", f"redis://:{STRONG}@redis:6379/0", True),
        ("REDIS_URL", "redis://:Password1@redis:6379/0", False),
    ],
    ids=["strong", "no password", "sample", "no URL", "strong Redis", "sample Redis"],
)
def test_production_refuses_sample_passwords_in_urls(
    read: Read, name: str, url: str, sound: bool
) -> None:
    environment = {
        "PLATEBLUR_MODE": "production",
        "PLATEBLUR_SECRET_KEY": STRONG,
        "PLATEBLUR_PUBLIC_URL": "https://blur.example",
        f"PLATEBLUR_{name}": url,
    }
    if sound:
        assert url not in repr(read(environment))
        return
    with pytest.raises(SettingsError, match=f"PLATEBLUR_{name}") as caught:
        read(environment)
    assert url not in str(caught.value)


SECRETS = ["database_url", "redis_url", "secret_key", "metrics_token", "smtp_password",
           "payment_webhook_secret"]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_not_shown(name: str) -> None:
    settings = Settings(**{name: STRONG})
    assert getattr(settings, name) == STRONG
    assert STRONG not in f"{settings!r} {settings}"


@pytest.mark.parametrize("name", SECRETS)
def test_an_error_does_not_repeat_a_secret(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**{name: [STRONG]})
    assert STRONG not in f"{caught.value} {caught.value.__cause__}"


def test_the_help_lists_every_setting() -> None:
    for name in Settings().to_environment():
        assert name in settings_help()


def test_workers_read_what_the_parent_wrote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(
        data_dir=tmp_path, photo_url=False, cors_origins=(), metrics_dir=str(tmp_path / "m")
    )
    for name in (*settings.to_environment(), "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.setenv(name, "")  # so that it is put back after the test
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "counter_1.db").touch()
    hand_to_workers(settings)
    assert Settings.from_environment() == settings
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.anyio
async def test_the_log_holds_references_and_codes_and_nothing_that_was_sent() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("plateblur.web")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    photo = text_of(photo_bytes())
    failing = RuntimeError("photo of AB-123-CD at /home/ana/street.jpg")
    try:
        stand = make_stand()
        await stand.post({"base64_Photo_String": photo})
        refused = await stand.post({"photo_url": "http://10.0.0.1/private.jpg"})
        await stand.post({}, authorization=basic(USER, "wrong"))
        await stand.client.get("/v1/usage?token=abc", headers={"Authorization": f"Bearer {KEY}"})
        files = {"photo": ("my-house.jpg", photo_bytes())}
        await stand.client.post("/v1/blur", files=files, headers={"Authorization": basic()})
        broken = make_stand(blur=FakeBlur(fails_with=failing))
        answer = await broken.post({"base64_Photo_String": photo})
        expected = make_stand(blur=FakeBlur(fails_with=DetectionError("AB-123-CD")))
        await expected.post({"base64_Photo_String": photo})
    finally:
        logger.removeHandler(handler)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [one["cd"] for one in lines if one["event"] == "request"] == [
        *(None, "1014", "1015", None, None, "2001", "2001")
    ]
    assert lines[0]["account"] == 7
    assert lines[1]["reference"] in refused.text
    unexpected = next(one for one in lines if one["event"] == "unexpected error")
    assert unexpected["error"] == "RuntimeError"
    assert unexpected["reference"] in answer.text
    for secret in (
        *(photo[:40], PASSWORD, "wrong", KEY, USER, basic(), "private.jpg", "10.0.0.1"),
        *("token", "my-house", "AB-123", "/home/ana"),
    ):
        assert secret not in written.getvalue(), secret
