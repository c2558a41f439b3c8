# SPDX-License-Identifier: Apache-2.0
"""Scopes, periods, windows, and the algebra of hold, capture and release (G7, I3)."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finops import money
from finops.budget import Balance, BudgetView, Scope, parse_period, parse_scope, parse_unit, settlement, windows
from finops.errors import AmountInvalid, BudgetInvalid

AMOUNTS = st.decimals(min_value=0, max_value=10**9, places=6, allow_nan=False)


@given(AMOUNTS, AMOUNTS)
def test_a_settlement_neither_makes_nor_loses_money(held: Decimal, capture: Decimal) -> None:
    """I3: hold + overrun = captured + released, and a hold isn't both overrun and released."""
    ended = settlement(held, capture)
    assert held + ended.overrun == ended.captured + ended.released
    assert min(ended.overrun, ended.released) == 0
    assert ended.captured == capture
    assert ended.held == held


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, st.booleans())), AMOUNTS)
def test_holds_and_settlements_never_create_money(jobs: list[tuple[Decimal, Decimal, bool]], limit: Decimal) -> None:
    """I3: whatever is held and settled, held + captured ≤ limit while nothing overruns, exact to the last
    decimal.
    """
    balance, open_holds, charged = Balance(), money.ZERO, money.ZERO
    for asked, share, ends in jobs:
        if money.total((balance.held, balance.captured, asked)) > limit:
            continue
        balance = balance.hold(asked)
        capture = min(asked, share)
        if ends:
            balance = balance.settle(asked, capture)
            charged += capture
        else:
            open_holds += asked
        assert money.total((balance.held, balance.captured)) <= limit
    assert (balance.held, balance.captured) == (open_holds, charged)


@given(AMOUNTS, AMOUNTS)
def test_releasing_a_hold_leaves_no_trace(before: Decimal, amount: Decimal) -> None:
    """I3: hold and release is the identity."""
    balance = Balance(captured=before)
    assert balance.hold(amount).settle(amount, money.ZERO) == balance


def test_an_overrun_is_counted_in_full() -> None:
    """Path step 7: never hidden, so what is available may be negative."""
    view = BudgetView("b", "project:p", "monthly", "2026-11", Decimal(1), Decimal(0), Decimal("1.5"), "USD")
    assert view.available == Decimal("-0.5")
    assert view.record() == {
        "scope": "project:p",
        "period": "monthly",
        "limit": "1",
        "held": "0",
        "captured": "1.5",
        "available": "-0.5",
        "currency": "USD",
    }


@pytest.mark.parametrize("capture", ["-1", "NaN", "1E30"])
def test_an_impossible_capture_is_refused(capture: str) -> None:
    """NaN, negative and 10^30 name the field."""
    with pytest.raises(AmountInvalid, match=r"^capture: "):
        settlement(Decimal(1), Decimal(capture))


@pytest.mark.parametrize("kind", ["tenant", "project", "cost_center", "user", "workflow", "session", "provider"])
def test_a_scope_is_written_as_it_is_read(kind: str) -> None:
    """The scopes of the contract, a batch's and a session's; a name may hold a colon."""
    assert parse_scope(f"{kind}:a:b") == Scope(kind, "a:b")
    assert str(parse_scope(f"{kind}:CC-RD-42")) == f"{kind}:CC-RD-42"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "project",
        "project:",
        "team:x",
        "project: x",
        "project:x ",
        "project:a\nb",
        "project:a\0b",
        "Project:x",
        "project:" + "x" * 129,
    ],
)
def test_a_bad_scope_is_refused(text: str) -> None:
    """The field is named."""
    with pytest.raises(BudgetInvalid, match=r"^scope: "):
        parse_scope(text)


@pytest.mark.parametrize(
    "text", ["monthly", "quarterly", "total", "concurrent", "rolling:1", "rolling:30", "rolling:3660"]
)
def test_a_period_is_written_as_it_is_read(text: str) -> None:
    """The four periods of the contract, and that of what runs at once."""
    assert str(parse_period(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weekly",
        "rolling",
        "rolling:",
        "rolling:0",
        "rolling:-1",
        "rolling:03",
        "rolling:3661",
        "rolling:٣",
        "rolling:1.5",
        "MONTHLY",
    ],
)
def test_a_bad_period_is_refused(text: str) -> None:
    """The field is named."""
    with pytest.raises(BudgetInvalid, match=r"^period: "):
        parse_period(text)


@pytest.mark.parametrize(
    ("moment", "month", "quarter", "day"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, 999999, UTC), "2026-11", "2026-Q4", "2026-11-30"),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12", "2026-Q4", "2026-12-01"),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), "2028-02", "2028-Q1", "2028-02-29"),
        (datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2026-12", "2026-Q4", "2026-12-31"),
        (datetime(2026, 4, 1, tzinfo=UTC), "2026-04", "2026-Q2", "2026-04-01"),
    ],
)
def test_windows_follow_the_utc_calendar(moment: datetime, month: str, quarter: str, day: str) -> None:
    """Month end, leap day and another zone's new year: the UTC calendar decides."""
    found = windows(moment)
    assert (found.monthly, found.quarterly, found.rolling, found.total) == (month, quarter, day, "all")


def test_a_time_without_a_zone_has_no_window() -> None:
    """A naive time is refused."""
    with pytest.raises(BudgetInvalid, match=r"^at: "):
        windows(datetime(2026, 11, 21))  # noqa: DTZ001 - the naive time is the point


def test_a_budget_in_a_currency_that_does_not_exist_is_refused() -> None:
    """G7: no job could be held in it, and all would be refused for a letter."""
    monthly = parse_period("monthly")
    assert parse_unit("USD", monthly, Decimal(1)) == "USD"
    with pytest.raises(AmountInvalid, match="currency: ISO 4217 has no currency UDS"):
        parse_unit("UDS", monthly, Decimal(1))
