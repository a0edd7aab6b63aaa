"""The VAT of an invoice in the national currency, at a rate that the operator keeps up to date.

Source: Directive 2006/112/EC, article 230 (the VAT must be stated in the national currency) and
article 91(2) (at the latest rate that the European Central Bank or a national one published).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from plateblur.accounts.types import OrderError

# Source: ours; banks publish on working days, so that a rate over Christmas is a few days old.
OLDEST = timedelta(days=7)
MAX_BYTES = 1000
_LINE = re.compile(r"(\d{1,6}(?:\.\d{1,8})?)\s+(\d{4}-\d{2}-\d{2})\s+(\S.{0,79})")


@dataclass(frozen=True, slots=True)
class Rate:
    """What one unit of the prices' currency is worth.

    Attributes:
        currency: three letters.
        units: of it, for one of the prices' currency.
        published_on: the day of the rate.
        publisher: who published it.
    """

    currency: str
    units: Decimal
    published_on: date
    publisher: str

    def stated(self, vat_cents: int, *, priced_in: str) -> str:
        """Return the sentence that an invoice must carry.

        Args:
            vat_cents: the VAT, of the prices' currency.
            priced_in: that currency.
        """
        amount = (self.units * vat_cents / 100).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
        return (
            f"VAT in national currency: {amount:,} {self.currency}, at {self.units} "
            f"{self.currency} for 1 {priced_in} ({self.publisher}, {self.published_on})."
        )


def read_rate(path: Path, currency: str, *, today: date) -> Rate:
    """Return the rate in a file with one line: units, date, publisher.

    Raises:
        OrderError: there is no such file, it is malformed, or its rate is too old. An invoice
            without what the law requires is not issued.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode().strip()
        found = _LINE.fullmatch(text)
        if found is None:
            raise ValueError("not a rate")
        rate = Rate(currency, Decimal(found[1]), date.fromisoformat(found[2]), found[3])
    except (OSError, ValueError) as error:
        raise _unavailable() from error
    if not rate.units or not timedelta() <= today - rate.published_on <= OLDEST:
        raise _unavailable()
    return rate


def _unavailable() -> OrderError:
    return OrderError(
        "Orders aren't available at the moment: the exchange rate for invoices is out of date. "
        "Please try again later."
    )
