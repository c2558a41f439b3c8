# SPDX-License-Identifier: Apache-2.0
"""The SQL of the registry of backends: what workers report of them, and its memory: calibrations, the queue over time,
and figures of a tenant's own ended jobs (I7).

Calibrations and queues are of the plane and hold nothing of any job; figures are read with the tenant's row-level
security. Everything kept is bounded by age and number: `prune`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    MetaData,
    RowMapping,
    Table,
    Text,
    and_,
    case,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.db import Query

metadata = MetaData()

backend = Table(
    "backend",
    metadata,
    Column("id", Text, primary_key=True),
    *(Column(name, Text) for name in ("provider", "state", "reason", "region", "compliance_zone")),
    Column("qubits", Integer),
    Column("formats", ARRAY(Text)),
    Column("sovereign", Boolean),
    Column("capability", JSONB),
    *(Column(name, Integer) for name in ("queue_depth", "max_shots")),
    Column("queue_s", Float),
    Column("simulator", Boolean),
    Column("calibration", JSONB),
    *(Column(name, DateTime(timezone=True)) for name in ("seen_at", "changed_at")),
    schema="jobs",
)

BACKEND_STALE_S = 15.0
QUEUE_DAYS = 30
CALIBRATION_DAYS = 400
CALIBRATIONS = 100  # the newest of a backend, however young
FIGURED_JOBS = 200_000  # of each of the two periods

_CALIBRATION = text("""
    INSERT INTO jobs.backend_calibration AS c (backend, hash, calibration_id, valid_from, data, facts)
    VALUES (:backend, :hash, :id, :valid_from, :data, CAST(:facts AS jsonb))
    ON CONFLICT (backend, hash) DO UPDATE SET seen_at = clock_timestamp()
""")
_QUEUE = text("""
    INSERT INTO jobs.backend_queue AS q (backend, at, online, reason, depth, queue_s)
    VALUES (:backend, date_bin('5 minutes', clock_timestamp(), 'epoch'), :online, :reason, :depth, :queue_s)
    ON CONFLICT (backend, at) DO UPDATE SET
        online = q.online AND excluded.online, reason = coalesce(excluded.reason, q.reason),
        depth = greatest(q.depth, excluded.depth), queue_s = greatest(q.queue_s, excluded.queue_s),
        reports = q.reports + 1
""")
_PRUNE = (
    text("DELETE FROM jobs.backend_queue WHERE at < clock_timestamp() - make_interval(days => :queue_days)"),
    text("""
        DELETE FROM jobs.backend_calibration c WHERE c.seen_at < clock_timestamp() - make_interval(days => :days)
            OR (SELECT count(*) FROM jobs.backend_calibration n
                WHERE n.backend = c.backend AND n.found_at > c.found_at) >= :most
    """),
)


_CALIBRATIONS = """
    SELECT calibration_id AS id, hash, valid_from, found_at, seen_at, octet_length(data) AS size, facts
    FROM jobs.backend_calibration WHERE backend = %(backend)s ORDER BY found_at DESC LIMIT 100
"""
_QUEUES = """
    SELECT at, online, reason, depth, queue_s FROM jobs.backend_queue
    WHERE backend = %(backend)s AND at > now() - make_interval(hours => %(hours)s) ORDER BY at
"""


async def report_backend(conn: AsyncConnection, row: dict[str, Any]) -> None:
    """A worker says what a backend that it drives can do, and that it is there now; `changed_at` is when it last went
    up or down, or gave another reason.
    """
    values = {**row, "seen_at": func.clock_timestamp()}
    update: dict[str, Any] = {name: value for name, value in values.items() if name != "id"}
    same = and_(backend.c.state == row["state"], backend.c.reason.is_not_distinct_from(row["reason"]))
    update["changed_at"] = case((same, backend.c.changed_at), else_=func.clock_timestamp())
    await conn.execute(insert(backend).values(**values).on_conflict_do_update(index_elements=["id"], set_=update))


async def backend_facts(conn: AsyncConnection, backend_id: str) -> RowMapping:
    """What the registry says of one backend."""
    return (await conn.execute(select(backend).where(backend.c.id == backend_id))).mappings().one()


async def backends(conn: AsyncConnection, stale_s: float) -> Sequence[RowMapping]:
    """The registry, by id; `fresh` tells whether a worker has been heard within `stale_s` seconds."""
    fresh = backend.c.seen_at > func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, stale_s)
    return (await conn.execute(select(backend, fresh.label("fresh")).order_by(backend.c.id))).mappings().all()


async def keep_calibration(
    conn: AsyncConnection, backend: str, *, name: str, valid_from: dt.datetime, data: bytes, facts: dict[str, Any]
) -> None:
    """Keep a calibration's bytes, once for as long as they stay the same; `facts` has their hash."""
    values = {"backend": backend, "hash": facts["hash"], "id": name, "valid_from": valid_from, "data": data}
    await conn.execute(_CALIBRATION, values | {"facts": msgspec.json.encode(facts).decode()})


