"""The settings of a deployment; the only file that uses environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from plateblur.web.fetcher import name_server

PREFIX = "PLATEBLUR_"
DATA_DIR = Path("data")
LOCAL_URL = "http://127.0.0.1:8000"
MIN_SECRET_CHARS = 32  # Source: 128 bits as hex digits.
V1_MAX_PIXELS = 16384 * 8192  # The largest common panorama.
# What one photo may cost, here and in the demo, unless the operator says otherwise.
PHOTO_PIXELS = 60_000_000  # phones have up to 50 million
PHOTO_WORK_S = 40  # of processors; a HEIC of 12 megapixels takes 17
PHOTO_MEMORY_MB = 2048  # in addition to the model
SAMPLE_SECRETS = ("change-me", "changeme", "sample", "example", "secret", "password", "test")
"""Beginnings of secrets that were copied from documentation."""


class SettingsError(ValueError):
    """A setting is missing or invalid; the message names the variable."""


def _setting(default: Any, text: str, *, secret: bool = False, **limits: Any) -> Any:
    """Return a field with its line of `--settings`; the value of a secret is never shown."""
    return Field(default, description=text, repr=not secret, **limits)


Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """The settings of a deployment, listed by `settings_help`.

    Only `from_environment` reads the environment: a value made here is what its arguments say.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        enable_decoding=False,  # lists are written with commas, not as JSON
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    mode: Literal["development", "production"] = _setting(
        "development", "production requires real secrets and sends HSTS"
    )
    data_dir: Path = _setting(
        DATA_DIR, "folder for the SQLite database, the outbox and shared metrics"
    )
    model: str = _setting(
        "", "ONNX model of the detector, or the name of one that is shipped beside the default"
    )
    database_url: str = _setting(
        "", "SQLAlchemy URL of the database; default: SQLite in the data folder", secret=True
    )
    redis_url: str = _setting(
        "",
        "redis://... to refuse floods of requests early, for hosts that share a database; "
        "default: requests per minute are only counted in the database",
        secret=True,
    )
    secret_key: str = _setting(
        "", "key for hashes and form tokens; at least 32 characters in production", secret=True
    )
    public_url: str = _setting(LOCAL_URL, "URL of this service, as its users see it")
    source_url: str = _setting(
        "",
        "URL of the source code of this service, which the AGPL requires if you change it; "
        "default: the running code itself, at /source.zip",
    )
    real_status_codes: bool = _setting(
        False, "the documented endpoint returns errors with status 4xx or 5xx instead of 200"
    )
    photo_url: bool = _setting(
        True, "accept photos by URL; disable it if there is no internet access"
    )
    photo_url_ports: tuple[Port, ...] = _setting((80, 443), "allowed ports in a photo_url")
    photo_url_timeout_s: float = _setting(
        10.0, "timeout for fetching a photo, including redirects", gt=0
    )
    photo_url_limit: int = _setting(
        48, "photos fetched by URL in parallel per worker; one account gets up to a quarter", gt=0
    )
    photo_url_nameservers: tuple[str, ...] = _setting(
        (), "name servers for photo_url, as ADDRESS or ADDRESS:PORT; default: the system's"
    )
    guest_photos: int = _setting(
        10,
        "photos that a visitor without an account may try per day and address; 0 disables it",
        ge=0,
    )
    guest_photos_together: int = _setting(
        500, "photos that all visitors without an account may try per day", ge=0
    )
    body_timeout_s: float = _setting(30.0, "timeout for a request body to arrive", gt=0)
    hear_out_s: float = _setting(
        30.0,
        "time to read the rest of a refused body, because .NET's WebClient does not read before",
        gt=0,
    )
    max_pixels: int = _setting(
        PHOTO_PIXELS, "maximum pixels of a photo on the documented endpoint", gt=0
    )
    v1_max_pixels: int = _setting(
        V1_MAX_PIXELS, "maximum pixels of a photo on /v1; panoramas have up to 134 million", gt=0
    )
    v1_max_mb: int = _setting(
        64, "maximum size of a request on /v1; the documented endpoint takes 5 MB", ge=5, le=100
    )
    v1_trial_max_mb: int = _setting(
        32, "maximum size of a request on /v1 on the trial", ge=5, le=100
    )
    spool_mb: int = _setting(
        2048,
        "disk per worker for requests over 5 MB, encrypted, until they are processed; one account "
        "gets up to half",
        ge=200,
    )
    blur_threads: int = _setting(2, "photos processed in parallel per worker", gt=0)
    photo_work_s: int = _setting(
        PHOTO_WORK_S,
        "processor seconds per photo; a HEIC of 12 megapixels takes 17, a JPEG less than 1",
        gt=0,
    )
    photo_memory_mb: int = _setting(
        PHOTO_MEMORY_MB, "memory per photo, in addition to the model", gt=0
    )
    queue_limit: int = _setting(64, "photos that can wait; further requests get a busy error", ge=0)
    body_limit: int = _setting(
        96,
        "request bodies in memory per worker; one account gets up to three quarters",
        gt=0,
    )
    busy_retry_s: int = _setting(2, "Retry-After of busy errors", gt=0)
    shutdown_timeout_s: int = _setting(30, "time for running requests to finish on shutdown", gt=0)
    cors_origins: tuple[str, ...] = _setting(
        ("*",), "origins allowed to call the API from scripts (CORS)"
    )
    trusted_proxies: str = _setting("127.0.0.1", "proxies whose X-Forwarded-For header is trusted")
    metrics_token: str = _setting(
        "",
        "Bearer token for /metrics; default: open in development, closed in production",
        secret=True,
    )
    metrics_dir: str = _setting(
        "", "folder for shared metrics of several workers; set by `plateblur serve`"
    )
    smtp_host: str = _setting(
        "", "mail server; default: e-mails go to outbox/ in the data folder, links to the terminal"
    )
    smtp_port: Port = _setting(587, "port of the mail server: 587 for starttls, 465 for tls")
    smtp_security: Literal["starttls", "tls", "none"] = _setting(
        "starttls", "encryption; none only for a server on this host without a password"
    )
    smtp_username: str = _setting("", "user name for the mail server; default: no authentication")
    smtp_password: str = _setting("", "password for the mail server", secret=True)
    mail_from: str = _setting("PlateBlur <no-reply@localhost>", "sender of all e-mails")
    seller_name: str = _setting(
        "", "name on invoices; default: a sample seller, and no orders in production"
    )
    seller_address: str = _setting("", "address of the seller; \\n separates lines")
    seller_country: str = _setting("", "two-letter country code of the seller")
    seller_vat_id: str = _setting(
        "", "VAT number of the seller; default: not registered, no VAT is charged"
    )
    seller_how_to_pay: str = _setting(
        "", "payment instructions on unpaid invoices; \\n separates lines"
    )
    seller_iban: str = _setting(
        "",
        "bank account that unpaid invoices ask to pay to; in EUR they also have a QR code that "
        "banking apps read",
    )
    seller_bic: str = _setting("", "BIC of that account's bank; needed outside the EEA")
    price_currency: Literal["USD", "EUR"] = _setting(
        "USD", "currency of the prices and invoices; the amounts are the same"
    )
    seller_email: str = _setting(
        "", "e-mail address of the seller, for the pages that the law wants"
    )
    seller_phone: str = _setting("", "phone number of the seller")
    seller_register: str = _setting("", "register and number of the seller")
    seller_due_days: int = _setting(14, "days in which an invoice is due", ge=0, le=90)
    seller_oss: bool = _setting(
        True,
        "charge consumers in other EU countries the VAT of their country (one-stop shop); disable "
        "it below the threshold of 10,000 EUR a year to charge the VAT of the seller's country",
    )
    seller_vat_currency: str = _setting(
        "",
        "three-letter code of the currency in which an invoice must state the VAT as well; "
        "default: none",
    )
    exchange_rate_file: str = _setting(
        "",
        "file that a job of yours keeps up to date, with one line: units of that currency for one "
        "of the prices' currency, the date, and who published it, "
        "e.g. 4.3512 2026-11-26 National Bank of Romania",
    )
    country_header: str = _setting(
        "",
        "header in which a trusted proxy sends the visitor's country, kept with a consumer's order "
        "as a second piece of evidence of the place; default: the billing address alone",
    )
    privacy_contact: str = _setting(
        "", "who answers questions about privacy; default: the seller's e-mail address"
    )
    privacy_recipients: str = _setting(
        "", "who else processes personal data, such as your hosting provider; \\n separates lines"
    )
    privacy_authority: str = _setting(
        "", "supervisory authority for complaints; default: that of the visitor's country"
    )
    payment_webhook_secret: str = _setting(
        "", "signing secret for /payments/stripe; default: no such route", secret=True
    )
    jobs: bool = _setting(True, "offer /v1/jobs, whose photos wait encrypted in the database")
    jobs_request_mb: int = _setting(256, "maximum size of a request that begins a job", gt=0)
    jobs_photos: int = _setting(500, "maximum number of photos in a job", gt=0)
    jobs_clip_mb: int = _setting(128, "maximum size of a clip in a job; 0 accepts no clips", ge=0)
    jobs_clip_s: int = _setting(
        60,
        "maximum length of a clip in a job; each worker does one clip at a time, in up to 40 "
        "processor seconds per second of clip",
        gt=0,
    )
    jobs_trial_clip_s: int = _setting(10, "maximum length of a clip in a job on the trial", gt=0)
    jobs_per_account: int = _setting(20, "unfinished jobs of one account", gt=0)
    jobs_account_mb: int = _setting(1024, "photos and results of one account's jobs", gt=0)
    jobs_mb: int = _setting(4096, "photos and results of all jobs", gt=0)
    jobs_keep_h: int = _setting(24, "hours after which a job and its results are deleted", gt=0)
    panoramax: bool = _setting(
        False,
        "serve POST /blur/, so that a Panoramax instance can use this as its blurring service",
    )
    demo: bool = _setting(
        False, "serve the demo at /demo, public and not counted; requires a single worker"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "of the JSON log")

    def __init__(self, **values: Any) -> None:
        """Make settings of `values`, and of the defaults where a name is not given.

        Raises:
            SettingsError: a value can't work, or production lacks a secret.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_explained(error)) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments alone, because a value must not depend on where it is made."""
        return (init_settings,)

    @classmethod
    def from_environment(cls, **overrides: object) -> Settings:
        """Return the settings of the process's environment, which `overrides` go before.

        Args:
            overrides: what the command line says; None means not said.

        Raises:
            SettingsError: a variable can't be read, or production lacks a secret.
        """
        said = {name: value for name, value in overrides.items() if value is not None}
        return cls(**EnvSettingsSource(cls)() | said)

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: Any, info: ValidationInfo) -> Any:
        """Strip a text, and split it at its commas where a field holds several values."""
        if not isinstance(value, str):
            return value
        field = cls.model_fields[info.field_name or ""]
        if get_origin(field.annotation) is tuple:
            return [part.strip() for part in value.split(",") if part.strip()]
        return value.strip()

    @field_validator("source_url")
    @classmethod
    def _require_web_address(cls, url: str) -> str:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError("must start with https:// or http://")
        return url

    @field_validator("photo_url_nameservers")
    @classmethod
    def _require_addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for text in servers:
            try:
                name_server(text)
            except ValueError as error:
                raise ValueError(f"must hold ADDRESS or ADDRESS:PORT, got {text}") from error
        return servers

    @model_validator(mode="after")
    def _refuse_unsafe_production(self) -> Self:
        if self.mode != "production":
            return self
        _refuse_weak("secret_key", self.secret_key)
        for name in ("metrics_token", "payment_webhook_secret"):
            if getattr(self, name):
                _refuse_weak(name, getattr(self, name))
        for name in ("database_url", "redis_url"):
            _refuse_sample_password(name, getattr(self, name))
        if not self.public_url.startswith("https://"):
            raise ValueError(f"{PREFIX}PUBLIC_URL must start with https:// in production")
        return self

    def to_environment(self) -> dict[str, str]:
        """Return the variables from which `from_environment` builds the same settings."""
        return {f"{PREFIX}{name.upper()}": written(value) for name, value in self}


