# SPDX-License-Identifier: Apache-2.0
"""The network as the plane knows it: bootstrap, peers, topology, services, fidelity, plans (N2, N8, N17)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Request, WebSocket, get, post, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath, QueryParameter

from control_plane.api import network_shapes as shapes
from control_plane.api.shapes import Answers
from control_plane.aside import aside
from control_plane.auth.access import may
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import reading
from control_plane.jobs import spec as specs
from control_plane.network import planning, store, topology
from control_plane.network.config import PPM
from control_plane.network.enrolment import plain
from control_plane.network.fabric import Fabric
from control_plane.strict import want_json
from hal_drivers.p2p.ir import SERVICES, Service
from hal_drivers.p2p.office import (
    AskPeers,
    AskSnapshot,
    AskStanding,
    AskTopology,
    PeersAre,
    SnapshotIs,
    Standing,
    TopologyIs,
)
from hal_drivers.p2p.reader import Reader
from hal_drivers.p2p.wire import ADVERT_TOPIC, ADVERT_VERSION, PROTOCOL
from ledger.canonical import timestamp

OFF = ("network_off", "fabric_unreachable", "conflict")
LINK_HOURS = 24


@get(
    "/bootstrap/libp2p",
    opt={"action": "network:read", "answers": Answers({200: shapes.Bootstrap}, refusals=OFF)},
    summary="How a node finds this plane",
)
async def bootstrap(plane: NamedDependency[Plane], fabric: NamedDependency[Fabric]) -> dict[str, Any]:
    """Peer id and addresses, protocol and topic; a stranger gets in by none of it."""
    standing = await fabric.ask(AskStanding(), Standing)
    network = plane.settings.network
    return {
        "peer_id": standing.peer_id,
        "listen_addrs": standing.listen_addrs,
        "security": "noise",
        "protocol": PROTOCOL,
        "advert_topic": ADVERT_TOPIC,
        "advert_version": ADVERT_VERSION,
        **{name: getattr(network, name) for name in ("heartbeat_s", "refresh_s", "advert_ttl_s")},
    }


@get(
    "/bootstrap/libp2p/runtime",
    opt={"action": "network:read", "answers": Answers({200: shapes.Runtime}, refusals=OFF)},
    summary="What the fabric does now",
)
async def runtime(plane: NamedDependency[Plane], fabric: NamedDependency[Fabric]) -> dict[str, Any]:
    """Connections, adverts and runs, and whether it knows all enrolments."""
    standing = await fabric.ask(AskStanding(), Standing)
    async with plane.transaction(None) as conn:
        version = (await store.standing(conn))["version"]
    return {
        "peer_id": standing.peer_id,
        "up_to_date": standing.enrolled_version == version,
        **{name: getattr(standing, name) for name in ("connected", "adverts", "runs")},
        "rejected_adverts": standing.rejected,
        "journal": {"first": standing.events_first, "last": standing.events_last, "head": standing.events_head},
    }


@get(
    "/discovery/peers",
    opt={
        "action": "network:read",
        "query": ("service", "min_fidelity", "available"),
        "answers": Answers({200: tuple[shapes.Peer, ...]}, refusals=OFF),
    },
    summary="Peers, by service, fidelity and availability",
)
async def peers(
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    service: Annotated[Service | None, QueryParameter(description="Who advertises this service.")] = None,
    min_fidelity: Annotated[
        float, QueryParameter(ge=0, le=1, description="The smaller of reported and verified is at least this.")
    ] = 0.0,
    available: Annotated[
        float, QueryParameter(ge=0, le=1, description="At least this share of its windows is free.")
    ] = 0.0,
) -> list[dict[str, Any]]:
    """Enrolled peers; with a filter, those with a fresh advert that passes it."""
    found = await _peers(plane, fabric)
    if service is None and not min_fidelity and not available:
        return found
    return [
        peer
        for peer in found
        if any(
            (service is None or one["service_type"] == service)
            and min(one["fidelity"], one["verified"] or 0.0) >= min_fidelity
            and one["availability"] >= available
            and not one["stale"]
            for one in peer["services"]
        )
    ]


@get(
    "/discovery/peers/{peer_id:str}",
    opt={"action": "network:read", "answers": Answers({200: shapes.Peer}, refusals=OFF)},
    summary="One peer",
)
async def peer(
    plane: NamedDependency[Plane], fabric: NamedDependency[Fabric], peer_id: FromPath[str]
) -> dict[str, Any]:
    """As the fabric sees it; 404 for who isn't enrolled, whatever it advertises."""
    found = next((one for one in await _peers(plane, fabric) if one["peer_id"] == peer_id), None)
    if found is None:
        raise Refused("not_found", f"no peer {peer_id}")
    return found


