# SPDX-License-Identifier: Apache-2.0
"""The SQL of jobs: rows that cache the ledger's fold, idempotency keys, usage, the tenant's past.

Every function takes a connection whose transaction names the tenant; the caller commits, together with the
entry that tells of the change. A transition is conditional on `attempt` and on the job's last number, so that
a worker that lost its lease changes nothing (N9, N10).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias, cast

import msgspec
import psycopg
from msgspec import Struct
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
    case,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import finops.store
import ledger.store
from control_plane.db import Query, call
from control_plane.jobs.state import ACTIVE, FINAL, Event, State
from finops.errors import CurrencyMismatch
from finops.holds import Exceeded
from ledger.blob import SealedBlob
from ledger.chain import Evidence, Pending

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
            "issuer",
            "credential",
            "state",
            "final",
            "level",
        )
    ),
    *(Column(name, Integer) for name in ("seq", "attempt", "executions", "losses")),
    *(Column(name, DateTime(timezone=True)) for name in ("submitted_at", "lease_until")),
    *(Column(name, JSONB) for name in ("history", "decision", "route", "artefacts", "error", "handle")),
    Column("settlement", JSONB(none_as_null=True)),
    Column("waiting", JSONB(none_as_null=True)),
    *(Column(name, Uuid(as_uuid=False)) for name in ("decision_id", "admission_entry", "outcome_entry", "bundle_id")),
    *(Column(name, Text) for name in ("spec_blob", "input_blob", "statement_blob", "result_blob")),
    *(Column(name, Text) for name in ("currency", "backend", "token", "rate_card", "partial", "worker")),
    *(Column(name, Numeric) for name in ("hold_amount", "cost_amount")),
    Column("allowed", ARRAY(Text)),
    Column("cancel_requested", Boolean),
    Column("traceparent", Text),
    Column("workflow", JSONB),
    Column("accounting", JSONB(none_as_null=True)),
    Column("ran_as", JSONB(none_as_null=True)),
    Column("approval", JSONB(none_as_null=True)),
    Column("approver", Text),
    Column("envelope", JSONB(none_as_null=True)),
    Column("estimate", JSONB(none_as_null=True)),
    Column("rate_cards", JSONB(none_as_null=True)),
    Column("vendor_tasks", JSONB(none_as_null=True)),
    schema="jobs",
)

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
    team_running_jobs: int


Items: TypeAlias = tuple[tuple[Pending, Evidence | None], ...]


class NewJob(Struct, frozen=True):
    """An admission or a denial: all that one call writes. `key` is (subject, key, hash of the body)."""

    row: dict[str, Any]
    items: Items
    blobs: tuple[SealedBlob, ...]
    key: tuple[str, str, str] | None = None
    hold: dict[str, Any] | None = None
    aside: bool = False
    """Whether the entries are put aside, to be folded with alike ones."""


class Change(Struct, frozen=True):
    """One change of one job whose last number is `seq`: all that one call writes.

    `worker` asks that this worker has the lease, `sealed` that its admission is sealed (I1), `unless_canceled` that no
    cancel was asked for, and `rehold` that the job's hold is made so. `events` is never empty.
    """

    job_id: str
    seq: int
    events: tuple[Event, ...]
    columns: dict[str, Any] = {}
    items: Items = ()
    blobs: tuple[SealedBlob, ...] = ()
    money: dict[str, Any] | None = None
    charges: Sequence[dict[str, Any]] | None = None
    """The lines that the capture consists of, as `finops.add_charges` takes them."""
    worker: str | None = None
    sealed: bool = False
    unless_canceled: bool = False
    rehold: dict[str, Any] | None = None


Admitted: TypeAlias = Literal["admitted", "repeated", "duplicate", "missing", "crowded", "quota"] | Exceeded
Moved: TypeAlias = Literal["moved", "moved_on", "canceled", "unsealed"] | Exceeded

_ADMIT = "SELECT jobs.admit(%s, %s::jsonb, %b::bytea[], %b::bytea[])"
_ADVANCE = "SELECT jobs.advance(%s, %s::jsonb, %b::bytea[], %b::bytea[])"
_told = msgspec.json.Decoder(float_hook=Decimal).decode  # amounts among it


async def admit(engine: AsyncEngine, tenant: str, new: NewJob) -> Admitted:
    """Write a new job with its hold, blobs and entries, or nothing; says why not (I3). Durable once this returns.

    Raises FinopsError where a budget has another currency than the hold.
    """
    admitted = new.row["state"] != "DENIED"
    write = {
        "job": _BLANK | new.row,
        "key": new.key and dict(zip(("subject", "key", "body_sha256"), new.key, strict=True)),
        "hold": new.hold,
        "scopes": usage_scopes(new.row["team"], new.row["project"]) if admitted else (),
        "day": new.row["submitted_at"].astimezone(dt.UTC).date(),
    }
    if new.aside:
        write |= {"fold": [entry.entry_id for entry, _ in new.items], "fold_actor": new.row["pseudonym"]}
    try:
        outcome = await _write(engine, _ADMIT, tenant, write, new.items, new.blobs)
    except psycopg.errors.UniqueViolation:  # another of this id or key came at the same moment: now it is there
        outcome = await _write(engine, _ADMIT, tenant, write, new.items, new.blobs)
    if outcome == "currency":
        raise CurrencyMismatch("a budget of this job is in another currency", field="currency")
    return cast("Admitted", _refused(outcome))


_COUNT_DENIAL = text("SELECT verdict, suppressed FROM jobs.count_denial(:tenant, :pseudonym, :octets, :most, :alone)")


async def count_denial(
    conn: AsyncConnection, tenant: str, pseudonym: str, *, octets: int, most: int, alone: int
) -> tuple[str, int]:
    """Count one more denial of a person: (alone | fold | suppressed, how many of today are suppressed)."""
    values = {"tenant": tenant, "pseudonym": pseudonym, "octets": octets, "most": most, "alone": alone}
    row = (await conn.execute(_COUNT_DENIAL, values)).one()
    return str(row.verdict), int(row.suppressed)


async def advance(engine: AsyncEngine, tenant: str, change: Change) -> Moved:
    """Change a job, or nothing where it has moved on without the caller. Durable once this returns.

    Each attempt begins with an event, so a worker that lost its lease finds another number here.
    """
    write = {
        "job_id": change.job_id,
        "seq": change.seq,
        "events": change.events,
        "set": change.columns,
        "money": change.money,
        "worker": change.worker,
        "sealed": change.sealed,
        "unless_canceled": change.unless_canceled,
        "rehold": change.rehold,
    }
    if change.charges is not None:
        write["charges"] = change.charges
    outcome = await _write(engine, _ADVANCE, tenant, write, change.items, change.blobs)
    return cast("Moved", _refused(outcome))


def _refused(outcome: str) -> str | Exceeded:
    """What a function answered: a word, or in JSON the budgets that are short."""
    return finops.store.exceeded(_told(outcome)["exceeded"]) if outcome.startswith("{") else outcome


async def _write(
    engine: AsyncEngine, statement: str, tenant: str, write: dict[str, Any], items: Items, blobs: Sequence[SealedBlob]
) -> Any:
    packed = ledger.store.parcel(items, blobs)
    document = msgspec.json.encode(write | packed.names).decode()
    return await call(engine, statement, tenant, document, packed.blobs, packed.entries)


# What a row has before anything happened to it.
_BLANK: dict[str, Any] = {
    "attempt": 0,
    "allowed": (),
    "route": (),
    "artefacts": {},
    "cancel_requested": False,
    "losses": 0,
}


_FIND = """
    SELECT j.*, jobs.evidence_ready(coalesce(j.outcome_entry, j.admission_entry)) AS ready,
           CASE WHEN j.state = 'QUEUED' THEN (
               SELECT l.running_jobs FROM auth.tenant_limit l WHERE l.tenant = j.tenant AND l.running_jobs <= (
                   SELECT count(*) FROM jobs.job r WHERE r.tenant = j.tenant AND r.worker IS NOT NULL
                       AND r.state IN ('COMPILING', 'RESERVING', 'EXECUTING'))) END AS running_limit,
           (SELECT e.leaf FROM ledger.entry e WHERE e.entry_id = j.outcome_entry) AS told
    FROM jobs.job j WHERE j.job_id = %(job)s
