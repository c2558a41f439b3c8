# SPDX-License-Identifier: Apache-2.0
"""What is approved is kept and runs as it was kept: the compiled artefact of a job that waited for an approval (G2).

The request commits to the artefact beside its hash, so that erasing the job erases it too. Nothing is compiled a second
time: calibrations and planners move on while people think. `jobs.approval` says what an approval is worth.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane.context import Plane
from control_plane.jobs import approval, transition
from control_plane.jobs.approval import Approval
from control_plane.jobs.gate import Chosen
from control_plane.jobs.gathered import Program
from control_plane.jobs.spec import JobSpec
from control_plane.jobs.store import Change
from hal_drivers.base import Compiled
from ledger.canonical import parse_time, sha256

ARTEFACT = "approved"


def requesting(plane: Plane, job: Mapping[str, Any], spec: JobSpec, route: Chosen, compiled: Compiled) -> Change:
    """The move in place that tells what is to be approved; the tenant's vault MUST be ready."""
    now, begun = plane.now(), approval.of(job)
    if begun is None:
        raise transition.MovedOn
    (sealed,) = plane.vault.seal(job["tenant"], (msgspec.msgpack.encode(compiled),))
    bound = approval.bound(spec, sha256(compiled.artefact), route.chosen)
    asked = approval.requested(begun, bound, sealed.commitment, now)
    change = transition.move(
        job,
        (approval.WAITS,),
        "job:approval:requested",
        now,
        told={"approval": asked.document()},
        approval=asked.document(),
        route=route.lines,
        worker=None,
        lease_until=parse_time(asked.wait_until),
    )
    ((told, proof),) = change.items
    told = msgspec.structs.replace(told, commitments={ARTEFACT: sealed.commitment})
    return msgspec.structs.replace(change, items=((told, proof),), blobs=(sealed.blob,))


async def kept(plane: Plane, job: Mapping[str, Any], *, program: bool) -> Compiled | None:
    """What was compiled for the request of this job; None where it had none, or has it still to make."""
    given = approval.of(job)
    if given is None or given.kept is None:
        return None
    async with plane.transaction(job["tenant"]) as conn:
        opened = await plane.vault.read(conn, job["tenant"], given.kept)
    return msgspec.msgpack.decode(opened.content, type=Program if program else Compiled)


def using(job: Mapping[str, Any], change: Change, used: Approval, now: dt.datetime) -> Change:
    """An intent that uses up the approval, told beside it."""
    columns = change.columns | {"approval": used.document()}
    items = (*change.items, (approval.entry(job, used, now), None))
    return msgspec.structs.replace(change, columns=columns, items=items)
