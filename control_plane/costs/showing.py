# SPDX-License-Identifier: Apache-2.0
"""Spend of a tenant by project, person, backend and the rest, and what changed most (G7).

Enters who asks, a period and the dimensions. Leaves rows as JSON values, of the projects that this person may see: what
is of no project is shown to those alone who may see costs of the whole tenant. Charges name people by pseudonym; here
they have the name under which they submitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.auth.access import visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import store
from control_plane.db import Query
from finops import charge_store
from finops.spending import Period


async def spend(
    plane: Plane,
    who: Principal,
    period: Period,
    by: Sequence[str],
    only: Mapping[str, str],
    *,
    limit: int,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """A page of groups, the dearest first; by day or month in their order."""
    seen = _seen(who)
    query = charge_store.spend(who.tenant, period, by=by, projects=seen, only=only, limit=limit, offset=offset)
    rows = await named(plane, who, query, by)
    return [group.record() for group in charge_store.groups(rows, by)]


async def moves(
    plane: Plane,
    who: Principal,
    periods: tuple[Period, Period],
    by: Sequence[str],
    only: Mapping[str, str],
    *,
    limit: int,
) -> list[dict[str, Any]]:
    """The groups whose spend differs most from the period before; `periods` are that asked for and the one before."""
    query = charge_store.moves(who.tenant, *periods, by=by, projects=_seen(who), only=only, limit=limit)
    return [move.record() for move in charge_store.moved(await named(plane, who, query, by), by)]


def _seen(who: Principal) -> list[str] | None:
    projects = visible(who, "cost:read")
    return None if projects is None else sorted(projects)


async def named(plane: Plane, who: Principal, query: Query, by: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a query of spend; a person by the name that the tenant's jobs have of them."""
    (rows,) = await plane.read(who.tenant, query)
    if "user" not in by:
        return rows
    (known,) = await plane.read(who.tenant, store.actors([row["job_id"] for row in rows if row["job_id"] is not None]))
    names = {row["job_id"]: row["actor"] for row in known}
    return [row | {"of_user": names.get(row["job_id"], row["of_user"])} for row in rows]
