# SPDX-License-Identifier: Apache-2.0
"""Forecasts of spend and budgets, and days out of line (G7, G14)."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct

from control_plane.api.cost_shapes import Grouped
from control_plane.api.shapes import Amount, Answers, Currency, Instant
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import forecasting
from finops.dimensions import KEPT, NARROWING

_BY: Final = rf"^({'|'.join(KEPT)})$"
_ONE: Final = f"One of {', '.join(KEPT)}."
_SCOPE: Final = rf"^({'|'.join(NARROWING)}):[^\x00]{{1,128}}$"
_Scope = Annotated[
    str | None,
    QueryParameter(
        name="scope", pattern=_SCOPE, description=f"As project:NAME, its spend alone; {', '.join(NARROWING)}."
    ),
]


class Foreseen(Struct, frozen=True):
    """The month at its end and a day of the week to come; each interval is [from, to]."""

    month_end: Amount
    within_80: tuple[Amount, Amount]
    within_95: tuple[Amount, Amount]
    a_day: Amount
    a_day_within_80: tuple[Amount, Amount]
    a_day_within_95: tuple[Amount, Amount]


class Group(Grouped, frozen=True):
    """One group, or all in one currency; `forecast` is null where `reason` says why."""

    currency: Currency
    captured: Amount
    days: int
    forecast: Foreseen | None
    reason: str | None


class BudgetForeseen(Struct, frozen=True):
    """The day on which a budget is spent: expected, and between which days with 80 %; null: not that can be seen."""

    scope: str
    period: str
    available: str
    currency: str
    earliest: str | None
    expected: str | None
    latest: str | None
    reason: str | None


class CostsForeseen(Struct, frozen=True):
    """A month's forecast at a moment; `reason` says why there is no group."""

    month: str
    at: Instant
    groups: tuple[Group, ...]
    reason: str | None
    budgets: tuple[BudgetForeseen, ...]


class DayOut(Grouped, frozen=True):
    """A day of a group whose spend is out of line: `p_value` is the part of days as far out."""

    day: str
    currency: Currency
    spend: Amount
    usual: Amount
    direction: str
    p_value: float


class DaysOut(Struct, frozen=True):
    """What was looked at, how many alarms chance alone gives on average, and what was found."""

    by: str
    rate: float
    days: int
    looks: int
    expected_false_alarms: float
    reason: str | None
    anomalies: tuple[DayOut, ...]


@get(
    "/costs/forecast",
    opt={
        "action": "cost:read",
        "query": ("month", "by", "scope"),
        "answers": Answers({200: CostsForeseen}, refusals=("request_invalid", "period_invalid")),
    },
    summary="What the month will have cost, and when budgets run out",
)
async def foreseen(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    month: Annotated[
        str | None, QueryParameter(pattern=r"^[0-9]{4}-[0-9]{2}$", description="A month (UTC), YYYY-MM.")
    ] = None,
    by: Annotated[str | None, QueryParameter(pattern=_BY, description=_ONE)] = None,
    narrowed: _Scope = None,
) -> Response[Any]:
    """With intervals of 80 and 95 %; of the projects whose costs the caller may see."""
    return Response(await forecasting.spend(plane, request.user, by, _only(narrowed), month))


@get(
    "/costs/anomalies",
    opt={
        "action": "cost:read",
        "query": ("by", "scope", "days", "rate"),
        "answers": Answers({200: DaysOut}, refusals=("request_invalid",)),
    },
    summary="Days whose spend is out of line",
)
async def unusual(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    by: Annotated[str, QueryParameter(pattern=_BY, description=_ONE)] = "project",
    narrowed: _Scope = None,
    days: Annotated[int, QueryParameter(ge=1, le=31, description="So many complete days, to yesterday.")] = 7,
    rate: Annotated[float, QueryParameter(ge=0.01, le=0.5, description="Of false alarms, a day looked at.")] = 0.05,
) -> Response[Any]:
    """At most `rate` of days on which nothing happened alarm, however many groups there are."""
    return Response(await forecasting.unusual(plane, request.user, by, _only(narrowed), days, rate))


def _only(scope: str | None) -> dict[str, str]:
    if scope is None:
        return {}
    kind, _, name = scope.partition(":")
    return {kind: name}


HANDLERS = (foreseen, unusual)
