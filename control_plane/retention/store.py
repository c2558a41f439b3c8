# SPDX-License-Identifier: Apache-2.0
"""The rows of holds and of what may be erased. Every function takes the caller's connection, which names the tenant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.blob_store
import ledger.store
from control_plane.jobs.evidence import Row

# Whoever places a hold and whoever erases wait for one another: nothing goes that is held by then.
_ALONE = text("SELECT pg_advisory_xact_lock(hashtext('qcos.retention'), hashtext(:tenant))")
_PLACE = text("""
    INSERT INTO jobs.legal_hold (tenant, hold_id, scope, reason, placed_at, placed_by)
    VALUES (:tenant, CAST(:hold_id AS uuid), :scope, :reason, :placed_at, :placed_by)""")
_RELEASE = text("""
    UPDATE jobs.legal_hold SET released_at = :at, released_by = :by
    WHERE hold_id = CAST(:hold_id AS uuid) AND released_at IS NULL
    RETURNING hold_id::text, scope, reason, placed_at, placed_by, released_at, released_by""")
_HOLDS = text("""
    SELECT hold_id::text, scope, reason, placed_at, placed_by, released_at, released_by FROM jobs.legal_hold
    WHERE :all OR released_at IS NULL ORDER BY placed_at, hold_id""")
_KEEPING = text("""
    SELECT hold_id::text FROM jobs.legal_hold WHERE scope = ANY (:scopes) AND released_at IS NULL
    ORDER BY placed_at LIMIT 1""")


async def alone(conn: AsyncConnection, tenant: str) -> None:
    """Until this transaction ends no other places a hold or erases anything in the tenant."""
    await conn.execute(_ALONE, {"tenant": tenant})


async def place(conn: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Keep a hold."""
    await conn.execute(_PLACE, dict(row))


async def release(conn: AsyncConnection, hold_id: str, at: dt.datetime, by: str) -> RowMapping | None:
    """End a hold; its row, or None where none of this id stands."""
    ended = await conn.execute(_RELEASE, {"hold_id": hold_id, "at": at, "by": by})
    return ended.mappings().one_or_none()


async def holds(conn: AsyncConnection, *, released: bool = False) -> Sequence[RowMapping]:
    """The tenant's holds, oldest first; those that were released too where asked."""
    return (await conn.execute(_HOLDS, {"all": released})).mappings().all()


async def keeping(conn: AsyncConnection, scopes: Collection[str]) -> str | None:
    """A hold that covers one of these scopes."""
    found: str | None = (await conn.execute(_KEEPING, {"scopes": list(scopes)})).scalar_one_or_none()
    return found


_EXPIRED = text("SELECT tenant, job_id FROM jobs.expired(:now, :most)")
_DUE = text("""
    SELECT job_id, project, pseudonym, submitted_at, retention_days, erased_at,
           (history -> -1 ->> 'at')::timestamptz + make_interval(days => retention_days) AS until
    FROM jobs.job
    WHERE erase_from <= :at AND erased_at IS NULL AND final IS NOT NULL
      AND (history -> -1 ->> 'at')::timestamptz + make_interval(days => retention_days) <= :at
    ORDER BY erase_from, job_id LIMIT :most""")
_JOB = text("""
    SELECT job_id, project, pseudonym, final, retention_days, erased_at, bundle_id::text, admission_entry::text,
           jobs.evidence_ready(coalesce(outcome_entry, admission_entry)) AS ready,
           spec_blob, input_blob, statement_blob, artefacts,
           (history -> -1 ->> 'at')::timestamptz + make_interval(days => retention_days) AS until
    FROM jobs.job WHERE job_id = :job_id FOR NO KEY UPDATE""")
_DOCUMENTS = text("SELECT blob FROM jobs.document WHERE bundle_id = CAST(:bundle_id AS uuid)")
_ERASED = text("UPDATE jobs.job SET erased_at = :at WHERE job_id = :job_id AND erased_at IS NULL")


async def expired(conn: AsyncConnection, now: dt.datetime, most: int) -> list[tuple[str, str]]:
    """(tenant, job) of jobs whose retention is over and that no hold keeps, of every tenant."""
    return [(row[0], row[1]) for row in await conn.execute(_EXPIRED, {"now": now, "most": most})]


