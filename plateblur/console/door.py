"""What every page goes through first: who is asking, what they may do, whether the form is theirs.

A page is a plain function from a `Visit` to a response. It runs in a thread, because it uses the
database and argon2, and only after the session, the role and the form have been checked.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from plateblur.accounts import fields, sessions, throttle
from plateblur.accounts.credentials import random_secret
from plateblur.accounts.mail import Email
from plateblur.accounts.sessions import LoggedIn
from plateblur.accounts.store import StoreUnavailableError
from plateblur.accounts.types import (
    AccountClosedError,
    BusyError,
    EmailLimitError,
    FieldError,
    InvoiceStoreError,
    LinkError,
    NotFoundError,
    RequestRefusedError,
    Role,
    SignUpLimitError,
    TrialStoreError,
)
from plateblur.console.parts import Parts
from plateblur.web.middleware import CLIENT_GONE_STATUS
from plateblur.web.pages import site_values

HOME = "/console"
LOG_IN = "/console/login"
LIVE = "plateblur-live"  # The header of an open page that loads itself once more.

# A ticket's 10,000 characters may each take 12 bytes of a form: four of UTF-8, each as %XX.
MAX_FORM_BYTES = 160 * 1024
MAX_FORM_FIELDS = 40
FORM_TYPE = "application/x-www-form-urlencoded"
RETRY_AFTER_S = 5  # Source: ours; a database that restarts is back by then.
_ID_DIGITS = 18  # every such number fits a BIGINT
_INVOICE_NUMBER = re.compile(r"[A-Z]{2,8}-\d{4}-\d{6,10}", re.ASCII)
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # a `random_secret`
_NOTHING: Mapping[str, str] = MappingProxyType({})


class For(Enum):
    """Who may open a page."""

    ANYONE = "anyone"
    CUSTOMER = "customer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, repr=False)
class Visit:
    """One admitted request to the console; not to be printed, because it holds passwords.

    Attributes:
        parts: what the pages use.
        request: Starlette's.
        who: who is logged in, or None.
        now: UTC.
        session: the session's cookie, "" for none.
        visitor: the cookie that forms are bound to before login.
        form: what was typed, names to values; the last of several wins.
    """

    parts: Parts
    request: Request
    who: LoggedIn | None
    now: datetime
    session: str
    visitor: str
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def account_id(self) -> int:
        """Return the id of the account that is logged in.

        Raises:
            LookupError: nobody is; the page's entry in the table is wrong.
        """
        if self.who is None:
            raise LookupError("expected somebody logged in, got nobody")
        return self.who.account_id

    @property
    def address(self) -> str:
        """Return the peer's IP address."""
        return self.request.client.host if self.request.client else ""

    @property
    def csrf(self) -> str:
        """Return the token of this visitor's forms; each session has its own."""
        return self.parts.store.keyed_hash("csrf", f"{self.visitor}\0{self.session}")

    def typed(self, name: str) -> str:
        """Return what was typed into a field, "" for nothing."""
        return self.form.get(name, "")

    @property
    def again(self) -> Mapping[str, str]:
        """Return what was typed, to fill in the form again; "" for any other name."""
        return defaultdict(str, self.form)

    def ticked(self, name: str) -> bool:
        """Return whether a box was ticked."""
        return self.form.get(name) == "yes"

    def path_id(self, name: str) -> int:
        """Return an id from the path.

        Raises:
            NotFoundError: not an id.
        """
        digits = str(self.request.path_params[name])
        # Not Starlette's `int`: thousands of digits are more than Python turns into a number.
        if len(digits) > _ID_DIGITS or not (digits.isascii() and digits.isdecimal()):
            raise NotFoundError("Not found.")
        return int(digits)

    def path_invoice(self) -> str:
        """Return an invoice's number from the path.

        Raises:
            NotFoundError: not an invoice's number.
        """
        number = str(self.request.path_params["number"])
        if _INVOICE_NUMBER.fullmatch(number) is None:
            raise NotFoundError("Invoice not found.")
        return number

    def count_email(self, purpose: str, subject: str) -> None:
        """Rate-limit e-mails like failed logins, or anyone could fill anybody's mailbox.

        Raises:
            EmailLimitError: too many; nothing was counted.
        """
        store = self.parts.store
        block = fields.address_block(self.address, ipv4_bits=32, ipv6_bits=fields.SITE_IPV6_BITS)
        who = {"login": f"{purpose} {subject}", "address": f"{purpose} {block}"}
        if wait_s := throttle.take_turn(store, now=self.now, **who):
            raise EmailLimitError(retry_after_s=wait_s)

    def page(
        self,
        template: str,
        *,
        status: int = HTTPStatus.OK,
        problems: Mapping[str, str] = _NOTHING,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Response:
        """Return a page; all values in it are escaped.

        Args:
            template: its file.
            status: HTTP status.
            problems: messages by field name, for the summary and next to the field.
            headers: HTTP headers.
            more: values for the template.
        """
        html = self.parts.templates.get_template(template).render(
            visit=self,
            who=self.who,
            csrf=self.csrf,
            problems=problems,
            typed=self.again,
            **site_values(
                self.parts.settings,
                has_console=True,
                email=self.who.email if self.who else "",
            )
            | more,
        )
        response = HTMLResponse(html, status_code=status, headers=dict(headers or {}))
        if self.request.cookies.get(visitor_cookie(self.parts)) != self.visitor:
            set_cookie(self.parts, response, visitor_cookie(self.parts), self.visitor)
        return response

    def refused(self, template: str, error: FieldError, **more: Any) -> Response:
        """Return the form with what was typed and an error message."""
        return self.page(
            template,
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            problems={error.field: str(error)},
            **more,
        )

    def sorry(
        self, status: int, message: str, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return a page with an error message."""
        title = HTTPStatus(status).phrase
        return self.page("sorry.html", status=status, headers=headers, title=title, message=message)

    def moved(self, path: str, *, done: str = "", mail: Email | None = None) -> Response:
        """Redirect to another page, so that reloading repeats nothing.

        Args:
            path: of the console.
            done: which note of `notes.html` the page shows.
            mail: sent after the response.
        """
        response = RedirectResponse(
            f"{path}?done={done}" if done else path, status_code=HTTPStatus.SEE_OTHER
        )
        if mail is not None:
            response.background = BackgroundTask(self.parts.send_later, lambda: mail)
        return response


Answer = Callable[[Visit], Response]


@dataclass(frozen=True, slots=True)
class Page:
    """One line of the table of pages."""

    method: str
    path: str
    answer: Answer
    whom: For = For.CUSTOMER
    touches: bool = True
    """Whether it counts as use of the session; requests that a script makes don't."""


class FormError(Exception):
    """A form that is not accepted; `status` is the response's."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def add_page(app: FastAPI, parts: Parts, page: Page) -> None:
    """Put a page behind the door."""

    async def endpoint(request: Request) -> Response:
        request.scope["route"] = page  # for the log, which writes its path
        try:
            form = await _read_form(request, parts) if page.method == "POST" else {}
        except FormError as error:
            refusal = error  # shown as a page, once the visitor is known
            return await to_thread.run_sync(
                lambda: _stranger(parts, request).sorry(refusal.status, str(refusal))
            )
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE_STATUS)
        return await to_thread.run_sync(lambda: _let_in(parts, page, request, form))

    # Not as a route of FastAPI's, which would look for parameters and models that no page has.
    app.router.routes.append(Route(page.path, endpoint, methods=[page.method]))


def who_visits(parts: Parts, request: Request) -> str:
    """Return the e-mail address of who is logged in, for a page that anyone may see; else ""."""
    cookie = request.cookies.get(session_cookie(parts), "")
    try:
        who = sessions.who_is(parts.store, cookie, now=parts.clock()) if cookie else None
    except StoreUnavailableError:
        return ""
    return who.email if who else ""


def session_cookie(parts: Parts) -> str:
    """Return the cookie's name; `__Host-` keeps subdomains from setting it, and requires TLS."""
    return _prefix(parts) + "plateblur-session"


def visitor_cookie(parts: Parts) -> str:
    """Return the name of the cookie that forms are bound to."""
    return _prefix(parts) + "plateblur-visitor"


def set_cookie(parts: Parts, response: Response, name: str, value: str) -> None:
    """Set a session cookie that scripts can't read and other sites' forms don't send."""
    response.set_cookie(
        name, value, httponly=True, samesite="lax", secure=_is_production(parts), path="/"
    )


def drop_cookie(parts: Parts, response: Response, name: str) -> None:
    """Delete a cookie."""
    response.delete_cookie(
        name, httponly=True, samesite="lax", secure=_is_production(parts), path="/"
    )


def _let_in(parts: Parts, page: Page, request: Request, form: Mapping[str, str]) -> Response:
    visit = _stranger(parts, request)
    try:
        who = None
        if visit.session:
            touch = page.touches and LIVE not in request.headers
            who = sessions.who_is(parts.store, visit.session, now=visit.now, touch=touch)
        visit = Visit(
            parts, request, who, visit.now, visit.session if who else "", visit.visitor, form
        )
        if who is not None:
            request.state.account_id = who.account_id
        if page.whom is not For.ANYONE and who is None:
            return visit.moved(LOG_IN)
        if page.whom is For.OPERATOR and who is not None and who.role is not Role.OPERATOR:
            return visit.sorry(HTTPStatus.FORBIDDEN, "Only the operator can open this page.")
        if page.method == "POST" and not _is_own_form(visit):
            return visit.sorry(
                HTTPStatus.FORBIDDEN,
                "This form has expired. Go back, reload the page and submit it again.",
            )
        return page.answer(visit)
    except (StoreUnavailableError, TrialStoreError, InvoiceStoreError):
        return visit.sorry(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The service is temporarily unavailable. Please try again shortly.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
    except (BusyError, EmailLimitError) as error:
        busy = isinstance(error, BusyError)
        return visit.sorry(
            HTTPStatus.SERVICE_UNAVAILABLE if busy else HTTPStatus.TOO_MANY_REQUESTS,
            str(error),
            headers={"Retry-After": str(error.retry_after_s)},
        )
    except AccountClosedError:
        return visit.moved(LOG_IN)
    except NotFoundError:
        return visit.sorry(
            HTTPStatus.NOT_FOUND, "This page doesn't exist, or you don't have access to it."
        )
    except SignUpLimitError as error:
        return visit.sorry(HTTPStatus.TOO_MANY_REQUESTS, str(error))
    except LinkError as error:
        return visit.sorry(HTTPStatus.BAD_REQUEST, str(error))
    except RequestRefusedError as error:
        return visit.sorry(HTTPStatus.CONFLICT, str(error))


def _stranger(parts: Parts, request: Request) -> Visit:
    """Return the visit before the session is checked."""
    visitor = request.cookies.get(visitor_cookie(parts), "")
    return Visit(
        parts,
        request,
        who=None,
        now=parts.clock(),
        session=request.cookies.get(session_cookie(parts), ""),
        visitor=visitor if _COOKIE.fullmatch(visitor) else random_secret(),
    )


def _is_own_form(visit: Visit) -> bool:
    """Return whether the form comes from a page that this visitor was sent."""
    known = visitor_cookie(visit.parts) in visit.request.cookies
    token = visit.typed("csrf").encode()
    return known and hmac.compare_digest(token, visit.csrf.encode())


async def _read_form(request: Request, parts: Parts) -> Mapping[str, str]:
    """Return a form; its size is checked while it streams.

    Raises:
        FormError: not a form, too long, too many fields, or too slow.
        ClientDisconnect: the client hung up.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise FormError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected an HTML form.")
    body = bytearray()
    try:
        async with asyncio.timeout(parts.settings.body_timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    raise FormError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form is too long.")
    except TimeoutError as error:
        raise FormError(HTTPStatus.REQUEST_TIMEOUT, "The form took too long to arrive.") from error
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS
        )
    except ValueError as error:  # UnicodeDecodeError is one: an encoded form is ASCII
        raise FormError(HTTPStatus.BAD_REQUEST, "The form is malformed.") from error
    return dict(pairs)


def _prefix(parts: Parts) -> str:
    return "__Host-" if _is_production(parts) else ""


def _is_production(parts: Parts) -> bool:
    return parts.settings.mode == "production"