"""


def find(job_id: str) -> Query:
    """The query for a job's row; other tenants' jobs don't exist (I7).

    With `ready` (evidence may be handed out) and `told`, the leaf of its outcome once that is sealed.
    """
    return _FIND, {"job": job_id}


_GLANCES = """
    SELECT job_id, seq, CASE WHEN state = 'SEALING' AND jobs.evidence_ready(outcome_entry) THEN final ELSE state END
        AS shown
    FROM jobs.job WHERE job_id = ANY (%(jobs)s::text[])
"""


def glances(job_ids: Sequence[str]) -> Query:
    """The query for job id, last number and shown state of each job that exists."""
    return _GLANCES, {"jobs": list(job_ids)}


async def request_cancel(conn: AsyncConnection, job_id: str) -> bool:
    """Leave word for the worker that runs the job; False where none does any more."""
    running = and_(job.c.job_id == job_id, job.c.state.in_(ACTIVE))
    asked = job.update().where(running).values(cancel_requested=True).returning(job.c.job_id)
    return (await conn.execute(asked)).first() is not None


async def keep_handle(conn: AsyncConnection, job_id: str, attempt: int, handle: dict[str, Any]) -> None:
    """Store the backend's handle beside the committed intent."""
    await conn.execute(job.update().where(and_(job.c.job_id == job_id, job.c.attempt == attempt)).values(handle=handle))


