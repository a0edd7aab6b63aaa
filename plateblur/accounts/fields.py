"""Validation of user input: addresses, user names, passwords, plain text. Pure."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import cache
from importlib.resources import files

import idna
from disposable_email_domains import blocklist
from email_validator import EmailNotValidError, validate_email

from plateblur.accounts.types import FieldError

# Source: OWASP ASVS 4.0.3, 2.1.1 and 2.1.2; the upper bound also bounds what is hashed.
MIN_PASSWORD_CHARS = 12
MAX_PASSWORD_CHARS = 128
MAX_MARKS = 30  # Source: Unicode UAX #15, section 13, Stream-Safe Text Format.
# Source: RFC 6177, section 2: a site gets more than one /64, a home commonly a /56. By /64 one
# subscriber would count as 256.
SITE_IPV6_BITS = 56
MAX_LOGIN_CHARS = 320  # Source: RFC 3696 erratum 1690, 64 + "@" + 255.

_USERNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{1,30})[A-Za-z0-9]")
# Domains of one provider that lead to one mailbox. Sources: Gmail help, "Dots don't matter in
# Gmail addresses"; Proton support, "Types of email addresses and aliases"; Yandex help, "Mailbox
# aliases (synonyms)"; Apple support, "If you have an @mac.com or @me.com email address".
_SAME_MAILBOX = {
    "googlemail.com": "gmail.com",
    **dict.fromkeys(["protonmail.com", "pm.me", "protonmail.ch"], "proton.me"),
    **dict.fromkeys(
        ["ya.ru", *(f"yandex.{end}" for end in ("com", "by", "kz", "ua", "com.tr"))], "yandex.ru"
    ),
    **dict.fromkeys(["me.com", "mac.com"], "icloud.com"),
}
# Characters of the local part that a provider takes for another, or for nothing: Gmail and Proton
# skip them, Yandex takes dots for dashes. Sources: as above, and for Proton its support's word.
_SAME_CHARS: dict[str, dict[int, int | None]] = {
    "gmail.com": {ord("."): None},
    "proton.me": dict.fromkeys(map(ord, "._-")),
    "yandex.ru": {ord("."): ord("-")},
}
# Mail to any name under "user.DOMAIN" reaches user@DOMAIN. Source: Fastmail help, "Plus addressing
# and subdomain addressing".
_SUBDOMAIN_IS_USER = ("fastmail.com", "fastmail.fm")
_API_KEY_START = "pb_"


def parse_email(text: str, *, deliverable: bool = True) -> str:
    """Return the validated and normalised address.

    Args:
        text: as typed.
        deliverable: whether to refuse domains of local networks.

    Raises:
        FieldError: not an address.
    """
    if len(text) > MAX_LOGIN_CHARS:
        raise FieldError("email", f"Use at most {MAX_LOGIN_CHARS} characters.")
    try:
        checked = validate_email(
            text.strip(), check_deliverability=False, globally_deliverable=deliverable
        )
    except EmailNotValidError as error:
        raise FieldError("email", f"Enter a valid e-mail address. {error}") from error
    return checked.normalized


def login_key(text: str) -> str:
    """Return the normalised login name: upper case and the spelling of the domain don't matter.

    Any text is accepted, because unknown names are normalised too; text that no account can have
    gives "".
    """
    if len(text) > 2 * MAX_LOGIN_CHARS or not _is_stream_safe(text):
        return ""
    text = unicodedata.normalize("NFC", text.strip())
    if not text or len(text) > MAX_LOGIN_CHARS or not text.isprintable():
        return ""
    local, at, domain = text.rpartition("@")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            return ""
    return f"{local}{at}{domain}".casefold()


def person_key(email: str) -> str:
    """Return the mailbox behind an address, as far as its provider's rules are known.

    Args:
        email: from `parse_email`.
    """
    local, _, domain = login_key(email).rpartition("@")
    for provider in _SUBDOMAIN_IS_USER:
        if domain.endswith(f".{provider}"):
            local, domain = domain.removesuffix(f".{provider}").rpartition(".")[2], provider
    local = local.split("+", 1)[0]
    domain = _SAME_MAILBOX.get(domain, domain)
    return f"{local.translate(_SAME_CHARS.get(domain, {}))}@{domain}"


def person_keys(email: str) -> tuple[str, ...]:
    """Return `person_key`, and what it was before more rules were known.

    Args:
        email: from `parse_email`.
    """
    local, _, domain = login_key(email).rpartition("@")
    earlier = f"{local.split('+', 1)[0]}@{domain}"
    return tuple(dict.fromkeys([person_key(email), earlier]))


def is_throwaway(email: str) -> bool:
    """Return whether the address is disposable."""
    labels = login_key(email).rpartition("@")[2].split(".")
    return any(".".join(labels[start:]) in blocklist for start in range(len(labels) - 1))


def parse_username(text: str) -> str:
    """Return a user name, without "@" and ":" so that it can't be an address or break Basic auth.

    Raises:
        FieldError: not 3 to 32 letters, digits, dots, dashes and underscores.
    """
    text = text.strip()
    if _USERNAME.fullmatch(text) is None:
        raise FieldError(
            "username",
            "Use 3 to 32 letters, digits, dots, dashes or underscores, starting and ending with a "
            "letter or digit.",
        )
    return text


def check_password(password: str) -> None:
    """Refuse a password that is too short or too long.

    Raises:
        FieldError: with the bounds, never the password.
    """
    # Composed letters count as one character, as they are hashed. Longer text can't become short
    # enough by composing, and is not normalised, because that could be slow.
    too_long = len(password) > 4 * MAX_PASSWORD_CHARS
    password = "" if too_long else unicodedata.normalize("NFC", password)
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise FieldError(
            "password", f"Use {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters."
        )
    if len(set(password)) < 4 or "\0" in password:
        raise FieldError("password", "Use at least 4 different characters, none of them NUL.")
    if password.startswith(_API_KEY_START):
        raise FieldError(
            "password", f"A password can't start with {_API_KEY_START}, because API keys do."
        )


def plain_text(field: str, text: str, *, max_chars: int, lines: bool = False) -> str:
    """Return text without surrounding white space.

    Args:
        field: the field's name, for errors.
        text: as typed.
        max_chars: maximum length.
        lines: whether line breaks and tabs are allowed.

    Raises:
        FieldError: too long, or with control characters.
    """
    text = text.replace("\r\n", "\n").strip()
    if len(text) > 4 * max_chars:  # composed letters count as one; none has more parts
        raise FieldError(field, f"Use at most {max_chars} characters (currently {len(text)}).")
    if not _is_stream_safe(text):
        raise FieldError(field, "Too many combining characters in a row.")
    text = unicodedata.normalize("NFC", text)
    allowed = "\n\t" if lines else ""
    if len(text) > max_chars:
        raise FieldError(field, f"Use at most {max_chars} characters (currently {len(text)}).")
    # Cc: control, Cs: half a surrogate pair, which no database accepts.
    if any(unicodedata.category(char) in {"Cc", "Cs"} and char not in allowed for char in text):
        raise FieldError(field, "Control characters aren't allowed.")
    return text


def _is_stream_safe(text: str) -> bool:
    """Return whether no letter has more combining marks than any language needs.

    Sorting n marks takes n squared steps that block the whole process: 26,000 of them, which fit
    into a form, took 4 seconds.
    """
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks > MAX_MARKS:
            return False
    return True


@cache
def countries() -> tuple[tuple[str, str], ...]:
    """Return ISO 3166-1 codes and English names, by name. Source: the tz database's own table."""
    table = (files("tzdata") / "zoneinfo" / "iso3166.tab").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in table.splitlines() if not line.startswith("#")]
    return tuple(sorted(((code, name) for code, name in rows), key=lambda row: row[1]))


def parse_country(text: str) -> str:
    """Return an ISO 3166-1 code of two capital letters, or "".

    Raises:
        FieldError: something else.
    """
    text = text.strip().upper()
    if text and re.fullmatch(r"[A-Z]{2}", text) is None:
        raise FieldError("country", "Enter a two-letter country code, for example RO.")
    return text


def address_block(address: str, *, ipv4_bits: int, ipv6_bits: int) -> str:
    """Return the network block of an IP address; other text is its own block.

    An IPv4-mapped IPv6 address counts as IPv4, because clients can choose the form.
    """
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    bits = ipv4_bits if ip.version == 4 else ipv6_bits
    return str(ipaddress.ip_network((ip, bits), strict=False))
