"""A request's body: received within bounds, then taken apart."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
import pybase64
from fastapi import Request
from starlette.requests import ClientDisconnect

from plateblur.formats import SERVED, SERVED_NAMES, sniff
from plateblur.web.failures import ClientGoneError, Failure, too_long

MAX_BODY_BYTES = 5 * 1024 * 1024  # Source: contract, code 1013.
MIN_BYTES_S = 128 * 1024  # Of what is beyond `MAX_BODY_BYTES`: 1 Mbit/s, a slow line's uplink.
MAX_JSON_PARTS = 10_000  # Objects, lists and their items; the documented body has five.
MAX_PREFIX_CHARS = 256  # Of "data:image/jpeg;name=...;base64,"; the usual ones have about 25.
_PART_MARKS = b"{[,"  # Each value beyond the first needs one of them before it.
# Possessive, and a string may end with the body, so that no byte is read twice.
_STRING_OR_MARK = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{[,]', re.DOTALL)
_WHITE_SPACE = b" \t\r\n\v\f"


async def read_body(
    request: Request, *, timeout_s: float, max_bytes: int = MAX_BODY_BYTES
) -> bytes:
    """Return the body.

    Raises:
        Failure, ClientGoneError: as `receive_body`.
    """
    body = bytearray()

    async def keep(chunk: bytes) -> None:
        body.extend(chunk)

    await receive_body(request, keep, timeout_s=timeout_s, max_bytes=max_bytes)
    return bytes(body)


async def receive_body(
    request: Request,
    keep: Callable[[bytes], Awaitable[None]],
    *,
    timeout_s: float,
    max_bytes: int,
) -> None:
    """Hand the body on as it arrives, and check it; its announced length is only used to refuse.

    Args:
        request: whose body has not been read yet.
        keep: is given each chunk.
        timeout_s: for the first `MAX_BODY_BYTES`; the rest must keep up `MIN_BYTES_S`.
        max_bytes: maximum size; smaller for requests without credentials.

    Raises:
        Failure: 1013, too long; 1014, compressed or too slow.
        ClientGoneError: the connection was closed before the end.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Failure(
            "1014",
            "Compressed request bodies are not taken.",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_long(max_bytes)
    received = 0
    try:
        async with asyncio.timeout(timeout_s) as limit:
            async for chunk in request.stream():
                received += len(chunk)
                if received > max_bytes:
                    raise too_long(max_bytes)
                if received > MAX_BODY_BYTES:
                    limit.reschedule((limit.when() or 0) + len(chunk) / MIN_BYTES_S)
                await keep(chunk)
    except TimeoutError as error:
        request.state.hear_out = False  # The sender had its time.
        raise Failure(
            "1014",
            f"The request took longer than {timeout_s:g} s to arrive"
            + (
                f", and less than {MIN_BYTES_S // 1024} KB a second followed."
                if received > MAX_BODY_BYTES
                else "."
            ),
            status=HTTPStatus.REQUEST_TIMEOUT,
        ) from error
    except ClientDisconnect as error:
        raise ClientGoneError from error
    request.state.body_bytes = received


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`; a byte order mark is allowed.

    Raises:
        Failure: 1014, not JSON (or nested deeper than orjson's 1024 levels), not an object, or too
            many parts.
    """
    if _has_many_parts(body):
        raise Failure(
            "1014", f"The body has more than {MAX_JSON_PARTS} fields and items; send fewer."
        )
    try:
        value = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise Failure("1014", "The body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise Failure("1014", "The body must be a JSON object.")
    return value


def _has_many_parts(body: bytes) -> bool:
    """Return whether `body` would become more than `MAX_JSON_PARTS` Python objects, unparsed.

    Five megabytes of "{}," are 1.7 million objects that take 125 MB. A photo's base64 contains no
    marks, so that one pass, which ignores strings, is enough for a usual body.
    """
    if len(body) - len(body.translate(None, _PART_MARKS)) <= MAX_JSON_PARTS:
        return False
    marks = strings = 0
    for found in _STRING_OR_MARK.finditer(body):
        if body[found.start()] == ord('"'):
            strings += 1
        else:
            marks += 1
        if marks > MAX_JSON_PARTS or strings > 2 * MAX_JSON_PARTS:
            return True
    return False


def decode_base64(text: str, *, field: str) -> bytes:
    """Return the bytes in `text`, standard base64.

    White space, a `data:` prefix and missing padding are let pass, because clients send them.

    Raises:
        Failure: 1014, another character, or a length that no bytes have.
    """
    text = text.lstrip()
    prefix, comma, _ = text[:MAX_PREFIX_CHARS].partition(",")
    has_prefix = comma and prefix[:5].lower() == "data:" and prefix[-7:].lower() == ";base64"
    try:
        packed = text[len(prefix) + 1 if has_prefix else 0 :].encode("ascii")
        packed = packed.translate(None, _WHITE_SPACE)
        return pybase64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except ValueError as error:  # binascii.Error and UnicodeEncodeError are ValueErrors.
        raise Failure("1014", f"{field} is not valid base64.") from error


def refuse_no_photo(data: bytes) -> None:
    """Raise unless `data` begins like a photo of a format that is taken.

    Raises:
        Failure: 1014.
    """
    format_ = sniff(data)
    if format_ is None or format_.name not in SERVED:
        raise Failure(
            "1014",
            f"The bytes are no {SERVED_NAMES} photo.",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
