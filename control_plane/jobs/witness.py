# SPDX-License-Identifier: Apache-2.0
"""What is kept of a job whose work is divided among others: its plan, and who received what (N6, G3, I8).

The plan of an attempt is a row before its intent is committed, so that whoever takes the job up after a crash shows
the plan that ran, not one of a registry that has moved on. What nodes received and said is asked of the driver once the
task has ended, however it ended; it goes into the evidence with the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from control_plane.context import Plane
from control_plane.jobs import fees
from control_plane.jobs.settle import NOTHING, Shown
from control_plane.network import store
from control_plane.policy.document import Plan as Judged
from hal_drivers.base import Compiled, Driver, Exhibit, Handle, Witness
from hal_drivers.errors import BackendUnavailable, DriverError
from hal_drivers.p2p import planned
from hal_drivers.p2p.plan import Plan, Snapshot
from ledger.predicate import Gap

PLAN, RUN = "plan", "network"


def plan_of(compiled: Compiled) -> Judged | None:
    """The plan as policy judges it, fallbacks too; None where it isn't one."""
    if compiled.format != "PLAN":
        return None
    made = planned.read(compiled.artefact)
    drawn = made.plan
    return Judged(drawn.plan_id, drawn.mode, len(drawn.fragments), tuple(sorted(made.nodes)))


async def keep(plane: Plane, job: Mapping[str, Any], project: str, compiled: Compiled) -> None:
    """Keep the plan of this attempt; nothing where it isn't one."""
    if compiled.format != "PLAN":
        return
    made = planned.read(compiled.artefact)
    async with plane.transaction(job["tenant"]) as conn:
        await store.keep_plan(conn, job["tenant"], job["job_id"], job["attempt"], project, made.plan, made.snapshot)


async def kept(plane: Plane, job: Mapping[str, Any]) -> bytes | None:
    """For ``CompileRequest.plan``: what was kept of this attempt."""
    (rows,) = await plane.read(job["tenant"], store.plan_of(job["job_id"], job["attempt"]))
    if not rows:
        return None
    plan, snapshot = msgspec.convert(rows[0]["plan"], Plan), msgspec.convert(rows[0]["snapshot"], Snapshot)
    return planned.kept(plan, snapshot, plane.settings.network.planning())


def fees_of(compiled: Compiled, kept: Shown) -> Decimal | None:
    """What the nodes ask whose answers were accepted; None where there is no plan, or nobody tells who they were."""
    ran = next((one.data for one in kept.exhibits if one.name == RUN), None)
    if compiled.format != "PLAN" or ran is None:
        return None
    return fees.charged(planned.read(compiled.artefact), ran)


async def shown(driver: Driver, handle: Handle, compiled: Compiled | None, *, must: bool) -> Shown:
    """What evidence has of the task; `must`: raise BackendUnavailable where nobody tells, else that is a gap."""
    if not isinstance(driver, Witness):
        return NOTHING
    plan = [Exhibit(PLAN, "application/json", compiled.artefact)] if compiled is not None else []
    gaps = [] if plan else [Gap(field="artefacts.plan", reason="the circuit could not be read anew")]
    try:
        return Shown((*plan, *await driver.exhibits(handle)), tuple(gaps))
    except DriverError as error:
        if must and isinstance(error, BackendUnavailable):
            raise
        return Shown(tuple(plan), (*gaps, Gap(field="artefacts.network", reason=error.detail)))
