"""What every page of the console works with, made once from the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from jinja2 import Environment

from plateblur.accounts.credentials import Hasher
from plateblur.accounts.invoices import Seller
from plateblur.accounts.mail import Email, Mailer, MailError, SmtpSettings, outbox_of
from plateblur.accounts.store import Store
from plateblur.accounts.types import Gate
from plateblur.web.settings import Settings

LOG = logging.getLogger("plateblur.console")

# Source: ours; a mail server that hangs must not hold the threads that answer requests.
EMAILS_AT_ONCE = 2

# Without it nobody could walk from an order to its invoice on a service that is only tried out.
SAMPLE_SELLER = Seller(
    name="Sample seller, this is no invoice to pay",
    postal_address="set PLATEBLUR_SELLER_NAME and its siblings",
    country="RO",
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the console.

    Attributes:
        store: open and migrated.
        gate: checks passwords, slows guessing, knows plans.
        hasher: argon2.
        mailer: sends letters, or keeps them in the outbox.
        settings: of this deployment.
        seller: who issues invoices; None where orders are not taken.
        clock: aware, UTC.
        templates: of the console, over those of the other pages.
        announce: shows a line on the operator's terminal, which is no log.
        post: how many letters leave at once.
    """

    store: Store
    gate: Gate
    hasher: Hasher
    mailer: Mailer
    settings: Settings
    seller: Seller | None
    clock: Callable[[], datetime]
    templates: Environment
    announce: Callable[[str], None]
    post: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(EMAILS_AT_ONCE))

    def url(self, path: str) -> str:
        """Return the whole address of a path, for letters; never from what a request says."""
        return self.settings.public_url.rstrip("/") + path

    async def send_later(self, write: Callable[[], Email | None]) -> None:
        """Write and send a letter after the answer is out.

        Nobody waits for it: a page that took longer where a letter goes out would tell who has an
        account.

        Args:
            write: asks the store what there is to write; None for no letter.
        """
        await to_thread.run_sync(lambda: self._send(write()), limiter=self.post)

    def _send(self, mail: Email | None) -> None:
        """Send a letter, or tell the operator's terminal where it lies.

        A letter that is not taken is in the log, and its reader asks again.
        """
        if mail is None:
            return
        try:
            path = self.mailer.send(mail)
        except MailError as error:
            LOG.error("letter not sent", extra={"told": {"cause": str(error)}})
            return
        if path is None:
            return
        if self.settings.mode == "production":
            LOG.warning("letter kept: no mail server is set", extra={"told": {"file": path.name}})
        else:
            self.announce(f"letter to {mail.to} in {path}: {mail.link or mail.subject}")


def mailer_of(settings: Settings) -> Mailer:
    """Return the way letters go.

    Raises:
        ValueError: the settings would send a password in clear.
    """
    smtp = None
    if settings.smtp_host:
        smtp = SmtpSettings(
            host=settings.smtp_host,
            port=settings.smtp_port,
            security=settings.smtp_security,
            username=settings.smtp_username,
            password=settings.smtp_password,
        )
    outbox = outbox_of(Path(settings.data_dir))
    return Mailer(sender=settings.mail_from, outbox=outbox, smtp=smtp)


def seller_of(settings: Settings) -> Seller | None:
    """Return who issues the invoices; in production nobody where none is set.

    Raises:
        ValueError: a VAT number without the form of its country.
    """
    if not settings.seller_name:
        return None if settings.mode == "production" else SAMPLE_SELLER
    return Seller(
        name=settings.seller_name,
        postal_address=settings.seller_address.replace("\\n", "\n"),
        country=settings.seller_country,
        vat_id=settings.seller_vat_id,
        how_to_pay=settings.seller_how_to_pay.replace("\\n", "\n"),
    )
