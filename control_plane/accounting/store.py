# SPDX-License-Identifier: Apache-2.0
"""The SQL of accounts: jobs with what submitted them, what they ran as, and the entry of their outcome."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

# A state is shown as `jobs.store` shows it. Those that a Slurm job is in have an index of their own.
_LINES = """
    SELECT j.job_id, j.project, j.actor, j.backend, j.history, j.error, j.cost_amount, j.currency, j.submitted_at,
           j.workflow, j.accounting, j.ran_as, e.leaf AS told,
           CASE WHEN j.state = 'SEALING' AND jobs.evidence_ready(j.outcome_entry) THEN j.final ELSE j.state END AS state
    FROM jobs.job j LEFT JOIN ledger.entry e ON e.entry_id = j.outcome_entry
    WHERE {where}
    ORDER BY j.submitted_at DESC, j.job_id DESC LIMIT :limit
"""
_WHERE = {
    "projects": "j.project = ANY(CAST(:projects AS text[]))",
    "since": "j.submitted_at >= :since",
    "until": "j.submitted_at < :until",
    "account": "j.accounting ->> 'account' = :account",
    "user": "(j.actor = :user OR j.subject = :user)",
    # sacct lists all tasks of an array by its id, and all parts of a heterogeneous job.
    "job": "(j.accounting IS NOT NULL OR j.ran_as IS NOT NULL) AND (j.accounting ->> 'slurm_job_id' = :job "
    "OR substring(j.accounting ->> 'slurm_job_id' FROM '^[0-9]+') = :job "
    "OR :job = ANY(string_to_array(j.ran_as ->> 'slurm_job_id', ',')))",
}
_BEFORE = "(j.submitted_at, j.job_id) < (:before_at, :before_id)"


class Wanted(Struct, frozen=True):
    """Which jobs; None asks for all. `projects` are those that the caller may see; `job` is a Slurm job's id."""

    projects: list[str] | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    account: str | None = None
    user: str | None = None
    job: str | None = None


async def lines(
    conn: AsyncConnection, wanted: Wanted, *, limit: int, before: tuple[dt.datetime, str] | None
) -> Sequence[RowMapping]:
    """Jobs of the tenant by when they were submitted, newest first; `before` is the last row of the page before."""
    given = {name: getattr(wanted, name) for name in _WHERE if getattr(wanted, name) is not None}
    where = [_WHERE[name] for name in given]
    if before is not None:
        where.append(_BEFORE)
        given |= dict(zip(("before_at", "before_id"), before, strict=True))
    statement = text(_LINES.format(where=" AND ".join(where) or "true"))
    return (await conn.execute(statement, given | {"limit": limit})).mappings().all()