async def due(conn: AsyncConnection, at: dt.datetime, most: int) -> Sequence[RowMapping]:
    """The tenant's jobs whose retention is over at this time, held or not."""
    return (await conn.execute(_DUE, {"at": at, "most": most})).mappings().all()


async def job(conn: AsyncConnection, job_id: str) -> RowMapping | None:
    """The job's row, locked until the transaction ends."""
    return (await conn.execute(_JOB, {"job_id": job_id})).mappings().one_or_none()


async def commitments(conn: AsyncConnection, tenant: str, row: Row) -> list[str]:
    """Every commitment to a content of this job: those of its row, and those of the entries that tell of it."""
    found = {row[name] for name in ("spec_blob", "input_blob", "statement_blob") if row[name] is not None}
    found |= set((row["artefacts"] or {}).values())
    documents = await conn.execute(_DOCUMENTS, {"bundle_id": row["bundle_id"]})
    found |= set(documents.scalars())  # the entry that tells of one may not be sealed yet
    # A job's decision is written right before its admission; nothing tells of it earlier.
    for leaf in await ledger.store.naming(conn, tenant, row["admission_entry"], row["job_id"]):
        if leaf.body.get("job_id") == row["job_id"]:
            found |= set(leaf.commitments.values())
    return sorted(found)


async def erase(conn: AsyncConnection, job_id: str, names: Sequence[str], at: dt.datetime) -> int:
    """Take the keys of these blobs and note it in the job's row; how many there were."""
    await conn.execute(_ERASED, {"job_id": job_id, "at": at})
    return await ledger.blob_store.erase(conn, names)


_ACTORS = text("""
    SELECT pseudonym, actor, count(*) AS jobs, min(submitted_at) AS first, max(submitted_at) AS last FROM jobs.job
    GROUP BY pseudonym, actor ORDER BY actor, pseudonym LIMIT :most""")
_LIVE = text("""
    SELECT job_id FROM jobs.job
    WHERE final IS NULL AND (pseudonym = :pseudonym OR approval -> 'answer' ->> 'by' = :pseudonym) LIMIT 1""")
_NAMED = text("""
    SELECT DISTINCT pseudonym FROM (
        SELECT actor, pseudonym FROM jobs.job
        UNION ALL SELECT approver, approval -> 'answer' ->> 'by' FROM jobs.job WHERE approver IS NOT NULL) AS named
    WHERE actor = :name OR pseudonym = :name ORDER BY 1""")
# The name of the pseudonym takes the name's place: where people are told apart they stay apart.
_FORGET = text("""
    UPDATE jobs.job SET actor = 'erased:' || pseudonym, subject = 'erased:' || pseudonym, decision = decision - 'acting'
    WHERE pseudonym = :pseudonym""")
_FORGET_APPROVER = text("""
    UPDATE jobs.job SET approver = 'erased:' || :pseudonym
    WHERE approval IS NOT NULL AND approval -> 'answer' ->> 'by' = :pseudonym""")


async def actors(conn: AsyncConnection, most: int) -> Sequence[RowMapping]:
    """Whom the pseudonyms of the tenant's jobs stand for."""
    return (await conn.execute(_ACTORS, {"most": most})).mappings().all()


async def pseudonyms(conn: AsyncConnection, name: str) -> list[str]:
    """The pseudonyms under which this actor's jobs lie, one an issuer and subject; or the one that was named."""
    return list((await conn.execute(_NAMED, {"name": name})).scalars())


async def unended(conn: AsyncConnection, pseudonym: str) -> str | None:
    """A job of theirs, or that they approved, that has not ended."""
    found: str | None = (await conn.execute(_LIVE, {"pseudonym": pseudonym})).scalar_one_or_none()
    return found


async def forget(conn: AsyncConnection, pseudonym: str) -> int:
    """Take the person's name and subject from every job's row; how many. Idempotency keys go within a day anyway.

    From the rows of jobs that they approved too, which are somebody else's and not counted.
    """
    await conn.execute(_FORGET_APPROVER, {"pseudonym": pseudonym})
    return (await conn.execute(_FORGET, {"pseudonym": pseudonym})).rowcount
