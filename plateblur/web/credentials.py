"""From the `Authorization` header to an account with a plan."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus

from anyio import to_thread
from fastapi import Request
from fastapi.security.http import HTTPBase, HTTPBearer

from plateblur.accounts.types import (
    AccessError,
    BusyError,
    Gate,
    Identity,
    Once,
    PlanPeriod,
    Reservation,
    UnknownCredentialsError,
    Usage,
)
from plateblur.web.failures import Failure, busy
from plateblur.web.room import Holder

# Only for the OpenAPI document, so neither refuses anything: `let_in` reads the header, because
# FastAPI would reject a missing one itself, but the contract requires our error 1001. Not
# `HTTPBasic`, which refuses a header that isn't base64 even with `auto_error` off.
BASIC = HTTPBase(
    scheme="basic",
    scheme_name="basic",
    description="Your e-mail address or user name, and your password or an API key.",
    auto_error=False,
)
BEARER = HTTPBearer(scheme_name="bearer", description="An API key.", auto_error=False)

GUESTS = 0  # No account has this id.
# What a browser says of requests from the same site, or of those that no page makes.
OWN_PAGE = frozenset({"same-origin", "none"})
MAX_CREDENTIAL_CHARS = 1024  # Longer ones only cost hashing time; e-mails have up to 254.


@dataclass(frozen=True, slots=True)
class Access:
    """The identity behind a request, and the plan on which it counts."""

    identity: Identity
    plan: PlanPeriod

    @property
    def holder(self) -> Holder:
        """Return who takes room and turns."""
        return self.identity.account_id

    def admit(self, gate: Gate, once: Once | None) -> AbstractContextManager[Reservation]:
        """Count one request; see `Gate.admit`."""
        return gate.admit(self.identity, self.plan, once=once)

    def usage(self, gate: Gate) -> Usage | None:
        """Return what is used and left; a response does not fail without it."""
        try:
            return gate.usage(self.identity, self.plan)
        except AccessError:
            return None


@dataclass(frozen=True, slots=True)
class GuestAccess:
    """A visitor without an account; all of them together have the room and turns of one account."""

    address: str

    @property
    def holder(self) -> Holder:
        """Return who takes room and turns."""
        return GUESTS

    def admit(self, gate: Gate, once: Once | None) -> AbstractContextManager[Reservation]:
        """Count one photo; see `Gate.admit_guest`."""
        del once  # Visitors have no idempotency keys.
        return gate.admit_guest(address=self.address)

    def usage(self, gate: Gate) -> Usage | None:
        """Return None, because no plan is used."""
        del gate
        return None


AnyAccess = Access | GuestAccess


@dataclass(frozen=True, slots=True)
class Basic:
    """The credentials of `Authorization: Basic`."""

    username: str
    secret: str


@dataclass(frozen=True, slots=True)
class Bearer:
    """The credentials of `Authorization: Bearer`."""

    key: str


def parse_authorization(header: str | None, *, bearer: bool) -> Basic | Bearer:
    """Return the credentials in `header`.

    Args:
        header: the value as sent; None if it is missing.
        bearer: whether Bearer is accepted too.

    Raises:
        Failure: 1001, missing, empty, another scheme, or not decodable.
    """
    scheme, _, rest = (header or "").strip().partition(" ")
    value = rest.strip()
    if bearer and scheme.lower() == "bearer" and value:
        return Bearer(value)
    if scheme.lower() != "basic" or not value:
        raise Failure("1001")
    try:
        padded = value + "=" * (-len(value) % 4)
        decoded = base64.b64decode(padded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise Failure("1001") from error
    username, colon, secret = decoded.partition(":")
    if not colon:
        raise Failure("1001")
    return Basic(username, secret)


async def let_in(gate: Gate, request: Request, *, bearer: bool) -> Access:
    """Return the identity and plan of a request, before its body is read.

    Raises:
        Failure: 1001; or busy, if too many passwords are being checked.
        AccessError: 1015, 1016, or no active plan.
    """
    identity = await recognise(gate, request, bearer=bearer)
    return Access(identity, await to_thread.run_sync(gate.active_plan, identity))


async def recognise(gate: Gate, request: Request, *, bearer: bool) -> Identity:
    """Return the identity of a request that needs no plan.

    Raises:
        Failure: 1001; 1014, forged by a page of another site; or busy, if too many passwords are
            being checked.
        AccessError: 1015 or 1016.
    """
    _refuse_forged(request)
    given = parse_authorization(request.headers.get("authorization"), bearer=bearer)
    address = request.client.host if request.client else ""

    def ask() -> Identity:
        return _identity(gate, given, address=address)

    try:
        identity = await to_thread.run_sync(ask)
    except BusyError as error:
        raise busy(error.retry_after_s) from None
    request.state.account_id = identity.account_id
    return identity


def _refuse_forged(request: Request) -> None:
    """Refuse what a page of another site has a browser send that knows its user's password.

    A browser adds the Basic credentials that were once typed into its prompt to the forms of any
    site. Scripts of other sites ask first (CORS), and get no credentials added.

    Raises:
        Failure: 1014.
    """
    site = request.headers.get("sec-fetch-site", "none")
    asks_first = request.headers.get("sec-fetch-mode") == "cors"
    if request.method not in {"GET", "HEAD"} and site not in OWN_PAGE and not asks_first:
        raise Failure(
            "1014", "Forms of other sites aren't accepted here.", status=HTTPStatus.FORBIDDEN
        )


def _identity(gate: Gate, given: Basic | Bearer, *, address: str) -> Identity:
    words = [given.key] if isinstance(given, Bearer) else [given.username, given.secret]
    # PostgreSQL can't store NUL, so no account can have it.
    if any(len(word) > MAX_CREDENTIAL_CHARS or "\0" in word for word in words):
        raise UnknownCredentialsError
    authenticate: Callable[..., Identity] = (
        gate.authenticate_key if isinstance(given, Bearer) else gate.authenticate
    )
    return authenticate(*words, address=address)
