# SPDX-License-Identifier: Apache-2.0
"""Recorded decisions with the documents that were judged: what an impact is reckoned from (G2, I7)."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from control_plane.api import cursor as cursors
from control_plane.api.shapes import Amount, Answers, Check, Currency, Hash, Instant, Reason
from control_plane.auth.access import may, visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.decisions import read
from control_plane.errors import Refused
from control_plane.jobs.state import State

JSON = "application/json"
_MOMENT = (
    r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{3})?Z$"
)
Since = Annotated[
    str | None, QueryParameter(name="since", pattern=_MOMENT, description="Decisions made then or later, UTC.")
]
Until = Annotated[str | None, QueryParameter(name="until", pattern=_MOMENT, description="Decisions made before, UTC.")]


class Recorded(Struct, frozen=True):
    """A decision on a submission, what was judged (`input`, as the policies were given it), and the job's money.

    `gone` says why there is no input any more.
    """

    decision_id: str
    job_id: str
    action: Literal["job:submit"]
    at: Instant
    project: str
    allow: bool
    reasons: tuple[Reason, ...]
    backends: tuple[str, ...]
    nodes: tuple[str, ...]
    policy_revision: Hash
    engine: str
    state: State
    backend: str | None
    held: Amount | None
    charged: Amount | None
    currency: Currency | None
    gone: Literal["erased"] | None
    input: dict[str, Any] | None


class RecordedWhole(Recorded, frozen=True, kw_only=True):
    """The same, with each check that was made."""

    checks: tuple[Check, ...]


@get(
    "/policy/decisions",
    opt={
        "action": "policy:read",
        "query": ("since", "until", "cursor", "limit"),
        "answers": Answers({200: tuple[Recorded, ...]}, headers=cursors.TOLD),
    },
    media_type=JSON,
    summary="Recorded decisions, oldest first",
)
async def decisions(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    since: Since = None,
    until: Until = None,
    limit: cursors.Limit = cursors.PAGE,
    cursor: cursors.Cursor = None,
) -> Response[bytes]:
    """A page of the decisions on submissions to the projects that the caller may see; the header leads to the next."""
    begin = read.BEGINNING if since is None else _moment(since)
    found = await read.page(
        plane,
        request.user.tenant,
        after=cursors.read(cursor) or (begin, ""),
        until=read.EVER if until is None else _moment(until),
        projects=visible(request.user, "policy:read"),
        limit=limit,
    )
    headers = {} if found.last is None else {cursors.HEADER: cursors.written(*found.last)}
    return Response(found.document, media_type=JSON, headers=headers)


@get(
    "/policy/decisions/{decision:str}",
    opt={"action": "policy:read", "answers": Answers({200: RecordedWhole}, refusals=("not_found",))},
    media_type=JSON,
    summary="One recorded decision",
)
async def show(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], decision: FromPath[str]
) -> Response[bytes]:
    """By its own id, or by that of the job that it admitted or denied."""
    found = await read.one(plane, request.user.tenant, decision)
    if found is None or not may(request.user, "policy:read", found[0]):
        raise Refused("not_found", f"no decision {decision}")
    return Response(found[1], media_type=JSON)


def _moment(text: str) -> dt.datetime:
    """The moment that the pattern let through; a day that its month doesn't have counts on into the next."""
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    begin = dt.datetime.fromisoformat(f"{year:04}-{month:02}-01{text[10:]}")
    return begin + dt.timedelta(days=day - 1)


HANDLERS = (decisions, show)
