"""Deployment values; the only file that reads or writes the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from plateblur.web.fetcher import name_server

PREFIX = "PLATEBLUR_"
DATA_DIR = Path("data")
LOCAL_URL = "http://127.0.0.1:8000"
MIN_SECRET_CHARS = 32  # Source: 128 bits as hex digits.
SAMPLE_SECRETS = ("change-me", "changeme", "sample", "example", "secret", "password", "test")
"""Beginnings that give away a secret which was copied from a page."""


class SettingsError(ValueError):
    """A setting is missing, or its value can't be used; the message names the variable."""


def _told(default: Any, text: str, **more: Any) -> Any:
    """Return a dataclass field that knows its own line of `--help`."""
    return field(default=default, metadata={"help": text, **more})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a deployment may choose; `settings_help` lists it."""

    mode: Literal["development", "production"] = _told(
        "development", "production refuses missing or sample secrets and sends HSTS"
    )
    data_dir: Path = _told(  # noqa: RUF009 - a dataclass field, and a Path does not change
        DATA_DIR, "folder of the SQLite store, outbox and shared metrics"
    )
    model: str = _told("", "ONNX model of the detector; empty means the shipped one")
    database_url: str = _told(
        "", "SQLAlchemy URL; empty means SQLite in the data folder", secret=True
    )
    redis_url: str = _told(
        "",
        "redis://...: who floods is turned away there, for hosts that share a database; "
        "empty: the database alone counts the minute",
        secret=True,
    )
    secret_key: str = _told(
        "", "signs sessions and links; at least 32 characters in production", secret=True
    )
    public_url: str = _told(LOCAL_URL, "how people reach this service")
    source_url: str = _told(
        "",
        "where people get the source code of this service, as the AGPL asks of whoever changes it; "
        "empty: the running code itself, at /source.zip",
    )
    real_status_codes: bool = _told(
        False, "the documented endpoint answers errors with 4xx/5xx instead of 200"
    )
    photo_url: bool = _told(True, "photos may be given by URL; switch off where there is no net")
    photo_url_ports: tuple[int, ...] = _told((80, 443), "ports that a photo_url may name")
    photo_url_timeout_s: float = _told(10.0, "for the whole fetch with its redirects")
    photo_url_limit: int = _told(
        48, "photos fetched by URL at once in one worker; an account has a quarter at most"
    )
    photo_url_nameservers: tuple[str, ...] = _told(
        (), "name servers that photo_url asks, as ADDRESS or ADDRESS:PORT; empty: the system's"
    )
    body_timeout_s: float = _told(30.0, "for a request's body to arrive")
    hear_out_s: float = _told(
        30.0, "for the rest of a refused body; .NET's WebClient reads no answer before its end"
    )
    max_pixels: int = _told(60_000_000, "of one photo; phones take up to 50 million")
    blur_threads: int = _told(2, "photos blurred at once in one worker")
    photo_work_s: int = _told(
        40, "processor seconds for one photo; a HEIC of 12 megapixels takes 17, a JPEG below 1"
    )
    photo_memory_mb: int = _told(2048, "for one photo, beyond what its worker needs for the model")
    queue_limit: int = _told(64, "photos that may wait for a thread; more are answered busy")
    body_limit: int = _told(
        96, "request bodies in memory at once in one worker; an account has three quarters at most"
    )
    busy_retry_s: int = _told(2, "Retry-After of a busy answer")
    shutdown_timeout_s: int = _told(30, "how long requests in flight may take on shutdown")
    cors_origins: tuple[str, ...] = _told(("*",), "origins whose scripts may call the API")
    trusted_proxies: str = _told("127.0.0.1", "proxies whose X-Forwarded-For is believed")
    metrics_token: str = _told(
        "",
        "Bearer token that /metrics asks for; empty: open, and closed in production",
        secret=True,
    )
    metrics_dir: str = _told("", "shared metrics of several workers; serve.py fills it in")
    smtp_host: str = _told(
        "", "mail server; empty: letters go to outbox/ in the data folder, links to the terminal"
    )
    smtp_port: int = _told(587, "of the mail server: 587 for starttls, 465 for tls")
    smtp_security: Literal["starttls", "tls", "none"] = _told(
        "starttls", "none only for a server on this host, and without a password"
    )
    smtp_username: str = _told("", "for the mail server; empty: no log-in")
    smtp_password: str = _told("", "for the mail server", secret=True)
    mail_from: str = _told("PlateBlur <no-reply@localhost>", "sender of all letters")
    seller_name: str = _told(
        "", "who issues invoices; empty: a sample, and in production no orders are taken"
    )
    seller_address: str = _told("", "of the seller; \\n parts its lines")
    seller_country: str = _told("", "of the seller, two letters")
    seller_vat_id: str = _told("", "of the seller; empty: not registered, no VAT is charged")
    seller_how_to_pay: str = _told("", "printed on unpaid invoices; \\n parts its lines")
    payment_webhook_secret: str = _told(
        "", "signing secret of /payments/stripe; empty: there is no such route", secret=True
    )
    demo: bool = _told(
        False, "serves the demo at /demo, open to all and not counted; needs one worker"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _told("info", "of the JSON log")

    def __post_init__(self) -> None:
        """Refuse values that can't work, and missing or sample secrets in production."""
        for name in (
            "photo_url_timeout_s",
            "body_timeout_s",
            "hear_out_s",
            "photo_url_limit",
            "max_pixels",
            "blur_threads",
            "photo_work_s",
            "photo_memory_mb",
            "body_limit",
            "busy_retry_s",
            "shutdown_timeout_s",
        ):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{PREFIX}{name.upper()} must be above 0")
        for text in self.photo_url_nameservers:
            try:
                name_server(text)
            except ValueError as error:
                raise SettingsError(
                    f"{PREFIX}PHOTO_URL_NAMESERVERS must hold ADDRESS or ADDRESS:PORT, got {text}"
                ) from error
        if self.source_url and not self.source_url.startswith(("https://", "http://")):
            raise SettingsError(f"{PREFIX}SOURCE_URL must start with https:// or http://")
        if self.queue_limit < 0:
            raise SettingsError(f"{PREFIX}QUEUE_LIMIT must be at least 0")
        if self.mode != "production":
            return
        _refuse_weak("secret_key", self.secret_key)
        for name in ("metrics_token", "payment_webhook_secret"):
            if getattr(self, name):
                _refuse_weak(name, getattr(self, name))
        for name in ("database_url", "redis_url"):
            _refuse_sample_password(name, getattr(self, name))
        if not self.public_url.startswith("https://"):
            raise SettingsError(f"{PREFIX}PUBLIC_URL must start with https:// in production")

    def __repr__(self) -> str:
        """Show the names that hold a secret, never what they hold."""
        shown = ", ".join(
            f"{item.name}={'***' if item.metadata.get('secret') else getattr(self, item.name)!r}"
            for item in fields(self)
        )
        return f"Settings({shown})"

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **overrides: object
    ) -> Settings:
        """Return the settings of `environment`, where `overrides` go before it.

        Args:
            environment: variables by name; the process's own where None.
            overrides: what the command line says; None means not said.

        Raises:
            SettingsError: a variable can't be read, or production lacks a secret.
        """
        given = os.environ if environment is None else environment
        hints = get_type_hints(cls)
        values: dict[str, Any] = {
            item.name: _read(f"{PREFIX}{item.name.upper()}", given, hints[item.name])
            for item in fields(cls)
            if f"{PREFIX}{item.name.upper()}" in given
        }
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """Return the variables from which `from_environment` builds the same settings."""
        return {
            f"{PREFIX}{item.name.upper()}": (
                ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
            )
            for item in fields(self)
            for value in [getattr(self, item.name)]
        }


