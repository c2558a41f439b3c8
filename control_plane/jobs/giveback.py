# SPDX-License-Identifier: Apache-2.0
"""What becomes of a job that a worker holds and can't finish before it stops: the next worker goes on at once (N10).

    leased, nothing told      claimable at once
    not handed over           back to QUEUED
    handed to this process    stopped, and back to QUEUED: nothing of it runs on, and no shot of it was kept
    handed to a vendor        left as it is; the lease ends now, so that the next worker asks for its token

The row is read anew and its move is conditional, so that a job which settled or was lost meanwhile stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.context import Plane
from control_plane.jobs import leases, store, transition
from control_plane.jobs.several import items_of
from control_plane.jobs.state import ACTIVE, State
from hal_drivers.base import Driver

CAUSE = "worker_stopped"
WAITING: frozenset[State] = frozenset({"QUEUED", "AWAITING_APPROVAL"})


async def give_back(plane: Plane, drivers: Mapping[str, Driver], key: tuple[str, str], worker: str) -> None:
    """Give one job back; its attempt MUST have ended in this process."""
    tenant, job_id = key
    (rows,) = await plane.read(tenant, store.find(job_id))
    if not rows or rows[0]["worker"] != worker or rows[0]["state"] not in ACTIVE | WAITING:
        return
    job = rows[0]
    if job["state"] in WAITING:
        async with plane.transaction(tenant) as conn:
            await leases.postpone(conn, job_id, plane.now())
        return
    driver = drivers.get(job["backend"] or "")
    if job["token"] is None or (driver is not None and await _stopped(driver, job["backend"], job["token"])):
        await transition.write(plane, job, transition.requeue(job, CAUSE, plane.now(), breath_s=0.0))
    else:
        async with plane.transaction(tenant) as conn:
            await leases.postpone(conn, job_id, plane.now())


async def _stopped(driver: Driver, backend: str, token: str) -> bool:
    """Whether nothing runs under the token: true of tasks that lie in this process, once they are cancelled."""
    capabilities = next(device.capabilities for device in await driver.devices() if device.id == backend)
    if capabilities.handle_scope != "process" or not capabilities.find_authoritative:
        return False
    for handle in await items_of(driver, token):
        await driver.cancel(handle)
    return True
