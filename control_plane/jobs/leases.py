# SPDX-License-Identifier: Apache-2.0
"""The SQL of leases: which worker has which job, for how long, and all that it needs to work on it (N9, N10).

No entry tells of a lease. Functions of every tenant's rows are the database's own (SECURITY DEFINER); what a worker
reads of a job it reads as the job's tenant.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.db import Query, call
from control_plane.jobs.store import job
from ledger.blob import SealedBlob


class Rounds:
    """How far one worker has come in going round the tenants: the next claim begins with the one after the last.

    `more`: the last claim took as many as it might, so there may be others.
    """

    def __init__(self) -> None:
        self.after, self.more = "", False


async def claim(
    engine: AsyncEngine,
    worker: str,
    lease_s: float,
    at_most: int,
    *,
    rounds: Rounds | None = None,
    busy: Sequence[str] = (),
    shut: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Lease up to `at_most` jobs that wait, or whose worker was lost; (tenant, job id) of each.

    Tenants take turns, so that none starves another: first whoever has least here (`busy`: one name a job), then by
    `rounds`. From the tenants in `shut` nothing is taken but what was lost. A lease is all that this is: no entry tells
    of it, and the job's admission need not be sealed yet.
    """
    rounds = rounds or Rounds()
    found = await call(engine, _CLAIM, worker, lease_s, at_most, list(busy), list(shut), rounds.after)
    jobs = found["jobs"] or ()
    rounds.after, rounds.more = found["after"], len(jobs) == at_most
    return [(tenant, job_id) for tenant, job_id in jobs]


_CLAIM = "SELECT jobs.claim(%s, %s, %s, %s::text[], %s::text[], %s)"
_SOLD = """SELECT b.budget_id AS id, b.scope, b.period, b.unit, b.mode FROM finops.budget b
    WHERE b.scope >= 'provider:' AND b.scope < 'provider;' AND b.tenant = """
_TAKEN = f"""
    SELECT j.*, jobs.evidence_ready(coalesce(j.outcome_entry, j.admission_entry)) AS ready,
           (SELECT coalesce(jsonb_agg(to_jsonb(o)), '[]') FROM ({_SOLD} j.tenant) AS o) AS providers,
           (SELECT t.state FROM auth.tenant t WHERE t.tenant = j.tenant) AS tenant_state,
           CASE WHEN h.job_id IS NOT NULL THEN jsonb_build_object('amount', h.amount::text, 'currency', h.currency,
               'budgets', h.budgets, 'windows', h.windows, 'shots', h.shots::text) END AS hold,
           s.nonce AS spec_nonce, s.wrapped_key AS spec_key, s.ciphertext AS spec_ciphertext,
           i.nonce AS input_nonce, i.wrapped_key AS input_key, i.ciphertext AS input_ciphertext
    FROM jobs.job j
    LEFT JOIN finops.hold h ON h.tenant = j.tenant AND h.job_id = j.job_id
    LEFT JOIN ledger.blob s ON s.tenant = j.tenant AND s.commitment = j.spec_blob AND s.wrapped_key IS NOT NULL
    LEFT JOIN ledger.blob i ON i.tenant = j.tenant AND i.commitment = j.input_blob AND i.wrapped_key IS NOT NULL
    WHERE j.job_id = ANY (%(jobs)s::text[])
"""


def taken(job_ids: Sequence[str]) -> Query:
    """The query for all that is needed to work on jobs: their rows, holds, and what was submitted and judged."""
    return _TAKEN, {"jobs": list(job_ids)}


def providers(tenant: str) -> Query:
    """The query for the budgets of providers as they are now, as `taken`'s rows have them."""
    return f"{_SOLD} %(tenant)s", {"tenant": tenant}


def submitted(row: Mapping[str, Any]) -> tuple[SealedBlob, SealedBlob] | None:
    """Spec and decision input, as `taken`'s row holds them; None where their content was erased."""
    if row["spec_key"] is None or row["input_key"] is None:
        return None
    parts = ("nonce", "key", "ciphertext")
    spec, judged = (
        SealedBlob(row["tenant"], row[f"{name}_blob"], *(row[f"{name}_{part}"] for part in parts))
        for name in ("spec", "input")
    )
    return spec, judged


async def heartbeat(
    conn: AsyncConnection, worker: str, lease_s: float, held: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], bool]:
    """Renew this worker's leases on the jobs that it works on; (tenant, job id) → whether a cancel was asked for.

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
    return {(row.tenant, row.job_id): row.cancel_requested for row in rows}


async def keep(conn: AsyncConnection, job_id: str, worker: str) -> None:
    """Make a waiting job this worker's own for as long as nobody else may claim it."""
    await conn.execute(job.update().where(job.c.job_id == job_id).values(worker=worker))


async def postpone(
    conn: AsyncConnection, job_id: str, until: dt.datetime, waiting: Mapping[str, Any] | None = None
) -> None:
    """Leave a claimed job where it is, to be claimed again after `until`; nothing has happened that an entry tells.

    `waiting` is what it waits for and since when, with the number of the job's last event: of a later one it isn't true
    any more.
    """
    left = {"lease_until": until, "worker": None, "waiting": waiting}
    await conn.execute(job.update().where(job.c.job_id == job_id).values(left))
