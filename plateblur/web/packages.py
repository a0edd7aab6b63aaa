"""What each plan costs and promises, for the front page and the page of prices.

Source: the product page's pricing packages; the numbers are those that the quota counts by.
"""

from __future__ import annotations

from dataclasses import dataclass

from plateblur.accounts.types import (
    PAID_REQUESTS_PER_WINDOW,
    PAID_WINDOW,
    PREDICTIONS_PER_MONTH,
    PRICE_CENTS,
    TRIAL_PERIOD,
    TRIAL_REQUESTS_PER_DAY,
    PlanKind,
)

PER_MONTH = PRICE_CENTS[PlanKind.MONTHLY]
DISCOUNT = 1 - PRICE_CENTS[PlanKind.YEARLY] / (12 * PER_MONTH)

Row = tuple[str, tuple[str, ...]]
"""What is compared, and what each package has of it."""

IN_EVERY_PLAN = (
    "REST API and online app",
    "Every plate blurred",
    "Box and confidence of each plate",
    "Cut-out of each blurred plate",
    "Unlimited devices",
    "Administration console",
)


@dataclass(frozen=True, slots=True)
class Package:
    """A card on the page of prices.

    Attributes:
        kind: the plan.
        name: its title.
        badge: a word beside the title, or "".
        price: what it costs, for people.
        per: for what period.
        promises: what it includes beside `IN_EVERY_PLAN`, a line each.
        limits: what it does not, a line each.
        call: the label of its button.
        href: where the button leads.
    """

    kind: PlanKind
    name: str
    badge: str
    price: str
    per: str
    promises: tuple[str, ...]
    limits: tuple[str, ...]
    call: str
    href: str


def packages_in(currency: str) -> tuple[Package, Package, Package]:
    """Return the trial and the two plans.

    Args:
        currency: of the prices.
    """
    monthly, yearly = PRICE_CENTS[PlanKind.MONTHLY] // 100, PRICE_CENTS[PlanKind.YEARLY] // 100
    trial = Package(
        kind=PlanKind.TRIAL,
        name="Trial",
        badge="",
        price=f"0 {currency}",
        per=f"for {TRIAL_PERIOD.days} days, no card required",
        promises=(
            f"{TRIAL_REQUESTS_PER_DAY} requests per day",
            "Support by ticket",
        ),
        limits=(
            "No commercial use of the results during the trial",
            "One trial per person, no disposable e-mail addresses",
        ),
        call="Start free trial",
        href="/console/signup",
    )
    return (
        trial,
        _paid(PlanKind.MONTHLY, "Monthly", "Popular", f"{monthly} {currency}", "per month"),
        _paid(
            PlanKind.YEARLY,
            "Yearly",
            f"{DISCOUNT:.0%} off",
            f"{yearly} {currency}",
            f"per year, {yearly // 12} {currency} per month",
        ),
    )


def _paid(kind: PlanKind, name: str, badge: str, price: str, per: str) -> Package:
    return Package(
        kind=kind,
        name=name,
        badge=badge,
        price=price,
        per=per,
        promises=(
            f"{PREDICTIONS_PER_MONTH:,} predictions* per month",
            f"{PAID_REQUESTS_PER_WINDOW} requests per minute",
            "Commercial use: you own the copyright of the results and may use them in apps you "
            "sell, at no extra fee",
            "Premium support by ticket, with quick answers",
        ),
        limits=(),
        call=f"Order {name.lower()}",
        href=f"/console/order?kind={kind.value}",
    )


def comparison(packages: tuple[Package, Package, Package]) -> tuple[Row, ...]:
    """Return the rows of the table that compares the plans."""
    trial, monthly, yearly = packages
    return (
        ("Price", (trial.price, f"{monthly.price} a month", f"{yearly.price} a year")),
        ("Runs for", (f"{TRIAL_PERIOD.days} days", "1 month", "12 months")),
        (
            "Requests",
            (
                f"{TRIAL_REQUESTS_PER_DAY} a day",
                *(f"{PAID_REQUESTS_PER_WINDOW} in {PAID_WINDOW.seconds} seconds",) * 2,
            ),
        ),
        ("Predictions*", ("Not counted", *(f"{PREDICTIONS_PER_MONTH:,} a month",) * 2)),
        ("Commercial use of the results", ("No", "Yes", "Yes")),
        *((one, ("Yes", "Yes", "Yes")) for one in IN_EVERY_PLAN),
        ("Support", ("Ticket", "Premium, by ticket", "Premium, by ticket")),
        ("Renews by itself", ("No", "No", "No")),
    )
