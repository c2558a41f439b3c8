# SPDX-License-Identifier: Apache-2.0
"""Shadow mode over HTTP: begin to follow by a candidate, see what it would have decided, end it (G2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from msgspec import Meta, Struct

from control_plane import policies
from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Hash, Instant
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.shadow import acts


class ShadowRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The files of a candidate by path, as text."""

    files: Annotated[dict[str, str], Meta(min_length=1)]
    message: Annotated[str, Meta(max_length=2000)] = ""


class Counts(Struct, frozen=True):
    """Of the caller's tenant since the shadow began; `undecided`: the input is gone, or the candidate gave nothing."""

    decided: int
    same: int
    deny_to_allow: int
    allow_to_deny: int
    other: int
    undecided: int


class Shadow(Struct, frozen=True):
    """The candidate and what it would have decided; all but `state` is absent where there never was one.

    `lag` is how many recorded decisions wait for it; `reason` says why it was stopped, unless a person did that.
    """

    state: Literal["off", "following", "stopped"]
    revision: Hash | None = None
    message: str | None = None
    started_at: Instant | None = None
    stopped_at: Instant | None = None
    reason: str | None = None
    counts: Counts | None = None
    lag: int | None = None


_decoder = msgspec.json.Decoder(ShadowRequest)


@get(
    "/policy/shadow",
    opt={"action": "policy:read", "answers": Answers({200: Shadow})},
    summary="The candidate in shadow mode",
)
async def show(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """What it would have decided otherwise is in entries of kind `policy:shadow:difference`."""
    return Response(await acts.shown(plane, request.user.tenant))


@post(
    "/policy/shadow",
    opt={
        "action": "policy:push",
        "where": "tenant",
        "answers": Answers({201: Shadow}, refusals=("forbidden", "policy_refused"), body=ShadowRequest),
    },
    summary="Let a candidate decide beside the policies in force",
)
async def begin(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Judged as a push is. It acts on nothing; it takes the place of any candidate before it."""
    asked = await asked_by(request, _decoder)
    require(request.user, "policy:push", None)
    policies.require_tenant(plane.settings, request.user)
    files = {path: content.encode() for path, content in asked.files.items()}
    candidate, faults = await policies.judged(plane, request.user, files)
    if candidate is None or faults:
        raise policies.refused(faults)
    await acts.begin(plane, request.user, candidate, asked.message)
    return Response(await acts.shown(plane, request.user.tenant), status_code=201)


@delete(
    "/policy/shadow",
    opt={"action": "policy:push", "where": "tenant", "answers": Answers({200: Shadow}, refusals=("forbidden",))},
    status_code=200,
    summary="End shadow mode",
)
async def end(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """What it found stays: its counts here, its differences in the ledger."""
    require(request.user, "policy:push", None)
    policies.require_tenant(plane.settings, request.user)
    await acts.end(plane, request.user)
    return Response(await acts.shown(plane, request.user.tenant))


HANDLERS = (show, begin, end)
