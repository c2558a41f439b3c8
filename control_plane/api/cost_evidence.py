# SPDX-License-Identifier: Apache-2.0
"""What charges rest on: signed facts, rate card, entries; what `qcos costs recompute` makes them anew from (G7)."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency

from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import attesting
from control_plane.costs.attesting import ChargesAsked, ChargesAttested


@post(
    "/costs/evidence",
    status_code=200,
    opt={
        "action": "cost:read",
        "answers": Answers({200: ChargesAttested}, refusals=("not_in_log",), body=ChargesAsked),
    },
    summary="What charges rest on: signed facts and rate cards, and proofs of their entries",
)
async def attested(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Extracts of jobs' bundles, without circuit and result, and proofs of entries that tell of charges."""
    return Response(await attesting.attest(plane, request.user, await asked_by(request, attesting.asking)))


HANDLERS = (attested,)
