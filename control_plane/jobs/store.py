# SPDX-License-Identifier: Apache-2.0
"""The SQL of jobs: rows that cache the ledger's fold, idempotency keys, leases, the registry of backends.

Every function takes a connection whose transaction names the tenant; the caller commits, together with the
entry that tells of the change. A transition is conditional on `attempt` and on the job's last number, so that
a worker that lost its lease changes nothing (N9, N10).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct, to_builtins
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    RowMapping,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.jobs.state import Event

metadata = MetaData()

job = Table(
    "job",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    *(
        Column(name, Text)
        for name in (
            "project",
            "team",
            "subject",
            "actor",
            "pseudonym",
            "state",
            "final",
            "level",
        )
    ),
    *(Column(name, Integer) for name in ("seq", "attempt", "executions")),
    *(Column(name, DateTime(timezone=True)) for name in ("submitted_at", "lease_until")),
    *(Column(name, JSONB) for name in ("history", "decision", "route", "artefacts", "error", "handle")),
    *(Column(name, Uuid(as_uuid=False)) for name in ("decision_id", "admission_entry", "outcome_entry", "bundle_id")),
    *(Column(name, Text) for name in ("spec_blob", "input_blob", "statement_blob", "result_blob")),
    *(Column(name, Text) for name in ("currency", "backend", "token", "rate_card", "partial", "worker")),
    *(Column(name, Numeric) for name in ("hold_amount", "cost_amount")),
    Column("allowed", ARRAY(Text)),
    Column("cancel_requested", Boolean),
    Column("traceparent", Text),
    schema="jobs",
)

idempotency = Table(
    "idempotency",
    metadata,
    *(Column(name, Text) for name in ("tenant", "subject", "key", "body_sha256", "job_id")),
    Column("created_at", DateTime(timezone=True)),
    schema="jobs",
)

backend = Table(
    "backend",
    metadata,
    Column("id", Text, primary_key=True),
    *(Column(name, Text) for name in ("provider", "state", "reason", "region", "compliance_zone")),
    Column("qubits", Integer),
    Column("formats", ARRAY(Text)),
    Column("sovereign", Boolean),
    Column("capability", JSONB),
    Column("seen_at", DateTime(timezone=True)),
    schema="jobs",
)

BACKEND_STALE_S = 15.0
_KEPT: ColumnElement[bool] = idempotency.c.created_at > func.clock_timestamp() - text("interval '24 hours'")
SETTLED_AT_ONCE = 256
_READY = func.jobs.evidence_ready(func.coalesce(job.c.outcome_entry, job.c.admission_entry)).label("ready")
_SHOWN = case(
    (
        and_(job.c.state == "SEALING", func.jobs.evidence_ready(job.c.outcome_entry)),
        job.c.final,
    ),
    else_=job.c.state,
)


class Usage(Struct, frozen=True):
    """What policy's quotas judge: executions admitted today (UTC) and jobs not yet ended."""

    team_shots_today: int
    project_shots_today: int
    running_jobs: int


async def add(conn: AsyncConnection, row: dict[str, Any]) -> bool:
    """Insert a job's row; False where the tenant already has a job of that id."""
    statement = insert(job).values(**row).on_conflict_do_nothing().returning(job.c.job_id)
    return (await conn.execute(statement)).first() is not None


async def refuse(conn: AsyncConnection, row: dict[str, Any]) -> None:
    """Turn a row that this transaction has added into that of a denied job."""
    changed = {name: value for name, value in row.items() if name not in ("tenant", "job_id")}
    await conn.execute(job.update().where(job.c.job_id == row["job_id"]).values(**changed))


async def find(conn: AsyncConnection, job_id: str) -> RowMapping | None:
    """The job's row with `ready` (evidence may be handed out), or None; other tenants' jobs don't exist here (I7)."""
    return (await conn.execute(select(job, _READY).where(job.c.job_id == job_id))).mappings().first()


async def lock(conn: AsyncConnection, job_id: str) -> RowMapping | None:
    """The job's row, locked until the transaction ends."""
    return (await conn.execute(select(job).where(job.c.job_id == job_id).with_for_update())).mappings().first()


async def glances(conn: AsyncConnection, job_ids: Sequence[str]) -> list[tuple[str, int, str]]:
    """(job id, last number, shown state) of each job that exists."""
    query = select(job.c.job_id, job.c.seq, _SHOWN.label("shown")).where(job.c.job_id.in_(job_ids))
    return [(row.job_id, row.seq, row.shown) for row in await conn.execute(query)]


