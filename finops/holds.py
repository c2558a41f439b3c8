# SPDX-License-Identifier: Apache-2.0
"""What became of a hold: the values that `store` answers with, and the section of an entry that each writes.

Contract: `body()` is canonical JSON that `books.fold` reads. A refusal (`Exceeded`, `Missing`) has no body:
nothing was reserved. Pure: no clock, randomness, socket or database.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeAlias

from msgspec import Struct

from finops import money
from finops.books import Share
from finops.budget import BudgetView


class Held(Struct, frozen=True):
    """Money is reserved in each budget's window; `amount` is the whole hold."""

    job_id: str
    amount: Decimal
    currency: str
    budgets: tuple[Share, ...]

    def body(self) -> dict[str, Any]:
        """Section `hold` of the entry."""
        return {
            "job_id": self.job_id,
            "amount": money.text(self.amount),
            "currency": self.currency,
            "budgets": _bodies(self.budgets),
        }


class Enlarged(Struct, frozen=True):
    """The hold is now `amount`, grown by `by` (zero where it was enough)."""

    job_id: str
    amount: Decimal
    by: Decimal
    currency: str

    def body(self) -> dict[str, Any]:
        """Section `enlarge` of the entry."""
        return {"job_id": self.job_id, "by": money.text(self.by), "currency": self.currency}


class Exceeded(Struct, frozen=True):
    """Nothing was reserved: these budgets have less available than was asked."""

    budgets: tuple[BudgetView, ...]


class Missing(Struct, frozen=True):
    """Nothing was reserved: the job's project has no budget, or one that was named is gone."""


class Settled(Struct, frozen=True):
    """The hold ended: what was captured and released, and by how much the capture overran it."""

    job_id: str
    captured: Decimal
    released: Decimal
    overrun: Decimal
    currency: str
    budgets: tuple[Share, ...]

    def body(self) -> dict[str, Any]:
        """Section `settle` of the entry."""
        return {
            "job_id": self.job_id,
            "capture": money.text(self.captured),
            "release": money.text(self.released),
            "overrun": money.text(self.overrun),
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


def _bodies(budgets: tuple[Share, ...]) -> list[dict[str, str]]:
    return [{"id": share.id, "window": share.window} for share in budgets]
