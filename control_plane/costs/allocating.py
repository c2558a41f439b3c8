# SPDX-License-Identifier: Apache-2.0
"""The method of allocation of a tenant: put in force, shown (G7). A change is an entry in its own transaction (G5)."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane import administrative
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from finops import month_store
from finops.allocation import Allocation, parse_method
from ledger.canonical import parse_time, timestamp


async def put(plane: Plane, who: Principal, document: bytes) -> Allocation:
    """Put a method in force for every month that isn't closed; AllocationInvalid where it can't be read in one way."""
    method = parse_method(document)
    now = parse_time(timestamp(plane.now()))
    told: dict[str, Any] = {"hash": method.hash, "method": msgspec.json.decode(method.document)}
    entry = administrative.entry(who, "costs:allocation_set", {"allocation": told}, None, now)
    async with plane.transaction(who.tenant) as conn:
        await month_store.set_allocation(conn, who.tenant, method, entry.entry_id, now)
        await administrative.append(conn, entry)
    return method


async def current(plane: Plane, tenant: str) -> Allocation | None:
    """The method in force."""
    async with plane.transaction(tenant) as conn:
        return await month_store.allocation(conn, tenant)
