"""E-mails to account holders: over SMTP if it is configured, otherwise into an outbox folder."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import smtplib
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from email.utils import formatdate, make_msgid
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plateblur.accounts.fields import login_key
from plateblur.accounts.periods import KEEP_OUTBOX
from plateblur.errors import PlateblurError

TIMEOUT_S = 15  # Source: ours; somebody is waiting for the e-mail.
# Source: ours; the outbox is for trials without a mail server, and must not fill the disk.
MAX_OUTBOX_EMAILS = 1000
_HEADERS_BYTES = 4096  # ours take a few hundred
_TYPES = {".pdf": ("application", "pdf"), ".html": ("text", "html")}
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class MailError(PlateblurError):
    """An e-mail could not be sent or deleted."""


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail that a service function wrote and the caller sends.

    Attributes:
        to: one address.
        subject: one line.
        body: plain text.
        link: the link in it that proves who reads the mailbox, or "".
        attachments: names and bytes of PDF and HTML files.
    """

    to: str
    subject: str
    body: str
    link: str = ""
    attachments: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class SmtpSettings:
    """How to reach the mail server.

    Attributes:
        host: its name.
        port: 587 for STARTTLS, 465 for TLS from the start.
        security: "starttls", "tls" or "none" (a server on this host).
        username: "" for none.
        password: "" for none.
        tls: certificates to trust; None for the system's.
    """

    host: str
    port: int
    security: str
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        """Refuse settings that would send a password in clear.

        Raises:
            ValueError: an unknown security, or a password without one.
        """
        if self.security not in {"starttls", "tls", "none"}:
            raise ValueError(f"security must be starttls, tls or none, got {self.security}")
        if self.security == "none" and self.password:
            raise ValueError("a password needs security starttls or tls")


def html_of(mail: Email) -> str:
    """Return an e-mail's text as HTML: a paragraph each, and a link alone in one as a button.

    It loads nothing from anywhere, and its colours suit dark mailboxes too.
    """
    paragraphs = [
        {"text": one, "is_link": re.fullmatch(r"https?://\S+", one) is not None}
        for one in mail.body.strip().split("\n\n")
    ]
    return _PAGES.get_template("email.html").render(mail=mail, paragraphs=paragraphs)


class Mailer:
    """Sends e-mails; without SMTP it writes them to a folder as .eml files with mode 600."""

    def __init__(
        self,
        *,
        sender: str,
        outbox: Path,
        smtp: SmtpSettings | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Set where e-mails go.

        Args:
            sender: the From address.
            outbox: the folder, created when first needed.
            smtp: the server; None to use the folder.
            clock: aware, UTC; compared with the age of the outbox's files.
        """
        self._sender = sender
        self._clock = clock
        self._outbox = outbox
        self._smtp = smtp

    def send(self, mail: Email) -> Path | None:
        """Send an e-mail; return its file if it went to the outbox.

        The link in it is a credential: only an operator's terminal may show it.

        Raises:
            MailError: the server or the folder did not accept it, or a header has a line break.
        """
        try:
            message = self._compose(mail)
        except ValueError as error:  # the email package refuses line breaks in headers
            raise MailError("expected one line for each of To, From and Subject") from error
        try:
            if self._smtp is None:
                return self._put_in_outbox(message)
            self._send_over_smtp(message, self._smtp)
        except (OSError, smtplib.SMTPException) as error:
            raise MailError(f"the e-mail was not accepted: {type(error).__name__}") from error
        return None

    def _compose(self, mail: Email) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2].strip("> "))
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.body)
        message.add_alternative(html_of(mail), subtype="html")
        for name, data in mail.attachments:
            kind, subtype = _TYPES[Path(name).suffix]
            message.add_attachment(data, maintype=kind, subtype=subtype, filename=name)
        return message

    def _put_in_outbox(self, message: EmailMessage) -> Path:
        self._outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        if prune_outbox(self._outbox, now=self._clock()) >= MAX_OUTBOX_EMAILS:
            raise MailError(f"the outbox has {MAX_OUTBOX_EMAILS} e-mails; set up a mail server")
        path = self._outbox / f"{secrets.token_hex(8)}.eml"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.as_bytes())
        return path

    def _send_over_smtp(self, message: EmailMessage, smtp: SmtpSettings) -> None:
        tls = smtp.tls or ssl.create_default_context()
        if smtp.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                smtp.host, smtp.port, timeout=TIMEOUT_S, context=tls
            )
        else:
            server = smtplib.SMTP(smtp.host, smtp.port, timeout=TIMEOUT_S)
        with server:
            if smtp.security == "starttls":
                server.starttls(context=tls)  # raises where the server offers none
            if smtp.username:
                server.login(smtp.username, smtp.password)
            server.send_message(message)


def outbox_of(data_dir: Path) -> Path:
    """Return the folder of e-mails for which there is no mail server."""
    return data_dir / "outbox"


def forget_emails(outbox: Path, addresses: Iterable[str]) -> None:
    """Delete the outbox's e-mails to these addresses, whatever their spelling."""
    keys = {login_key(address) for address in addresses}
    for path in outbox.glob("*.eml"):
        with contextlib.suppress(FileNotFoundError):  # another worker was first
            with path.open("rb") as file:
                headers = message_from_bytes(file.read(_HEADERS_BYTES), policy=default)
            if login_key(str(headers["To"])) in keys:
                path.unlink()


def prune_outbox(outbox: Path, *, now: datetime) -> int:
    """Delete e-mails older than `KEEP_OUTBOX`; return how many remain.

    Args:
        outbox: the folder, which may be missing.
        now: UTC.

    Raises:
        MailError: one can't be deleted.
    """
    kept = 0
    oldest_s = (now - KEEP_OUTBOX).timestamp()
    try:
        for path in outbox.glob("*.eml"):
            with contextlib.suppress(FileNotFoundError):  # another worker was first
                if path.stat().st_mtime < oldest_s:
                    path.unlink()
                else:
                    kept += 1
    except OSError as error:
        raise MailError(f"the outbox can't be cleaned up: {type(error).__name__}") from error
    return kept
