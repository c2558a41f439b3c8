# SPDX-License-Identifier: Apache-2.0
"""Windows of nodes without a job: reserve, look, cancel (N5, N17). Each act is decided, and told in the ledger (G5)."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from control_plane import telemetry
from control_plane.api import cursor as cursors
from control_plane.api.network_shapes import Reservation
from control_plane.api.shapes import Answers
from control_plane.api.submission import IdempotencyKey
from control_plane.auth.access import may, require, visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.network.fabric import Fabric
from control_plane.reservations import acts, store
from control_plane.reservations.asked import WindowAsked
from control_plane.reservations.moving import Row, shown_state
from control_plane.strict import decode, want_json
from hal_drivers.p2p.office import ReservationState
from ledger.canonical import timestamp

_asked = msgspec.json.Decoder(WindowAsked)
OFF = ("network_off", "fabric_unreachable", "conflict")
_REFUSALS = (
    *OFF,
    *(
        "policy_denied",
        "budget_exceeded",
        "budget_missing",
        "project_closed",
        "unknown_price",
        "denial_quota",
        "policy_unavailable",
    ),
    *("node_unknown", "node_unusable", "node_unreachable", "window_taken", "idempotency_conflict"),
    *("sealing_stalled", "clock_stepped_back", "clock_skewed", "head_unwritable", "ledger_rollback"),
)
Text = Annotated[str | None, QueryParameter(max_length=128, pattern=r"^[^\x00]*$")]


@post(
    "/reservations",
    status_code=201,
    opt={
        "action": "reservation:create",
        "where": "project",
        "absent": "budget_missing",
        "answers": Answers({200: Reservation, 201: Reservation}, refusals=_REFUSALS, body=WindowAsked),
    },
    summary="Reserve a window of a node, without a job",
)
async def reserve(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    idempotency_key: IdempotencyKey = None,
) -> Response[Any]:
    """201 once the node has committed it; 200 where the same key asked before; 409 with the next free window."""
    fabric.on()
    want_json(request.headers.get("content-type", ""))
    body = await request.body()
    asked = decode(body, _asked, code="request_invalid")
    made = acts.Request(request.user, asked, plane.now(), idempotency_key, hashlib.sha256(body).hexdigest())
    async with plane.lanes.turn(request.user) as turn:
        row, new = await acts.reserve(plane, fabric, made)
        turn.refused = False
    telemetry.bind(decision_id=row["decision_id"])
    _refuse_ended(row)
    return Response(_shown(row, plane.now()), status_code=201 if new else 200)


@get(
    "/reservations",
    opt={
        "action": "reservation:read",
        "query": ("cursor", "limit", "node_id", "project", "state"),
        "answers": Answers({200: tuple[Reservation, ...]}, refusals=("network_off",), headers=cursors.TOLD),
    },
    summary="List reservations, newest first",
)
async def list_reservations(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    in_state: Annotated[ReservationState | None, QueryParameter(name="state")] = None,
    project: Text = None,
    node_id: Text = None,
    limit: cursors.Limit = cursors.PAGE,
    cursor: cursors.Cursor = None,
) -> Response[Any]:
    """A page of those that the caller may see; the header's cursor leads to the next."""
    fabric.on()
    if in_state is None and "state" in request.query_params:
        raise Refused("request_invalid", "state: null", errors=({"field": "state", "message": "null"},))
    projects = visible(request.user, "reservation:read")
    query = store.page(
        limit=limit + 1,
        projects=sorted(projects) if projects is not None else None,
        state=in_state,
        project=project,
        node_id=node_id,
        before=cursors.read(cursor),
    )
    (rows,) = await plane.read(request.user.tenant, query)
    last = rows[limit - 1] if len(rows) > limit else None
    headers = {cursors.HEADER: cursors.written(last["created_at"], last["reservation_id"])} if last else {}
    return Response([_shown(row, plane.now()) for row in rows[:limit]], headers=headers)


@get(
    "/reservations/{reservation_id:str}",
    opt={"action": "reservation:read", "answers": Answers({200: Reservation}, refusals=("network_off",))},
    summary="One reservation",
)
async def reservation(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    reservation_id: FromPath[str],
) -> dict[str, Any]:
    """As it stands, with each of its moves."""
    fabric.on()
    return _shown(await _found(plane, request.user, reservation_id), plane.now())


@post(
    "/reservations/{reservation_id:str}/cancel",
    status_code=200,
    opt={
        "action": "reservation:cancel",
        "sees": "reservation:read",
        "answers": Answers({200: Reservation}, refusals=(*OFF, "transition_refused")),
    },
    summary="Cancel a reservation",
)
async def cancel(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    reservation_id: FromPath[str],
) -> Response[Any]:
    """Its node has the room again; canceled before: as it stands."""
    fabric.on()
    row = await _found(plane, request.user, reservation_id)
    require(request.user, "reservation:cancel", row["project"])
    return Response(_shown(await acts.cancel(plane, fabric, request.user, row), plane.now()))


async def _found(plane: Plane, who: Principal, reservation_id: str) -> Row:
    """What the caller may not see doesn't exist (I7)."""
    row = await acts.find(plane, who.tenant, reservation_id)
    if not may(who, "reservation:read", row["project"]):
        raise Refused("not_found", f"no reservation {reservation_id}")
    return row


def _refuse_ended(row: Row) -> None:
    """Refused where its node didn't grant it."""
    state, said = row["state"], row["answer"]
    if state not in ("REJECTED", "FAILED") and not (state == "CANCELED" and said.get("code") != "canceled"):
        return
    code = "node_unreachable" if state == "CANCELED" else "node_unusable"
    if said.get("code") == "window_taken":
        code = "window_taken"
    extras = {"reservation_id": row["reservation_id"], "state": state, "next_free_at": said.get("next_free_at")}
    raise Refused(code, f"{row['reservation_id']}: {said.get('detail')}", extras=extras)


def _shown(row: Row, now: dt.datetime) -> dict[str, Any]:
    asked, answer = row["asked"], row["answer"]
    state = shown_state(row, now)
    moves = list(answer["moves"])
    if state != row["state"]:
        moves.append({"state": state, "at": answer["ends_at"]})
    return {
        "reservation_id": row["reservation_id"],
        "state": state,
        "node_id": row["peer_id"],
        **{name: asked[name] for name in ("services", "qubits", "min_fidelity", "correlation_id")},
        **{name: asked["governance"][name] for name in ("project", "classification", "purpose")},
        **{name: answer[name] for name in ("starts_at", "ends_at")},
        **{name: answer.get(name) for name in ("fence", "code", "detail", "next_free_at")},
        "decision_id": row["decision_id"],
        **{name: timestamp(row[name]) for name in ("created_at", "changed_at")},
        "history": moves,
    }


HANDLERS = (reserve, list_reservations, reservation, cancel)
