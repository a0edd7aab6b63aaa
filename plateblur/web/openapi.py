"""What the OpenAPI description says of requests and answers that several routes have in common."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from pydantic import BaseModel

from plateblur.web.failures import SENTENCES
from plateblur.web.once import HEADER, MAX_KEY_CHARS, REPLAYED
from plateblur.web.schemas import PROBLEM_SCHEMA

PHOTO_FIELD = {
    "type": "string",
    "format": "binary",
    "description": "The photo: JPEG, PNG, WebP, HEIC or AVIF.",
}
RATE_LIMIT_HEADERS: dict[str, Any] = {
    name: {"schema": {"type": "integer", "minimum": 0}, "description": text}
    for name, text in (
        ("RateLimit-Limit", "Requests allowed per window (day or minute)."),
        ("RateLimit-Remaining", "Requests remaining in this window."),
        ("RateLimit-Reset", "Seconds until more requests are available."),
    )
}
REPLAYED_HEADER: dict[str, Any] = {
    REPLAYED: {
        "schema": {"type": "string", "enum": ["true"]},
        "description": "Present if the request was counted when it was first sent.",
    }
}
ONCE_PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A random value of your choice. If you send the same request again with the "
    "same key within 24 hours, up to 10 times, you get the same answer, and it counts once. Use a "
    "new key for each photo.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_KEY_CHARS,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
    "example": "5f1f6b1e-8a55-4c0e-9c39-3a1d5f0f9a10",
}

# Status: what it means, and the code and detail of an example.
_PROBLEMS: dict[int, tuple[str, str | None, str]] = {
    400: ("1014: the request is malformed.", "1014", "The body is not valid JSON."),
    401: ("1001 or 1015: credentials are missing or wrong.", "1001", ""),
    402: ("1003, 1005 or 1006: there is no active plan.", "1003", ""),
    403: ("1016: the account isn't active.", "1016", ""),
    404: ("There is no such thing in your account.", None, "Nothing matches the given URI"),
    406: (
        "1014: the `Accept` header allows neither an image nor JSON.",
        "1014",
        "The answer is an image or application/json.",
    ),
    408: (
        "1014: the request body took too long to arrive.",
        "1014",
        "The request took longer than 30 s to arrive.",
    ),
    409: (
        f"1014: the first request with this `{HEADER}` isn't finished.",
        "1014",
        f"The first request with this {HEADER} isn't finished. Try again shortly.",
    ),
    413: (
        "1013: the request is larger than your plan allows, or 1014: too many pixels.",
        "1014",
        "The photo is larger than is taken: expected at most 134217728 pixels, got "
        "20000 x 10000 = 200000000.",
    ),
    415: (
        "1014: unsupported content type or encoding.",
        "1014",
        "Send multipart/form-data or application/json.",
    ),
    422: (
        f"1013 or 1014: no photo, an invalid photo, an invalid option, or an `{HEADER}` that was "
        "sent with another request.",
        "1014",
        "margin: Input should be less than or equal to 1.",
    ),
    429: (
        "1002 or 1004: the plan's limit is reached for now; 1014: repeated too often.",
        "1004",
        "",
    ),
    500: ("2001: the photo could not be blurred.", "2001", "The photo could not be blurred."),
    503: (
        "2001: the service is busy, or 1009 or 1012: the database is unavailable.",
        "2001",
        "The service is busy; please send the request again.",
    ),
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of errors with these statuses."""
    return {
        status: {
            "description": _PROBLEMS[status][0],
            "content": {
                "application/problem+json": {
                    "schema": PROBLEM_SCHEMA,
                    "example": _example(status, *_PROBLEMS[status][1:]),
                }
            },
        }
        for status in statuses
    }


def answers(success: dict[str, Any], *more: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a route that takes a photo.

    Args:
        success: of status 200.
        more: further statuses of errors.
    """
    common = (400, 401, 402, 403, *more, 408, 413, 415, 422, 429, 500, 503)
    return {200: {**success, "headers": RATE_LIMIT_HEADERS | REPLAYED_HEADER}, **problems(*common)}


def request_extra(model: type[BaseModel]) -> dict[str, Any]:
    """Return the header and body of a route that takes a photo, as a form or as JSON."""
    by_json, by_form = deepcopy(_schema_of(model)), deepcopy(_schema_of(model))
    by_form["properties"]["photo"] = PHOTO_FIELD
    by_form["title"] = f"{model.__name__}Form"
    return {
        "parameters": [ONCE_PARAMETER],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": by_form},
                "application/json": {
                    "schema": by_json,
                    "examples": {
                        "base64": {
                            "summary": "A photo in base64",
                            "value": {"photo": by_json["properties"]["photo"]["examples"][0]},
                        },
                        "url": {
                            "summary": "A photo by URL, searched thoroughly",
                            "value": {
                                "photo_url": "https://example.com/street.jpg",
                                "effort": "thorough",
                            },
                        },
                    },
                },
            },
        },
    }


@cache  # making it takes most of the time of a route
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _example(status: int, cd: str | None, cause: str) -> dict[str, Any]:
    reference = "3f7a9c2b1d4e5f60"
    sentence = SENTENCES[cd] if cd else ""
    example = {
        "type": f"/#cd-{cd}" if cd else "about:blank",
        "title": sentence or "Not Found",
        "status": status,
        "detail": " ".join(part for part in (sentence, cause) if part),
        "instance": f"urn:plateblur:request:{reference}",
    }
    return example | ({"cd": cd} if cd else {})
