"""From the `Authorization` header to an account with a plan."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

from anyio import to_thread
from fastapi import Request
from fastapi.security.http import HTTPBase, HTTPBearer

from plateblur.accounts.types import (
    BusyError,
    Gate,
    Identity,
    PlanPeriod,
    UnknownCredentialsError,
)
from plateblur.web.failures import Failure, busy

# For the OpenAPI document alone, so neither refuses anything: `let_in` reads the header, because
# FastAPI would answer a missing one itself, and the contract's 1001 is ours. Not `HTTPBasic`, which
# refuses a header that isn't base64 even with `auto_error` off.
BASIC = HTTPBase(
    scheme="basic",
    scheme_name="basic",
    description="E-mail or user name, and the password or an API key.",
    auto_error=False,
)
BEARER = HTTPBearer(scheme_name="bearer", description="An API key.", auto_error=False)

MAX_CREDENTIAL_CHARS = 1024  # Longer ones only cost hashing time; the longest e-mail has 254.


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, and the plan that the request counts on."""

    identity: Identity
    plan: PlanPeriod


@dataclass(frozen=True, slots=True)
class Basic:
    """What `Authorization: Basic` held."""

    username: str
    secret: str


@dataclass(frozen=True, slots=True)
class Bearer:
    """What `Authorization: Bearer` held."""

    key: str


def parse_authorization(header: str | None, *, bearer: bool) -> Basic | Bearer:
    """Return the credentials in `header`.

    Args:
        header: the value as sent, None where there is no such header.
        bearer: whether an API key alone is taken too.

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
    """Return who asks and on which plan, before anything of the body is read.

    Raises:
        Failure: 1001; or busy, too many passwords are being checked.
        AccessError: 1015, 1016, or a plan that allows no request.
    """
    given = parse_authorization(request.headers.get("authorization"), bearer=bearer)
    address = request.client.host if request.client else ""

    def ask() -> Access:
        identity = _identity(gate, given, address=address)
        return Access(identity, gate.active_plan(identity))

    try:
        access = await to_thread.run_sync(ask)
    except BusyError as error:
        raise busy(error.retry_after_s) from None
    request.state.account_id = access.identity.account_id
    return access


def _identity(gate: Gate, given: Basic | Bearer, *, address: str) -> Identity:
    words = [given.key] if isinstance(given, Bearer) else [given.username, given.secret]
    # NUL can't be stored in PostgreSQL's text, so that no account can have it.
    if any(len(word) > MAX_CREDENTIAL_CHARS or "\0" in word for word in words):
        raise UnknownCredentialsError
    authenticate: Callable[..., Identity] = (
        gate.authenticate_key if isinstance(given, Bearer) else gate.authenticate
    )
    return authenticate(*words, address=address)
