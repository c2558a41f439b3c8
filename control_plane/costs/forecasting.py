# SPDX-License-Identifier: Apache-2.0
"""What the month will have cost, when budgets run out, and which days are out of line (G7, G14).

Enters who asks, and what of their spend. Leaves JSON values, of the projects whose costs this person may see. Spend is
what was used, on the UTC day on which it was charged; credits say nothing of the days to come. Complete days alone are
learned from: of today there is what was charged so far, and its share of a day is still to come.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import finops.store
from control_plane.auth.access import may, visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from finops import anomalies, charge_store, forecast, money
from finops.budget import BudgetView, parse_scope
from finops.forecast import Forecast, Interval
from finops.money import ZERO
from finops.spending import Period, Spend

DAY: Final = dt.timedelta(days=1)
AHEAD_DAYS: Final = 92
MOST_GROUPS: Final = 100_000
BY: Final = ("project", "team", "user", "cost_center", "backend", "provider", "purpose", "classification")
_SCOPES: Final = ("tenant", "project", "cost_center", "provider")

Key = tuple[str | None, str]


async def spend(
    plane: Plane, who: Principal, by: str | None, only: Mapping[str, str], month: str | None
) -> dict[str, Any]:
    """The forecast of a month that isn't over, whole or by one dimension, and of the budgets in money."""
    now = plane.now().astimezone(dt.UTC)
    first, last = _month(month, now)
    days = await _daily(plane, who, by, only, now)
    elapsed = (now - _midnight(now)) / DAY
    groups = []
    for key, series in sorted(days.items(), key=lambda one: (one[0][0] or "", one[0][1])):
        captured = money.total(amount for day, amount in series.items() if first <= day <= last)
        history = _history(series, now.date())
        found = forecast.month_end(history, captured, now.date(), (first, last), elapsed)
        groups.append(
            {
                **({} if by is None else {by: key[0]}),
                "currency": key[1],
                "captured": money.text(captured),
                "days": min(len(history), forecast.MOST_DAYS),
                "forecast": None if found is None else _shown(found),
                "reason": _too_few(len(history), forecast.LEAST_DAYS) if found is None else None,
            }
        )
    return {
        "month": f"{first:%Y-%m}",
        "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "groups": groups,
        "budgets": [] if by is not None or only else await _budgets(plane, who, now, elapsed),
    }


