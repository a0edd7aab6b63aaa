"""VAT by country and by whether the buyer is taxable."""

from __future__ import annotations

import pytest

from plateblur.accounts import vat

MEMBERS = [
    *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU"),
    *("IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),
]


@pytest.mark.parametrize(
    ("country", "vat_id", "cents", "note"),
    [
        ("RO", "", 1680, ""),
        ("RO", "RO7654320", 1680, ""),
        ("DE", "", 1520, ""),
        ("FI", "", 2040, ""),
        ("DE", "DE123456788", 0, "Reverse charge"),
        ("GR", "EL123456783", 0, "Reverse charge"),
        ("DE", "RO7654320", 1520, ""),
        ("DE", "nonsense", 1520, ""),
        ("DE", "DE123456789", 1520, ""),
        ("DE", "DE 123456788", 1520, ""),
        ("DE", "EU372022452", 1520, ""),
        ("US", "", 0, "Outside the scope"),
        ("GB", "GB123456789", 0, "Outside the scope"),
    ],
    ids=[
        "consumer at home", "business at home", "consumer in the EU", "half per cents",
        "business in the EU", "Greek prefix", "number of another country", "no number",
        "wrong check digit", "not as it is written", "prefix of no country",
        "outside the EU", "business outside the EU",
    ],
)  # fmt: skip
def test_a_seller_in_romania_charges(country: str, vat_id: str, cents: int, note: str) -> None:
    tax = vat.vat_on(
        8000,
        seller_country="RO",
        seller_vat_id="RO1234565",
        buyer_country=country,
        buyer_vat_id=vat_id,
    )
    assert tax.amount_cents == cents
    assert tax.note.startswith(note)


@pytest.mark.parametrize(
    ("country", "vat_id", "more", "cents", "article"),
    [("DE", "", {}, 1520, "article 58"), ("DE", "", {"in_one_stop_shop": False}, 1680, "59c"),
     ("RO", "", {"in_one_stop_shop": False}, 1680, ""),
     ("DE", "DE123456788", {}, 0, "articles 44 and 196"), ("US", "", {}, 0, "article 58"),
     ("US", "", {"is_business": True}, 0, "article 44")],
    ids=["shop", "below the threshold", "home", "reverse", "consumer abroad", "business abroad"],
)  # fmt: skip
def test_the_article_is_named(
    country: str, vat_id: str, more: dict[str, bool], cents: int, article: str
) -> None:
    tax = vat.vat_on(
        8000,
        seller_country="RO",
        seller_vat_id="RO1234565",
        buyer_country=country,
        buyer_vat_id=vat_id,
        **more,
    )
    assert tax.amount_cents == cents
    assert article in tax.note
    assert bool(tax.note) is bool(article)


def test_cents_are_rounded_half_up() -> None:
    tax = vat.vat_on(
        10, seller_country="RO", seller_vat_id="RO1234565", buyer_country="FI", buyer_vat_id=""
    )
    assert (tax.rate_bps, tax.amount_cents) == (2550, 3)


def test_a_seller_without_a_vat_number_charges_none() -> None:
    tax = vat.vat_on(
        8000, seller_country="RO", seller_vat_id="", buyer_country="RO", buyer_vat_id=""
    )
    assert (tax.amount_cents, tax.note) == (0, "The seller is not registered for VAT.")


def test_a_seller_outside_the_eu_is_refused() -> None:
    with pytest.raises(ValueError, match="in the EU"):
        vat.vat_on(1, seller_country="US", seller_vat_id="x", buyer_country="RO", buyer_vat_id="")


# Source: Directive 2006/112/EC, article 97: at least 15 %; and no member has ever asked above 27.
@pytest.mark.parametrize("country", MEMBERS)
def test_every_member_has_a_rate_that_can_be_one(country: str) -> None:
    assert vat.is_in_eu(country)
    assert 15 <= vat.standard_rate(country) <= 27


@pytest.mark.parametrize("country", ["US", "GB", "NO", "CH", "", "X", "EL", "EU"])
def test_others_have_none(country: str) -> None:
    assert not vat.is_in_eu(country)
    with pytest.raises(ValueError, match="in the EU"):
        vat.standard_rate(country)
