# SPDX-License-Identifier: Apache-2.0
"""What `up` and `status` read of the whole plane, as `audit`: sizes and ages, no tenant's content."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import checkpoint
from ledger.canonical import timestamp

_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")


async def entries(conn: AsyncConnection) -> int:
    """How many entries the newest checkpoint covers; 0 before the first."""
    return int(await conn.scalar(text("SELECT coalesce(max(size), 0) FROM ledger.checkpoint")) or 0)


async def alarm(conn: AsyncConnection) -> dict[str, str] | None:
    """What stops sealing, since when; None while nothing does."""
    row = (await conn.execute(text("SELECT code, detail, at FROM ledger.alarm ORDER BY id DESC LIMIT 1"))).one_or_none()
    if row is None or row.code is None:
        return None
    return {"code": row.code, "detail": row.detail, "since": timestamp(row.at)}


async def waited_s(conn: AsyncConnection) -> float:
    """For how many seconds the oldest entry has waited for its seal, by the database's clock."""
    return float(await conn.scalar(text("SELECT ledger.waited_s()")) or 0.0)


async def log_origin(conn: AsyncConnection) -> str | None:
    """The log's name as its newest checkpoint says it; None before the first."""
    note = await conn.scalar(text("SELECT note FROM ledger.checkpoint ORDER BY size DESC LIMIT 1"))
    return None if note is None else checkpoint.parse(bytes(note)).origin


async def unstamped_outside(conn: AsyncConnection) -> int:
    """How many tokens of an outside time-stamping authority are still awaited."""
    counted = text("SELECT count(*) FROM ledger.unstamped WHERE operator = 'external'")
    return int(await conn.scalar(counted) or 0)


async def lax_settings(conn: AsyncConnection) -> list[str]:
    """The settings of this server that let an acknowledged commit vanish; empty when durable writes are on."""
    found = []
    for name in _SETTINGS:
        value = await conn.scalar(text("SELECT current_setting(:name)"), {"name": name})
        if value not in {"on", "remote_write", "remote_apply"}:
            found.append(name)
    return found


async def backends(conn: AsyncConnection) -> dict[str, dict[str, str]]:
    """Backend id → the walls around its untrusted work, as its worker reported them last."""
    rows = await conn.execute(text("SELECT id, capability -> 'walls' AS walls FROM jobs.backend ORDER BY id"))
    return {row.id: row.walls or {} for row in rows}


_GAUGES = text("""
    SELECT 'qcos.jobs' AS metric, state AS label, count(*)::double precision AS value FROM jobs.job
        WHERE state IN ('QUEUED', 'HELD', 'COMPILING', 'RESERVING', 'EXECUTING', 'SEALING', 'AWAITING_APPROVAL')
        GROUP BY state
    UNION ALL SELECT 'qcos.queue.age', NULL, coalesce(extract(epoch FROM clock_timestamp() - min(submitted_at)), 0)
        FROM jobs.job WHERE state = 'QUEUED'
    UNION ALL SELECT 'qcos.seal.alarm', code, 1 FROM ledger.alarm
        WHERE code IS NOT NULL AND id = (SELECT max(id) FROM ledger.alarm)
    UNION ALL SELECT 'qcos.inbox.entries', NULL, count(*) FROM ledger.inbox
    UNION ALL SELECT 'qcos.log.entries', NULL, coalesce(max(size), 0) FROM ledger.checkpoint
    UNION ALL SELECT 'qcos.stamps.awaited', operator, count(*) FROM ledger.unstamped GROUP BY operator
    UNION ALL SELECT 'qcos.stamps.age', operator, extract(epoch FROM clock_timestamp() - min(since))
        FROM ledger.unstamped GROUP BY operator
    UNION ALL SELECT 'qcos.witness.entries', name, max(size) FROM ledger.cosignature GROUP BY name
    UNION ALL SELECT 'qcos.outside.faults', code, count(*) FROM (
        SELECT DISTINCT ON (kind, name) code FROM ledger.outside ORDER BY kind, name, id DESC) AS newest
        WHERE code IS NOT NULL GROUP BY code
    UNION ALL SELECT 'qcos.holds', 'held', count(*) FROM jobs.job
        WHERE state IN ('QUEUED', 'HELD', 'COMPILING', 'RESERVING', 'EXECUTING', 'AWAITING_APPROVAL')
    UNION ALL SELECT 'qcos.hold.age', 'held', coalesce(extract(epoch FROM clock_timestamp() - min(submitted_at)), 0)
        FROM jobs.job WHERE state IN ('QUEUED', 'HELD', 'COMPILING', 'RESERVING', 'EXECUTING', 'AWAITING_APPROVAL')
    UNION ALL SELECT 'qcos.holds', 'parked', count(*) FROM jobs.job WHERE final = 'UNCERTAIN'
    UNION ALL SELECT 'qcos.hold.age', 'parked', coalesce(extract(epoch FROM clock_timestamp() - min(submitted_at)), 0)
        FROM jobs.job WHERE final = 'UNCERTAIN'
    UNION ALL SELECT 'qcos.backends', CASE WHEN seen_at > clock_timestamp() - interval '15 seconds' THEN state
        ELSE 'offline' END, count(*) FROM jobs.backend GROUP BY 2
""")
# The labels that aren't a state.
GAUGE_LABELS = {"qcos.stamps.awaited": "operator", "qcos.stamps.age": "operator", "qcos.seal.alarm": "code"} | {
    "qcos.witness.entries": "witness",
    "qcos.outside.faults": "code",
}


async def gauges(conn: AsyncConnection) -> list[tuple[str, dict[str, str], float]]:
    """(metric, labels, value) of what only the whole plane knows; each part is an index's or a small table's."""
    rows = (await conn.execute(_GAUGES)).all()
    found = [
        (row.metric, {} if row.label is None else {GAUGE_LABELS.get(row.metric, "state"): row.label}, float(row.value))
        for row in rows
    ]
    return [*found, ("qcos.sealed.age", {}, await waited_s(conn))]
