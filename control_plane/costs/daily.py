# SPDX-License-Identifier: Apache-2.0
"""What was spent a day by those whose costs somebody may see: what forecasts and anomalies rest on (G7, G13, I7)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, TypeAlias

from control_plane.auth.access import visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs.showing import named
from control_plane.errors import Refused
from finops import charge_store, forecast, money
from finops.money import ZERO
from finops.spending import Period

DAY: Final = dt.timedelta(days=1)
MOST_GROUPS: Final = 100_000
Key: TypeAlias = tuple[str | None, str]
"""What the spend is of, and its currency."""
Days: TypeAlias = Mapping[dt.date, Decimal]


async def daily(
    plane: Plane, who: Principal, by: str | None, only: Mapping[str, str], now: dt.datetime
) -> dict[Key, dict[dt.date, Decimal]]:
    """Spend by key and UTC day, of the last 91 complete days and of today; a person by the name that they have here."""
    seen = visible(who, "cost:read")
    period = Period(since=midnight(now) - forecast.MOST_DAYS * DAY, until=now + DAY)
    names = ["day"] if by is None else ["day", by]
    projects = None if seen is None else sorted(seen)
    query = charge_store.spend(who.tenant, period, by=names, projects=projects, only=only, limit=MOST_GROUPS)
    rows = await named(plane, who, query, names)
    if len(rows) == MOST_GROUPS:
        raise Refused("request_invalid", f"by {by} there are more than {MOST_GROUPS} days: narrow it")
    found: dict[Key, dict[dt.date, Decimal]] = {}
    for one in charge_store.groups(rows, names):
        series = found.setdefault((None if by is None else one.of[by], one.currency), {})
        day = dt.date.fromisoformat(str(one.of["day"]))
        series[day] = money.total((series.get(day, ZERO), one.gross))
    return found


def history(series: Days, today: dt.date) -> list[Decimal]:
    """The complete days from the first charge on; a day without one spent nothing."""
    start = min(series, default=today)
    return [series.get(start + DAY * place, ZERO) for place in range((today - start).days)]


def midnight(now: dt.datetime) -> dt.datetime:
    """When the day began."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def too_few(days: int, least: int) -> str:
    """Why there is no number."""
    return f"not enough data: {days} complete days, and {least} are needed"