def _explained(error: ValidationError) -> str:
    """Return one line for each value that is wrong; it names the variable, not what it holds."""
    lines = []
    for one in error.errors(include_url=False, include_input=False):
        cause = str(one.get("ctx", {}).get("error", one["msg"]))
        name = f"{PREFIX}{one['loc'][0]}: ".upper() if one["loc"] else ""
        lines.append(f"{name}{cause[:1].lower()}{cause[1:]}" if name else cause)
    return "\n".join(lines)


def written(value: object) -> str:
    """Return a setting's value as a variable holds it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
    """Return two lines for each variable: name and default, and what it does."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = written(field.default)
        shown = f" [{default}]" if default else ""
        lines.append(f"  {PREFIX}{name.upper()}{shown}\n      {field.description}")
    return "environment:\n" + "\n".join(lines)


def _refuse_weak(name: str, secret: str) -> None:
    if len(secret) < MIN_SECRET_CHARS or secret.lower().startswith(SAMPLE_SECRETS):
        raise ValueError(
            f"{PREFIX}{name.upper()} must be a random string of at least {MIN_SECRET_CHARS} "
            "characters in production, and no sample"
        )


def _refuse_sample_password(name: str, url: str) -> None:
    try:
        password = urlsplit(url).password or ""
    except ValueError as error:
        raise ValueError(f"{PREFIX}{name.upper()} must be a URL") from error
    if password.lower().startswith(SAMPLE_SECRETS):
        raise ValueError(f"{PREFIX}{name.upper()} must not hold a sample password")
