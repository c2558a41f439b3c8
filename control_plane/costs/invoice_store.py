# SPDX-License-Identifier: Apache-2.0
"""The SQL of reconciliations: what the ledger knows of jobs at a provider, and what was found (G7).

Every function takes the caller's connection, which names the tenant.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

_DEVICES = text("SELECT id, capability ->> 'sku' AS sku FROM jobs.backend WHERE provider = :provider ORDER BY id")
_CHARGED = text("""
    SELECT job_id, month, backend, started_at, ended_at, meter, quantity, rate, amount, currency, rate_card
    FROM finops.charge
    WHERE tenant = :tenant AND charged_at >= :since AND charged_at < :until AND provider = :provider
      AND category = 'usage' AND job_id IS NOT NULL
    ORDER BY job_id, charged_at, entry_id, line""")
# A job that went to another backend was at the first one too, and may be billed there.
_JOBS = text("""
    SELECT job_id, state, final, backend, currency, executions, vendor_tasks, history FROM jobs.job
    WHERE job_id = ANY (:charged) OR (
        submitted_at >= :since AND submitted_at < :until
        AND (backend = ANY (:backends) OR EXISTS (
            SELECT FROM jsonb_array_elements(coalesce(vendor_tasks, '[]')) AS v
            WHERE v ->> 'backend' = ANY (:backends))))
    ORDER BY job_id""")
_KEEP = text("""
    INSERT INTO finops.reconciliation
        (tenant, reconciliation_id, provider, months, made_at, pseudonym, summary, findings)
    VALUES (:tenant, CAST(:id AS uuid), :provider, :months, :made_at, :pseudonym, CAST(:summary AS jsonb),
            CAST(:findings AS jsonb))""")
_LIST = text("""
    SELECT summary FROM finops.reconciliation WHERE tenant = :tenant
    ORDER BY made_at DESC, reconciliation_id LIMIT :most""")
_SHOW = text("""
    SELECT summary, findings FROM finops.reconciliation
    WHERE tenant = :tenant AND reconciliation_id = CAST(:id AS uuid)""")
_ALL = text("SELECT tenant, reconciliation_id::text AS id, summary, findings FROM finops.reconciliation")


async def devices(conn: AsyncConnection, provider: str) -> dict[str, str | None]:
    """The provider's backends that were ever seen, and what each is sold as."""
    return {row.id: row.sku for row in await conn.execute(_DEVICES, {"provider": provider})}


async def charged(
    conn: AsyncConnection, tenant: str, provider: str, since: dt.datetime, until: dt.datetime
) -> Sequence[RowMapping]:
    """The lines of usage at the provider in [since, until), by job."""
    values = {"tenant": tenant, "provider": provider, "since": since, "until": until}
    return (await conn.execute(_CHARGED, values)).mappings().all()


async def jobs(
    conn: AsyncConnection, charged: Sequence[str], backends: Sequence[str], since: dt.datetime, until: dt.datetime
) -> Sequence[RowMapping]:
    """Jobs that were charged, and those of these days that are or were at one of these backends."""
    values = {"charged": list(charged), "backends": list(backends), "since": since, "until": until}
    return (await conn.execute(_JOBS, values)).mappings().all()


async def keep(conn: AsyncConnection, tenant: str, row: Mapping[str, Any]) -> None:
    """Keep what was found; the caller appends its entry in the same transaction."""
    json = {name: msgspec.json.encode(row[name]).decode() for name in ("summary", "findings")}
    await conn.execute(_KEEP, {**row, **json, "tenant": tenant})


async def newest(conn: AsyncConnection, tenant: str, most: int) -> list[dict[str, Any]]:
    """Summaries, the newest first."""
    return list((await conn.execute(_LIST, {"tenant": tenant, "most": most})).scalars())


async def one(conn: AsyncConnection, tenant: str, reconciliation_id: str) -> RowMapping | None:
    """Summary and findings of one."""
    values = {"tenant": tenant, "id": reconciliation_id}
    return (await conn.execute(_SHOW, values)).mappings().one_or_none()


async def every(conn: AsyncConnection) -> list[RowMapping]:
    """All that were kept, of every tenant; for the audit role (I6)."""
    return list((await conn.execute(_ALL)).mappings())
