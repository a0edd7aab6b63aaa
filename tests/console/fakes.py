"""What the console's tests share: the app over a real store, and browsers without a browser."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI

from plateblur.accounts import signup
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.store import Store
from plateblur.accounts.types import Role
from plateblur.console import add_console
from plateblur.web import Settings, create_app
from tests.accounts.fakes import EMAIL, NOW, PASSWORD, CountingHasher, TurnableClock
from tests.web.fakes import FakeBlur

URL = "http://plates.test"
ADDRESS = "198.51.100.7"
ADDRESS_OF_INVOICE = {
    "full_name": "Ana Pop",
    "company": "",
    "postal_address": "Str. Lungă 7\nBrașov",
    "country": "RO",
    "vat_id": "",
}


class Visitor:
    """A browser of one person: keeps cookies, fills forms in, follows no redirect by itself."""

    def __init__(self, app: FastAPI, *, address: str = ADDRESS, url: str = URL) -> None:
        transport = httpx.ASGITransport(app=app, client=(address, 4711))
        self.client = httpx.AsyncClient(transport=transport, base_url=url)

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    async def send(self, path: str, form: dict[str, str], *, page: str = "") -> httpx.Response:
        """Send a form with the token of its page."""
        shown = await self.get(page or path)
        token = re.search(r'name="csrf" value="([0-9a-f]{64})"', shown.text)
        assert token is not None, shown.text
        return await self.client.post(path, data=form | {"csrf": token[1]})

    async def order(self, form: dict[str, str], **agreed: str) -> httpx.Response:
        """Order as a person does: the form, the review with its total, the button."""
        shown = await self.send("/console/order", form)
        if shown.status_code != 200:
            return shown
        hiddens = {
            name: hidden(shown.text, name) for name in ("csrf", "kind", "taxable", "total_cents")
        }
        return await self.client.post(
            "/console/order/confirm", data=hiddens | {"agreed": "yes", "start_now": "yes"} | agreed
        )

    async def log_in(self, username: str = EMAIL, password: str = PASSWORD) -> httpx.Response:
        return await self.send("/console/login", {"username": username, "password": password})


@dataclass
class Stand:
    """The app, its store, and what it told the operator's terminal."""

    app: FastAPI
    store: Store
    gate: StoreGate
    clock: TurnableClock
    folder: Path
    hasher: CountingHasher = field(default_factory=CountingHasher)
    told: list[str] = field(default_factory=list)

    def visitor(self, *, address: str = ADDRESS, url: str = URL) -> Visitor:
        return Visitor(self.app, address=address, url=url)

    def make_account(
        self, email: str = EMAIL, *, role: str = "customer", username: str = ""
    ) -> int:
        return signup.create_account(
            self.store,
            self.hasher,
            email=email,
            password=PASSWORD,
            role=Role(role),
            username=username,
            now=NOW,
        )

    async def visit_as(self, email: str = EMAIL, *, role: str = "customer") -> Visitor:
        """Return the logged-in browser of a new account."""
        self.make_account(email, role=role)
        visitor = self.visitor()
        answer = await visitor.log_in(email)
        assert answer.headers["location"] == "/console", answer.text
        return visitor

    def letters(self) -> list[str]:
        """Return the letters of the outbox, headers and text, the newest last."""
        files = sorted(
            (self.folder / "outbox").glob("*.eml"), key=lambda path: path.stat().st_mtime_ns
        )
        return [text_of_letter(path) for path in files]


def make_stand(store: Store, folder: Path, **settings: object) -> Stand:
    clock, hasher = TurnableClock(), CountingHasher()
    gate = StoreGate(store, hasher=hasher, clock=clock)
    chosen = Settings(**({"data_dir": folder, "public_url": URL} | settings))
    app = create_app(FakeBlur(), gate, chosen, now=clock)
    stand = Stand(app, store, gate, clock, folder, hasher)
    add_console(app, store, gate, chosen, hasher=hasher, clock=clock, announce=stand.told.append)
    return stand


def text_of_letter(path: Path) -> str:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    body = message.get_body(("plain",))
    assert body is not None
    return f"To: {message['To']}\nSubject: {message['Subject']}\n\n{body.get_content()}"


def link_in(letter: str) -> str:
    """Return path and query of the letter's link."""
    found = re.search(r"https?://\S+", letter)
    assert found is not None, letter
    parts = urlsplit(found[0])
    return f"{parts.path}?{parts.query}"


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return unescape(found[1])
