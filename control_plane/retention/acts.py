# SPDX-License-Identifier: Apache-2.0
"""Holds are placed and released, contents are erased, names are forgotten: each in one transaction with its entry (G5).

Nothing that a hold covers is erased, whoever asks. Before its retention is over a job's content goes only where
somebody says so (`early`), which the entry keeps. An entry names commitments, counts and the reason: no name, and
nothing of what is erased.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane import crash
from control_plane.auth.people import store as people
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs.evidence import Row
from control_plane.retention import scope as scopes
from control_plane.retention import store
from control_plane.strict import Reason
from ledger.canonical import parse_time, timestamp
from ledger.chain import Pending
from ledger.erasure import ERASED

PLACED, RELEASED, FORGOTTEN = "evidence:hold:placed", "evidence:hold:released", "actor:name:erased"
RETENTION = "retention"  # the actor of what goes by itself
SWEPT_AT_ONCE = 100


class Placing(Struct, frozen=True, forbid_unknown_fields=True):
    """A hold that is asked for."""

    scope: Annotated[str, Meta(extra_json_schema={"pattern": scopes.PATTERN})]
    reason: Reason


class Releasing(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a hold ends."""

    reason: Reason


class Erasing(Struct, frozen=True, forbid_unknown_fields=True):
    """An erasure that is asked for; `early`: although the job's retention is not over."""

    reason: Reason
    early: bool = False


class Forgetting(Struct, frozen=True, forbid_unknown_fields=True):
    """A person whose name shall go: as `user:NAME@DOMAIN`, or by the pseudonym."""

    actor: Annotated[str, Meta(min_length=1, max_length=400, pattern=r"^[^\x00]*$")]
    reason: Reason


placing = msgspec.json.Decoder(Placing)
releasing = msgspec.json.Decoder(Releasing)
erasing = msgspec.json.Decoder(Erasing)
forgetting = msgspec.json.Decoder(Forgetting)


async def place(plane: Plane, who: Principal, asked: Placing) -> dict[str, Any]:
    """Keep what the scope covers, from the commit on; the hold."""
    now = plane.now()
    row: dict[str, Any] = {"tenant": who.tenant, "hold_id": str(uuid.uuid4()), "scope": scopes.check(asked.scope)}
    row |= {"reason": asked.reason, "placed_at": now, "placed_by": who.pseudonym}
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        await store.place(conn, row)
        body = {name: row[name] for name in ("hold_id", "scope", "reason")}
        await _tell(conn, who.tenant, PLACED, who.pseudonym, now, body)
    return row | {"released_at": None, "released_by": None}


async def release(plane: Plane, who: Principal, hold_id: str, reason: str) -> Row:
    """End a hold; its row. Refused `not_found` where none of this id stands."""
    try:
        uuid.UUID(hold_id)
    except ValueError:
        raise Refused("not_found", "no such hold stands") from None
    now = plane.now()
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        row = await store.release(conn, hold_id, now, who.pseudonym)
        if row is None:
            raise Refused("not_found", "no such hold stands")
        body = {"hold_id": hold_id, "scope": row["scope"], "reason": reason}
        await _tell(conn, who.tenant, RELEASED, who.pseudonym, now, body)
    return row


async def erase(plane: Plane, who: Principal, job_id: str, asked: Erasing) -> dict[str, Any]:
    """Erase a job's contents now; what the entry says. Raises what `_may_go` raises."""
    return await _erase(plane, who.tenant, job_id, who.pseudonym, asked)


async def sweep(plane: Plane) -> int:
    """Erase what is due, of every tenant, at most a hundred jobs; how many went."""
    now, went = plane.now(), 0
    async with plane.transaction(None) as conn:
        found = await store.expired(conn, now, SWEPT_AT_ONCE)
    for tenant, job_id in found:
        try:
            await _erase(plane, tenant, job_id, RETENTION, Erasing("its retention is over"))
            went += 1
        except Refused as refused:  # a hold was placed, or another worker was faster
            if refused.code not in {"legal_hold", "transition_refused"}:
                raise
    return went


async def _erase(plane: Plane, tenant: str, job_id: str, actor: str, asked: Erasing) -> dict[str, Any]:
    now = parse_time(timestamp(plane.now()))  # row and entry tell the same moment
    async with plane.transaction(tenant) as conn:
        await store.alone(conn, tenant)
        row = await store.job(conn, job_id)
        if row is None:
            raise Refused("not_found", f"no job {job_id}")
        await _may_go(conn, row, now, early=asked.early)
        names = await store.commitments(conn, tenant, row)
        crash.point("erase.found")
        keys = await store.erase(conn, job_id, names, now)
        body = {
            "job_id": job_id,
            "at": timestamp(now),
            "bundle_id": row["bundle_id"],
            "commitments": names,
            "keys": keys,
            "reason": asked.reason,
            "retention_until": None if row["until"] is None else timestamp(row["until"]),
            "early": row["until"] is None or row["until"] > now,
        }
        await _tell(conn, tenant, ERASED, actor, now, body)
        crash.point("erase.told")
    crash.point("erase.done")
    return body


async def _may_go(conn: AsyncConnection, row: Row, now: dt.datetime, *, early: bool) -> None:
    """Refused `transition_refused`, `legal_hold` or `retention_running` where it may not."""
    if row["erased_at"] is not None:
        raise Refused("transition_refused", f"it was erased {timestamp(row['erased_at'])}")
    if row["final"] is None:
        raise Refused("transition_refused", "the job has not ended")
    if not row["ready"]:  # what is not sealed yet could not be looked through
        raise Refused("transition_refused", "its evidence is not sealed yet")
    if (hold := await store.keeping(conn, scopes.covering(row))) is not None:
        raise Refused("legal_hold", f"legal hold {hold} keeps it")
    if not early and (row["until"] is None or row["until"] > now):
        until = "no retention was recorded" if row["until"] is None else f"to be kept until {timestamp(row['until'])}"
        raise Refused("retention_running", f"{row['job_id']}: {until}")


async def forget(plane: Plane, who: Principal, asked: Forgetting) -> list[dict[str, Any]]:
    """Erase a person's name: what each entry says. Refused `not_found`, `legal_hold`, `conflict` (jobs go on)."""
    now = plane.now()
    told = []
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        found = await store.pseudonyms(conn, asked.actor)
        if not found:
            raise Refused("not_found", "nobody of this name has jobs here")
        for pseudonym in found:
            if (hold := await store.keeping(conn, ("tenant", f"actor:{pseudonym}"))) is not None:
                raise Refused("legal_hold", f"legal hold {hold} keeps it")
            if (job := await store.unended(conn, pseudonym)) is not None:
                raise Refused("conflict", f"job {job} of theirs has not ended")
            body = {"pseudonym": pseudonym, "jobs": await store.forget(conn, pseudonym), "reason": asked.reason}
            await people.forget(conn, pseudonym)
            await _tell(conn, who.tenant, FORGOTTEN, who.pseudonym, now, body)
            told.append(body)
    return told


async def _tell(
    conn: AsyncConnection, tenant: str, kind: str, actor: str, now: dt.datetime, body: dict[str, Any]
) -> None:
    entry = Pending(entry_id=str(uuid.uuid4()), tenant=tenant, kind=kind, actor=actor, time=now, body=body)
    await ledger.store.append(conn, [(entry, None)])
