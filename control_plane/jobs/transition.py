# SPDX-License-Identifier: Apache-2.0
"""One move of one job: the change of its row and the entry that tells of it, written in one call (S3, S4)."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane import telemetry
from control_plane.context import Plane
from control_plane.jobs import store
from control_plane.jobs.state import State, moves
from control_plane.jobs.store import Change
from finops.holds import Exceeded
from ledger.canonical import timestamp
from ledger.chain import Pending

LONGEST_BREATH_S = 60  # before a job that was put back may be claimed again; each attempt is entries for ever


class MovedOn(Exception):
    """The job has moved on without the caller; nothing of what it meant to write stands."""


class CancelCame(Exception):
    """A cancel was asked for before the move that was to happen unless one was; nothing was written."""


class Unheld(Exception):
    """Its hold couldn't be made as the move needs it (I3): `short` says why; nothing was written."""

    def __init__(self, short: Exceeded) -> None:
        """Carry the budgets that are short."""
        super().__init__(short.detail)
        self.short = short


class NotSealed(Exception):
    """The job's admission isn't sealed yet (I1); nothing was written."""


async def write(plane: Plane, job: dict[str, Any], change: Change, *, after: Change | None = None) -> None:
    """Write a change; `job` follows. Raises MovedOn, CancelCame, NotSealed or Unheld, and then nothing has changed.

    `after` is a move that `job` has followed and no entry tells of yet: this change's entry tells of both.
    """
    match await store.advance(plane.engine, job["tenant"], _joined(after, change)):
        case "moved":
            follow(job, change)
        case "moved_on":
            raise MovedOn
        case "canceled":
            raise CancelCame
        case "unsealed":
            raise NotSealed
        case Exceeded() as short:
            raise Unheld(short)


def follow(job: dict[str, Any], change: Change) -> None:
    """The job as it is after the change."""
    job.update(change.columns)
    job.update(
        state=change.events[-1].state,
        seq=change.events[-1].seq,
        history=[*job["history"], *msgspec.to_builtins(list(change.events))],
    )


def _joined(first: Change | None, then: Change) -> Change:
    """Two moves as one change, told by the entry that tells of the second."""
    if first is None:
        return then
    events = (*first.events, *then.events)
    both = {"events": msgspec.to_builtins(list(events))}
    items = tuple(
        (msgspec.structs.replace(told, body=told.body | both) if "events" in told.body else told, proof)
        for told, proof in then.items
    )
    return msgspec.structs.replace(
        then,
        seq=first.seq,
        events=events,
        columns=first.columns | then.columns,
        items=items,
    )


def move(
    job: Mapping[str, Any],
    targets: tuple[State, ...],
    kind: str,
    now: dt.datetime,
    *,
    actor: str | None = None,
    told: Mapping[str, Any] | None = None,
    patient: bool = False,
    **columns: Any,
) -> Change:
    """The change that leads a job through `targets` and tells it; raises TransitionRefused by the ruleset.

    `patient` where nobody waits for the entry: it is sealed with the next that somebody waits for, or soon.
    """
    events = moves(job["state"], job["seq"], targets, timestamp(now))
    body = {
        "job_id": job["job_id"],
        "attempt": columns.get("attempt", job["attempt"]),
        "events": msgspec.to_builtins(list(events)),
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
        patient=patient,
    )
    return Change(job["job_id"], job["seq"], events, columns, ((pending, None),))


def requeue(job: Mapping[str, Any], cause: str, now: dt.datetime, *, breath_s: float | None = None) -> Change:
    """Back to QUEUED, to be claimed after a breath, which grows with the attempts unless it is given."""
    telemetry.count("qcos.job.retries", cause=cause)
    if breath_s is None:
        breath_s = min(LONGEST_BREATH_S, 2 ** min(job["attempt"], 6) / 2)
    return move(
        job,
        ("QUEUED",),
        "job:attempt:abandoned",
        now,
        told={"cause": cause},
        worker=None,
        token=None,
        handle=None,
        lease_until=now + dt.timedelta(seconds=breath_s),
    )