async def unusual(
    plane: Plane, who: Principal, by: str, only: Mapping[str, str], days: int, rate: float
) -> dict[str, Any]:
    """The last complete days whose spend is out of line, by a false-alarm rate a day."""
    now = plane.now().astimezone(dt.UTC)
    found = await _daily(plane, who, by, only, now)
    start = min((min(series) for series in found.values()), default=now.date())
    length = (now.date() - start).days
    series = {key: [one.get(start + DAY * place, ZERO) for place in range(length)] for key, one in found.items()}
    names = {_name(key): key for key in series}
    looked = anomalies.look({_name(key): amounts for key, amounts in series.items()}, days, rate)
    least = anomalies.least_days(rate) + days
    return {
        "by": by,
        "rate": rate,
        "days": days,
        "looks": 0 if looked is None else looked.looks,
        "expected_false_alarms": 0.0 if looked is None else round(looked.expected_false_alarms, 6),
        "reason": _too_few(max(length, 0), least) if looked is None else None,
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


def _too_few(days: int, least: int) -> str:
    return f"not enough data: {days} complete days, and {least} are needed"


def _month(asked: str | None, now: dt.datetime) -> tuple[dt.date, dt.date]:
    """First and last day of the month; Refused `period_invalid` for one that is over or too far away."""
    name = asked or f"{now:%Y-%m}"
    try:
        first = dt.date.fromisoformat(f"{name}-01")
    except ValueError:
        raise _refused("want YYYY-MM") from None
    last = (first + 31 * DAY).replace(day=1) - DAY
    if last < now.date():
        raise _refused("that month is over: costs show has what it came to")
    if (last - now.date()).days >= AHEAD_DAYS:
        raise _refused(f"want a month that ends within {AHEAD_DAYS} days")
    return first, last


def _refused(why: str) -> Refused:
    return Refused("period_invalid", f"month: {why}", errors=({"field": "month", "message": why},))


def _midnight(now: dt.datetime) -> dt.datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _history(series: Mapping[dt.date, Decimal], today: dt.date) -> list[Decimal]:
    """The complete days from the first charge on; a day without one spent nothing."""
    start = min(series)
    return [series.get(start + DAY * place, ZERO) for place in range((today - start).days)]


async def _daily(
    plane: Plane, who: Principal, by: str | None, only: Mapping[str, str], now: dt.datetime
) -> dict[Key, dict[dt.date, Decimal]]:
    """Spend by key and day, of the last 91 complete days and of today."""
    seen = visible(who, "cost:read")
    period = Period(since=_midnight(now) - forecast.MOST_DAYS * DAY, until=now + DAY)
    names = ["day"] if by is None else ["day", by]
    projects = None if seen is None else sorted(seen)
    query = charge_store.spend(who.tenant, period, by=names, projects=projects, only=only, limit=MOST_GROUPS)
    (rows,) = await plane.read(who.tenant, query)
    if len(rows) == MOST_GROUPS:
        raise Refused("request_invalid", f"by {by} there are more than {MOST_GROUPS} days: narrow it")
    return _series(charge_store.groups(rows, names), by)


def _series(groups: Sequence[Spend], by: str | None) -> dict[Key, dict[dt.date, Decimal]]:
    found: dict[Key, dict[dt.date, Decimal]] = {}
    for one in groups:
        key = (None if by is None else one.of[by], one.currency)
        day = dt.date.fromisoformat(str(one.of["day"]))
        series = found.setdefault(key, {})
        series[day] = money.total((series.get(day, ZERO), one.gross))
    return found


async def _budgets(plane: Plane, who: Principal, now: dt.datetime, elapsed: float) -> list[dict[str, Any]]:
    """When each budget in money that this person may see is spent, by its own scope's days."""
    async with plane.transaction(who.tenant) as conn:
        views = await finops.store.show(conn, who.tenant, now)
    found = []
    for view in views:
        scope = parse_scope(view.scope)
        project = scope.name if scope.kind == "project" else None
        if not (may(who, "budget:read", project) and may(who, "cost:read", project)):
            continue
        row: dict[str, Any] = {"scope": view.scope, "period": view.period, "available": money.text(view.available)}
        row |= {"currency": view.currency, "earliest": None, "expected": None, "latest": None, "reason": None}
        row["reason"] = _unfit(view, scope.kind)
        if row["reason"] is None:
            only = {} if scope.kind == "tenant" else {scope.kind: scope.name}
            days = (await _daily(plane, who, None, only, now)).get((None, view.currency), {})
            row |= _runs_out(view, _history(days, now.date()) if days else [], now, elapsed)
        found.append(row)
    return found


def _unfit(view: BudgetView, kind: str) -> str | None:
    if view.counts != "money":
        return f"it counts {view.counts}, and no money"
    if kind not in _SCOPES:
        return f"what {kind}s spend is not forecast"
    if view.period not in ("monthly", "quarterly", "total"):
        return f"its days come and go: {view.period}"
    return None


def _runs_out(view: BudgetView, history: Sequence[Decimal], now: dt.datetime, elapsed: float) -> dict[str, Any]:
    sums = forecast.ahead(history, _left(view.period, now.date()), elapsed)
    if sums is None:
        return {"reason": _too_few(len(history), forecast.LEAST_DAYS)}
    when = forecast.runs_out(sums, view.available)
    days = {name: getattr(when, name) for name in ("earliest", "expected", "latest")}
    told = {name: None if day is None else (now.date() + DAY * day).isoformat() for name, day in days.items()}
    return told | {"reason": "not before its period is over" if when.earliest is None else None}


def _left(period: str, today: dt.date) -> int:
    """How many days a budget's period has from today on, as far as is looked."""
    if period == "total":
        return AHEAD_DAYS
    months = 1 if period == "monthly" else 3 - (today.month - 1) % 3
    first = today.replace(day=1)
    for _ in range(months):
        first = (first + 32 * DAY).replace(day=1)
    return (first - today).days


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