async def keep_vendor_tasks(conn: AsyncConnection, job_id: str, attempt: int, named: list[dict[str, Any]]) -> None:
    """Store by which names vendors know the job's tasks, those of earlier attempts among them."""
    mine = and_(job.c.job_id == job_id, job.c.attempt == attempt)
    await conn.execute(job.update().where(mine).values(vendor_tasks=named))


async def keep_settlement(conn: AsyncConnection, job_id: str, settlement: Mapping[str, Any], cost: Decimal) -> bool:
    """Note how an UNCERTAIN job was settled, and what it cost after all; False where it was settled before."""
    unsettled = and_(job.c.job_id == job_id, job.c.final == "UNCERTAIN", job.c.settlement.is_(None))
    noted = job.update().where(unsettled).values(settlement=dict(settlement), cost_amount=cost).returning(job.c.job_id)
    return (await conn.execute(noted)).first() is not None


def _in(state: State) -> ColumnElement[bool]:
    """Rows shown in a state, said so that an index of the few such rows serves, however many jobs there are (N18)."""
    # In the text, not as a parameter: a plan for any state could use no partial index.
    name: ColumnElement[str] = literal_column(f"'{state}'", Text)
    ready = func.jobs.evidence_ready(job.c.outcome_entry)
    if state == "SEALING":
        return and_(job.c.state == name, ~ready)
    if state in FINAL:
        return and_(job.c.final == name, or_(job.c.state == name, and_(job.c.state == "SEALING", ready)))
    return job.c.state == name


async def page(
    conn: AsyncConnection,
    *,
    limit: int,
    projects: Sequence[str] | None,
    subject: str | None,
    state: State | None,
    project: str | None,
    workflow: str | None = None,
    before: tuple[dt.datetime, str] | None,
) -> Sequence[RowMapping]:
    """Jobs of the tenant, newest first, `limit` at most; `before` is the last row of the page before."""
    columns = (
        job.c.job_id,
        _SHOWN.label("state"),
        job.c.submitted_at,
        job.c.project,
        job.c.backend,
        job.c.workflow,
    )
    query = select(*columns).order_by(job.c.submitted_at.desc(), job.c.job_id.desc()).limit(limit)
    if projects is not None:
        query = query.where(job.c.project.in_(projects))
    if subject is not None:
        query = query.where(job.c.subject == subject)
    if state is not None:
        query = query.where(_in(state))
    if project is not None:
        query = query.where(job.c.project == project)
    if workflow is not None:
        query = query.where(job.c.workflow.is_not(None), job.c.workflow["id"].astext == workflow)
    if before is not None:
        query = query.where(tuple_(job.c.submitted_at, job.c.job_id) < tuple_(*before))
    return (await conn.execute(query)).mappings().all()


async def approvals(
    conn: AsyncConnection,
    *,
    limit: int,
    projects: Sequence[str] | None,
    waiting: bool,
    before: tuple[dt.datetime, str] | None,
) -> Sequence[RowMapping]:
    """Jobs of the tenant that wait for an approval, or ever needed one, newest first, `limit` at most."""
    query = select(job, _READY).order_by(job.c.submitted_at.desc(), job.c.job_id.desc()).limit(limit)
    query = query.where(_in("AWAITING_APPROVAL") if waiting else job.c.approval.is_not(None))
    if projects is not None:
        query = query.where(job.c.project.in_(projects))
    if before is not None:
        query = query.where(tuple_(job.c.submitted_at, job.c.job_id) < tuple_(*before))
    return (await conn.execute(query)).mappings().all()


_UNFINISHED = "state IN ('QUEUED', 'HELD', 'COMPILING', 'RESERVING', 'EXECUTING', 'AWAITING_APPROVAL')"
_EXECUTIONS = "(SELECT executions FROM jobs.usage WHERE scope = %({scope})s AND day = %(day)s)"
_USED = f"""
    SELECT {{team}}, coalesce({_EXECUTIONS.format(scope="scope")}, 0)::bigint AS project,
           (SELECT count(*) FROM jobs.job WHERE project = %(project)s AND {_UNFINISHED}) AS running,
           EXISTS (SELECT FROM auth.project WHERE project = %(project)s AND state = 'closed') AS closed,
           clock_timestamp() AS now
"""
_OF_TEAM = f"""coalesce({_EXECUTIONS.format(scope="team")}, 0)::bigint AS team,
           (SELECT count(*) FROM jobs.job WHERE team = %(team_name)s AND {_UNFINISHED}) AS team_running"""