@get(
    "/discovery/topology",
    opt={"action": "network:read", "answers": Answers({200: shapes.Topology}, refusals=("network_off",))},
    summary="The newest topology that was kept",
)
async def kept_topology(plane: NamedDependency[Plane], fabric: NamedDependency[Fabric]) -> dict[str, Any]:
    """Nodes and links since their last change, from the database."""
    fabric.on()
    (rows,) = await plane.read(None, store.topology())
    if not rows:
        return {"at": None, "hash": None, "fabric": None, "nodes": [], "links": []}
    return {"at": timestamp(rows[0]["at"]), "hash": rows[0]["hash"], **rows[0]["topology"]}


@get(
    "/discovery/network/topology",
    opt={"action": "network:read", "answers": Answers({200: shapes.LiveTopology}, refusals=OFF)},
    summary="The topology as it is now",
)
async def live_topology(fabric: NamedDependency[Fabric]) -> dict[str, Any]:
    """Nodes and links with their figures, from the fabric."""
    return topology.shown(await fabric.ask(AskTopology(), TopologyIs))


@websocket("/discovery/network/topology/events", opt={"action": "network:read"})
async def topology_events(socket: WebSocket[Principal, Any, Any], fabric: NamedDependency[Fabric]) -> None:
    """The topology as it is, then each that differs from the one before; {code, detail} while the fabric is away."""
    try:
        fabric.on()
    except Refused as refused:
        socket.state.refused = refused
        raise
    await socket.accept()
    heard = asyncio.ensure_future(socket.receive())
    try:
        async with fabric.watch() as queue:
            while (found := await _next(queue, heard)) is not None:
                await socket.send_json(found)
        if heard.done():
            await socket.close(code=1003, reason="this socket tells and hears nothing")
    except WebSocketDisconnect:
        return
    finally:
        heard.cancel()


