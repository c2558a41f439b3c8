# SPDX-License-Identifier: Apache-2.0
"""On which day each budget is spent, by what its own scope spends a day (G7, G14).

Days of a rolling budget come and go: on a coming day it has what its limit leaves after the known days that still count
then. A quota, and a budget of a person, a workflow or a session, is told by the jobs that hold in it. What can't be
foreseen has a reason and no day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import finops.store
from control_plane.aside import aside
from control_plane.auth.access import may
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs.daily import DAY, Days, Key, daily, history, midnight, too_few
from finops import burn_store, forecast, money
from finops.budget import BudgetView, parse_period, parse_scope
from finops.money import ZERO

AHEAD_DAYS: Final = 92
_DIMENSIONS: Final = ("tenant", "project", "cost_center", "provider")
"""Kinds of scope whose spend stands in each charge."""
_OF_A_BUDGET: Final = 8192


async def budgets(
    plane: Plane, who: Principal, only: Mapping[str, str], now: dt.datetime, elapsed: float
) -> list[dict[str, Any]]:
    """Each budget that this person may see, of one scope where `only` names one, and when it is spent."""
    async with plane.transaction(who.tenant) as conn:
        views = [one for one in await finops.store.show(conn, who.tenant, now) if _asked(who, only, one)]
        fit = [one for one in views if _unfit(one) is None]
        rolling = [one.budget_id for one in fit if one.period.startswith("rolling:")]
        others = [one.budget_id for one in fit if one.budget_id not in {*rolling} and not _charged(one)]
        since = midnight(now) - forecast.MOST_DAYS * DAY
        told = {**await burn_store.captured(conn, who.tenant, rolling, since.date())}
        told |= await burn_store.charged(conn, who.tenant, others, since)
    known = {*rolling, *others}
    kinds = sorted({_kind(one) for one in fit if one.budget_id not in known})
    spent = {kind: await daily(plane, who, None if kind == "tenant" else kind, only, now) for kind in kinds}
    days: dict[str, Days] = {one.budget_id: told.get(one.budget_id, {}) for one in fit if one.budget_id in known}
    days |= {one.budget_id: _of(one, spent[_kind(one)]) for one in fit if one.budget_id not in known}
    return await aside(_OF_A_BUDGET * len(views), _rows, views, days, now.date(), elapsed)


def _asked(who: Principal, only: Mapping[str, str], view: BudgetView) -> bool:
    scope = parse_scope(view.scope)
    project = scope.name if scope.kind == "project" else None
    seen = may(who, "budget:read", project) and may(who, "cost:read", project)
    return seen and (not only or only == {scope.kind: scope.name})


def _kind(view: BudgetView) -> str:
    return parse_scope(view.scope).kind


def _charged(view: BudgetView) -> bool:
    """Whether charges alone say what was spent of it."""
    return view.counts == "money" and _kind(view) in _DIMENSIONS


def _of(view: BudgetView, spent: Mapping[Key, Days]) -> Days:
    scope = parse_scope(view.scope)
    return spent.get((None if scope.kind == "tenant" else scope.name, view.currency), {})


def _unfit(view: BudgetView) -> str | None:
    return "it counts what runs at one moment" if view.period == "concurrent" else None


def _rows(
    views: Sequence[BudgetView], days: Mapping[str, Days], today: dt.date, elapsed: float
) -> list[dict[str, Any]]:
    found = []
    for view in views:
        row: dict[str, Any] = {"scope": view.scope, "period": view.period, "available": money.text(view.available)}
        row |= {"currency": view.currency, "earliest": None, "expected": None, "latest": None, "reason": _unfit(view)}
        if row["reason"] is None:
            row |= _runs_out(view, days[view.budget_id], today, elapsed)
        found.append(row)
    return found


def _runs_out(view: BudgetView, days: Days, today: dt.date, elapsed: float) -> dict[str, Any]:
    past = history(days, today)
    sums = forecast.ahead(past, _left(view.period, today), elapsed)
    if sums is None:
        return {"reason": too_few(len(past), forecast.LEAST_DAYS)}
    when = forecast.runs_out(
        sums, [money.total((view.available, back)) for back in _back(view, days, today, len(sums))]
    )
    named = {name: getattr(when, name) for name in ("earliest", "expected", "latest")}
    told = {name: None if day is None else (today + DAY * day).isoformat() for name, day in named.items()}
    return told | {"reason": "not before its period is over" if when.earliest is None else None}


def _back(view: BudgetView, days: Days, today: dt.date, steps: int) -> list[Decimal]:
    """What a rolling budget has got back by each coming day: of the days that count no more."""
    length = parse_period(view.period).days
    if length is None:
        return [ZERO] * steps
    gone = [days.get(today - DAY * (length - 1 - place), ZERO) for place in range(steps)]
    return [money.total(gone[:place]) for place in range(steps)]


def _left(period: str, today: dt.date) -> int:
    """How many days a budget's period has from today on, as far as is looked; of a rolling one its length."""
    if period == "total":
        return AHEAD_DAYS
    if (length := parse_period(period).days) is not None:
        return min(length, AHEAD_DAYS)
    months = 1 if period == "monthly" else 3 - (today.month - 1) % 3
    first = today.replace(day=1)
    for _ in range(months):
        first = (first + 32 * DAY).replace(day=1)
    return (first - today).days