# Two texts: with a null for the team PostgreSQL would plan the whole anew for each job.
_USAGE = _USED.format(team=_OF_TEAM)
_USAGE_TEAMLESS = _USED.format(team="0::bigint AS team, 0::bigint AS team_running")


_PAST = """
    SELECT backend, final, error ->> 'code' AS code, wait_s, CASE WHEN attempt > 1 THEN route END AS route,
           submitted_at > now() - interval '1 hour' AS recent, executions, cost_amount AS cost, rate_card, estimate,
           CASE WHEN estimate IS NOT NULL AND final = 'COMPLETED' THEN (
               SELECT line ->> 'price' FROM jsonb_array_elements(route) AS line
               WHERE line ->> 'verdict' = 'chosen' AND line ->> 'backend' = backend LIMIT 1) END AS bound
    FROM (SELECT * FROM jobs.job WHERE submitted_at > now() - make_interval(days => %(days)s)
          ORDER BY submitted_at DESC, job_id DESC LIMIT %(most)s) AS last
    WHERE final IS NOT NULL AND (backend IS NOT NULL OR attempt > 1)
"""
PAST_JOBS = 500


def past(days: int) -> Query:
    """The query for the tenant's last ended jobs, newest first, as `past.fold` and `expected.learn` want them; bounded
    in number.
    """
    return _PAST, {"days": days, "most": PAST_JOBS}


def usage_scopes(team: str | None, project: str) -> tuple[str, ...]:
    """Where a job's executions count."""
    return (f"project:{project}",) if team is None else (f"project:{project}", f"team:{team}")


def usage(*, team: str | None, project: str, at: dt.datetime) -> Query:
    """The query for executions of team and project since midnight UTC, and jobs of the project that haven't ended.

    Its one row is a `Usage` by `used`, whether the project is closed, and `now` by the database's clock.
    """
    values = {"scope": f"project:{project}", "project": project, "day": at.astimezone(dt.UTC).date()}
    return (_USAGE_TEAMLESS, values) if team is None else (_USAGE, values | {"team": f"team:{team}", "team_name": team})


def used(row: Mapping[str, Any]) -> Usage:
    """The figures of `usage`'s row."""
    return Usage(row["team"], row["project"], row["running"], row["team_running"])


async def counted(conn: AsyncConnection) -> dict[tuple[str, str, str], int]:
    """(tenant, scope, day) → executions, of every tenant; for the audit role (I6)."""
    rows = await conn.execute(text("SELECT tenant, scope, day::text AS day, executions FROM jobs.usage"))
    return {(row.tenant, row.scope, row.day): row.executions for row in rows}


_KEY = """
    SELECT body_sha256, job_id FROM jobs.idempotency
    WHERE subject = %(subject)s AND key = %(key)s AND created_at > clock_timestamp() - interval '24 hours'
"""


def known_key(subject: str, key: str | None) -> Query:
    """The query for what this principal's key is bound to: no row, or one."""
    return _KEY, {"subject": subject, "key": key}


async def forget_keys(conn: AsyncConnection) -> None:
    """Drop every tenant's keys that are older than their 24 hours."""
    await conn.execute(text("SELECT jobs.forget_keys()"))


async def settle_states(conn: AsyncConnection, at_most: int = SETTLED_AT_ONCE) -> int:
    """Give sealed jobs their final state in the cache column; how many."""
    return int((await conn.execute(text("SELECT jobs.settle_states(:most)"), {"most": at_most})).scalar_one())


_ROWS = text("""
    SELECT tenant, job_id, state, final, seq, attempt, project, decision_id::text, backend, error->>'code' AS error,
           cost_amount::text AS cost, currency, bundle_id::text, pseudonym, team, executions, level, rate_card,
           rate_cards, allowed, history, workflow, accounting, ran_as, approval, envelope, spec_blob, input_blob,
           statement_blob, result_blob, retention_days, erased_at, estimate, vendor_tasks
    FROM jobs.job ORDER BY tenant, job_id
""")


async def rows(conn: AsyncConnection) -> Sequence[RowMapping]:
    """Every tenant's job rows as the fold would have them; for the audit role (I6)."""
    return (await conn.execute(_ROWS)).mappings().all()


def numeric(value: Decimal | None) -> str | None:
    """An amount as the ledger writes it: plain decimal notation."""
    return None if value is None else format(value, "f")
