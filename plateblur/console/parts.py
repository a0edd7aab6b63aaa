"""What every page of the console uses, made once from the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from jinja2 import Environment

from plateblur.accounts.credentials import Hasher
from plateblur.accounts.mail import Email, Mailer, MailError, SmtpSettings, outbox_of
from plateblur.accounts.offers import Seller
from plateblur.accounts.store import Store
from plateblur.accounts.types import Gate
from plateblur.web.settings import Settings

LOG = logging.getLogger("plateblur.console")

# Source: ours; a mail server that hangs must not block the threads that answer requests.
EMAILS_AT_ONCE = 2

# So that orders and invoices can be tried in development.
SAMPLE_SELLER = Seller(
    name="Sample seller (do not pay this invoice)",
    postal_address="Set PLATEBLUR_SELLER_NAME and the other PLATEBLUR_SELLER_ settings",
    country="RO",
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the console.

    Attributes:
        store: open and migrated.
        gate: checks passwords, slows guessing, knows plans.
        hasher: argon2.
        mailer: sends e-mails, or keeps them in the outbox.
        settings: of this deployment.
        seller: who issues invoices; None if orders are disabled.
        clock: aware, UTC.
        templates: of the console, before those of the other pages.
        announce: shows a line on the operator's terminal, which is not a log.
        post: limits how many e-mails are sent at the same time.
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
        """Return the full URL of a path, for e-mails; never taken from a request."""
        return self.settings.public_url.rstrip("/") + path

    async def send_later(self, write: Callable[[], Email | None]) -> None:
        """Write and send an e-mail after the response has been sent.

        Otherwise the time that a page takes would reveal whether an address has an account.

        Args:
            write: returns the e-mail, or None if there is none to send; may ask the store.
        """
        await to_thread.run_sync(lambda: self._send(write()), limiter=self.post)

    def _send(self, mail: Email | None) -> None:
        """Send an e-mail, or show on the operator's terminal where it is.

        A failure is logged, and the recipient has to ask again.
        """
        if mail is None:
            return
        try:
            path = self.mailer.send(mail)
        except MailError as error:
            LOG.error("e-mail not sent", extra={"fields": {"cause": str(error)}})
            return
        if path is None:
            return
        if self.settings.mode == "production":
            LOG.warning(
                "e-mail kept in outbox: no mail server is set",
                extra={"fields": {"file": path.name}},
            )
        else:
            self.announce(f"e-mail to {mail.to} in {path}: {mail.link or mail.subject}")


def mailer_of(settings: Settings) -> Mailer:
    """Return how e-mails are sent.

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
    """Return who issues the invoices; None in production if none is set.

    Raises:
        ValueError: a VAT number without the form of its country, an IBAN or BIC that is none.
    """
    if not settings.seller_name:
        sample = replace(SAMPLE_SELLER, currency=settings.price_currency)
        return None if settings.mode == "production" else sample
    return Seller(
        name=settings.seller_name,
        postal_address=settings.seller_address.replace("\\n", "\n"),
        country=settings.seller_country,
        vat_id=settings.seller_vat_id,
        how_to_pay=settings.seller_how_to_pay.replace("\\n", "\n"),
        email=settings.seller_email,
        phone=settings.seller_phone,
        register=settings.seller_register,
        iban=settings.seller_iban.replace(" ", "").upper(),
        bic=settings.seller_bic.upper(),
        currency=settings.price_currency,
    )
