# SPDX-License-Identifier: Apache-2.0
"""Jobs as lines of a site's accounts, joined on Slurm's job id (G6, G7)."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from control_plane.accounting import store
from control_plane.accounting.record import Accounted, record
from control_plane.accounting.store import Wanted
from control_plane.api import cursor as cursors
from control_plane.api.costs import Moment
from control_plane.api.shapes import Answers
from control_plane.auth.access import visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.jobs.spec import SLURM_ID
from finops import spending

_Text = Annotated[str | None, QueryParameter(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]


@get(
    "/accounting",
    opt={
        "action": "accounting:read",
        "query": ("since", "until", "account", "user", "job", "limit", "cursor"),
        "answers": Answers({200: tuple[Accounted, ...]}, refusals=("period_invalid",), headers=cursors.TOLD),
    },
    summary="Jobs as lines of a site's accounts, by Slurm's job id",
)
async def accounting(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    since: Moment = None,
    until: Moment = None,
    account: _Text = None,
    user: _Text = None,
    job: Annotated[
        str | None,
        QueryParameter(
            pattern=SLURM_ID,
            description="A Slurm job's id, of who submitted or ran it: of an array or heterogeneous job all or one.",
        ),
    ] = None,
    limit: cursors.Limit = cursors.PAGE,
    cursor: cursors.Cursor = None,
) -> Response[Any]:
    """A page of those that the caller may see, newest first, by when they were submitted."""
    projects = visible(request.user, "accounting:read")
    begins, ends = spending.span(since, until)
    wanted = Wanted(
        projects=sorted(projects) if projects is not None else None,
        since=begins,
        until=ends,
        account=account,
        user=user,
        job=job,
    )
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.lines(conn, wanted, limit=limit + 1, before=cursors.read(cursor))
    return Response([record(row) for row in rows[:limit]], headers=cursors.following(rows, limit))


HANDLERS = (accounting,)
