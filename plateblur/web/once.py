"""The `Idempotency-Key` header: a request that is sent again is counted once.

Source: draft-ietf-httpapi-idempotency-key-header-07. No photo and no answer is kept for it: the
store has keyed hashes of the key and of the request, and a repeat is computed again.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus

import orjson
from fastapi import Request
from pydantic import BaseModel

from plateblur.accounts.types import (
    InProgressError,
    Once,
    OtherRequestError,
    RepeatError,
    TooManyRepeatsError,
)
from plateblur.web.failures import Failure

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
MAX_KEY_CHARS = 255
_KEY = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # Printable ASCII.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')  # Source: RFC 9651, a String.


def idempotency_key(request: Request) -> str | None:
    """Return the key of `request`, or None if it has none.

    The draft wants it quoted; most clients send it as it is.

    Raises:
        Failure: 1014, no usable key.
    """
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    text = given[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(given) > 1 or not _KEY.fullmatch(key) or len(key) > MAX_KEY_CHARS:
        raise Failure(
            "1014",
            f"{HEADER} must be one value of 1 to {MAX_KEY_CHARS} printable ASCII characters, such "
            "as a random UUID.",
        )
    return key


def once_of(key: str | None, route: str, asked: BaseModel, data: bytes) -> Once | None:
    """Return what makes a request count once, or None without a key.

    Args:
        key: of the client.
        route: a key belongs to one.
        asked: the options, whichever way they were sent.
        data: the photo, also if it was fetched: another photo behind a URL is another request.
    """
    if key is None:
        return None
    options = orjson.dumps(
        asked.model_dump(exclude={"photo"}, mode="json"), option=orjson.OPT_SORT_KEYS
    )
    parts = (route.encode(), options, hashlib.sha256(data).digest())
    return Once(key, hashlib.sha256(b"\0".join(parts)).digest())


def repeat_failure(error: RepeatError, *, retry_s: int) -> Failure:
    """Return the failure of a request whose key can't be used for it."""
    match error:
        case OtherRequestError():
            return Failure(
                "1014",
                f"This {HEADER} was already sent with another request. Use a new key for each "
                "photo.",
                status=HTTPStatus.UNPROCESSABLE_ENTITY,
            )
        case InProgressError():
            return Failure(
                "1014",
                f"The first request with this {HEADER} isn't finished. Try again shortly.",
                status=HTTPStatus.CONFLICT,
                headers={"Retry-After": str(retry_s)},
            )
        case TooManyRepeatsError():
            return Failure(
                "1014",
                f"{error} Use a new {HEADER}.",
                status=HTTPStatus.TOO_MANY_REQUESTS,
            )
        case _:
            raise error