async def note_queue(
    conn: AsyncConnection, backend: str, *, online: bool, reason: str | None, depth: int, queue_s: float
) -> None:
    """How a backend stands now; of five minutes the worst is kept."""
    values = {"backend": backend, "online": online, "reason": reason, "depth": depth, "queue_s": queue_s}
    await conn.execute(_QUEUE, values)


async def prune(conn: AsyncConnection) -> None:
    """Forget what is too old, or too much."""
    values = {"queue_days": QUEUE_DAYS, "days": CALIBRATION_DAYS, "most": CALIBRATIONS}
    for statement in _PRUNE:
        names = statement.compile().params
        await conn.execute(statement, {name: values[name] for name in names})


def calibrations(backend: str) -> Query:
    """The query for the calibrations of a backend, newest first, without their bytes."""
    return _CALIBRATIONS, {"backend": backend}


def queue(backend: str, hours: int) -> Query:
    """The query for a backend's queue over the last hours, oldest first."""
    return _QUEUES, {"backend": backend, "hours": hours}


# Two periods of one length; `failed` are attempts that failed over, each told of its own backend.
_JOBS = """
    WITH period AS (
        SELECT * FROM (VALUES (0, %(begins)s::timestamptz, %(ends)s::timestamptz),
                              (1, %(before)s::timestamptz, %(begins)s::timestamptz)) AS p (n, begins, ends)
    ), job AS (
        SELECT p.n, j.* FROM period p CROSS JOIN LATERAL (
            SELECT backend, final, error ->> 'code' AS code, attempt, queue_s, run_s, cost_amount, currency, executions,
                   CASE WHEN attempt > 1 THEN route ELSE '[]' END AS route
            FROM jobs.job WHERE submitted_at >= p.begins AND submitted_at < p.ends AND final IS NOT NULL
                AND (%(projects)s::text[] IS NULL OR project = ANY (%(projects)s::text[]))
            ORDER BY submitted_at DESC, job_id DESC LIMIT %(most)s) AS j
    )"""
_FIGURES = (
    _JOBS
    + """
    SELECT j.n AS period, j.backend, b.provider, j.currency, count(*) AS jobs,
           count(*) FILTER (WHERE j.final = 'COMPLETED') AS completed,
           percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY j.queue_s) AS queue_s,
           percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY j.run_s) AS run_s,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY j.run_s * 1000 / nullif(j.executions, 0)) AS run_s_1000,
           sum(j.cost_amount) FILTER (WHERE j.final = 'COMPLETED') AS cost,
           sum(j.executions) FILTER (WHERE j.final = 'COMPLETED') AS executions
    FROM job j LEFT JOIN jobs.backend b ON b.id = j.backend
    WHERE j.backend IS NOT NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2
"""
)
_FAILURES = (
    _JOBS
    + """
    SELECT n AS period, backend, code, false AS moved, count(*) AS times FROM job
    WHERE backend IS NOT NULL AND final <> 'COMPLETED' GROUP BY 1, 2, 3
    UNION ALL
    SELECT n, line ->> 'backend', line -> 'failed' ->> 'code', true, count(*)
    FROM job CROSS JOIN LATERAL jsonb_array_elements(route) AS line
    WHERE line ? 'failed' GROUP BY 1, 2, 3
"""
)


def figured(begins: dt.datetime, ends: dt.datetime, projects: Sequence[str] | None) -> tuple[Query, Query]:
    """The queries for figures and for failures by backend, of the period (0) and of the one before it (1)."""
    values = {
        "before": begins - (ends - begins),
        "begins": begins,
        "ends": ends,
        "projects": list(projects) if projects is not None else None,
        "most": FIGURED_JOBS,
    }
    return (_FIGURES, values), (_FAILURES, values)
