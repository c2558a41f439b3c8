# SPDX-License-Identifier: Apache-2.0
"""What the month will have cost, when budgets run out, and which days are out of line (G7, G14).

Enters who asks, and what of their spend. Leaves JSON values, of the projects whose costs this person may see. Spend is
what was used, on the UTC day on which it was charged; credits say nothing of the days to come. Complete days alone are
learned from: of today there is what was charged so far, and its share of a day is still to come.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from control_plane.aside import aside
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs.daily import DAY, Days, Key, daily, history, midnight, too_few
from control_plane.costs.lasting import AHEAD_DAYS, budgets
from control_plane.errors import Refused
from finops import anomalies, forecast, money
from finops.forecast import Forecast, Interval
from finops.money import ZERO

_OF_A_DAY: Final = 100
"""What a group's day is to `aside`: a year of them takes as long as reading so many bytes each."""


async def spend(
    plane: Plane, who: Principal, by: str | None, only: Mapping[str, str], month: str | None
) -> dict[str, Any]:
    """The forecast of a month that isn't over, whole or by one dimension, and of the budgets."""
    now = plane.now().astimezone(dt.UTC)
    first, last = _month(month, now)
    days = await daily(plane, who, by, only, now)
    elapsed = (now - midnight(now)) / DAY
    groups = await aside(
        _OF_A_DAY * sum(map(len, days.values())), _groups, days, by, now.date(), (first, last), elapsed
    )
    return {
        "month": f"{first:%Y-%m}",
        "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "groups": groups,
        "reason": None if groups else too_few(0, forecast.LEAST_DAYS),
        "budgets": [] if by is not None else await budgets(plane, who, only, now, elapsed),
    }


def _groups(
    days: Mapping[Key, Days], by: str | None, today: dt.date, month: tuple[dt.date, dt.date], elapsed: float
) -> list[dict[str, Any]]:
    found = []
    for key, series in sorted(days.items(), key=lambda one: (one[0][0] or "", one[0][1])):
        captured = money.total(amount for day, amount in series.items() if month[0] <= day <= month[1])
        past = history(series, today)
        told = forecast.month_end(past, captured, today, month, elapsed)
        found.append(
            {
                **({} if by is None else {by: key[0]}),
                "currency": key[1],
                "captured": money.text(captured),
                "days": min(len(past), forecast.MOST_DAYS),
                "forecast": None if told is None else _shown(told),
                "reason": too_few(len(past), forecast.LEAST_DAYS) if told is None else None,
            }
        )
    return found


async def unusual(
    plane: Plane, who: Principal, by: str, only: Mapping[str, str], days: int, rate: float
) -> dict[str, Any]:
    """The last complete days whose spend is out of line, by a false-alarm rate a day."""
    now = plane.now().astimezone(dt.UTC)
    found = await daily(plane, who, by, only, now)
    start = min((min(series) for series in found.values()), default=now.date())
    length = (now.date() - start).days
    series = {key: [one.get(start + DAY * place, ZERO) for place in range(length)] for key, one in found.items()}
    names = {_name(key): key for key in series}
    size = _OF_A_DAY * length * len(series)
    looked = await aside(size, anomalies.look, {_name(key): one for key, one in series.items()}, days, rate)
    least = anomalies.least_days(rate) + days
    return {
        "by": by,
        "rate": rate,
        "days": days,
        "looks": 0 if looked is None else looked.looks,
        "expected_false_alarms": 0.0 if looked is None else round(looked.expected_false_alarms, 6),
        "reason": too_few(max(length, 0), least) if looked is None else None,
        "anomalies": [
            {
                "day": (start + DAY * one.day).isoformat(),
                by: names[one.key][0],
                "currency": names[one.key][1],
                "spend": money.text(one.spend),
                "usual": money.text(one.usual),
                "direction": one.direction,
                "p_value": one.p_value,
            }
            for one in (() if looked is None else looked.anomalies)
        ],
    }


def _name(key: Key) -> str:
    return f"{key[1]} {key[0] or ''}"


def _month(asked: str | None, now: dt.datetime) -> tuple[dt.date, dt.date]:
    """First and last day of the month; Refused `period_invalid` for one that is over or too far away."""
    name = asked or f"{now:%Y-%m}"
    try:
        first = dt.date.fromisoformat(f"{name}-01")
        last = (first + 31 * DAY).replace(day=1) - DAY
    except (ValueError, OverflowError):
        raise _refused("want YYYY-MM, of a year that calendars reach") from None
    if last < now.date():
        raise _refused("that month is over: costs show has what it came to")
    if (last - now.date()).days >= AHEAD_DAYS:
        raise _refused(f"want a month that ends within {AHEAD_DAYS} days")
    return first, last


def _refused(why: str) -> Refused:
    return Refused("period_invalid", f"month: {why}", errors=({"field": "month", "message": why},))


def _shown(found: Forecast) -> dict[str, Any]:
    return {
        "month_end": money.text(found.month_end),
        "within_80": _interval(found.within_80),
        "within_95": _interval(found.within_95),
        "a_day": money.text(found.burn),
        "a_day_within_80": _interval(found.burn_80),
        "a_day_within_95": _interval(found.burn_95),
    }


def _interval(one: Interval) -> list[str]:
    return [money.text(one.low), money.text(one.high)]
