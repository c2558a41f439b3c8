# SPDX-License-Identifier: Apache-2.0
"""What will have been spent, as an interval: by what the last weeks did on the same days (G7, G14).

Contract: enter the spend of complete UTC days, oldest first, without gaps; leave for each coming day the sum up to
there, with the half-widths of intervals of 80 % and 95 %. Below 14 days there is no forecast: `None`, and no number.

The middle is seasonal naive, damped: a weekday is what it was in the last two weeks. The width is the larger of what
days differ from those a week before (a weekday as itself, the more weeks were seen the more so: where nothing is spent
on Sundays nothing is unsure of them) and what weeks do, as Student's t for as many weeks as were seen, widened by what
the weeks grew; where at least ten past origins can be tried, it is scaled by how far those forecasts were off
(conformal), to 0.85 of that at least and three times at most. Money is Decimal outside; floats are within the
statistics only. The same days give the same answer. Coverage is measured in tests/finops/test_forecast.py. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from itertools import accumulate
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from finops import money
from finops.money import ZERO

WEEK: Final = 7
LEAST_DAYS: Final = 14
MOST_DAYS: Final = 91
"""Older days say nothing of the next ones: a level that was left long ago only widens."""
_ORIGINS: Final = 10
_NARROWEST, _WIDEST = 0.85, 3.0
_SHARED: Final = 2
"""So many weeks' worth of all days stands behind what a weekday varied by: of itself it has a dozen weeks at most."""
_GROWTH: Final = 1.6
"""The square of how far growth seen in few weeks may go on, in its own size."""
_CENT: Final = Decimal("0.01")
_WIDE: Final = Context(prec=80)
Level: TypeAlias = Literal[80, 95]
# Student's t, two-sided, for 7 to 30 degrees of freedom.
_T: Final[dict[Level, tuple[float, ...]]] = {
    80: (
        *(1.415, 1.397, 1.383, 1.372, 1.363, 1.356, 1.350, 1.345, 1.341, 1.337, 1.333, 1.330),
        *(1.328, 1.325, 1.323, 1.321, 1.319, 1.318, 1.316, 1.315, 1.314, 1.313, 1.311, 1.310),
    ),
    95: (
        *(2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101),
        *(2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
    ),
}


class Sum(Struct, frozen=True):
    """What the next days are forecast to spend together."""

    middle: float
    width_80: float
    width_95: float

    def reaches(self, amount: float, level: Level | None, *, upper: bool) -> bool:
        """Whether the upper or lower end of the level's interval, or the middle without one, is as much as that."""
        width = 0.0 if level is None else self.width_80 if level == 80 else self.width_95
        return self.middle + (width if upper else -width) >= amount


class Interval(Struct, frozen=True):
    """From what to what, in the currency of the charges."""

    low: Decimal
    high: Decimal


class Forecast(Struct, frozen=True):
    """A month's spend at its end, and what a day burns in the week to come."""

    captured: Decimal
    month_end: Decimal
    within_80: Interval
    within_95: Interval
    burn: Decimal
    burn_80: Interval
    burn_95: Interval
    days: int
    """How many complete days it rests on."""


def ahead(history: Sequence[Decimal], steps: int, elapsed: float = 0.0) -> list[Sum] | None:
    """The sums of the next 1 … `steps` days, the first of which is over by the part `elapsed`; None below 14 days.

    What is left of the first day is taken to be its share of the day.
    """
    days = [float(amount) for amount in history[-MOST_DAYS:]]
    if len(days) < LEAST_DAYS:
        return None
    bare, missed = _raw(days, steps), _missed(days, steps)
    found: list[Sum] = []
    for (middle, width), off in zip(bare, missed, strict=True):
        left = max(0.0, middle - elapsed * bare[0][0])
        found.append(Sum(left, width * _scale(len(days), off, 80), width * _scale(len(days), off, 95)))
    return found


def month_end(
    history: Sequence[Decimal],
    captured: Decimal,
    today: date,
    month: tuple[date, date],
    elapsed: float,
    precision: Decimal = _CENT,
) -> Forecast | None:
    """The spend of a month, from its first to its last day, of which `captured` is charged; today is over by `elapsed`.

    The history ends yesterday. No end of an interval is below what is captured. None where there is not enough data.
    """
    first, last = month
    sums = ahead(history, (last - today).days + 1, elapsed)
    week = ahead(history, WEEK)
    if sums is None or week is None:
        return None
    before = sums[(first - today).days - 1].middle if first > today else 0.0
    rest = max(sums[-1].middle - before, 0.0)
    return Forecast(
        captured,
        money.total((captured, _amount(rest, precision))),
        _around(captured, rest, sums[-1].width_80, precision),
        _around(captured, rest, sums[-1].width_95, precision),
        _amount(week[-1].middle / WEEK, precision),
        _around(ZERO, week[-1].middle / WEEK, week[-1].width_80 / WEEK, precision),
        _around(ZERO, week[-1].middle / WEEK, week[-1].width_95 / WEEK, precision),
        min(len(history), MOST_DAYS),
    )


class RunsOut(Struct, frozen=True):
    """In how many days a budget is spent: today is 0, None is not within the days looked at.

    `earliest` and `latest` are the ends of the 80 % interval.
    """

    earliest: int | None
    expected: int | None
    latest: int | None


def runs_out(sums: Sequence[Sum], available: Sequence[Decimal]) -> RunsOut:
    """When the sums of the coming days reach what is available up to each."""
    left = [float(amount) for amount in available]

    def day(level: Level | None, *, upper: bool) -> int | None:
        if left[0] <= 0:
            return 0
        by_day = enumerate(zip(sums, left, strict=True))
        return next((n for n, (one, amount) in by_day if one.reaches(amount, level, upper=upper)), None)

    return RunsOut(day(80, upper=True), day(None, upper=True), day(80, upper=False))


def _raw(days: Sequence[float], steps: int) -> list[tuple[float, float]]:
    """Middle and unscaled width (of one standard error) of the sums of the next 1 … `steps` days."""
    size = len(days)
    last = [(days[place - WEEK] + days[place]) / 2 for place in range(size - WEEK, size)]
    squares = [(days[n] - days[n - WEEK]) ** 2 / 2 for n in range(WEEK, size)]
    whole = math.fsum(squares) / len(squares)
    # By how many days after the last one: that of step s is the weekday of the days s, s - 7, s - 14, … from there.
    daily = [_of_weekday(squares[(size + place) % WEEK :: WEEK], whole) for place in range(WEEK)]
    weeks = [math.fsum(days[n : n + WEEK]) for n in range(size - WEEK + 1)]
    moved = [after - before for before, after in zip(weeks, weeks[WEEK:], strict=False)]
    weekly = math.fsum(one * one for one in moved) / len(moved) / 2
    growth = math.fsum(moved) / len(moved)
    found: list[tuple[float, float]] = []
    middle, counts = 0.0, [0] * WEEK
    for step in range(steps):
        middle += last[step % WEEK]
        counts[step % WEEK] += 1
        span = (step + 1) / WEEK
        by_day = math.fsum(daily[n] * (count + count * count / 2) for n, count in enumerate(counts))
        by_week = weekly * (span + span * span / 2)
        grown = growth * span * (span + 2) / 2
        # The growth's share stands beside what is scaled by t: it is no error of sampling.
        found.append((middle, math.sqrt(max(by_day, by_week) + grown * grown * _GROWTH / 1.33**2)))
    return found


def _of_weekday(squares: Sequence[float], whole: float) -> float:
    return (math.fsum(squares) + _SHARED * whole) / (len(squares) + _SHARED)


def _missed(days: Sequence[float], steps: int) -> list[list[float]]:
    """By how many standard errors past forecasts of 1 … `steps` days were off, least first."""
    found: list[list[float]] = [[] for _ in range(steps)]
    for origin in range(LEAST_DAYS, len(days)):
        came = accumulate(days[origin : origin + steps])
        for off, (middle, width), total in zip(
            found, _raw(days[:origin], min(steps, len(days) - origin)), came, strict=False
        ):
            if width > 0:
                off.append(abs(total - middle) / width)
    return [sorted(off) for off in found]


def _scale(days: int, off: Sequence[float], level: Level) -> float:
    """How many standard errors wide: Student's t, and what past forecasts of as many days were off by."""
    base = _T[level][min(max(days - WEEK, 7), 30) - 7]
    if len(off) < _ORIGINS:
        return base
    rank = math.ceil(level / 100 * (len(off) + 1))
    if rank > len(off):  # too few to tell so high a level
        return min(max(off[-1], base), base * _WIDEST)
    # Origins overlap, so that the many past errors are fewer than they seem: what they narrow is bounded.
    return min(max(off[rank - 1], base * _NARROWEST), base * _WIDEST)


def _around(base: Decimal, middle: float, width: float, precision: Decimal) -> Interval:
    low = _amount(max(middle - width, 0.0), precision, ROUND_FLOOR)
    high = _amount(middle + width, precision, ROUND_CEILING)
    return Interval(money.total((base, low)), money.total((base, high)))


def _amount(value: float, precision: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    return Decimal(repr(value)).quantize(precision, rounding=rounding, context=_WIDE)
