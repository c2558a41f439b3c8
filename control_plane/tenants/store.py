# SPDX-License-Identifier: Apache-2.0
"""The SQL of tenants. Every function takes a connection whose transaction names the tenant, or says otherwise."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.tenants import owned
from control_plane.tenants.limits import Limits
from ledger.blob import SealedBlob

AT_ONCE = 64

_STANDING = """
    SELECT t.tenant, t.state, t.created_at, t.closed_at,
           l.requests_per_s, l.bytes_per_s, l.waiting_jobs, l.running_jobs, l.shots_per_day
    FROM auth.tenant t LEFT JOIN auth.tenant_limit l ON l.tenant = t.tenant
"""
_USAGE = text("""
    SELECT count(*) FILTER (WHERE state IN ('QUEUED', 'HELD', 'AWAITING_APPROVAL')) AS waiting_jobs,
           count(*) FILTER (WHERE state IN ('COMPILING', 'RESERVING', 'EXECUTING')) AS running_jobs,
           (SELECT coalesce(sum(u.executions), 0)::bigint FROM jobs.usage u
            WHERE u.tenant = :tenant AND u.day = :day AND u.scope LIKE 'project:%') AS shots_today
    FROM jobs.job WHERE tenant = :tenant
      AND state IN ('QUEUED', 'HELD', 'COMPILING', 'RESERVING', 'EXECUTING', 'AWAITING_APPROVAL')
""")
_WAITING = text("""
    SELECT job_id FROM jobs.job WHERE tenant = :tenant AND state IN ('QUEUED', 'HELD', 'AWAITING_APPROVAL')
      AND job_id > :after ORDER BY job_id LIMIT :most
""")
_STOP = text("""
    UPDATE jobs.job SET cancel_requested = true
    WHERE tenant = :tenant AND state IN ('COMPILING', 'RESERVING', 'EXECUTING') AND NOT cancel_requested
""")
_REVOKE = text("""
    UPDATE auth.credential SET revoked_at = :at, revoked_by = :by WHERE tenant = :tenant AND revoked_at IS NULL
""")
_LIMIT = text("""
    INSERT INTO auth.tenant_limit AS l
        (tenant, requests_per_s, bytes_per_s, waiting_jobs, running_jobs, shots_per_day, changed_at)
    VALUES (:tenant, :requests_per_s, :bytes_per_s, :waiting_jobs, :running_jobs, :shots_per_day, clock_timestamp())
    ON CONFLICT (tenant) DO UPDATE SET
        (requests_per_s, bytes_per_s, waiting_jobs, running_jobs, shots_per_day, changed_at) = (
        excluded.requests_per_s, excluded.bytes_per_s, excluded.waiting_jobs, excluded.running_jobs,
        excluded.shots_per_day, excluded.changed_at)
""")
_STATE = text("UPDATE auth.tenant SET state = :state, closed_at = :closed_at WHERE tenant = :tenant")


async def standing(conn: AsyncConnection, tenant: str, *, locked: bool = False) -> RowMapping | None:
    """Its state and limits; None where it isn't there. `locked`: nobody else changes it until this ends."""
    last = " FOR NO KEY UPDATE OF t" if locked else ""
    found = await conn.execute(text(f"{_STANDING} WHERE t.tenant = :tenant{last}"), {"tenant": tenant})
    return found.mappings().one_or_none()


async def everybody(conn: AsyncConnection) -> list[RowMapping]:
    """All tenants by name, for a role that may see them."""
    return list((await conn.execute(text(f"{_STANDING} ORDER BY t.tenant"))).mappings())


def limits_of(row: RowMapping) -> Limits:
    """Those of a row of `standing`."""
    return Limits(**{name: row[name] for name in Limits.__struct_fields__})


async def usage(conn: AsyncConnection, tenant: str, at: dt.datetime) -> dict[str, Any]:
    """What counts against its limits now."""
    row = (await conn.execute(_USAGE, {"tenant": tenant, "day": at.astimezone(dt.UTC).date()})).mappings().one()
    return dict(row)


async def limit(conn: AsyncConnection, tenant: str, limits: Limits) -> None:
    """From the commit on these are its limits."""
    await conn.execute(_LIMIT, {"tenant": tenant, **asdict(limits)})


async def put(conn: AsyncConnection, tenant: str, state: str, closed_at: dt.datetime | None) -> None:
    """Open or close it."""
    await conn.execute(_STATE, {"tenant": tenant, "state": state, "closed_at": closed_at})


async def revoke_all(conn: AsyncConnection, tenant: str, at: dt.datetime, by: str) -> int:
    """Every key, session, token and delegation of the tenant's ends; how many did."""
    return int((await conn.execute(_REVOKE, {"tenant": tenant, "at": at, "by": by})).rowcount)


async def stop_running(conn: AsyncConnection, tenant: str) -> int:
    """Ask the workers that run its jobs to cancel them; how many were asked."""
    return int((await conn.execute(_STOP, {"tenant": tenant})).rowcount)


async def waiting(conn: AsyncConnection, tenant: str, after: str) -> list[str]:
    """The next jobs that wait, in the order of their ids."""
    rows = await conn.execute(_WAITING, {"tenant": tenant, "after": after, "most": AT_ONCE})
    return [row.job_id for row in rows]


async def rows(conn: AsyncConnection, table: str, page: int) -> AsyncIterator[Sequence[dict[str, Any]]]:
    """All rows of one of `owned.ROWS` that the transaction sees, without what is no part of an export."""
    told = "to_jsonb(t)"
    if (name := owned.TEXTS.get(table)) is not None:
        told += f" || jsonb_build_object('{name}', convert_from(t.{name}, 'UTF8'))"
    without = ", ".join(f"'{name}'" for name in owned.ROWS[table])
    query = f"SELECT ({told}) - ARRAY[{without}]::text[] AS row FROM {table} AS t"
    async for found in _pages(conn, query, page):
        yield [one["row"] for one in found]


async def jobs(conn: AsyncConnection, page: int) -> AsyncIterator[Sequence[dict[str, Any]]]:
    """Each job's row with `ready`, as evidence is made from it."""
    ready = "jobs.evidence_ready(coalesce(j.outcome_entry, j.admission_entry))"
    async for found in _pages(conn, f"SELECT j.*, {ready} AS ready FROM jobs.job AS j", page):
        yield [dict(one) for one in found]


async def blobs(conn: AsyncConnection, tenant: str, page: int) -> AsyncIterator[Sequence[SealedBlob]]:
    """Every content that can still be opened."""
    query = "SELECT commitment, nonce, wrapped_key, ciphertext FROM ledger.blob WHERE wrapped_key IS NOT NULL"
    async for found in _pages(conn, query, page):
        yield [
            SealedBlob(
                tenant, row["commitment"], bytes(row["nonce"]), bytes(row["wrapped_key"]), bytes(row["ciphertext"])
            )
            for row in found
        ]


async def _pages(conn: AsyncConnection, query: str, page: int) -> AsyncIterator[Sequence[RowMapping]]:
    """The rows of a query, by a cursor that the caller's transaction holds: no more than a page in memory."""
    await conn.execute(text(f"DECLARE export NO SCROLL CURSOR FOR {query}"))
    while found := (await conn.execute(text(f"FETCH {int(page)} FROM export"))).mappings().all():
        yield found
    await conn.execute(text("CLOSE export"))
