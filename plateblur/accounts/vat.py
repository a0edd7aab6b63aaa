"""VAT of an EU seller of an electronic service, by the buyer's country and tax status. Pure.

A consumer in the EU pays the rate of the own country; a taxable business in the seller's country
pays that country's rate; a taxable business elsewhere in the EU accounts for the tax itself
(reverse charge); a buyer outside the EU pays none. A seller without a VAT number charges none.
Source: Directive 2006/112/EC, articles 44, 58, 59 and 196.

A VAT number is only checked for its form here: the register (VIES) is not asked, so the operator
must ask it before marking a reverse-charged invoice as paid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

# Source: European Commission, Taxes in Europe Database (TEDB), standard rates in per cent, and the
# forms of VAT numbers, as packed in eu-vat-rates-data 2026.9.29 (daily checked against TEDB).
RATES_DATE = "2026-09-29"
EU_VAT: dict[str, tuple[str, str]] = {
    "AT": ("20", r"ATU\d{8}"),
    "BE": ("21", r"BE[01]\d{9}"),
    "BG": ("20", r"BG\d{9,10}"),
    "CY": ("19", r"CY\d{8}[A-Z]"),
    "CZ": ("21", r"CZ\d{8,10}"),
    "DE": ("19", r"DE\d{9}"),
    "DK": ("25", r"DK\d{8}"),
    "EE": ("24", r"EE\d{9}"),
    "ES": ("21", r"ES(?:[A-Z]\d{7}[A-Z0-9]|\d{8}[A-Z])"),
    "FI": ("25.5", r"FI\d{8}"),
    "FR": ("20", r"FR[A-HJ-NP-Z0-9]{2}\d{9}"),
    "GR": ("24", r"EL\d{9}"),
    "HR": ("25", r"HR\d{11}"),
    "HU": ("27", r"HU\d{8}"),
    "IE": ("23", r"IE(?:\d{7}[A-W][AH]?|\d[A-Z+*]\d{5}[A-W])"),
    "IT": ("22", r"IT\d{11}"),
    "LT": ("21", r"LT(?:\d{9}|\d{12})"),
    "LU": ("17", r"LU\d{8}"),
    "LV": ("21", r"LV\d{11}"),
    "MT": ("18", r"MT\d{8}"),
    "NL": ("21", r"NL\d{9}B\d{2}"),
    "PL": ("23", r"PL\d{10}"),
    "PT": ("23", r"PT\d{9}"),
    "RO": ("21", r"RO\d{2,10}"),
    "SE": ("25", r"SE\d{10}01"),
    "SI": ("22", r"SI\d{8}"),
    "SK": ("23", r"SK\d{10}"),
}


@dataclass(frozen=True, slots=True)
class Vat:
    """What an invoice says of VAT.

    Attributes:
        rate_bps: hundredths of a per cent; 2550 is 25.5 %.
        amount_cents: the tax, rounded half up to a cent.
        note: the sentence that the invoice must carry, or "".
    """

    rate_bps: int
    amount_cents: int
    note: str


def is_vat_id(vat_id: str, *, country: str) -> bool:
    """Return whether `vat_id` has the form of a VAT number of that EU country."""
    return country in EU_VAT and re.fullmatch(EU_VAT[country][1], vat_id) is not None


def vat_on(
    net_cents: int,
    *,
    seller_country: str,
    seller_vat_id: str,
    buyer_country: str,
    buyer_vat_id: str,
) -> Vat:
    """Return the VAT on a sale; a buyer is taxable where the VAT number has the country's form.

    Args:
        net_cents: the price without tax.
        seller_country: two letters, ISO 3166-1.
        seller_vat_id: "" where the seller is not registered for VAT.
        buyer_country: two letters, ISO 3166-1.
        buyer_vat_id: "" for a consumer.

    Raises:
        ValueError: a seller with a VAT number whose country is not in the EU.
    """
    if not seller_vat_id:
        return Vat(0, 0, "The seller is not registered for VAT.")
    if seller_country not in EU_VAT:
        raise ValueError(f"seller_country must be in the EU, got {seller_country}")
    if buyer_country not in EU_VAT:
        return Vat(0, 0, "Outside the scope of EU VAT (article 59, Directive 2006/112/EC).")
    if buyer_country != seller_country and is_vat_id(buyer_vat_id, country=buyer_country):
        return Vat(0, 0, "Reverse charge (article 196, Directive 2006/112/EC).")
    rate = Decimal(EU_VAT[buyer_country][0])
    amount = (net_cents * rate / 100).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    return Vat(int(rate * 100), int(amount), "")