async def advance(
    conn: AsyncConnection,
    job_id: str,
    *,
    seq: int,
    events: Sequence[Event],
    unless_canceled: bool = False,
    **columns: Any,
) -> bool:
    """Apply `events` to a row whose last number is `seq`; False where it has moved on without the caller.

    With `unless_canceled` it is False too where a cancel has been asked for.

    Each attempt begins with an event, so a worker that lost its lease finds another number here.
    """
    told = bindparam("told", to_builtins(list(events)), JSONB)
    changes = columns | {
        "state": events[-1].state,
        "seq": events[-1].seq,
        "history": job.c.history.op("||")(told),
    }
    where = [job.c.job_id == job_id, job.c.seq == seq]
    if unless_canceled:
        where.append(job.c.cancel_requested.is_(False))
    statement = job.update().where(and_(*where)).values(**changes).returning(job.c.job_id)
    return (await conn.execute(statement)).first() is not None


async def serve(conn: AsyncConnection, tenant: str) -> None:
    """From here on this transaction sees `tenant`'s rows: a worker's, after a claim."""
    await conn.execute(text("SELECT set_config('qcos.tenant', :tenant, true)"), {"tenant": tenant})


async def postpone(conn: AsyncConnection, job_id: str, until: dt.datetime) -> None:
    """Leave a claimed job where it is, to be claimed again after `until`; nothing has happened that an entry tells."""
    await conn.execute(job.update().where(job.c.job_id == job_id).values(worker=None, lease_until=until))


async def request_cancel(conn: AsyncConnection, job_id: str) -> None:
    """Ask the worker that holds the job to stop it; its next heartbeat reads this."""
    await conn.execute(job.update().where(job.c.job_id == job_id).values(cancel_requested=True))


async def keep_handle(conn: AsyncConnection, job_id: str, attempt: int, handle: dict[str, Any]) -> None:
    """Store the backend's handle beside the committed intent."""
    await conn.execute(job.update().where(and_(job.c.job_id == job_id, job.c.attempt == attempt)).values(handle=handle))


async def page(
    conn: AsyncConnection,
    *,
    limit: int,
    projects: Sequence[str] | None,
    subject: str | None,
    state: str | None,
    project: str | None,
    before: tuple[dt.datetime, str] | None,
) -> Sequence[RowMapping]:
    """Jobs of the tenant, newest first, `limit` at most; `before` is the last row of the page before."""
    shown = _SHOWN
    columns = (
        job.c.job_id,
        shown.label("state"),
        job.c.submitted_at,
        job.c.project,
        job.c.backend,
    )
    query = select(*columns).order_by(job.c.submitted_at.desc(), job.c.job_id.desc()).limit(limit)
    if projects is not None:
        query = query.where(job.c.project.in_(projects))
    if subject is not None:
        query = query.where(job.c.subject == subject)
    if state is not None:
        query = query.where(shown == state)
    if project is not None:
        query = query.where(job.c.project == project)
    if before is not None:
        query = query.where(tuple_(job.c.submitted_at, job.c.job_id) < tuple_(*before))
    return (await conn.execute(query)).mappings().all()


_USAGE = text("""
    SELECT coalesce((SELECT executions FROM jobs.usage WHERE scope = :team AND day = :day), 0) AS team,
           coalesce((SELECT executions FROM jobs.usage WHERE scope = :project_scope AND day = :day), 0) AS project,
           (SELECT count(*) FROM jobs.job WHERE project = :project
            AND state IN ('QUEUED', 'HELD', 'COMPILING', 'RESERVING', 'EXECUTING')) AS running
""")
# The rows are locked in one order, whoever counts.
_COUNT = text("""
    INSERT INTO jobs.usage AS u (tenant, scope, day, executions)
    SELECT :tenant, scope, CAST(:day AS date), :executions FROM unnest(CAST(:scopes AS text[])) AS scope ORDER BY scope
    ON CONFLICT (tenant, scope, day) DO UPDATE SET executions = u.executions + EXCLUDED.executions
""")


def usage_scopes(team: str | None, project: str) -> tuple[str, ...]:
    """Where a job's executions count."""
    return (f"project:{project}",) if team is None else (f"project:{project}", f"team:{team}")


async def usage(conn: AsyncConnection, *, team: str | None, project: str, at: dt.datetime) -> Usage:
    """Executions of the team and project since midnight UTC, and jobs of the project that haven't ended."""
    values = {
        "team": f"team:{team}" if team is not None else None,
        "project_scope": f"project:{project}",
        "project": project,
        "day": at.astimezone(dt.UTC).date(),
    }
    row = (await conn.execute(_USAGE, values)).one()
    return Usage(int(row.team), int(row.project), int(row.running))


async def count_usage(conn: AsyncConnection, row: dict[str, Any]) -> None:
    """Count an admitted job's executions; comes last in its transaction, for many count in the same rows."""
    values = {
        "tenant": row["tenant"],
        "scopes": list(usage_scopes(row["team"], row["project"])),
        "day": row["submitted_at"].astimezone(dt.UTC).date(),
        "executions": row["executions"],
    }
    await conn.execute(_COUNT, values)


