"""What people type, and what of it is taken."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from plateblur.accounts import fields
from plateblur.accounts.types import FieldError
from tests.accounts.fakes import CountingHasher


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ana@Plates.IO", "ana@plates.io"),
        ("ana@bücher.de", "ana@xn--bcher-kva.de"),
        (" ana@plates.io ", "ana@plates.io"),
        ("Ana.Pop", "ana.pop"),
    ],
    ids=["case", "IDN", "white space", "user name"],
)
def test_spellings_of_one_login_share_a_key(one: str, other: str) -> None:
    assert fields.login_key(one) == fields.login_key(other) != ""


@pytest.mark.parametrize(
    "text",
    ["", "a\0b", "x" * 321, "\ud800", "a@\u200b\u200b", "a\nb"],
    ids=["empty", "NUL", "long", "surrogate", "no domain", "line break"],
)
def test_names_that_nobody_can_have_give_no_key(text: str) -> None:
    assert fields.login_key(text) == ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ana+1@plates.io", "ana+2@plates.io", True),
        ("a.n.a@gmail.com", "ana+x@googlemail.com", True),
        ("ANA@plates.io", "ana@plates.io", True),
        ("ana.pop@proton.me", "ana_p-op+x@pm.me", True),
        ("anapop@protonmail.com", "ana.pop@protonmail.ch", True),
        ("ana.pop@yandex.ru", "ana-pop@ya.ru", True),
        ("ana.pop@yandex.com", "ana.pop+x@yandex.com.tr", True),
        ("shop@ana.fastmail.com", "ana+x@fastmail.com", True),
        ("a@b.ana.fastmail.fm", "ana@fastmail.fm", True),
        ("ana@me.com", "ana@icloud.com", True),
        ("anapop@yandex.ru", "ana.pop@yandex.ru", False),
        ("ana.pop@fastmail.com", "anapop@fastmail.com", False),
        ("ana@fastmail.com", "ana@fastmail.fm", False),
        ("ana@notfastmail.com", "ana@fastmail.com", False),
        ("ana@x.proton.me", "ana@proton.me", False),
        ("a.na@plates.io", "ana@plates.io", False),
        ("ana@plates.io", "ion@plates.io", False),
    ],
    ids=[
        "tags",
        "dots at Gmail",
        "case",
        "Proton's signs",
        "Proton's domains",
        "Yandex's dots and dashes",
        "Yandex's domains",
        "Fastmail's subdomains",
        "deeper ones",
        "Apple's domains",
        "Yandex without dots",
        "dots at Fastmail",
        "Fastmail's domains",
        "a name that ends so",
        "below Proton",
        "dots elsewhere",
        "people",
    ],
)
def test_addresses_of_one_mailbox_are_one_person(one: str, other: str, same: bool) -> None:
    assert (fields.person_key(one) == fields.person_key(other)) is same


@pytest.mark.parametrize(
    ("email", "throwaway"),
    [("a@mailinator.com", True), ("a@x.mailinator.com", True), ("a@plates.io", False)],
    ids=["domain", "below it", "usual"],
)
def test_throwaway_domains_are_known(email: str, throwaway: bool) -> None:
    assert fields.is_throwaway(email) is throwaway


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ana",
        "ana@",
        "@plates.io",
        "a b@plates.io",
        "a@x.io\nBcc: b@x",
        "a@[1.2.3.4]",
    ],
    ids=["empty", "name", "no domain", "no name", "space", "header", "literal"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(FieldError):
        fields.parse_email(text)


@pytest.mark.parametrize(
    "text", ["ab", "a" * 33, "a:b", "a@b", "-ab", "a b", "țara"],
    ids=["short", "long", "colon", "at", "dash", "space", "letter"],
)  # fmt: skip
def test_user_names_that_would_confuse_are_refused(text: str) -> None:
    with pytest.raises(FieldError):
        fields.parse_username(text)


@pytest.mark.parametrize(
    ("password", "taken"),
    [("abcdefghijkl", True), ("abcdefghijk", False), ("abcd" * 32, True),
     ("abcd" * 32 + "e", False), ("aaaaaaaaaaaaaa", False), ("abcdefghijk\0", False)],
    ids=["least", "short", "most", "long", "one letter", "NUL"],
)  # fmt: skip
def test_passwords_have_bounds(password: str, taken: bool) -> None:
    if taken:
        fields.check_password(password)
    else:
        with pytest.raises(FieldError) as caught:
            fields.check_password(password)
        assert password not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
    ids=["IPv4", "IPv4 in IPv6", "IPv6", "zone", "no address"],
)
def test_addresses_count_by_blocks(address: str, block: str) -> None:
    assert fields.address_block(address, ipv4_bits=24, ipv6_bits=64) == block


def test_control_characters_are_refused() -> None:
    assert fields.plain_text("text", " a\r\nb ", max_chars=9, lines=True) == "a\nb"
    for bad in ("a\nb", "a\0b", "\ud800"):
        with pytest.raises(FieldError):
            fields.plain_text("text", bad, max_chars=9)


HEAP = "a" + "\u0301\u0323" * 13_000  # what a form holds


@pytest.mark.parametrize(
    "take",
    [
        fields.login_key,
        lambda text: fields.plain_text("text", text, max_chars=10_000),
        lambda text: fields.plain_text("text", text[:10_000], max_chars=10_000),
        fields.check_password,
        fields.parse_email,
        lambda text: fields.parse_email(f"{text}@plates.io"),
        CountingHasher().hash,
    ],
    ids=["log-in", "long text", "text", "password", "address", "local part", "hash"],
)
def test_a_heap_of_marks_costs_no_time(take: Callable[[str], object]) -> None:
    started = time.thread_time()
    with contextlib.suppress(FieldError):
        take(HEAP)
    assert time.thread_time() - started < 0.1


def test_marks_that_a_language_needs_are_taken() -> None:
    hebrew = "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd" * 20
    assert fields.plain_text("text", hebrew, max_chars=200)
