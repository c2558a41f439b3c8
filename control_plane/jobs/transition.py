# SPDX-License-Identifier: Apache-2.0
"""One move of one job: the row and the entry that tells of it, in the caller's transaction (S3, S4)."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane import telemetry
from control_plane.context import Plane
from control_plane.jobs import store
from control_plane.jobs.state import State, moves
from ledger.canonical import timestamp
from ledger.chain import Pending

LONGEST_BREATH_S = 60  # before a job that was put back may be claimed again; each attempt is entries for ever


class MovedOn(Exception):
    """The job has moved on without the caller; nothing of what it meant to write may stand."""


async def move(
    plane: Plane,
    conn: AsyncConnection,
    job: dict[str, Any],
    targets: tuple[State, ...],
    kind: str,
    *,
    actor: str | None = None,
    told: dict[str, Any] | None = None,
    unless_canceled: bool = False,
    **columns: Any,
) -> None:
    """Lead a job through `targets` and tell it; `job` follows. Raises MovedOn, or TransitionRefused by the ruleset."""
    now = plane.now()
    events = moves(job["state"], job["seq"], targets, timestamp(now))
    if not await store.advance(
        conn, job["job_id"], seq=job["seq"], events=events, unless_canceled=unless_canceled, **columns
    ):
        raise MovedOn
    job.update(columns)
    told_events = msgspec.to_builtins(list(events))
    body = {
        "job_id": job["job_id"],
        "attempt": job["attempt"],
        "events": told_events,
        **(told or {}),
    }
    pending = Pending(
        entry_id=str(uuid.uuid4()),
        tenant=job["tenant"],
        kind=kind,
        actor=actor or job["pseudonym"],
        time=now,
        body=body,
        traceparent=telemetry.traceparent(),
    )
    await ledger.store.append(conn, [(pending, None)])
    job.update(
        state=events[-1].state,
        seq=events[-1].seq,
        history=[*job["history"], *told_events],
    )


async def requeue(
    plane: Plane, conn: AsyncConnection, job: dict[str, Any], cause: str, *, breath_s: float | None = None
) -> None:
    """Back to QUEUED, to be claimed after a breath, which grows with the attempts unless it is given."""
    telemetry.count("qcos.job.retries", cause=cause)
    if breath_s is None:
        breath_s = min(LONGEST_BREATH_S, 2 ** min(job["attempt"], 6) / 2)
    await move(
        plane,
        conn,
        job,
        ("QUEUED",),
        "job:attempt:abandoned",
        told={"cause": cause},
        worker=None,
        token=None,
        handle=None,
        lease_until=plane.now() + dt.timedelta(seconds=breath_s),
    )
