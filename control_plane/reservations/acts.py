# SPDX-License-Identifier: Apache-2.0
"""Acts on windows without a job: reserve and cancel (N5, N17).

    1 what can't be is refused   nothing is written
    2 policy decides             a denial is its entry, and 403
    3 row and entry: REQUESTED   durable before any node hears of it
    4 the fabric asks the node   and what it says is the next row and entry

A crash after 3 leaves a REQUESTED row, which the keeper gives back and ends (``keeping``), unless the request comes
again with its key. A row and the entry that tells of it change in one transaction, from the state that was seen.
"""

from __future__ import annotations

import datetime as dt
import secrets

import msgspec
from msgspec import Struct

import ledger.store
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import store as jobs
from control_plane.network import store as network
from control_plane.network.fabric import Fabric
from control_plane.reservations import asked as asking
from control_plane.reservations import judged, moving, store
from control_plane.reservations.asked import LIVE, Window, WindowAsked, move
from control_plane.reservations.moving import Row
from hal_drivers.p2p.office import AskSnapshot, CancelReservation, ReservationIs, SnapshotIs
from hal_drivers.p2p.plan import NodeFacts
from ledger.canonical import timestamp


class Request(Struct, frozen=True):
    """One request: who, what, when it came, the key it came with, and the hash of its body."""

    who: Principal
    asked: WindowAsked
    at: dt.datetime
    key: str | None
    body_sha256: str


async def reserve(plane: Plane, fabric: Fabric, request: Request) -> tuple[Row, bool]:
    """The reservation as it stands, and whether it is new. Raises Refused, PolicyUnavailable or DenialQuota."""
    fabric.on()
    plane.sealing.refuse()
    who, asked, at = request.who, request.asked, request.at
    if (known := await _known(plane, request)) is not None:
        return await _ask(plane, fabric, known), False
    window = asking.window(asked, at)
    node = await _node(plane, fabric, asked)
    asking.fit(asked, node, plane.settings.network.planning())
    reservation_id = f"res-{at:%Y-%m-%d}-{secrets.token_hex(6)}"
    allowed = await judged.judge(plane, who, reservation_id, asked, window, node, at)
    if not await _begin(plane, request, reservation_id, window, allowed):
        known = await _known(plane, request)  # another request of this key was faster
        if known is None:
            raise Refused("conflict", "the same Idempotency-Key is being used by another request")
        return known, False
    row = await find(plane, who.tenant, reservation_id)
    return await _ask(plane, fabric, row), True


async def cancel(plane: Plane, fabric: Fabric, who: Principal, row: Row) -> Row:
    """Give the window back; one that is canceled stays so. Refused transition_refused where it ended otherwise."""
    fabric.on()
    if row["state"] == "CANCELED":
        return row
    if (state := moving.shown_state(row, plane.now())) not in LIVE:
        raise Refused("transition_refused", f"reservation {row['reservation_id']} is {state}")
    try:
        await fabric.ask(CancelReservation(row["reservation_id"], row["peer_id"]), ReservationIs)
    except Refused as refused:
        if refused.code != "not_found":  # the fabric knows it no more: it told the node all the same
            raise
    now = plane.now()
    said = {"code": "canceled", "detail": "it was cancelled"}
    await moving.move_on(plane.engine, who.pseudonym, row, (move("CANCELED", now),), said, now)
    return await find(plane, who.tenant, row["reservation_id"])


async def find(plane: Plane, tenant: str, reservation_id: str) -> Row:
    """The row; Refused not_found."""
    (rows,) = await plane.read(tenant, store.find(reservation_id)) if "\x00" not in reservation_id else ([],)
    if not rows:
        raise Refused("not_found", f"no reservation {reservation_id}")
    return rows[0]


async def _known(plane: Plane, request: Request) -> Row | None:
    """What this key was used for."""
    tenant = request.who.tenant
    (bound,) = await plane.read(tenant, jobs.known_key(request.who.subject, request.key))
    if not bound:
        return None
    if bound[0]["body_sha256"] != request.body_sha256:
        raise Refused("idempotency_conflict", "this Idempotency-Key was used with another body")
    return await find(plane, tenant, bound[0]["job_id"])


async def _node(plane: Plane, fabric: Fabric, asked: WindowAsked) -> NodeFacts:
    """The node as the fabric sees it; Refused where it is nobody's, not approved, or not fit."""
    async with plane.transaction(None) as conn:
        record = (await network.records(conn)).get(asked.node_id)
    if record is None:
        said = {"field": "node_id", "message": "no such node in this plane's network"}
        raise Refused("node_unknown", f"no node {asked.node_id}", errors=(said,))
    if record.state != "approved":
        raise Refused("node_unusable", f"node {asked.node_id} is {record.state}")
    snapshot = (await fabric.ask(AskSnapshot(), SnapshotIs)).snapshot
    found = next((node for node in snapshot.nodes if node.node_id == asked.node_id), None)
    if found is None:
        raise Refused("node_unusable", f"node {asked.node_id} has not been heard of")
    return found


async def _begin(plane: Plane, request: Request, reservation_id: str, window: Window, allowed: judged.Judged) -> bool:
    who, asked, at = request.who, request.asked, request.at
    told = msgspec.to_builtins(msgspec.structs.replace(asked, starts_at=None)) | {
        "starts_at": timestamp(window.starts_at),
        "services": sorted(set(asked.services)),
    }
    times = {"starts_at": timestamp(window.starts_at), "ends_at": timestamp(window.ends_at)}
    first = move("REQUESTED", at)
    row = {
        "tenant": who.tenant,
        "reservation_id": reservation_id,
        "project": asked.governance.project,
        "actor": who.pseudonym,
        "decision_id": allowed.decision.id,
        "peer_id": asked.node_id,
        "asked": told,
        "answer": times | {"moves": [first]},
        "now": at,
    }
    body = {"reservation_id": reservation_id, "project": row["project"], "moves": [first], **times}
    body |= {"decision_id": allowed.decision.id, "node_id": asked.node_id, "services": told["services"]}
    body |= {name: told[name] for name in ("qubits", "correlation_id")}
    key = None if request.key is None else (who.subject, request.key, request.body_sha256)
    async with plane.transaction(who.tenant) as conn:
        if not await store.put(conn, row, key):
            return False
        told_of = moving.entry(who.tenant, who.pseudonym, "REQUESTED", body, at)
        await ledger.store.append(conn, [(allowed.entry, None), (told_of, None)], [allowed.input.blob])
    return True


async def _ask(plane: Plane, fabric: Fabric, row: Row) -> Row:
    """Have the node asked; the row as it is then. Refused fabric_unreachable leaves it REQUESTED, for the keeper."""
    if moving.shown_state(row, plane.now()) != "REQUESTED":
        return row
    limits = plane.settings.network
    limit_s = 2 * limits.reserve_limit_s + limits.control_limit_s
    found = await fabric.ask(asking.wanted(row, plane.now()), ReservationIs, limit_s=limit_s)
    now = plane.now()
    moves, said = asking.answered(found, now)
    await moving.move_on(plane.engine, row["actor"], row, moves, said, now)
    return await find(plane, row["tenant"], row["reservation_id"])
