# SPDX-License-Identifier: Apache-2.0
"""Control signals: cancel, hold, resume (S1). Each is idempotent: asking again for what is so changes nothing.

A queued or held job is cancelled here and now; a running one by the worker that holds it, which reads the request at
its next heartbeat; one that has ended refuses with `too_late`.
"""

from __future__ import annotations

from typing import Any

import ledger.store
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import settle, store, transition
from control_plane.jobs import spec as specs
from control_plane.jobs.envelope import Signal
from control_plane.jobs.state import ACTIVE


async def signal(plane: Plane, principal: Principal, what: Signal, job_id: str) -> None:
    """Apply one signal to a job of the principal's tenant; raises Refused `too_late` or `transition_refused`."""
    async with plane.transaction(principal.tenant) as conn:
        row = await store.lock(conn, job_id)
        if row is None:
            raise Refused("not_found", f"no job {job_id}")
        job = dict(row)
        match what:
            case "cancel":
                await _cancel(plane, conn, job)
            case "hold":
                await _shift(plane, conn, job, principal, "QUEUED", "HELD", "job:control:held")
            case "resume":
                await _shift(plane, conn, job, principal, "HELD", "QUEUED", "job:control:resumed")


async def _cancel(plane: Plane, conn: Any, job: dict[str, Any]) -> None:
    if job["final"] == "CANCELED":
        return
    if job["final"] is not None:
        raise Refused("too_late", f"the job has ended: {job['final']}")
    if job["state"] in ACTIVE:
        await store.request_cancel(conn, job["job_id"])
    else:
        submitted = await settle.read_submitted(plane, conn, job)
        spec = specs.from_canonical(submitted.spec)
        told = await settle.settle(plane, conn, job, spec, submitted, settle.Cancellation())
        await ledger.store.append(conn, [told])


async def _shift(
    plane: Plane,
    conn: Any,
    job: dict[str, Any],
    principal: Principal,
    source: Any,
    target: Any,
    kind: str,
) -> None:
    if job["state"] == target:
        return
    if job["state"] != source:
        raise Refused(
            "transition_refused",
            f"the job is {job['final'] or job['state']}, not {source}",
        )
    await transition.move(plane, conn, job, (target,), kind, actor=principal.pseudonym, lease_until=None)