async def counted(conn: AsyncConnection) -> dict[tuple[str, str, str], int]:
    """(tenant, scope, day) → executions, of every tenant; for the audit role (I6)."""
    rows = await conn.execute(text("SELECT tenant, scope, day::text AS day, executions FROM jobs.usage"))
    return {(row.tenant, row.scope, row.day): row.executions for row in rows}


async def remember_key(
    conn: AsyncConnection, tenant: str, subject: str, key: str, body_sha256: str, job_id: str
) -> RowMapping | None:
    """Bind an idempotency key to this body and job; returns what it is bound to already, if it is (for 24 hours)."""
    values = {"tenant": tenant, "subject": subject, "key": key, "body_sha256": body_sha256, "job_id": job_id}
    fresh = {"body_sha256": body_sha256, "job_id": job_id, "created_at": func.clock_timestamp()}
    statement = (
        insert(idempotency)
        .values(**values)
        .on_conflict_do_update(index_elements=["tenant", "subject", "key"], set_=fresh, where=~_KEPT)
        .returning(idempotency.c.key)
    )
    if (await conn.execute(statement)).first() is not None:
        return None
    return await known_key(conn, subject, key)


async def known_key(conn: AsyncConnection, subject: str, key: str) -> RowMapping | None:
    """What this principal's key is bound to, or None."""
    query = select(idempotency).where(and_(idempotency.c.subject == subject, idempotency.c.key == key, _KEPT))
    return (await conn.execute(query)).mappings().first()


async def forget_keys(conn: AsyncConnection) -> None:
    """Drop every tenant's keys that are older than their 24 hours."""
    await conn.execute(text("SELECT jobs.forget_keys()"))


async def claim(conn: AsyncConnection, worker: str, lease_s: float, at_most: int) -> list[tuple[str, str]]:
    """Lease up to `at_most` jobs whose admission is sealed, or whose worker was lost; (tenant, job id) of each."""
    rows = await conn.execute(
        text("SELECT tenant, job_id FROM jobs.claim(:worker, :lease, :most)"),
        {"worker": worker, "lease": lease_s, "most": at_most},
    )
    return [(row.tenant, row.job_id) for row in rows]


async def heartbeat(
    conn: AsyncConnection, worker: str, lease_s: float, held: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[int, bool]]:
    """Renew this worker's leases on the jobs that it works on; (tenant, job id) → (attempt, cancel requested).

    What isn't in the answer has ended or is another's. A job that it doesn't name isn't renewed, whatever the rows
    say: an attempt that broke must lose its lease while its worker lives on.
    """
    rows = await conn.execute(
        text("SELECT * FROM jobs.heartbeat(:worker, :lease, CAST(:tenants AS text[]), CAST(:jobs AS text[]))"),
        {
            "worker": worker,
            "lease": lease_s,
            "tenants": [tenant for tenant, _ in held],
            "jobs": [job_id for _, job_id in held],
        },
    )
    return {(row.tenant, row.job_id): (row.attempt, row.cancel_requested) for row in rows}


async def settle_states(conn: AsyncConnection, at_most: int = SETTLED_AT_ONCE) -> int:
    """Give sealed jobs their final state in the cache column; how many."""
    return int((await conn.execute(text("SELECT jobs.settle_states(:most)"), {"most": at_most})).scalar_one())


async def report_backend(conn: AsyncConnection, row: dict[str, Any]) -> None:
    """A worker says what a backend that it drives can do, and that it is there now."""
    values = {**row, "seen_at": func.clock_timestamp()}
    update = {name: value for name, value in values.items() if name != "id"}
    await conn.execute(insert(backend).values(**values).on_conflict_do_update(index_elements=["id"], set_=update))


async def backend_facts(conn: AsyncConnection, backend_id: str) -> RowMapping:
    """What the registry says of one backend."""
    return (await conn.execute(select(backend).where(backend.c.id == backend_id))).mappings().one()


async def backends(conn: AsyncConnection, stale_s: float) -> Sequence[RowMapping]:
    """The registry, by id; `fresh` tells whether a worker has been heard within `stale_s` seconds."""
    fresh = backend.c.seen_at > func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, stale_s)
    return (await conn.execute(select(backend, fresh.label("fresh")).order_by(backend.c.id))).mappings().all()


_ROWS = text("""
    SELECT tenant, job_id, state, final, seq, attempt, project, decision_id::text, backend, error->>'code' AS error,
           cost_amount::text AS cost, currency, bundle_id::text, pseudonym, team, executions, level, rate_card,
           allowed, history, spec_blob, input_blob, statement_blob, result_blob
    FROM jobs.job ORDER BY tenant, job_id
""")


async def rows(conn: AsyncConnection) -> Sequence[RowMapping]:
    """Every tenant's job rows as the fold would have them; for the audit role (I6)."""
    return (await conn.execute(_ROWS)).mappings().all()


def numeric(value: Decimal | None) -> str | None:
    """An amount as the ledger writes it: plain decimal notation."""
    return None if value is None else format(value, "f")
