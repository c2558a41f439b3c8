# SPDX-License-Identifier: Apache-2.0
"""Look at jobs, wait for them, cancel, hold, resume, settle (G1, N9, N17)."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter

from control_plane import places, telemetry
from control_plane.api import artefacts
from control_plane.api import cursor as cursors
from control_plane.api.bodies import asked_by
from control_plane.api.job_shapes import JobShown
from control_plane.api.shapes import Answers, JobListed
from control_plane.auth.access import may, require, visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import evidence, store, uncertain, view
from control_plane.jobs.admit import shown_state
from control_plane.jobs.control import signal
from control_plane.jobs.envelope import Signal
from control_plane.jobs.live import Leaving, Live
from control_plane.jobs.state import State

# Not `| None`: the text `null` would be read as one.
Wait = Annotated[
    float,
    QueryParameter(name="wait", ge=0, le=300, description="Seconds to wait for the end.", schema_extra={"minimum": 0}),
]


@get(
    "/jobs",
    opt={
        "action": "job:read",
        "query": ("cursor", "limit", "project", "state", "workflow"),
        "answers": Answers({200: tuple[JobListed, ...]}, headers=cursors.TOLD),
    },
    summary="List jobs, newest first",
)
async def list_jobs(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    in_state: Annotated[State | None, QueryParameter(name="state")] = None,
    project: Annotated[str | None, QueryParameter(max_length=128, pattern=r"^[^\x00]*$")] = None,
    workflow: Annotated[
        str | None, QueryParameter(max_length=128, pattern=r"^[^\x00]*$", description="The steps of this one.")
    ] = None,
    limit: cursors.Limit = cursors.PAGE,
    cursor: cursors.Cursor = None,
) -> Response[Any]:
    """A page of those that the caller may see; the header's cursor leads to the next."""
    if in_state is None and "state" in request.query_params:
        raise Refused("request_invalid", "state: null", errors=({"field": "state", "message": "null"},))
    projects = visible(request.user, "job:read")
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.page(
            conn,
            limit=limit + 1,
            projects=sorted(projects) if projects is not None else None,
            subject=None,
            state=in_state,
            project=project,
            workflow=workflow,
            before=cursors.read(cursor),
        )
    return Response([view.listed(row) for row in rows[:limit]], headers=cursors.following(rows, limit))


@get(
    "/jobs/{job_id:str}",
    opt={"action": "job:read", "query": ("wait",), "answers": Answers({200: JobShown})},
    summary="Show a job",
)
async def show(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    job_id: FromPath[str],
    wait: Wait = 0,
) -> Response[Any]:
    """The job with its decision, history, route and cost; `wait` returns when it has ended, or the time is over."""
    row = await await_end(plane, live, request.user, job_id, wait)
    return Response(await artefacts.job(plane, row))


def _control(sent: Signal, action: str, summary: str) -> HTTPRouteHandler:
    @post(
        f"/jobs/{{job_id:str}}/{sent}",
        status_code=202,
        opt={
            "action": "job:read",
            "then": action,
            "answers": Answers({202: JobShown}, refusals=("too_late", "transition_refused", "content_erased")),
        },
        summary=summary,
    )
    async def control(
        request: Request[Principal, Any, Any],
        plane: NamedDependency[Plane],
        live: NamedDependency[Live],
        job_id: FromPath[str],
    ) -> Response[Any]:
        """Apply the signal; the answer shows the job as it is then."""
        await steerable(plane, request.user, job_id, action)
        return await steered(plane, live, request.user, sent, job_id)

    return control


async def steerable(plane: Plane, principal: Principal, job_id: str, action: str) -> None:
    """Refused unless the principal may see the job and do this with it."""
    row = await find(plane, principal, job_id, "job:read")
    require(principal, action, row["project"])


async def steered(plane: Plane, live: Live, principal: Principal, sent: Signal, job_id: str) -> Response[Any]:
    """Apply a signal to a job that is `steerable`."""
    await signal(plane, principal, sent, job_id)
    live.ring()
    return Response(await artefacts.job(plane, await find(plane, principal, job_id, "job:read")), status_code=202)


@post(
    "/jobs/{job_id:str}/settle",
    status_code=200,
    opt={
        "action": "job:settle",
        "sees": "job:read",
        "answers": Answers(
            {200: JobShown},
            refusals=("transition_refused", "hold_closed", "amount_invalid"),
            body=uncertain.Settling,
        ),
    },
    summary="Settle a job whose outcome nobody knows",
)
async def settle(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    job_id: FromPath[str],
) -> Response[Any]:
    """Release its parked hold, or charge up to it, once; the answer shows the job as it is then."""
    asked = await asked_by(request, uncertain.decoder)
    row = await find(plane, request.user, job_id, "job:read")
    require(request.user, "job:settle", row["project"])
    await uncertain.settle(plane, request.user, row, asked)
    live.ring()
    return Response(await artefacts.job(plane, await find(plane, request.user, job_id, "job:read")))


async def find(plane: Plane, principal: Principal, job_id: str, action: str) -> evidence.Row:
    """The job's row; what the caller may not see doesn't exist (I7)."""
    (rows,) = await plane.read(principal.tenant, store.find(job_id)) if "\x00" not in job_id else ([],)
    if not rows or not may(principal, action, rows[0]["project"]):
        raise Refused("not_found", f"no job {job_id}")
    telemetry.about(rows[0])
    return rows[0]


async def await_end(plane: Plane, live: Live, principal: Principal, job_id: str, wait_s: float) -> evidence.Row:
    """The job's row once it has ended, or the time is over; what the caller may not see doesn't exist (I7)."""
    row = await find(plane, principal, job_id, "job:read")
    if not wait_s or shown_state(row) in view.ENDED:
        return row
    return await _ended(plane, live, principal, job_id, wait_s)


async def _ended(plane: Plane, live: Live, principal: Principal, job_id: str, wait_s: float) -> evidence.Row:
    """The job once it has ended, or the time is over; the caller has seen to it that the principal may see it."""
    places.waiting()
    try:
        async with (
            asyncio.timeout(min(wait_s, plane.settings.wait_limit_s)),
            live.watch(principal.tenant, job_id) as watch,
        ):
            while (await watch.changed())[1] not in view.ENDED:
                pass
    except (TimeoutError, Leaving):
        pass
    return await find(plane, principal, job_id, "job:read")


HANDLERS = (
    list_jobs,
    show,
    _control("cancel", "job:cancel", "Cancel a job"),
    _control("hold", "job:hold", "Hold a queued job"),
    _control("resume", "job:hold", "Let a held job go on"),
    settle,
)
