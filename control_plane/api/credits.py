# SPDX-License-Identifier: Apache-2.0
"""Credits, refunds, corrections and shared costs (G7): all of a tenant's, for who has `cost:manage` there."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency

from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import crediting
from control_plane.costs.crediting import Correcting, Crediting, Refunding, Sharing, Written

_REFUSALS = ("amount_invalid", "currency_mismatch", "correction_invalid")


def _opt(body: Any, *refusals: str) -> dict[str, Any]:
    answers = Answers({201: Written}, refusals=refusals, body=body)
    return {"action": "cost:manage", "where": "tenant", "answers": answers}


@post("/costs/credits", status_code=201, opt=_opt(Crediting, *_REFUSALS[:2], "not_found"), summary="Give a credit")
async def credit(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """To a project; no budget changes by it."""
    require(request.user, "cost:manage", None)
    asked = await asked_by(request, crediting.crediting)
    return Response(await crediting.credit(plane, request.user, asked), status_code=201)


@post(
    "/costs/refunds",
    status_code=201,
    opt=_opt(Refunding, "amount_invalid", "correction_invalid", "hold_open"),
    summary="Refund a job",
)
async def refund(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """What it was charged, or some of it; its budgets have as much again."""
    require(request.user, "cost:manage", None)
    asked = await asked_by(request, crediting.refunding)
    return Response(await crediting.refund(plane, request.user, asked), status_code=201)


@post("/costs/corrections", status_code=201, opt=_opt(Correcting, *_REFUSALS, "not_found"), summary="Correct a charge")
async def correct(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Of a job or a project, up or down; what was charged stays, and the correction stands beside it."""
    require(request.user, "cost:manage", None)
    asked = await asked_by(request, crediting.correcting)
    return Response(await crediting.correct(plane, request.user, asked), status_code=201)


@post("/costs/shared", status_code=201, opt=_opt(Sharing, *_REFUSALS[:2]), summary="Enter a shared cost")
async def share(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """In a pool, which the month's method of allocation splits."""
    require(request.user, "cost:manage", None)
    asked = await asked_by(request, crediting.sharing)
    return Response(await crediting.share(plane, request.user, asked), status_code=201)


HANDLERS = (credit, refund, correct, share)
