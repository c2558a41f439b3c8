# SPDX-License-Identifier: Apache-2.0
"""Projects of a tenant: created, changed, closed, opened again; each in one transaction with its entry (G5, G13).

A closed project takes no new jobs and no windows; what waits or runs goes on, and all that it has done stays. A budget
is set apart (`budget:set`): without one nothing runs.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane import administrative
from control_plane.accounts import store
from control_plane.accounts.roles import ProjectName
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.strict import Reason

__all__ = ["Changing", "Creating", "changing", "close", "create", "creating", "reopen", "set_project"]

CostCenter = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Creating(Struct, frozen=True, forbid_unknown_fields=True):
    """A project that shall be."""

    project: ProjectName
    reason: Reason
    cost_center: CostCenter | None = None


class Changing(Struct, frozen=True, forbid_unknown_fields=True):
    """What of a project shall be otherwise; null takes the cost centre away."""

    reason: Reason
    cost_center: CostCenter | UnsetType | None = UNSET


creating = msgspec.json.Decoder(Creating)
changing = msgspec.json.Decoder(Changing)


async def create(plane: Plane, who: Principal, asked: Creating) -> RowMapping:
    """Open it; its row. Refused `conflict` where the tenant has one of this name."""
    async with plane.transaction(who.tenant) as conn:
        if not await store.create_project(conn, who.tenant, asked.project, asked.cost_center):
            raise Refused("conflict", f"there is a project {asked.project}")
        row = await _project(conn, who.tenant, asked.project)
        await _tell(plane, conn, who, "project:created", row, asked.reason)
    return row


async def set_project(plane: Plane, who: Principal, name: str, asked: Changing) -> RowMapping:
    """Change it; its row."""
    async with plane.transaction(who.tenant) as conn:
        row = await _project(conn, who.tenant, name)
        cost_center = row["cost_center"] if asked.cost_center is UNSET else asked.cost_center
        return await _change(plane, conn, who, row, (cost_center, row["state"]), asked.reason)


async def close(plane: Plane, who: Principal, name: str, reason: str) -> RowMapping:
    """Take no new jobs; its row. Refused `conflict` where it is closed."""
    return await _put(plane, who, name, "closed", reason)


async def reopen(plane: Plane, who: Principal, name: str, reason: str) -> RowMapping:
    """Take jobs again; its row. Refused `conflict` where it is open."""
    return await _put(plane, who, name, "open", reason)


async def _put(plane: Plane, who: Principal, name: str, state: str, reason: str) -> RowMapping:
    async with plane.transaction(who.tenant) as conn:
        row = await _project(conn, who.tenant, name)
        if row["state"] == state:
            raise Refused("conflict", f"project {name} is {state} already")
        return await _change(plane, conn, who, row, (row["cost_center"], state), reason)


async def _change(
    plane: Plane, conn: AsyncConnection, who: Principal, row: RowMapping, to: tuple[str | None, str], reason: str
) -> RowMapping:
    cost_center, state = to
    await store.change_project(conn, who.tenant, row["project"], cost_center=cost_center, state=state)
    now = await _project(conn, who.tenant, row["project"])
    kind: administrative.Kind = "project:closed" if (row["state"], state) == ("open", "closed") else "project:changed"
    await _tell(plane, conn, who, kind, now, reason)
    return now


async def _project(conn: AsyncConnection, tenant: str, name: str) -> RowMapping:
    row = await store.project(conn, tenant, name)
    if row is None:
        raise Refused("not_found", f"no project {name}")
    return row


async def _tell(
    plane: Plane, conn: AsyncConnection, who: Principal, kind: administrative.Kind, row: RowMapping, reason: str
) -> None:
    body = {name: row[name] for name in ("project", "cost_center", "state")}
    await administrative.append(conn, administrative.entry(who, kind, body, reason, plane.now()))
