# SPDX-License-Identifier: Apache-2.0
"""Control signals: cancel, hold, resume (S1). Each is idempotent: asking again for what is so changes nothing.

A queued or held job is cancelled here and now; a running one by the worker that holds it, which reads the request at
its next heartbeat; one that has ended refuses with `too_late`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from control_plane import crash
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import accepted, leases, settle, store, transition
from control_plane.jobs.envelope import Signal
from control_plane.jobs.state import ACTIVE, State
from control_plane.jobs.transition import MovedOn

TRIES = 10  # a job moves at most so often between a look and a write


async def signal(plane: Plane, principal: Principal, what: Signal, job_id: str) -> None:
    """Apply one signal to a job of the principal's tenant; raises Refused `too_late` or `transition_refused`."""
    await plane.vault.ready(plane.engine, principal.tenant)
    for _ in range(TRIES):
        (rows,) = await plane.read(principal.tenant, leases.taken((job_id,)))
        if not rows:
            raise Refused("not_found", f"no job {job_id}")
        with contextlib.suppress(MovedOn):
            match what:
                case "cancel":
                    await _cancel(plane, rows[0])
                case "hold":
                    await _shift(plane, rows[0], principal, "QUEUED", "HELD", "job:control:held")
                case "resume":
                    await _shift(plane, rows[0], principal, "HELD", "QUEUED", "job:control:resumed")
            crash.point("control.done")
            return
    raise Refused("transition_refused", "the job moves too fast to be caught; ask again")


async def _cancel(plane: Plane, job: dict[str, Any]) -> None:
    if job["final"] == "CANCELED":
        return
    if job["final"] is not None:
        raise Refused("too_late", f"the job has ended: {job['final']}")
    if job["state"] in ACTIVE:
        async with plane.transaction(job["tenant"]) as conn:
            if not await store.request_cancel(conn, job["job_id"]):
                raise MovedOn
            crash.point("control.requested")
    else:
        submitted = settle.read_submitted(plane, job)
        spec = accepted.from_canonical(submitted.spec)
        change = await settle.settle(plane, job, spec, submitted, settle.Cancellation())
        crash.point("control.canceling")
        await transition.write(plane, job, change)


async def _shift(
    plane: Plane, job: dict[str, Any], principal: Principal, source: State, target: State, kind: str
) -> None:
    if job["state"] == target:
        return
    if job["state"] != source:
        raise Refused(
            "transition_refused",
            f"the job is {job['final'] or job['state']}, not {source}",
        )
    change = transition.move(job, (target,), kind, plane.now(), actor=principal.pseudonym, lease_until=None)
    crash.point("control.shifting")
    await transition.write(plane, job, change)
