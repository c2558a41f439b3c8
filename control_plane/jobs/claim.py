# SPDX-License-Identifier: Apache-2.0
"""Step 1 of a job's path on a worker: lease what waits, and see what each job needs (N9, N10).

A job whose worker was lost before its intent goes back into the queue; one whose intent is committed leaves here
without a route, to be found again and never sent twice (I3). What can't start now is put off; what may not start, or
never did in time, ends here with its evidence.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from control_plane import crash
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import accepted, approval, evidence, gate, holding, leases, settle, transition
from control_plane.jobs.spec import JobSpec
from control_plane.jobs.state import ACTIVE
from control_plane.jobs.store import Change
from control_plane.jobs.transition import MovedOn
from finops.errors import FinopsError
from hal_drivers.errors import BackendUnavailable
from ledger.canonical import parse_time, timestamp
from ledger.errors import LedgerError

log = logging.getLogger("qcos.worker")
# Before a job whose backends are away, or its budgets short, is looked at again: a part of how long it has waited, so
# that what waits long leaves room for what can run.
LOOK_AGAIN_S, LOOK_AT_LAST_S, LOOK_PART = 1.0, 30.0, 8
UNREADABLE_S = 60.0
MAX_ATTEMPTS = 10  # a job that breaks each worker that takes it ends here


class Claimed(msgspec.Struct, frozen=True):
    """A job that this worker holds: its row as of the claim, what was submitted, and where it will run.

    `route` is None where a lost worker had committed its intent: the job is found again, not routed. `begun` is the
    move to COMPILING, which the row has followed and no entry tells of yet. A job that awaits its approval is compiled
    where it stands, for the request.
    """

    row: dict[str, Any]
    spec: JobSpec
    submitted: evidence.Submitted
    route: gate.Chosen | None
    begun: Change | None = None


async def claim(
    plane: Plane,
    worker: str,
    at_most: int,
    *,
    rounds: leases.Rounds | None = None,
    busy: Sequence[str] = (),
    shut: Sequence[str] = (),
) -> list[Claimed]:
    """Step 1: lease jobs, tenants in turn; lost workers' jobs are recovered or put back on the way."""
    by_tenant: dict[str, list[str]] = defaultdict(list)
    lease_s = plane.settings.lease_s
    leased = await leases.claim(plane.engine, worker, lease_s, at_most, rounds=rounds, busy=busy, shut=shut)
    for tenant, job_id in leased:
        by_tenant[tenant].append(job_id)
        crash.point("claim.leased")
    claimed = []
    for tenant, job_ids in by_tenant.items():
        await plane.vault.ready(plane.engine, tenant)
        (rows,) = await plane.read(tenant, leases.taken(job_ids))
        for row in rows:
            with contextlib.suppress(MovedOn):
                if (found := await taken(plane, row, worker)) is not None:
                    claimed.append(found)
    return claimed


async def taken(plane: Plane, job: dict[str, Any], worker: str) -> Claimed | None:
    """What a worker does with a job that it has just leased; None where there is nothing to run now."""
    if job["state"] not in ACTIVE | {"QUEUED", "AWAITING_APPROVAL"}:  # held or cancelled since it was leased
        return None
    if job["state"] in ACTIVE and job["token"] is None:
        await transition.write(plane, job, transition.requeue(job, "lost_worker", plane.now()))
        return None
    try:
        submitted = settle.read_submitted(plane, job)
        spec = accepted.from_canonical(submitted.spec)
    except (Refused, LedgerError, msgspec.MsgspecError) as error:
        # Without its spec a job can be neither run nor ended with evidence: passed over and told, time and again.
        log.warning("job %s can't be read: %s", job["job_id"], error)
        await _postpone(plane, job, UNREADABLE_S)
        return None
    if job["state"] in ACTIVE:
        return Claimed(job, spec, submitted, None)
    end: settle.End | None = None
    if job["tenant_state"] == "closed":  # it was admitted as its tenant was being closed
        end = settle.Failure("tenant_closed", "the tenant was closed before the job ran")
    elif job["cancel_requested"]:
        end = settle.Cancellation()
    elif (over := approval.over(job, plane.now())) is not None:
        end = settle.Refusal(*over) if job["state"] == "AWAITING_APPROVAL" else settle.Failure(*over)
    elif (until := approval.asked_until(job)) is not None:  # a clock of ours that is behind the database's
        await _postpone(plane, job, max(0.0, (until - plane.now()).total_seconds()))
        return None
    elif job["attempt"] + job["losses"] >= MAX_ATTEMPTS:
        end = settle.Failure("job_lost", f"{MAX_ATTEMPTS} attempts ended without an outcome")
    else:
        try:
            return await _start(plane, job, spec, submitted, worker)
        except (BackendUnavailable, holding.NoRoom) as error:
            if (plane.now() - job["submitted_at"]).total_seconds() <= plane.settings.queue_limit_s:
                await _wait(plane, job, error)
                return None
            end = settle.Failure(error.code, f"no backend in {plane.settings.queue_limit_s:g} s: {error.detail}")
        except (FinopsError, gate.Stopped) as error:  # it can't be priced now, or not within its hold: it can't run
            end = settle.Failure(error.code, error.detail)
    await transition.write(plane, job, await settle.settle(plane, job, spec, submitted, end))
    return None


async def _start(
    plane: Plane, job: dict[str, Any], spec: JobSpec, submitted: evidence.Submitted, worker: str
) -> Claimed:
    route = await gate.choose(plane, job, spec, submitted)
    if job["state"] == "AWAITING_APPROVAL":
        job["route"] = route.lines
        return Claimed(job, spec, submitted, route)
    started = {
        "worker": worker,
        "attempt": job["attempt"] + 1,
        "route": route.lines,
    }
    begun = transition.move(job, ("COMPILING",), "job:attempt:started", plane.now(), **started)
    transition.follow(job, begun)
    return Claimed(job, spec, submitted, route, begun)


async def _wait(plane: Plane, job: Mapping[str, Any], error: BackendUnavailable | holding.NoRoom) -> None:
    """Leave the job waiting, with what it waits for, as its owner is told, and since when."""
    now, noted = plane.now(), job["waiting"] or {}
    since = noted.get("since") if noted.get("seq") == job["seq"] else None
    since = timestamp(now) if since is None else since
    waited_s = (now - parse_time(since)).total_seconds()
    short = error.short.budgets if isinstance(error, holding.NoRoom) else ()
    told = {"code": error.code, "detail": error.detail, "budgets": [view.record() for view in short]}
    seconds = min(max(LOOK_AGAIN_S, waited_s / LOOK_PART), LOOK_AT_LAST_S)
    await _postpone(plane, job, seconds, told | {"seq": job["seq"], "since": since})


async def _postpone(
    plane: Plane, job: Mapping[str, Any], seconds: float, waiting: Mapping[str, Any] | None = None
) -> None:
    async with plane.transaction(job["tenant"]) as conn:
        await leases.postpone(conn, job["job_id"], plane.now() + dt.timedelta(seconds=seconds), waiting)
