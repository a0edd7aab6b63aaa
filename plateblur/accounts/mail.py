"""Letters to account holders: over SMTP where it is configured, else into an outbox folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import smtplib
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from email.utils import formatdate, make_msgid
from pathlib import Path

from plateblur.accounts.fields import login_key
from plateblur.errors import PlateblurError

TIMEOUT_S = 15  # Source: ours; a person waits for the letter meanwhile.
# Source: ours; a folder without a mail server is for trying out, and must not fill the disk.
MAX_OUTBOX_LETTERS = 1000
KEEP_OUTBOX_S = 14 * 24 * 3600  # links in them are dead long before
_HEADERS_BYTES = 4096  # ours have some hundreds


class MailError(PlateblurError):
    """The letter was not taken."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter that a service function wrote and the caller sends.

    Attributes:
        to: one address.
        subject: one line.
        body: plain text.
        link: the link in it that proves the reader, or "".
        attachment: a PDF's name and bytes, or None.
    """

    to: str
    subject: str
    body: str
    link: str = ""
    attachment: tuple[str, bytes] | None = None


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


class Mailer:
    """Sends letters; without SMTP it writes them to a folder as .eml files of mode 600."""

    def __init__(self, *, sender: str, outbox: Path, smtp: SmtpSettings | None = None) -> None:
        """Set the ways.

        Args:
            sender: the From address.
            outbox: the folder, made when first needed.
            smtp: the server; None for the folder.
        """
        self._sender = sender
        self._outbox = outbox
        self._smtp = smtp

    def send(self, letter: Letter) -> Path | None:
        """Send a letter; return the file where it went to the outbox, so that it can be logged.

        The link in it is a credential: only an operator's terminal may show it.

        Raises:
            MailError: the server, or the folder, did not take it; or a line break in a header.
        """
        try:
            message = self._compose(letter)
        except ValueError as error:  # the email package refuses line breaks in headers
            raise MailError("expected one line for each of To, From and Subject") from error
        try:
            if self._smtp is None:
                return self._put_in_outbox(message)
            self._send_over_smtp(message, self._smtp)
        except (OSError, smtplib.SMTPException) as error:
            raise MailError(f"the letter was not taken: {type(error).__name__}") from error
        return None

    def _compose(self, letter: Letter) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = letter.to
        message["Subject"] = letter.subject
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2].strip("> "))
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.body)
        if letter.attachment is not None:
            name, data = letter.attachment
            message.add_attachment(data, maintype="application", subtype="pdf", filename=name)
        return message

    def _put_in_outbox(self, message: EmailMessage) -> Path:
        self._outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _drop_old(self._outbox) >= MAX_OUTBOX_LETTERS:
            raise MailError(f"the outbox has {MAX_OUTBOX_LETTERS} letters; set up a mail server")
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
    """Return the folder of letters that no mail server takes."""
    return data_dir / "outbox"


def forget_letters(outbox: Path, addresses: Iterable[str]) -> None:
    """Delete the outbox's letters to these addresses, whatever their spelling."""
    keys = {login_key(address) for address in addresses}
    for path in outbox.glob("*.eml"):
        with contextlib.suppress(FileNotFoundError):  # another worker was first
            with path.open("rb") as file:
                headers = message_from_bytes(file.read(_HEADERS_BYTES), policy=default)
            if login_key(str(headers["To"])) in keys:
                path.unlink()


def _drop_old(outbox: Path) -> int:
    """Delete letters that are too old; return how many are left."""
    left = 0
    for path in outbox.glob("*.eml"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > KEEP_OUTBOX_S:
                path.unlink()
            else:
                left += 1
    return left
