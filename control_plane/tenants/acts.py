# SPDX-License-Identifier: Apache-2.0
"""What the plane's operator does about tenants, on its machine: open, limit, close and open again (G11).

Each change is one transaction with its entry in the tenant's own chain. A closed tenant's people are refused from the
commit on, and every key, session, token and delegation of its has ended for good. Then its waiting jobs end, FAILED
`tenant_closed`, each with evidence and its hold released, and its running ones are cancelled; a worker does the same
with any that slipped in. What the tenant has done stays: the ledger, and contents by their retention. `close` may be
asked for again, and goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import asdict, replace

from control_plane import administrative, seed
from control_plane.auth.principal import is_tenant
from control_plane.context import Plane, open_plane
from control_plane.db import FAULTS, Database, engine, transaction
from control_plane.errors import DatabaseUnusable, Refused
from control_plane.jobs import accepted, leases, settle, transition
from control_plane.jobs.transition import MovedOn
from control_plane.settings import Settings
from control_plane.tenants import store
from control_plane.tenants.limits import changed, told
from ledger.canonical import timestamp

OPERATOR = "operator"
CLOSED = settle.Failure("tenant_closed", "the tenant was closed before the job ran")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Plane]:
    """The parts that these acts need; DatabaseUnusable where the database doesn't answer."""
    if settings.policy_engine != "embedded":  # none of these acts is decided by policy: nobody there is asked
        url = settings.opa_url or f"unix://{settings.opa_socket}"
        settings = replace(settings, policy_engine="opa", opa_url=url)
    plane = open_plane(settings, Database.of_home(settings.home / "db"), connections=2, name="qcos-tenants")
    try:
        yield plane
    except FAULTS as fault:
        raise DatabaseUnusable(f"{type(fault).__name__}: in profile dev it answers while qcos up runs") from fault
    finally:
        await plane.pdp.close()
        await plane.engine.dispose()


async def create(plane: Plane, tenant: str, reason: str) -> dict[str, Any]:
    """Open a tenant with a blob key and the shipped rate card of its own; Refused `conflict` where it is there."""
    if not is_tenant(tenant):
        said = "wanted 1 to 63 lower-case letters, digits, - and _, the first no sign"
        raise Refused("unusable_input", f"tenant: {said}")
    async with plane.transaction(tenant) as conn:
        found = await store.standing(conn, tenant)
    if found is not None:
        raise Refused("conflict", f"there is a tenant {tenant}; it is {found['state']}")
    await seed.open_tenant(plane.engine, plane.vault, tenant, reason)
    return await shown(plane, tenant)


async def limit(plane: Plane, tenant: str, said: Mapping[str, str], reason: str) -> dict[str, Any]:
    """Set what was said and leave the rest; each process keeps to it within two seconds."""
    async with plane.transaction(tenant) as conn:
        row = await store.standing(conn, tenant, locked=True)
        if row is None:
            raise _unknown(tenant)
        limits = changed(store.limits_of(row), said)
        await store.limit(conn, tenant, limits)
        body = {"limits": told(limits), "before": told(store.limits_of(row))}
        entry = administrative.entry(None, "tenant:limits_set", body, reason, plane.now(), tenant=tenant)
        await administrative.append(conn, entry)
    return await shown(plane, tenant)


async def close(plane: Plane, tenant: str, reason: str) -> dict[str, Any]:
    """Close it, or go on closing it; how many jobs ended, and how many were asked to."""
    now, revoked = plane.now(), 0
    async with plane.transaction(tenant) as conn:
        row = await store.standing(conn, tenant, locked=True)
        if row is None:
            raise _unknown(tenant)
        if row["state"] == "open":
            await store.put(conn, tenant, "closed", now)
            revoked = await store.revoke_all(conn, tenant, now, OPERATOR)
            body = {"credentials_revoked": revoked} | await store.usage(conn, tenant, now)
            await administrative.append(
                conn, administrative.entry(None, "tenant:closed", body, reason, now, tenant=tenant)
            )
    ended = await _end_waiting(plane, tenant)
    async with plane.transaction(tenant) as conn:
        stopping = await store.stop_running(conn, tenant)
    return await shown(plane, tenant) | {
        "credentials_revoked": revoked,
        "jobs_ended": ended,
        "jobs_stopping": stopping,
    }


async def reopen(plane: Plane, tenant: str, reason: str) -> dict[str, Any]:
    """Let its people in again; what was revoked stays so."""
    async with plane.transaction(tenant) as conn:
        row = await store.standing(conn, tenant, locked=True)
        if row is None:
            raise _unknown(tenant)
        if row["state"] == "open":
            raise Refused("conflict", f"tenant {tenant} is open")
        await store.put(conn, tenant, "open", None)
        body = {"closed_at": timestamp(row["closed_at"]) if row["closed_at"] is not None else None}
        entry = administrative.entry(None, "tenant:reopened", body, reason, plane.now(), tenant=tenant)
        await administrative.append(conn, entry)
    return await shown(plane, tenant)


async def shown(plane: Plane, tenant: str) -> dict[str, Any]:
    """State, limits, and what counts against these now."""
    now = plane.now()
    async with plane.transaction(tenant) as conn:
        row = await store.standing(conn, tenant)
        if row is None:
            raise _unknown(tenant)
        return _row(row) | {"usage": await store.usage(conn, tenant, now)}


async def listed(settings: Settings) -> list[dict[str, Any]]:
    """All tenants of the plane, as the role that may see them."""
    audit = engine(Database.of_home(settings.home / "db").audit, connections=1, name="qcos-tenants")
    try:
        async with transaction(audit, None) as conn:
            return [_row(row) for row in await store.everybody(conn)]
    except FAULTS as fault:
        raise DatabaseUnusable(f"{type(fault).__name__}: in profile dev it answers while qcos up runs") from fault
    finally:
        await audit.dispose()


async def _end_waiting(plane: Plane, tenant: str) -> int:
    """End each job that waits; one that moved on meanwhile is a worker's, who ends it."""
    ended, after = 0, ""
    await plane.vault.ready(plane.engine, tenant)
    while True:
        async with plane.transaction(tenant) as conn:
            found = await store.waiting(conn, tenant, after)
        if not found:
            return ended
        (rows,) = await plane.read(tenant, leases.taken(found))
        for job in rows:
            with contextlib.suppress(MovedOn):
                submitted = settle.read_submitted(plane, job)
                spec = accepted.from_canonical(submitted.spec)
                await transition.write(plane, job, await settle.settle(plane, job, spec, submitted, CLOSED))
                ended += 1
        after = found[-1]


def _row(row: Any) -> dict[str, Any]:
    return {
        "tenant": row["tenant"],
        "state": row["state"],
        "created_at": timestamp(row["created_at"]),
        "closed_at": timestamp(row["closed_at"]) if row["closed_at"] is not None else None,
        "limits": asdict(store.limits_of(row)),
    }


def _unknown(tenant: str) -> Refused:
    return Refused("not_found", f"no tenant {tenant[:64]}")
