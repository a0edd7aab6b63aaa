"""What an order says before it is one: who sells, on what terms, and what it would cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from stdnum import bic as bics
from stdnum import iban as ibans

from plateblur.accounts import vat
from plateblur.accounts.exchange import Rate
from plateblur.accounts.types import CURRENCY, PRICE_CENTS, PlanKind


@dataclass(frozen=True, slots=True)
class Seller:
    """Who issues the invoices.

    Attributes:
        name: as registered.
        postal_address: lines.
        country: ISO 3166-1, two letters.
        vat_id: "" where not registered for VAT: none is charged then.
        how_to_pay: lines printed on an unpaid invoice, e.g. a bank account.
        email: for questions.
        phone: for questions.
        register: register and number.
        iban: of the bank account, without spaces, or "".
        bic: of its bank, or "".
        currency: of the prices and invoices, three letters.
    """

    name: str
    postal_address: str
    country: str
    vat_id: str = ""
    how_to_pay: str = ""
    email: str = ""
    phone: str = ""
    register: str = ""
    iban: str = ""
    bic: str = ""
    currency: str = CURRENCY

    def __post_init__(self) -> None:
        """Refuse a seller whose VAT can't be worked out, or whom no bank could pay.

        Raises:
            ValueError: a VAT number without the form of its EU country; an IBAN with wrong check
                digits; a BIC without the form of one.
        """
        if self.vat_id and not vat.is_vat_id(self.vat_id, country=self.country):
            raise ValueError(f"expected a VAT number of {self.country}, got {self.vat_id}")
        if self.iban and not ibans.is_valid(self.iban):
            raise ValueError(f"expected an IBAN with its check digits, got {self.iban}")
        if self.bic and not (self.iban and bics.is_valid(self.bic)):
            raise ValueError(f"expected the BIC of an IBAN's bank, got {self.bic}")


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """How an order is placed and invoiced.

    Attributes:
        is_business: the buyer orders as a taxable person, without a right of withdrawal.
        starts_now: the consumer asked for a start before the period of withdrawal is over.
        terms_version: of the terms that were agreed to.
        network_country: of the buyer's connection, as a trusted proxy told it, or "".
        in_one_stop_shop: see `vat.vat_on`.
        due_days: in which the invoice is to be paid.
        rate: for the VAT in the national currency; None where it isn't stated.
    """

    is_business: bool = False
    starts_now: bool = True
    terms_version: str = ""
    network_country: str = ""
    in_one_stop_shop: bool = True
    due_days: int = 14
    rate: Rate | None = None

    def kept(self, *, now: datetime) -> dict[str, str]:
        """Return what the invoice keeps of them."""
        return {
            "is_business": "yes" if self.is_business else "no",
            "starts_now": "yes" if self.starts_now or self.is_business else "no",
            "terms_version": self.terms_version,
            "network_country": self.network_country,
            "due_on": f"{now + timedelta(days=self.due_days):%Y-%m-%d}",
        }


USUAL_TERMS = OrderTerms()


@dataclass(frozen=True, slots=True)
class Quote:
    """What an order would cost.

    Attributes:
        net_cents: the price.
        tax: on it.
    """

    net_cents: int
    tax: vat.Vat

    @property
    def total_cents(self) -> int:
        """Return what is to be paid."""
        return self.net_cents + self.tax.amount_cents


def quote(
    kind: PlanKind, *, seller: Seller, buyer_country: str, buyer_vat_id: str, terms: OrderTerms
) -> Quote:
    """Return what an order would cost.

    Raises:
        ValueError: `kind` is the trial.
    """
    if kind not in PRICE_CENTS:
        raise ValueError(f"kind must be a paid package, got {kind}")
    tax = vat.vat_on(
        PRICE_CENTS[kind],
        seller_country=seller.country,
        seller_vat_id=seller.vat_id,
        buyer_country=buyer_country,
        buyer_vat_id=buyer_vat_id,
        is_business=terms.is_business,
        in_one_stop_shop=terms.in_one_stop_shop,
    )
    return Quote(PRICE_CENTS[kind], tax)
