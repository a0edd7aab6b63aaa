"""The errors of requests, as the documented error array and as problem+json."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson
from fastapi import Request
from fastapi.responses import Response

from plateblur.accounts.types import AccessError, UnknownCredentialsError

DOCUMENTED_PATH: Final = "/plateblurer.aspx"
GUEST_PATH: Final = "/try"
"""Takes and answers what the documented endpoint does, from visitors without an account."""

TOO_LONG: Final = "Input request too long! Maximum 5 MB per request are allowed"
NOTHING: Final = "Nothing to upload"

# Source: the error table of the product page; 1015 and 1016 have no sentence there, ours.
SENTENCES: Final[Mapping[str, str]] = {
    "1001": "The authorization header is either empty or isn't Basic.",
    "1002": "Daily requests number exceeded in TRIAL mode!",
    "1003": "Trial expired!",
    "1004": "Requests number exceeded!",
    "1005": "Package expired!",
    "1006": "No invoice!",
    "1007": "Reader is NULL for TRIAL!",
    "1008": "Cannot Read if TRIAL exists!",
    "1009": "Error connecting to database looking for TRIAL!",
    "1010": "Reader is NULL for Invoice!",
    "1011": "Cannot Read if Invoice exists!",
    "1012": "Error connecting to database!",
    "1013": TOO_LONG,
    "1014": "Invalid request data!",
    "1015": "Unknown user, or wrong password or key.",
    "1016": "The account is not activated yet, or is closed or locked.",
    "2001": "Invalid request data after passing to the API",
}

# 402 if a payment helps, 429 if waiting helps, 5xx if we have to fix it.
STATUSES: Final[Mapping[str, int]] = {
    "1001": 401,
    "1002": 429,
    "1003": 402,
    "1004": 429,
    "1005": 402,
    "1006": 402,
    "1007": 500,
    "1008": 500,
    "1009": 503,
    "1010": 500,
    "1011": 500,
    "1012": 503,
    "1013": 413,
    "1014": 400,
    "1015": 401,
    "1016": 403,
    "2001": 500,
}

STORE_CAUSE: Final = "The account store can't be reached; please try again shortly."
WITH_REFERENCE: Final = frozenset({"1007", "1008", "1009", "1010", "1011", "1012", "1014", "2001"})
"""Codes whose description ends with a reference: if details are promised, or the error is ours."""


class Failure(Exception):  # noqa: N818 - the vocabulary of this package: a request fails
    """A request that fails.

    Attributes:
        cd: the code of the documented contract.
        cause: plain words for the client; no secrets, paths or SQL.
        status: the HTTP status, if it is not the usual one of `cd`.
        sentence: the start of the description.
        headers: further HTTP headers.
    """

    def __init__(
        self,
        cd: str,
        cause: str = "",
        *,
        status: int | None = None,
        sentence: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(cd)
        self.cd = cd
        self.cause = cause
        self.status = STATUSES[cd] if status is None else status
        self.sentence = SENTENCES[cd] if sentence is None else sentence
        self.headers = dict(headers or {})

    @classmethod
    def of_access(cls, error: AccessError, *, headers: Mapping[str, str] | None = None) -> Failure:
        """Return the failure for an error of the gate."""
        more = dict(headers or {})
        status = None
        if error.retry_after_s is not None:
            more["Retry-After"] = str(max(1, error.retry_after_s))
            if isinstance(error, UnknownCredentialsError):
                status = HTTPStatus.TOO_MANY_REQUESTS
        cause = STORE_CAUSE if error.cd in {"1009", "1012"} else ""
        return cls(error.cd, cause, status=status, headers=more)


def forget(error: BaseException) -> None:
    """Drop the frames of `error` and its causes, once it has been reported.

    A future that keeps its exception is referenced by one of those frames. This cycle would keep
    the body or photo of a refused request in memory until the next full garbage collection.
    """
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None:
            continue
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        one.__traceback__ = one.__cause__ = one.__context__ = None


class ClientGoneError(Exception):
    """The client has hung up: nothing is charged, and no response is needed."""


def busy(retry_s: int) -> Failure:
    """Return the failure of a request while the service is full; nothing was counted."""
    return Failure(
        "2001",
        "The service is busy; please send the request again.",
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        headers={"Retry-After": str(retry_s)},
    )


def too_long(limit_bytes: int) -> Failure:
    """Return the failure of a request with more than `limit_bytes`."""
    megabytes = limit_bytes // 1024**2
    return Failure("1013", sentence=TOO_LONG.replace("5 MB", f"{megabytes} MB"))


def answer_too_long(limit_bytes: int) -> Failure:
    """Return the failure of a photo whose response would be too long."""
    return Failure(
        "2001",
        f"The answer would have more than {limit_bytes // 1024**2} MB; send a smaller photo.",
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
    )


def describe(failure: Failure, *, reference: str) -> str:
    """Return the description: sentence, cause, and the reference that is also in the log."""
    parts = [failure.sentence, failure.cause]
    if failure.cd in WITH_REFERENCE:
        parts.append(f"Reference: {reference}.")
    return " ".join(part for part in parts if part)


def answer_failure(request: Request, failure: Failure, *, real_status_codes: bool) -> Response:
    """Return `failure` in the format of the requested route."""
    request.state.cd = failure.cd
    documented = request.url.path in {DOCUMENTED_PATH, GUEST_PATH}
    status = HTTPStatus.OK if documented and not real_status_codes else failure.status
    headers = dict(failure.headers)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="plateblur", charset="UTF-8"'
    description = describe(failure, reference=request.state.reference)
    if documented:
        return Response(
            orjson.dumps([{"cd": failure.cd, "description": description}]),
            status_code=status,
            media_type="application/json",
            headers=headers,
        )
    return problem(
        request,
        status=status,
        cd=failure.cd,
        title=failure.sentence,
        detail=description,
        headers=headers,
    )


def problem(
    request: Request,
    *,
    status: int,
    detail: str,
    cd: str | None = None,
    title: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an RFC 9457 response, with `cd` and its sentence if the contract has a code for it."""
    body: dict[str, object] = {
        "type": "about:blank" if cd is None else f"/#cd-{cd}",
        "title": title or HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "instance": f"urn:plateblur:request:{request.state.reference}",
    }
    if cd is not None:
        body["cd"] = cd
    return Response(
        orjson.dumps(body),
        status_code=int(status),
        media_type="application/problem+json",
        headers=dict(headers or {}),
    )
