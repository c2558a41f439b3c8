# SPDX-License-Identifier: Apache-2.0
"""What waits for a second person, and their answer (G2, N17)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from control_plane.api import artefacts
from control_plane.api import cursor as cursors
from control_plane.api.bodies import asked_by
from control_plane.api.job_shapes import ApprovalShown, JobShown
from control_plane.api.jobs import find
from control_plane.api.shapes import Amount, Answers, Currency, Instant, Reason
from control_plane.auth.access import visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import approving, store, view
from control_plane.jobs.live import Live
from control_plane.jobs.state import State

_ANSWERED = ("policy_denied", "transition_refused", "approval_pending", "content_erased", "denial_quota")


class ApprovalListed(Struct, frozen=True):
    """A job that needs an approval, or needed one: what spoke against it, and what is held for it."""

    job_id: str
    state: State
    project: str
    requested_by: str
    submitted_at: Instant
    reasons: tuple[Reason, ...]
    held: Amount | None
    currency: Currency | None
    approval: ApprovalShown


@get(
    "/approvals",
    opt={
        "action": "job:read",
        "query": ("cursor", "limit", "state"),
        "answers": Answers({200: tuple[ApprovalListed, ...]}, headers=cursors.TOLD),
    },
    summary="List jobs that wait for an approval, newest first",
)
async def approvals(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    wanted: Annotated[
        Literal["waiting", "all"], QueryParameter(name="state", description="Those answered too, or not.")
    ] = "waiting",
    limit: cursors.Limit = cursors.PAGE,
    cursor: cursors.Cursor = None,
) -> Response[Any]:
    """A page of those that the caller may see; the header's cursor leads to the next."""
    projects = visible(request.user, "job:read")
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.approvals(
            conn,
            limit=limit + 1,
            projects=sorted(projects) if projects is not None else None,
            waiting=wanted == "waiting",
            before=cursors.read(cursor),
        )
    return Response([view.awaiting(row) for row in rows[:limit]], headers=cursors.following(rows, limit))


@get(
    "/approvals/{job_id:str}",
    opt={"action": "job:read", "answers": Answers({200: ApprovalListed}, refusals=("not_found",))},
    summary="Show what is to be approved",
)
async def show(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], job_id: FromPath[str]
) -> Response[Any]:
    """The request of one job, and its answer."""
    row = await find(plane, request.user, job_id, "job:read")
    if row["approval"] is None:
        raise Refused("not_found", f"job {job_id} needs no approval")
    return Response(view.awaiting(row))


@post(
    "/jobs/{job_id:str}/approve",
    status_code=202,
    opt={
        "action": approving.ACTION,
        "sees": "job:read",
        "answers": Answers({202: JobShown}, refusals=_ANSWERED, body=approving.Approving),
    },
    summary="Approve a job that policy denied softly",
)
async def approve(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    job_id: FromPath[str],
) -> Response[Any]:
    """Let it run once, as it was compiled, until the approval expires; whether the caller may is policy's decision."""
    asked = await asked_by(request, approving.approving)
    return await _answer(request.user, plane, live, job_id, asked)


@post(
    "/jobs/{job_id:str}/reject",
    status_code=202,
    opt={
        "action": approving.ACTION,
        "sees": "job:read",
        "answers": Answers({202: JobShown}, refusals=_ANSWERED, body=approving.Rejecting),
    },
    summary="Reject a job that waits for an approval",
)
async def reject(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    job_id: FromPath[str],
) -> Response[Any]:
    """End it as denied; what was held for it is released."""
    asked = await asked_by(request, approving.rejecting)
    return await _answer(request.user, plane, live, job_id, asked)


async def _answer(
    who: Principal, plane: Plane, live: Live, job_id: str, asked: approving.Approving | approving.Rejecting
) -> Response[Any]:
    await find(plane, who, job_id, "job:read")
    await approving.answer(plane, who, job_id, asked)
    live.ring()
    return Response(await artefacts.job(plane, await find(plane, who, job_id, "job:read")), status_code=202)


HANDLERS = (approvals, show, approve, reject)