async def _next(queue: asyncio.Queue[dict[str, Any] | None], heard: asyncio.Future[Any]) -> dict[str, Any] | None:
    """The next topology; None where the process stops, or the peer said what nobody asked."""
    news = asyncio.ensure_future(queue.get())
    try:
        await asyncio.wait({news, heard}, return_when=asyncio.FIRST_COMPLETED)
        if news.done():
            return news.result()
    finally:
        news.cancel()
    if heard.result()["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(detail="the peer has left")
    return None


@get(
    "/services",
    opt={"action": "network:read", "answers": Answers({200: tuple[shapes.ServiceOffered, ...]}, refusals=OFF)},
    summary="Services, and who offers each",
)
async def services(plane: NamedDependency[Plane], fabric: NamedDependency[Fabric]) -> list[dict[str, Any]]:
    """Every service that the network knows, from the snapshot that plans are made of."""
    snapshot = (await fabric.ask(AskSnapshot(), SnapshotIs)).snapshot
    config = plane.settings.network.planning()
    found = []
    for service in SERVICES:
        least = config.min_fidelity_ppm.get(service, config.default_min_fidelity_ppm)
        nodes = [
            {
                "peer_id": node.node_id,
                "state": node.state,
                "reported": offer.reported_ppm / PPM,
                "verified": offer.verified_ppm / PPM if offer.verified_ppm is not None else None,
                "counts": offer.judged_ppm / PPM,
                "usable": node.state == "online" and offer.judged_ppm >= least,
            }
            for node in snapshot.nodes
            for offer in node.offers
            if offer.service == service
        ]
        found.append({"service_type": service, "min_fidelity": least / PPM, "nodes": nodes})
    return found


@get(
    "/metrics/fidelity/{node_id:str}",
    opt={"action": "network:read", "answers": Answers({200: shapes.Fidelity}, refusals=("network_off",))},
    summary="A node's quality over time",
)
async def fidelity(
    plane: NamedDependency[Plane], fabric: NamedDependency[Fabric], node_id: FromPath[str]
) -> dict[str, Any]:
    """What was judged of its services from probes, and how its link was."""
    fabric.on()
    if "\x00" in node_id:
        raise Refused("not_found", "no such node")
    queries = (*store.quality(node_id), store.links(node_id, LINK_HOURS), store.spent(node_id))
    now, ever, links, enrolled = await plane.read(None, *queries)
    if not enrolled:
        raise Refused("not_found", f"no node {node_id}")
    return {
        "node_id": node_id,
        "services": [_judged(row) for row in now],
        "history": [_judged(row) for row in ever],
        "link": [
            {
                "at": timestamp(row["at"]),
                **{name: row[name] for name in ("connected", "latency_us", "degraded")},
                "failures": row["failure_ppm"] / PPM,
            }
            for row in links
        ],
        "spent": _spent(enrolled[0]),
    }


@post(
    "/plans",
    status_code=200,
    opt={
        "action": "network:read",
        "answers": Answers(
            {200: shapes.PlanDrafted},
            refusals=(
                *OFF,
                *("plan_infeasible", "spec_invalid", "program_unsupported", "format_disabled"),
                *("circuit_invalid", "circuit_too_complex", "backend_unavailable", "backend_failed"),
            ),
            body=specs.JobSpec,
        ),
    },
    summary="Plan a circuit, without a job",
)
async def draft_plan(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    reader: NamedDependency[Reader],
) -> dict[str, Any]:
    """Which node would run which fragment of a job's circuit now; policy may leave fewer nodes at dispatch."""
    want_json(request.headers.get("content-type", ""))
    fabric.on()
    body = await request.body()
    return await planning.draft(plane, fabric, reader, await aside(len(body), reading.parse, body))


@get(
    "/plans/{plan_id:str}",
    opt={"action": "job:read", "answers": Answers({200: shapes.PlanShown}, refusals=("network_off",))},
    summary="A plan, and the jobs that rest on it",
)
async def plan(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    fabric: NamedDependency[Fabric],
    plan_id: FromPath[str],
) -> dict[str, Any]:
    """Of jobs that the caller may see (I7)."""
    fabric.on()
    principal = request.user
    (rows,) = await plane.read(principal.tenant, store.plans(plan_id)) if "\x00" not in plan_id else ([],)
    rows = [row for row in rows if may(principal, "job:read", row["project"])]
    if not rows:
        raise Refused("not_found", f"no plan {plan_id}")
    jobs = [{name: row[name] for name in ("job_id", "attempt")} for row in rows]
    jobs = [one | {"planned_at": timestamp(row["planned_at"])} for one, row in zip(jobs, rows, strict=True)]
    return {"plan_id": plan_id, "jobs": jobs, "plan": rows[0]["plan"], "snapshot": rows[0]["snapshot"]}


async def _peers(plane: Plane, fabric: Fabric) -> list[dict[str, Any]]:
    seen = (await fabric.ask(AskPeers(), PeersAre)).peers
    async with plane.transaction(None) as conn:
        records, judged = await store.records(conn), await store.judged(conn)
    return [
        _peer(topology.peer_shown(peer), records[peer.peer_id], judged)
        for peer in seen
        if peer.state is not None and peer.peer_id in records
    ]


def _peer(shown: dict[str, Any], record: Any, judged: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    facts = ("organisation", "region", "compliance_zone", "sovereign", "price_per_fragment", "price_per_shot")
    for one in shown["services"]:
        found = judged.get((record.peer_id, one["service_type"]))
        one["verified"] = found["verified_ppm"] / PPM if found is not None else None
        one["degraded"] = bool(found is not None and found["degraded"])
    return shown | {name: getattr(record, name) for name in (*facts, "currency")}


def _judged(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "service_type": row["service"],
        "at": timestamp(row["at"]),
        **{name: row[name] for name in ("probes", "shots", "degraded", "because")},
        "reported": row["reported_ppm"] / PPM if row["reported_ppm"] is not None else None,
        "verified": row["verified_ppm"] / PPM,
    }


def _spent(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("probes", "failed", "shots", "duration_us", "currency")
    since = timestamp(row["since"]) if row["since"] is not None else None
    return {name: row[name] for name in names} | {"since": since, "amount": plain(row["amount"])}


HANDLERS = (
    bootstrap,
    runtime,
    peers,
    peer,
    kept_topology,
    live_topology,
    topology_events,
    services,
    fidelity,
    draft_plan,
    plan,
)
