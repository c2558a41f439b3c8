# SPDX-License-Identifier: Apache-2.0
"""Enrolment of peers: propose, look, approve, suspend, revoke (N14, N17). Each act is a ledger entry (G5)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from control_plane.api.bodies import asked_by
from control_plane.api.network_shapes import Enrollment
from control_plane.api.shapes import Answers
from control_plane.auth.access import require
from control_plane.auth.errors import Forbidden
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.network import acts, store
from control_plane.network.enrolment import Asked, Proposal, State
from control_plane.network.fabric import Fabric
from ledger.canonical import timestamp

_proposals = msgspec.json.Decoder(Proposal)
_asked = msgspec.json.Decoder(Asked)
OFF = ("network_off",)


@post(
    "/enrollment/peers",
    status_code=201,
    opt={
        "action": "network:propose",
        "answers": Answers(
            {200: Enrollment, 201: Enrollment}, refusals=(*OFF, "peer_known", "too_many_peers"), body=Proposal
        ),
    },
    summary="Propose a peer",
)
async def propose(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], fabric: NamedDependency[Fabric]
) -> Response[Any]:
    """Pending until an administrator approves it; 200 where the same was proposed before."""
    fabric.on()
    asked = await asked_by(request, _proposals)
    _, new = await acts.proposed(plane.engine, _actor(request.user), asked, plane.now())
    return Response(await _found(plane, request.user, asked.peer_id), status_code=201 if new else 200)


@get(
    "/enrollment/peers",
    opt={
        "action": "network:read",
        "query": ("state",),
        "answers": Answers({200: tuple[Enrollment, ...]}, refusals=OFF),
    },
    summary="Enrolments by peer id",
)
async def enrollments(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    wanted: Annotated[State | None, QueryParameter(name="state", description="In this state alone.")] = None,
) -> list[dict[str, Any]]:
    """All of them, or those of one state."""
    fabric.on()
    (rows,) = await plane.read(request.user.tenant, store.enrolments(state=wanted))
    return [_shown(row, request.user) for row in rows]


@get(
    "/enrollment/peers/{peer_id:str}",
    opt={"action": "network:read", "answers": Answers({200: Enrollment}, refusals=OFF)},
    summary="One enrolment",
)
async def enrollment(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    peer_id: FromPath[str],
) -> dict[str, Any]:
    """As it stands."""
    fabric.on()
    return await _found(plane, request.user, peer_id)


@post(
    "/enrollment/peers/{peer_id:str}/action",
    status_code=200,
    opt={
        "action": "network:enroll",
        "where": "tenant",
        "answers": Answers({200: Enrollment}, refusals=(*OFF, "transition_refused", "conflict"), body=Asked),
    },
    summary="Approve, suspend or revoke a peer",
)
async def action(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    peer_id: FromPath[str],
) -> Response[Any]:
    """The fabric hears of it at once: streams of a peer that is out end within a second."""
    fabric.on()
    asked = await asked_by(request, _asked)
    require(request.user, "network:enroll", None)
    _operates(plane, request.user)
    if "\x00" in peer_id:
        raise Refused("not_found", "no such peer")
    await acts.acted(plane.engine, _actor(request.user), peer_id, asked, plane.now())
    await fabric.push(plane.engine)
    return Response(await _found(plane, request.user, peer_id))


def _operates(plane: Plane, principal: Principal) -> None:
    """The network is the plane's, shared by its tenants: not every tenant's administrator may change it (I7)."""
    operators = plane.settings.network.operators
    if principal.tenant in operators or (plane.settings.profile == "dev" and not operators):
        return
    raise Forbidden("network:enroll")


def _actor(principal: Principal) -> acts.Actor:
    return acts.Actor(principal.tenant, principal.pseudonym)


async def _found(plane: Plane, principal: Principal, peer_id: str) -> dict[str, Any]:
    (rows,) = await plane.read(principal.tenant, store.enrolments(peer_id)) if "\x00" not in peer_id else ([],)
    if not rows:
        raise Refused("not_found", f"no peer {peer_id}")
    return _shown(rows[0], principal)


def _shown(row: dict[str, Any], principal: Principal) -> dict[str, Any]:
    """The record is the plane's; why its last act was done is a word of the tenant whose administrator did it (I7)."""
    record = store.record(row)
    if row["acted_for"] != principal.tenant:
        record = msgspec.structs.replace(record, reason=None)
    times = {name: timestamp(row[name]) for name in ("proposed_at", "changed_at")}
    return msgspec.structs.asdict(record) | times


HANDLERS = (propose, enrollments, enrollment, action)
