# SPDX-License-Identifier: Apache-2.0
"""Spend by project, person, backend and the rest, and what changed most (G7)."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from control_plane.api import bookmark
from control_plane.api.cost_shapes import CostShown
from control_plane.api.shapes import Answers
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import showing
from control_plane.errors import Refused
from finops import spending
from finops.dimensions import DIMENSIONS, NARROWING
from finops.spending import MAX_DIMENSIONS

_NAMES = "|".join(DIMENSIONS)
_BY: Final = rf"^({_NAMES})(,({_NAMES})){{0,{MAX_DIMENSIONS - 1}}}$"
_MOMENT: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2}))?$"
)
_MOST_PAGES: Final = 10**9

_Value = Annotated[str | None, QueryParameter(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
Moment = Annotated[
    str | None,
    QueryParameter(
        pattern=_MOMENT, description="A day (UTC), YYYY-MM-DD, or a moment with its zone, as 2026-11-22T08:00:00Z."
    ),
]


@get(
    "/costs",
    opt={
        "action": "cost:read",
        "query": ("by", "month", "since", "until", "top", "cursor", "limit", *NARROWING),
        "answers": Answers(
            {200: tuple[CostShown, ...]}, refusals=("request_invalid", "period_invalid"), headers=bookmark.TOLD
        ),
    },
    summary="Spend by project, person, backend and the rest, or what changed most",
)
async def shown(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    by: Annotated[
        str, QueryParameter(pattern=_BY, description=f"Up to {MAX_DIMENSIONS} of {', '.join(DIMENSIONS)}.")
    ] = "project",
    month: Annotated[
        str | None, QueryParameter(pattern=r"^[0-9]{4}-[0-9]{2}$", description="A month (UTC), YYYY-MM.")
    ] = None,
    since: Moment = None,
    until: Moment = None,
    top: Annotated[
        int,
        QueryParameter(ge=0, le=1000, description="So many that changed most against the period before; 0 for none."),
    ] = 0,
    project: _Value = None,
    team: _Value = None,
    cost_center: _Value = None,
    backend: _Value = None,
    provider: _Value = None,
    purpose: _Value = None,
    classification: _Value = None,
    limit: bookmark.Limit = bookmark.PAGE,
    cursor: bookmark.Bookmark = None,
) -> Response[Any]:
    """A page of groups of the projects that the caller may see costs of; by default of the month that runs (UTC)."""
    names, now = by.split(","), plane.now()
    wanted = (project, team, cost_center, backend, provider, purpose, classification)
    only = {name: value for name, value in zip(NARROWING, wanted, strict=True) if value is not None}
    if top:
        asked = spending.period(month, since, until, now)
        periods = (asked, spending.before(asked, now))
        return Response(await showing.moves(plane, request.user, periods, names, only, limit=top))
    asked = spending.period(month, since, until, now, by_month="month" in names)
    offset = _offset(cursor)
    rows = await showing.spend(plane, request.user, asked, names, only, limit=limit + 1, offset=offset)
    following = [{"offset": str(offset + limit)}] * len(rows)
    return Response(rows[:limit], headers=bookmark.following(following, limit, "offset"))


def _offset(cursor: str | None) -> int:
    """How many rows the pages before had: sums change while pages are turned, so that no row is a place."""
    names = bookmark.read(cursor, 1)
    if names is None:
        return 0
    if not names[0].isdecimal() or not names[0].isascii() or int(names[0]) > _MOST_PAGES:
        said = "none that this list gave"
        raise Refused("request_invalid", f"cursor: {said}", errors=({"field": "cursor", "message": said},))
    return int(names[0])


HANDLERS = (shown,)
