"""Letters, into an outbox and over a real SMTP server."""

from __future__ import annotations

import email
import email.policy
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from plateblur.accounts import mail, periods
from plateblur.accounts.mail import Email, Mailer, MailError, SmtpSettings, forget_emails, html_of
from tests.accounts.fakes import TurnableClock

LETTER = Email("ana@plates.io", "Bună", "Deschide:\n\nhttps://p/a?token=x\n", "https://p/a?token=x")
SENDER = "PlateBlur <no-reply@plates.io>"


class Inbox(Message):
    """Keeps what a server took."""

    def __init__(self) -> None:
        super().__init__()
        self.letters: list[email.message.Message] = []

    def handle_message(self, message: email.message.Message) -> None:
        self.letters.append(message)


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    handler = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield handler, port
    controller.stop()


def test_without_smtp_a_letter_goes_to_the_outbox_of_its_owner(tmp_path: Path) -> None:
    path = Mailer(sender=SENDER, outbox=tmp_path / "outbox").send(LETTER)
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert (message["To"], message["Subject"]) == (LETTER.to, "Bună")
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == LETTER.body


def test_a_letter_goes_over_smtp_with_its_attachment(
    inbox: tuple[Inbox, int], tmp_path: Path
) -> None:
    handler, port = inbox
    mailer = Mailer(
        sender=SENDER, outbox=tmp_path, smtp=SmtpSettings("127.0.0.1", port, security="none")
    )
    letter = Email(LETTER.to, "Invoice", "Attached.", attachments=(("invoice.pdf", b"%PDF-1.7"),))
    assert mailer.send(letter) is None
    (message,) = handler.letters
    assert message["X-RcptTo"] == LETTER.to
    assert [part.get_filename() for part in message.walk()][-1] == "invoice.pdf"
    assert list(tmp_path.iterdir()) == []


def test_a_letter_is_html_too_with_a_button_and_nothing_from_elsewhere() -> None:
    link = "https://blur.example/console/activate?token=a&b=<c>"
    html = html_of(Email("ana@plates.io", "Hi <Ana>", f"Hello,\n\nOpen this:\n\n{link}\n\nBye.\n"))
    assert 'href="https://blur.example/console/activate?token=a&amp;b=&lt;c&gt;"' in html
    assert "Hi &lt;Ana&gt;" in html
    assert html.count("<a ") == 1
    for loads in ("<img", "<link", "url(", "<script"):
        assert loads not in html


@pytest.mark.parametrize(
    "letter",
    [
        Email("ana@plates.io\r\nBcc: all@plates.io", "Hi", ""),
        Email("ana@plates.io", "Hi\nBcc: all@plates.io", ""),
    ],
    ids=["to", "subject"],
)
def test_a_line_break_in_a_header_is_refused(letter: Email, tmp_path: Path) -> None:
    with pytest.raises(MailError):
        Mailer(sender=SENDER, outbox=tmp_path).send(letter)
    assert list(tmp_path.iterdir()) == []


def test_a_server_without_starttls_gets_no_letter(inbox: tuple[Inbox, int], tmp_path: Path) -> None:
    handler, port = inbox
    smtp = SmtpSettings("127.0.0.1", port, security="starttls", username="u", password="p")
    with pytest.raises(MailError):
        Mailer(sender=SENDER, outbox=tmp_path, smtp=smtp).send(LETTER)
    assert handler.letters == []
    assert "password" not in repr(smtp)


def test_a_server_that_is_gone_is_told(tmp_path: Path) -> None:
    smtp = SmtpSettings("127.0.0.1", 1, security="none")
    with pytest.raises(MailError):
        Mailer(sender=SENDER, outbox=tmp_path, smtp=smtp).send(LETTER)


@pytest.mark.parametrize(
    ("security", "password"), [("none", "p"), ("maybe", "")], ids=["in clear", "unknown"]
)
def test_settings_that_would_leak_a_password_are_refused(security: str, password: str) -> None:
    with pytest.raises(ValueError, match="security"):
        SmtpSettings("h", 25, security=security, username="u", password=password)


def test_the_outbox_has_a_bound_and_old_letters_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "MAX_OUTBOX_EMAILS", 2)
    clock = TurnableClock(datetime.now(UTC))
    mailer = Mailer(sender=SENDER, outbox=tmp_path, clock=clock)
    first, _ = mailer.send(LETTER), mailer.send(LETTER)
    with pytest.raises(MailError, match="set up a mail server"):
        mailer.send(LETTER)
    assert first is not None
    clock.turn(days=periods.KEEP_OUTBOX.days + 1)
    assert mailer.send(LETTER) is not None
    assert not first.exists()


def test_letters_to_an_address_are_forgotten_whatever_its_spelling(tmp_path: Path) -> None:
    mailer = Mailer(sender=SENDER, outbox=tmp_path)
    for to in ("Ana@Plates.io", "ana@plates.io", "ana@plates.io.example", "ion@plates.io"):
        mailer.send(replace(LETTER, to=to))
    forget_emails(tmp_path, ["ANA@plates.io"])
    assert len(list(tmp_path.iterdir())) == 2
    forget_emails(tmp_path / "not there", ["ion@plates.io"])
