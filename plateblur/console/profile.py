"""The profile: viewing and changing it, password, e-mail address, consents, deletion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.responses import Response

from plateblur.accounts import consents, fields, passwords, profiles
from plateblur.accounts.fields import countries
from plateblur.accounts.mail import Email, outbox_of
from plateblur.accounts.types import FieldError, Identity, UnknownCredentialsError
from plateblur.console.door import LOG_IN, Visit, drop_cookie, session_cookie
from plateblur.console.entry import CONFIRM_EMAIL, FORGOTTEN
from plateblur.console.texts import NEWS

PROFILE = "/console/profile"
CONSENTS = "/console/consents"


def show_profile(visit: Visit) -> Response:
    """Return the forms, filled in."""
    return visit.page("profile.html", **_own_profile(visit))


def change_profile(visit: Visit) -> Response:
    """Replace the profile."""
    try:
        profiles.change_profile(
            visit.parts.store,
            visit.account_id,
            full_name=visit.typed("full_name"),
            company=visit.typed("company"),
            postal_address=visit.typed("postal_address"),
            country=visit.typed("country"),
            vat_id=visit.typed("vat_id"),
            username=visit.typed("username"),
        )
    except FieldError as error:
        kept = _own_profile(visit) | {"values": visit.again}
        return visit.refused("profile.html", error, **kept)
    return visit.moved(PROFILE, done="profile")


def change_password(visit: Visit) -> Response:
    """Set another password; ends every session, and revokes the API keys on request."""
    try:
        fields.check_password(visit.typed("password"))
        identity = _proved(visit, "old")
        visit.count_email("password", str(visit.account_id))
        passwords.change_password(
            visit.parts.store,
            visit.parts.hasher,
            identity,
            new=visit.typed("password"),
            revoke_keys=visit.ticked("revoke_keys"),
            now=visit.now,
        )
    except FieldError as error:
        return visit.refused("profile.html", error, **_own_profile(visit))
    mail = Email(
        visit.who.email if visit.who else "",
        "Your PlateBlur password was changed",
        "Hello,\n\nThe password of your PlateBlur account was just changed, and you have been "
        "logged out everywhere.\n\nIf you didn't do this, reset your password right away:\n\n"
        f"{visit.parts.url(FORGOTTEN)}\n",
    )
    response = visit.moved(LOG_IN, done="password", mail=mail)
    drop_cookie(visit.parts, response, session_cookie(visit.parts))
    return response


def change_email(visit: Visit) -> Response:
    """Send a confirmation link to the new address."""
    try:
        fields.parse_email(visit.typed("email"))
        identity = _proved(visit, "email_password")
        visit.count_email("new address", str(visit.account_id))
        mail = profiles.request_email_change(
            visit.parts.store,
            identity,
            email=visit.typed("email"),
            page_url=visit.parts.url(CONFIRM_EMAIL),
            now=visit.now,
        )
    except FieldError as error:
        return visit.refused("profile.html", error, **_own_profile(visit))
    return visit.moved(PROFILE, done="email-sent", mail=mail)


def show_delete(visit: Visit) -> Response:
    """Return the form that says what is deleted and what is kept."""
    return visit.page("delete.html")


def delete(visit: Visit) -> Response:
    """Delete the account permanently."""
    try:
        if not visit.ticked("sure"):
            raise FieldError(
                "sure", "Tick the box to confirm. A deleted account can't be restored."
            )
        _proved(visit, "password")
    except FieldError as error:
        return visit.refused("delete.html", error)
    outbox = outbox_of(Path(visit.parts.settings.data_dir))
    profiles.delete_account(visit.parts.store, visit.account_id, outbox=outbox)
    response = visit.moved(LOG_IN, done="deleted")
    drop_cookie(visit.parts, response, session_cookie(visit.parts))
    return response


def show_consents(visit: Visit) -> Response:
    """Return the log, and the form for the consent that can be withdrawn."""
    log = consents.list_consents(visit.parts.store, visit.account_id)
    gets_news = any([entry.given for entry in log if entry.subject == NEWS.subject][-1:])
    return visit.page("consents.html", log=log, news=NEWS, gets_news=gets_news)


def change_news(visit: Visit) -> Response:
    """Give or withdraw the one optional consent, as a new entry in the log."""
    consents.record_consent(
        visit.parts.store,
        visit.account_id,
        subject=NEWS.subject,
        text_version=NEWS.version,
        given=visit.typed("given") == "yes",
        now=visit.now,
    )
    return visit.moved(CONSENTS, done="consent")


def export_consents_json(visit: Visit) -> Response:
    """Return the log as a JSON file."""
    log = consents.list_consents(visit.parts.store, visit.account_id)
    return _file(consents.consents_as_json(log), "consents.json", "application/json")


def export_consents_csv(visit: Visit) -> Response:
    """Return the log as a CSV file that is safe to open in a spreadsheet."""
    log = consents.list_consents(visit.parts.store, visit.account_id)
    return _file(consents.consents_as_csv(log), "consents.csv", "text/csv; charset=utf-8")


def _file(text: str, name: str, media_type: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=media_type, headers=headers)


def _own_profile(visit: Visit) -> dict[str, Any]:
    profile = profiles.read_profile(visit.parts.store, visit.account_id)
    return {"profile": profile, "values": profile, "countries": countries()}


def _proved(visit: Visit, field: str) -> Identity:
    """Check the password again, rate-limited like the login so that an open session can't guess.

    Raises:
        FieldError: it is wrong, or there were too many attempts.
        AccessError: the account is closed, or the store can't be reached.
        BusyError: nothing was checked.
    """
    email = visit.who.email if visit.who else ""
    try:
        identity = visit.parts.gate.authenticate(email, visit.typed(field), address=visit.address)
    except UnknownCredentialsError as error:
        message = "Wrong password."
        if error.retry_after_s is not None:
            message = f"Too many attempts. Try again in {error.retry_after_s} s."
        raise FieldError(field, message) from error
    if identity.api_key_id is not None:
        raise FieldError(field, "An API key is not enough here. Enter your password.")
    return identity
