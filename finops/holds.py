# SPDX-License-Identifier: Apache-2.0
"""What became of a hold: the values that `store` answers with, and the section of an entry that each writes.

Contract: `body()` is canonical JSON that `books.fold` reads. A refusal (`Exceeded`, `Missing`) has no body:
nothing was reserved. Pure: no clock, randomness, socket or database.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from finops import money
from finops.books import Share
from finops.budget import BudgetView


class Held(Struct, frozen=True):
    """The whole hold, reserved in each budget's window: money, and its shots where a quota of it counts any."""

    job_id: str
    amount: Decimal
    currency: str
    budgets: tuple[Share, ...]
    shots: Decimal = money.ZERO

    def body(self) -> dict[str, Any]:
        """Section `hold` of the entry, or `rehold` where it is made anew."""
        return {
            "job_id": self.job_id,
            "amount": money.text(self.amount),
            "currency": self.currency,
            "budgets": _bodies(self.budgets),
        } | _counted(shots=self.shots)


class Exceeded(Struct, frozen=True):
    """Nothing was reserved: these hard budgets have less available than was asked."""

    budgets: tuple[BudgetView, ...]

    @property
    def code(self) -> Literal["budget_exceeded", "quota_exceeded"]:
        """The outward code: of a quota only where there was money enough."""
        short_of_money = any(view.counts == "money" for view in self.budgets)
        return "budget_exceeded" if short_of_money else "quota_exceeded"

    @property
    def detail(self) -> str:
        """Each budget that is short, in words."""
        return "; ".join(view.refusal() for view in self.budgets)


class Missing(Struct, frozen=True):
    """Nothing was reserved: the job's project has no hard budget in money, or one that was named is gone."""


class Settled(Struct, frozen=True):
    """The hold ended: what was captured and released, by how much the capture overran it, and what quotas count."""

    job_id: str
    captured: Decimal
    released: Decimal
    overrun: Decimal
    currency: str
    budgets: tuple[Share, ...]
    shots: Decimal = money.ZERO
    jobs: Decimal = money.ZERO

    def body(self) -> dict[str, Any]:
        """Section `settle` of the entry."""
        return {
            "job_id": self.job_id,
            "capture": money.text(self.captured),
            "release": money.text(self.released),
            "overrun": money.text(self.overrun),
            "currency": self.currency,
            "budgets": _bodies(self.budgets),
        } | _counted(shots=self.shots, jobs=self.jobs)


class Refunded(Struct, frozen=True):
    """Money given back after the settlement; `refunded` is all that was given back of the job so far."""

    job_id: str
    amount: Decimal
    refunded: Decimal
    currency: str
    budgets: tuple[Share, ...]

    def body(self) -> dict[str, Any]:
        """Section `refund` of the entry."""
        return {
            "job_id": self.job_id,
            "amount": money.text(self.amount),
            "currency": self.currency,
            "budgets": _bodies(self.budgets),
        }


class Parked(Struct, frozen=True):
    """The hold is kept, and may be settled later."""

    job_id: str
    amount: Decimal
    currency: str
    budgets: tuple[Share, ...]

    def body(self) -> dict[str, Any]:
        """Section `settle` of the entry, in its form for an unknown outcome."""
        return {
            "job_id": self.job_id,
            "parked": money.text(self.amount),
            "currency": self.currency,
            "budgets": _bodies(self.budgets),
        }


HoldResult: TypeAlias = Held | Exceeded | Missing


def shares(views: Iterable[BudgetView]) -> tuple[Share, ...]:
    """The budgets of a hold with their windows, in the order in which they are locked: that of their ids' bytes."""
    return tuple(sorted((Share(view.budget_id, view.window) for view in views), key=lambda share: share.id.encode()))


def quoted(views: Iterable[BudgetView]) -> bool:
    """Whether one of the budgets is a quota, so that a hold in them has shots."""
    return any(view.counts != "money" for view in views)


def _counted(**figures: Decimal) -> dict[str, str]:
    return {name: money.text(figure) for name, figure in figures.items() if figure}


def _bodies(budgets: tuple[Share, ...]) -> list[dict[str, str]]:
    return [{"id": share.id, "window": share.window} for share in budgets]