def hand_to_workers(settings: Settings) -> None:
    """Write `settings` where the worker processes that uvicorn starts will read them.

    The metrics folder is made empty, because files of an earlier run would be summed up.
    """
    if settings.metrics_dir:
        folder = Path(settings.metrics_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.db"):
            old.unlink()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    os.environ.update(settings.to_environment())


def settings_help() -> str:
    """Return one line for each variable: name, default, what it does."""
    lines = []
    for item in fields(Settings):
        default = item.default
        if isinstance(default, tuple):
            default = ",".join(str(part) for part in default)
        shown = "" if default == "" else f" [{default}]"
        lines.append(f"  {PREFIX}{item.name.upper()}{shown}\n      {item.metadata['help']}")
    return "environment:\n" + "\n".join(lines)


def _refuse_weak(name: str, secret: str) -> None:
    if len(secret) < MIN_SECRET_CHARS or secret.lower().startswith(SAMPLE_SECRETS):
        raise SettingsError(
            f"{PREFIX}{name.upper()} must be a random string of at least {MIN_SECRET_CHARS} "
            "characters in production, and no sample"
        )


def _refuse_sample_password(name: str, url: str) -> None:
    try:
        password = urlsplit(url).password or ""
    except ValueError as error:
        raise SettingsError(f"{PREFIX}{name.upper()} must be a URL") from error
    if password.lower().startswith(SAMPLE_SECRETS):
        raise SettingsError(f"{PREFIX}{name.upper()} must not hold a sample password")


def _read(variable: str, environment: Mapping[str, str], hint: type | UnionType) -> object:
    text = environment[variable].strip()
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        return tuple(_number(variable, part.strip(), kind) for part in text.split(",") if part)
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise SettingsError(f"{variable} must be one of {', '.join(get_args(hint))}")
        return text
    if hint is bool:
        switches = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in switches:
            raise SettingsError(f"{variable} must be true or false")
        return switches[text.lower()]
    return _number(variable, text, hint)


def _number(variable: str, text: str, kind: Any) -> object:
    try:
        return kind(text)
    except ValueError as error:
        raise SettingsError(f"{variable} must be of type {kind.__name__}") from error
