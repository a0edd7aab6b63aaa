"""VAT of an EU seller of an electronic service, by the buyer's country and tax status. Pure.

A consumer in the EU pays the rate of the own country; a taxable business in the seller's country
pays that country's rate; a taxable business elsewhere in the EU accounts for the tax itself
(reverse charge); a buyer outside the EU pays none. A seller without a VAT number charges none.
Source: Directive 2006/112/EC, articles 44, 58, 59 and 196.

A VAT number is checked for its form and its check digits. The register (VIES) is not asked, so the
operator must ask it before marking a reverse-charged invoice as paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from eu_vat_rates_data import get_standard_rate, is_eu_member
from stdnum.eu import vat as vat_numbers

_PREFIXES = {"GR": "EL"}  # Source: VIES; every other country's is its ISO 3166-1 code.


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


def is_in_eu(country: str) -> bool:
    """Return whether `country`, two letters of ISO 3166-1, levies VAT as a member of the EU."""
    return is_eu_member(country)


def is_vat_id(vat_id: str, *, country: str) -> bool:
    """Return whether `vat_id` can be a VAT number of that EU country.

    Args:
        vat_id: with its prefix, without spaces, in upper case.
        country: two letters, ISO 3166-1.
    """
    if not is_in_eu(country) or not vat_id.startswith(_PREFIXES.get(country, country)):
        return False
    return vat_numbers.is_valid(vat_id) and vat_numbers.compact(vat_id) == vat_id


def standard_rate(country: str) -> Decimal:
    """Return the standard rate of an EU country, per cent.

    Source: the European Commission's Taxes in Europe Database (TEDB), as eu-vat-rates-data has it.

    Raises:
        ValueError: the country is not in the EU.
    """
    rate = get_standard_rate(country) if is_in_eu(country) else None
    if rate is None:
        raise ValueError(f"country must be in the EU, got {country}")
    return Decimal(str(rate))


def vat_on(
    net_cents: int,
    *,
    seller_country: str,
    seller_vat_id: str,
    buyer_country: str,
    buyer_vat_id: str,
) -> Vat:
    """Return the VAT on a sale; a buyer is taxable where the VAT number can be one of the country.

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
    if not is_in_eu(seller_country):
        raise ValueError(f"seller_country must be in the EU, got {seller_country}")
    if not is_in_eu(buyer_country):
        return Vat(0, 0, "Outside the scope of EU VAT (article 59, Directive 2006/112/EC).")
    if buyer_country != seller_country and is_vat_id(buyer_vat_id, country=buyer_country):
        return Vat(0, 0, "Reverse charge (article 196, Directive 2006/112/EC).")
    rate = standard_rate(buyer_country)
    amount = (net_cents * rate / 100).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    return Vat(int(rate * 100), int(amount), "")
