# SPDX-License-Identifier: Apache-2.0
"""Periods that are asked for, and the figures of a group (G7)."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from finops.errors import PeriodInvalid
from finops.spending import Move, Period, Spend, before, period

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, Period("2026-11", "2026-11")),
        ({"by_month": True}, Period("2025-12", "2026-11")),
        ({"month": "2026-02"}, Period("2026-02", "2026-02")),
        ({"since": "2026-11-01"}, Period(since=datetime(2026, 11, 1, tzinfo=UTC))),
        (
            {"since": "2026-11-01T00:30:00+01:00", "until": "2026-11-02"},
            Period(since=datetime(2026, 10, 31, 23, 30, tzinfo=UTC), until=datetime(2026, 11, 2, tzinfo=UTC)),
        ),
    ],
)
def test_a_period_is_read(asked: dict[str, Any], found: Period) -> None:
    assert period(asked.pop("month", None), asked.pop("since", None), asked.pop("until", None), NOW, **asked) == found


def test_the_month_that_runs_is_utcs() -> None:
    """Two minutes past midnight in Auckland it is still last month."""
    auckland = timezone(timedelta(hours=13))
    assert period(None, None, None, datetime(2027, 1, 1, 0, 2, tzinfo=auckland)) == Period("2026-12", "2026-12")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (("2026-13", None, None), "month"),
        (("0000-01", None, None), "month"),
        (("2026-11", "2026-11-01", None), "month"),
        ((None, "2026-02-29", None), "since"),
        ((None, "2026-11-01T00:00", None), "since"),
        ((None, "yesterday", None), "since"),
        ((None, "0001-01-01T00:00:00+23:00", None), "since"),
        ((None, None, "2026-11-31"), "until"),
        ((None, "2026-11-02", "2026-11-02"), "until"),
        ((None, "2026-11-02", "2026-11-01"), "until"),
    ],
)
def test_what_is_no_period_is_refused_by_its_field(asked: tuple[str | None, ...], field: str) -> None:
    month, since, until = asked
    with pytest.raises(PeriodInvalid) as refused:
        period(month, since, until, NOW)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Period("2026-03", "2026-03"), Period("2026-02", "2026-02")),
        (Period("2026-01", "2026-03"), Period("2025-10", "2025-12")),
        (Period("2026-11", "2026-11"), Period("2026-10", "2026-10", until=datetime(2026, 10, 22, 12, tzinfo=UTC))),
        (Period(since=NOW - 3 * DAY, until=NOW), Period(since=NOW - 6 * DAY, until=NOW - 3 * DAY)),
        (Period(since=NOW - 3 * DAY), Period(since=NOW - 6 * DAY, until=NOW - 3 * DAY)),
    ],
)
def test_the_period_before_is_as_long(asked: Period, found: Period) -> None:
    """Of a month that runs, as much of the one before as has passed: else every group would have fallen."""
    assert before(asked, NOW) == found


@pytest.mark.parametrize(
    "asked", [Period(until=NOW), Period(since=NOW + DAY), Period(since=datetime(1, 1, 1, tzinfo=UTC))]
)
def test_what_has_no_period_before_is_refused(asked: Period) -> None:
    with pytest.raises(PeriodInvalid):
        before(asked, NOW)


def test_a_figure_without_anything_behind_it_is_none() -> None:
    nothing = Spend({"project": None}, "USD", *(Decimal(0),) * 3, 0, 0, Decimal(0))
    assert nothing.record() == {
        "project": None,
        "currency": "USD",
        "spend": "0",
        "gross": "0",
        "credits": "0",
        "share": None,
        "jobs": 0,
        "completed": 0,
        "cost_per_completed_job": None,
    }


def test_a_group_says_what_a_job_cost_and_its_share() -> None:
    third = Spend({"meter": "shots"}, "USD", Decimal(1), Decimal("1.5"), Decimal("-0.5"), 4, 3, Decimal(3))
    shown = third.record()
    assert (shown["share"], shown["cost_per_completed_job"]) == (0.333333, "0.333333")
    assert (shown["quantity"], shown["unit"]) == (None, None)


@pytest.mark.parametrize(
    ("spend", "earlier", "change", "percent"),
    [("3", "2", "1", 50.0), ("0", "2", "-2", -100.0), ("2", "0", "2", None), ("1", "3", "-2", -66.6667)],
)
def test_a_move_is_absolute_and_in_per_cent(spend: str, earlier: str, change: str, percent: float | None) -> None:
    shown = Move({"project": "p"}, "USD", Decimal(spend), Decimal(earlier)).record()
    assert (shown["change"], shown["change_percent"]) == (change, percent)
