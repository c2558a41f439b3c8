# SPDX-License-Identifier: Apache-2.0
"""Charges as a FOCUS file (G7, G14)."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Stream

from control_plane.api.costs import Moment
from control_plane.api.shapes import Answers, Bytes
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import exporting
from finops.focus.columns import FORMATS, VERSIONS
from finops.focus.selection import Selection
from finops.spending import moment

_MEDIA = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_CSV = Bytes("text/csv", {"type": "string", "description": "docs/focus.md has every column."})
_PARQUET = Bytes(_MEDIA["parquet"], {"type": "string", "format": "binary", "description": "The same columns."})


@get(
    "/costs/export",
    opt={
        "action": "cost:read",
        "where": "tenant",
        "query": ("month", "since", "until", "format", "focus", "project"),
        "answers": Answers({200: [_CSV, _PARQUET]}, refusals=("focus_invalid", "period_invalid")),
    },
    media_type="application/octet-stream",
    summary="Charges as a FOCUS file, CSV or Parquet",
)
async def exported(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    month: Annotated[
        str | None, QueryParameter(pattern=r"^[0-9]{4}-[0-9]{2}$", description="A month (UTC), YYYY-MM.")
    ] = None,
    since: Moment = None,
    until: Moment = None,
    format: Annotated[  # noqa: A002 - its word
        str, QueryParameter(pattern=f"^({'|'.join(FORMATS)})$", description="The form of the file.")
    ] = "csv",
    focus: Annotated[
        str,
        QueryParameter(pattern="^(" + "|".join(VERSIONS).replace(".", r"\.") + ")$", description="Which FOCUS."),
    ] = "1.2",
    project: Annotated[
        str | None,
        QueryParameter(
            min_length=1, max_length=128, pattern=r"^[^\x00]*$", description="Its lines alone; all unless told."
        ),
    ] = None,
) -> Stream:
    """The lines of a month, or charged in [since, until), in the order of their moments, as they are made."""
    require(request.user, "cost:read", project)
    selection = Selection(
        month=month,
        since=moment(since, "since"),
        until=moment(until, "until"),
        project=project,
    )
    form = exporting.Form(focus, format)
    exporting.check(form)
    # As a header: of a stream, the route's own media type would win.
    kind = {"content-type": _MEDIA[format]}
    return Stream(exporting.stream(plane, request.user.tenant, selection, form), headers=kind)


HANDLERS = (exported,)
