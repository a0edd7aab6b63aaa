"""API keys: created, shown once, revoked."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response

from plateblur.accounts import api_keys
from plateblur.accounts.types import FieldError
from plateblur.console.door import Visit

KEYS = "/console/keys"


def show_keys(visit: Visit) -> Response:
    """Return the list, and the form for a new one."""
    return visit.page("keys.html", **_keys(visit))


def add_key(visit: Visit) -> Response:
    """Create a key and show it once."""
    try:
        made = api_keys.add_key(
            visit.parts.store,
            visit.account_id,
            label=visit.typed("label"),
            now=visit.now,
            credentials_version=visit.who.credentials_version if visit.who else None,
        )
    except FieldError as error:
        return visit.refused("keys.html", error, **_keys(visit))
    return visit.page("keys.html", **_keys(visit, new=made.key))


def revoke_key(visit: Visit) -> Response:
    """Revoke a key."""
    key_id = visit.path_id("key_id")
    api_keys.revoke_key(visit.parts.store, visit.account_id, key_id, now=visit.now)
    return visit.moved(KEYS, done="revoked")


def _keys(visit: Visit, *, new: str = "") -> dict[str, Any]:
    return {
        "keys": api_keys.list_keys(visit.parts.store, visit.account_id),
        "new": new,
        "public_url": visit.parts.url(""),
    }
