# SPDX-License-Identifier: Apache-2.0
"""The outbox of notices. A job's own are written by its row's trigger, so that a job and its notices are one commit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.policy.decision import Decision, Notify
from ledger.canonical import timestamp

_DUE = text("SELECT tenant, id::text FROM jobs.due_notices(:lease_s, :most)")
_OPEN = text("SELECT id::text, channel, body, tries FROM jobs.notice WHERE id = CAST(:id AS uuid)")
_PUT = text("""
    INSERT INTO jobs.notice (tenant, channel, body) VALUES (:tenant, :channel, :body)""").bindparams(
    bindparam("body", type_=JSONB)
)
_AGAIN = text("""
    UPDATE jobs.notice SET tries = tries + 1, due_at = clock_timestamp() + make_interval(secs => :wait_s)
    WHERE id = CAST(:id AS uuid)""")
_END = text("DELETE FROM jobs.notice WHERE id = CAST(:id AS uuid) RETURNING id")


class Notice(Struct, frozen=True):
    """Somebody to be told; `tries` are those that failed."""

    tenant: str
    id: str
    channel: str
    body: dict[str, Any]
    tries: int


async def due(conn: AsyncConnection, lease_s: float, most: int) -> list[tuple[str, str]]:
    """(tenant, id) of what is to be delivered now, whosesoever; nobody else is given these until the lease is over."""
    rows = await conn.execute(_DUE, {"lease_s": lease_s, "most": most})
    return [(tenant, notice) for tenant, notice in rows]


async def opened(conn: AsyncConnection, tenant: str, notice: str) -> Notice | None:
    """What it says; None where it is done with."""
    row = (await conn.execute(_OPEN, {"id": notice})).mappings().one_or_none()
    return None if row is None else Notice(tenant, **row)


async def put(conn: AsyncConnection, tenant: str, channel: str, body: Mapping[str, Any]) -> None:
    """One more, beside those of a job's admission."""
    await conn.execute(_PUT, {"tenant": tenant, "channel": channel, "body": dict(body)})


async def further(conn: AsyncConnection, job: Mapping[str, Any], decision: Decision, at: dt.datetime) -> None:
    """Put what a later decision on an admitted job obliges to tell beyond what its admission did."""
    told = {(one["value"], one["because"]) for one in job["decision"].get("obligations", ()) if one["kind"] == "notify"}
    for one in decision.obligations:
        if isinstance(one, Notify) and (one.value, one.because) not in told:
            names = ("tenant", "project", "job_id", "state", "actor")
            body = {"version": 1, "event": "job:obliged", **{name: job[name] for name in names}}
            body |= {"decision_id": decision.id, "policy_revision": decision.policy_revision}
            await put(
                conn, job["tenant"], one.value, body | {"because": one.because, "rule": one.rule, "at": timestamp(at)}
            )


async def again(conn: AsyncConnection, notice: str, wait_s: float) -> None:
    """It failed, and is tried again after a while."""
    await conn.execute(_AGAIN, {"id": notice, "wait_s": wait_s})


async def end(conn: AsyncConnection, notice: str) -> bool:
    """Done with; False where it was already."""
    return (await conn.execute(_END, {"id": notice})).one_or_none() is not None
