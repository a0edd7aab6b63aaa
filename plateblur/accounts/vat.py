"""VAT of an EU seller of an electronic service, by the buyer's country and tax status. Pure.

- A consumer pays the rate of the own country (article 58), which the seller declares in the
  one-stop shop. A seller below the threshold of article 59c may charge the own country's rate.
- A business in the seller's country pays that country's rate.
- A business elsewhere in the EU accounts for the tax itself: reverse charge (articles 44 and 196).
- A buyer outside the EU pays none: the place of supply is there (44 for businesses, 58 for others).
- A seller without a VAT number charges none.

Source: Directive 2006/112/EC, articles 44, 58, 59c and 196.

A VAT number is checked for its form and its check digits. The register (VIES) is not asked, so the
operator must ask it before marking a reverse-charged invoice as paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from eu_vat_rates_data import get_standard_rate, is_eu_member
from stdnum.eu import vat as vat_numbers

DIRECTIVE = "Directive 2006/112/EC"
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
    is_business: bool = False,
    in_one_stop_shop: bool = True,
) -> Vat:
    """Return the VAT on a sale; a buyer is taxable where the VAT number can be one of the country.

    Args:
        net_cents: the price without tax.
        seller_country: two letters, ISO 3166-1.
        seller_vat_id: "" where the seller is not registered for VAT.
        buyer_country: two letters, ISO 3166-1.
        buyer_vat_id: "" for a consumer.
        is_business: whether a buyer outside the EU orders as a taxable person.
        in_one_stop_shop: whether consumers elsewhere in the EU pay the rate of their country.

    Raises:
        ValueError: a seller with a VAT number whose country is not in the EU.
    """
    if not seller_vat_id:
        return Vat(0, 0, "The seller is not registered for VAT.")
    if not is_in_eu(seller_country):
        raise ValueError(f"seller_country must be in the EU, got {seller_country}")
    if not is_in_eu(buyer_country):
        article = 44 if is_business else 58
        return Vat(0, 0, f"Outside the scope of EU VAT (article {article}, {DIRECTIVE}).")
    if buyer_country == seller_country:
        return _at(standard_rate(seller_country), net_cents, "")
    if is_vat_id(buyer_vat_id, country=buyer_country):
        return Vat(0, 0, f"Reverse charge (articles 44 and 196, {DIRECTIVE}).")
    if in_one_stop_shop:
        note = f"VAT of {buyer_country}, one-stop shop (article 58, {DIRECTIVE})."
        return _at(standard_rate(buyer_country), net_cents, note)
    note = f"VAT of {seller_country}, below the threshold (article 59c, {DIRECTIVE})."
    return _at(standard_rate(seller_country), net_cents, note)


def tax_cents(net_cents: int, rate_bps: int) -> int:
    """Return the tax on an amount, rounded half up to a cent."""
    tax = Decimal(net_cents) * rate_bps / 10_000
    return int(tax.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _at(rate: Decimal, net_cents: int, note: str) -> Vat:
    rate_bps = int(rate * 100)
    return Vat(rate_bps, tax_cents(net_cents, rate_bps), note)
