"""Signing up, activating, logging in, and resetting a password."""

from __future__ import annotations

from http import HTTPStatus

from fastapi.responses import Response
from starlette.background import BackgroundTask

from plateblur.accounts import fields, passwords, profiles, sessions, signup
from plateblur.accounts.mail import Email
from plateblur.accounts.signup import ConsentGiven
from plateblur.accounts.store import StoreUnavailableError
from plateblur.accounts.types import (
    TRIAL_PERIOD,
    AccountClosedError,
    FieldError,
    UnknownCredentialsError,
)
from plateblur.console.door import (
    HOME,
    LOG_IN,
    Visit,
    drop_cookie,
    session_cookie,
    set_cookie,
)
from plateblur.console.parts import LOG
from plateblur.console.texts import CONSENTS, ConsentText

ACTIVATE = "/console/activate"
FORGOTTEN = "/console/forgotten"
RESET = "/console/reset"
CONFIRM_EMAIL = "/console/email"
SENT = "/console/sent"


def show_sign_up(visit: Visit) -> Response:
    """Return the form."""
    return (
        visit.moved(HOME)
        if visit.who
        else visit.page("signup.html", consents=CONSENTS, trial_days=TRIAL_PERIOD.days)
    )


def sign_up(visit: Visit) -> Response:
    """Store the sign-up; the answer is the same if the address already has an account."""
    problems = signup.problems_of(
        email=visit.typed("email"),
        username=visit.typed("username"),
        password=visit.typed("password"),
    )
    for text in CONSENTS:
        if text.needed and not visit.ticked(name := f"consent_{text.subject}"):
            problems[name] = f"This is required: {text.sentence}"
    if problems:
        return visit.page(
            "signup.html",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            problems=problems,
            consents=CONSENTS,
            trial_days=TRIAL_PERIOD.days,
        )
    try:
        mail = signup.sign_up(
            visit.parts.store,
            visit.parts.hasher,
            email=visit.typed("email"),
            username=visit.typed("username"),
            password=visit.typed("password"),
            consents=[_decision(visit, text) for text in CONSENTS],
            address=visit.address,
            activation_url=visit.parts.url(ACTIVATE),
            now=visit.now,
        )
    except FieldError as error:
        return visit.refused("signup.html", error, consents=CONSENTS, trial_days=TRIAL_PERIOD.days)
    return visit.moved(SENT, done="signup", mail=mail)


def show_sent(visit: Visit) -> Response:
    """Ask to check the inbox, without saying which."""
    return visit.page("sent.html", by_mail=bool(visit.parts.settings.smtp_host))


def show_activate(visit: Visit) -> Response:
    """Return a form that asks for the password; mail scanners that open links use none up."""
    return visit.page("activate.html", token_of_link=_token(visit))


def activate(visit: Visit) -> Response:
    """Create the account of a mailed link and its password, and log in."""
    token = visit.typed("token")
    try:
        identity = signup.activate(
            visit.parts.store,
            visit.parts.hasher,
            token,
            password=visit.typed("password"),
            address=visit.address,
            now=visit.now,
        )
    except FieldError as error:
        return visit.refused("activate.html", error, token_of_link=token)
    return _welcome(
        visit, sessions.open_session(visit.parts.store, identity, now=visit.now), done="activated"
    )


def show_log_in(visit: Visit) -> Response:
    """Return the form."""
    return visit.moved(HOME) if visit.who else visit.page("login.html")


def log_in(visit: Visit) -> Response:
    """Open a session under a new cookie."""
    problem, status, headers = "", HTTPStatus.UNPROCESSABLE_ENTITY, {}
    try:
        cookie = sessions.log_in(
            visit.parts.store,
            visit.parts.gate,
            username=visit.typed("username"),
            password=visit.typed("password"),
            address=visit.address,
            now=visit.now,
        )
    except UnknownCredentialsError as error:
        problem = "Wrong user name or password."
        if error.retry_after_s is not None:
            problem = f"Too many attempts. Try again in {error.retry_after_s} s."
            status = HTTPStatus.TOO_MANY_REQUESTS
            headers = {"Retry-After": str(error.retry_after_s)}
    except AccountClosedError:  # the password was right, so this tells its owner alone
        problem = (
            "This account is locked or not activated yet. Check your inbox for the activation "
            "link. If it has expired, sign up again."
        )
    if problem:
        return visit.page(
            "login.html", status=status, problems={"username": problem}, headers=headers
        )
    return _welcome(visit, cookie)


def log_out(visit: Visit) -> Response:
    """End the session."""
    if visit.session:
        sessions.log_out(visit.parts.store, visit.session)
    response = visit.moved(LOG_IN, done="logged-out")
    drop_cookie(visit.parts, response, session_cookie(visit.parts))
    return response


def show_forgotten(visit: Visit) -> Response:
    """Return the form that asks for the address."""
    return visit.page("forgotten.html")


def forgotten(visit: Visit) -> Response:
    """Answer immediately, and the same for every address; the rest is done afterwards."""
    email = visit.typed("email")
    visit.count_email("reset", fields.login_key(email))
    response = visit.moved(SENT, done="reset")
    response.background = BackgroundTask(visit.parts.send_later, lambda: _reset_email(visit, email))
    return response


def show_reset(visit: Visit) -> Response:
    """Return the form for the new password."""
    return visit.page("reset.html", token_of_link=_token(visit))


def reset(visit: Visit) -> Response:
    """Set the password of a mailed link; ends every session, and revokes keys that are not kept."""
    token = visit.typed("token")
    try:
        revoked = passwords.reset_password(
            visit.parts.store,
            visit.parts.hasher,
            token,
            new=visit.typed("password"),
            keep_keys=visit.ticked("keep_keys"),
            now=visit.now,
        )
    except FieldError as error:
        return visit.refused("reset.html", error, token_of_link=token)
    return visit.moved(LOG_IN, done="password-keys" if revoked else "password")


def show_confirm_email(visit: Visit) -> Response:
    """Return a button, because mail scanners open links and must not use them up."""
    return visit.page("follow.html", token_of_link=_token(visit))


def confirm_email(visit: Visit) -> Response:
    """Switch to a new address; ends every session."""
    mail = profiles.confirm_email_change(visit.parts.store, visit.typed("token"), now=visit.now)
    return visit.moved(LOG_IN, done="email", mail=mail)


def _decision(visit: Visit, text: ConsentText) -> ConsentGiven:
    return ConsentGiven(text.subject, text.version, visit.ticked(f"consent_{text.subject}"))


def _token(visit: Visit) -> str:
    return visit.request.query_params.get("token", "")


def _welcome(visit: Visit, cookie: str, *, done: str = "") -> Response:
    """Redirect to the overview with a new session; ends the previous one."""
    if visit.session:
        sessions.log_out(visit.parts.store, visit.session)
    response = visit.moved(HOME, done=done)
    set_cookie(visit.parts, response, session_cookie(visit.parts), cookie)
    return response


def _reset_email(visit: Visit, email: str) -> Email | None:
    try:
        return passwords.request_reset(
            visit.parts.store, email=email, page_url=visit.parts.url(RESET), now=visit.now
        )
    except StoreUnavailableError:
        LOG.error("password reset failed: the store did not answer")
        return None
