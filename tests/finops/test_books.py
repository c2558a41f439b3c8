# SPDX-License-Identifier: Apache-2.0
"""The books are a fold over entry bodies that refuses what can't follow (I6)."""

from decimal import Decimal
from typing import Any

import pytest

from finops.books import Books, BudgetSet, Share, differences, fold
from finops.budget import Balance
from finops.errors import BooksInconsistent, FinopsError
from finops.holds import Held, Parked, Refunded, Settled

SHARES = (Share("b1", "2026-11"),)
BUDGET = BudgetSet("b1", "project:p", "monthly", "10", "USD").body()
HOLD = {"hold": Held("j1", Decimal("0.52"), "USD", SHARES).body()}
REHELD = {"rehold": Held("j1", Decimal("0.6"), "USD", SHARES).body()}
REFUND = {"refund": Refunded("j1", Decimal("0.3"), Decimal("0.3"), "USD", SHARES).body()}
PARK = {"settle": Parked("j1", Decimal("0.52"), "USD", SHARES).body()}
SETTLE = {"settle": Settled("j1", Decimal("0.38"), Decimal("0.14"), Decimal(0), "USD", SHARES).body()}
OVERRUN = {"settle": Settled("j1", Decimal(1), Decimal(0), Decimal("0.48"), "USD", SHARES).body()}


def folded(*bodies: dict[str, Any]) -> Books:
    """Books with a budget and these bodies."""
    books = fold(Books(), "budget:set", BUDGET)
    for body in bodies:
        fold(books, "job:any", body)
    return books


@pytest.mark.parametrize(
    ("bodies", "held", "captured", "state"),
    [
        ((HOLD,), "0.52", "0", "held"),
        ((HOLD, SETTLE), "0", "0.38", "settled"),
        ((HOLD, PARK), "0.52", "0", "parked"),
        ((HOLD, PARK, SETTLE), "0", "0.38", "settled"),
        ((HOLD, REHELD), "0.6", "0", "held"),
        ((HOLD, SETTLE, REFUND), "0", "0.08", "settled"),
        ((HOLD, OVERRUN), "0", "1", "settled"),
    ],
)
def test_each_section_moves_the_balance(bodies: Any, held: str, captured: str, state: str) -> None:
    """I6: hold, make anew, park, settle, give back, overrun."""
    books = folded(*bodies)
    assert books.balances["b1", "2026-11"] == Balance(Decimal(held), Decimal(captured))
    assert books.holds["j1"].state == state


def test_other_entries_leave_the_books_alone() -> None:
    """A log is full of entries that move no money."""
    assert fold(folded(HOLD), "policy:push", {"revision": "sha256:00"}) == folded(HOLD)


@pytest.mark.parametrize(
    "bodies",
    [
        (SETTLE,),
        (PARK,),
        (REHELD,),
        (REFUND,),
        (HOLD, REFUND),
        (HOLD, SETTLE, REFUND, REFUND),
        (HOLD, PARK, REHELD),
        (HOLD, {"rehold": REHELD["rehold"] | {"budgets": [{"id": "b1", "window": "2026-12"}]}}),
        (HOLD, HOLD),
        (HOLD, SETTLE, SETTLE),
        (HOLD, SETTLE, REHELD),
        (HOLD, REHELD, SETTLE),
        (HOLD, {"settle": SETTLE["settle"] | {"release": "0.15"}}),
        (HOLD, {"settle": SETTLE["settle"] | {"currency": "EUR"}}),
        (HOLD, {"settle": SETTLE["settle"] | {"budgets": []}}),
        (HOLD, {"settle": SETTLE["settle"] | {"capture": "NaN"}}),
        (HOLD, {"settle": PARK["settle"] | {"parked": "0.5"}}),
        ({"hold": HOLD["hold"] | {"amount": 0.52}},),
        ({"hold": HOLD["hold"] | {"amount": "-1"}},),
        ({"hold": HOLD["hold"] | {"currency": "EUR"}},),
        ({"hold": HOLD["hold"] | {"budgets": [{"id": "b2", "window": "2026-11"}]}},),
        ({"hold": HOLD["hold"] | {"extra": 1}},),
        ({"hold": {}},),
        ({"settle": None},),
    ],
)
def test_an_entry_that_cannot_follow_raises(bodies: tuple[dict[str, Any], ...]) -> None:
    """No balance is guessed from a doubled, missing, unbalanced or malformed section."""
    with pytest.raises(FinopsError):
        folded(*bodies)


def test_a_budget_without_an_amount_is_inconsistent() -> None:
    """The kind is named."""
    with pytest.raises(BooksInconsistent, match=r"^budget:set: "):
        fold(Books(), "budget:set", {"budget_id": "b1"})


def test_each_difference_is_named() -> None:
    """I6: a changed budget, balance or hold shows; equal books show nothing."""
    rows, ledger = folded(HOLD), folded(HOLD)
    rows.balances["b1", "2026-12"] = Balance()
    assert differences(rows, ledger) == []
    rows.balances["b1", "2026-11"] = Balance(Decimal(9))
    del rows.holds["j1"]
    rows.budgets["b2"] = BudgetSet("b2", "user:x", "total", "1", "USD")
    assert [line.split(":")[0] for line in differences(rows, ledger)] == [
        "budget b2",
        "balance ('b1', '2026-11')",
        "hold j1",
    ]
