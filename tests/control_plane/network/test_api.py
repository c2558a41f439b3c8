# SPDX-License-Identifier: Apache-2.0
"""The network over HTTP: every answer as the document has it, off and away said with a code (N2, N8, N14, N17, I7)."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from litestar.types import ASGIApp, Receive, Scope, Send

from control_plane.app import PARTS, assemble
from control_plane.network import store
from control_plane.network.config import Network
from control_plane.network.fabric import Fabric
from control_plane.settings import Settings
from hal_drivers.limits import Limits
from hal_drivers.p2p.draw import svg
from hal_drivers.p2p.ir import Program
from hal_drivers.p2p.office import (
    AskSnapshot,
    AskTopology,
    Link,
    Refusal,
    SnapshotIs,
    TopologyIs,
)
from hal_drivers.p2p.plan import NodeFacts, Offer, Plan, PlanConfig, Snapshot
from hal_drivers.p2p.planner import identity
from hal_drivers.p2p.planner import plan as plan_again
from hal_drivers.p2p.reader import Reader
from tests.control_plane.jobs.desk import Desk, bell, person, report
from tests.control_plane.network.test_enrolment import NOW, OTHER, PEER, approved, proposal
from tests.control_plane.network.test_keeper import heard, peer
from tests.e2e.promised import hold
from tests.fakes import FakeDriver
from tests.hal_drivers.p2p.fabric_double import FabricDouble, fabric
from tests.hal_drivers.p2p.programs import network, node

ROLES = {
    "admin": person("admin", "demo", "quantum-admin"),
    "engineer": person("engineer", "demo", "quantum-engineer"),
    "user": person("user", "demo", "quantum-user"),
    "auditor": person("auditor", "demo", "auditor"),
    "outsider": person("outsider", "other", "quantum-admin"),
}
EXAMPLE = Path(__file__).parents[3] / "examples" / "network12.qasm"
Call = Callable[..., Any]


class FakeDoor:
    """Signs in whoever the header names, as the real door does with a token."""

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Set `scope["user"]`."""

        async def signed_in(scope: Scope, receive: Receive, send: Send) -> None:
            scope["user"] = ROLES[dict(scope["headers"])[b"x-who"].decode()]
            await app(scope, receive, send)

        return signed_in


@pytest.fixture
def settings(desk: Desk) -> Iterator[Settings]:
    """Of a plane whose network is on, in a home short enough for a socket's address."""
    with TemporaryDirectory(prefix="q") as folder:
        changed = {"home": Path(folder), "network": Network(enabled=True)}
        yield msgspec.structs.replace(desk.plane.settings, **changed)


@pytest.fixture
async def double(settings: Settings) -> AsyncIterator[FabricDouble]:
    """A fabric without a network."""
    settings.fabric_socket.parent.mkdir(parents=True)
    async with fabric(settings.fabric_socket) as serving:
        yield serving


@asynccontextmanager
async def served(desk: Desk, settings: Settings) -> AsyncIterator[Call]:
    """The API of the desk's plane under these settings; each answer is held against the document."""
    found = Fabric(settings)
    plane = dataclasses.replace(desk.plane, settings=settings)
    reader = Reader(Limits(), require_walls=False)
    parts = dict.fromkeys(PARTS) | {"plane": plane, "fabric": found, "reader": reader}
    app = assemble(settings, FakeDoor(), parts, [])

    async def ask(
        method: str, path: str, body: Any = None, who: str = "engineer", key: str | None = None
    ) -> tuple[int, Any]:
        target = f"/api/v1{path}"
        status, headers, data = await _request(app, method, target, body, who, key)
        hold(method, target, status, headers, data)
        return status, msgspec.json.decode(data)

    async with reader:
        yield ask
    await found._office.close()


async def _request(
    app: Any, method: str, target: str, body: Any, who: str, key: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request in this event loop, which the double shares; Litestar's client has a loop of its own."""
    path, _, query = target.partition("?")
    headers = [(b"x-who", who.encode()), (b"content-type", b"application/json"), (b"host", b"localhost")]
    headers += [(b"idempotency-key", key.encode())] if key is not None else []
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
    }
    scope |= {"path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode()}
    scope |= {"headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {}}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": msgspec.json.encode(body) if body is not None else b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    data = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, data


@pytest.fixture
async def ask(desk: Desk, settings: Settings) -> AsyncIterator[Call]:
    """Ask the API of a plane whose network is on."""
    async with served(desk, settings) as asking:
        yield asking


READS = (
    "/bootstrap/libp2p",
    "/bootstrap/libp2p/runtime",
    "/discovery/peers",
    f"/discovery/peers/{PEER}",
    "/discovery/topology",
    "/discovery/network/topology",
    "/enrollment/peers",
    f"/enrollment/peers/{PEER}",
    "/services",
    f"/metrics/fidelity/{PEER}",
    "/plans/p",
)
ENROL = msgspec.to_builtins(proposal())


@pytest.mark.parametrize("path", READS)
async def test_without_a_network_each_answer_says_so(desk: Desk, settings: Settings, path: str) -> None:
    """N17: never an empty list for what isn't there."""
    async with served(desk, msgspec.structs.replace(settings, network=Network())) as ask:
        status, problem = await ask("GET", path)
        assert "network" not in (await ask("GET", "/ready"))[1]["checks"]
    assert (status, problem["code"]) == (404, "network_off")


async def test_a_fabric_that_is_away_is_no_empty_network(ask: Call) -> None:
    for path in ("/bootstrap/libp2p", "/discovery/peers", "/discovery/network/topology", "/services"):
        status, problem = await ask("GET", path)
        assert (status, problem["code"]) == (503, "fabric_unreachable")
    status, found = await ask("GET", "/ready")
    assert (status, found["checks"]["network"]["code"]) == (503, "fabric_unreachable")
    assert (await ask("GET", "/discovery/topology"))[1]["nodes"] == []
    assert await ask("GET", "/enrollment/peers") == (200, [])


async def test_a_peer_is_proposed_approved_and_revoked_and_the_fabric_hears_at_once(
    ask: Call, desk: Desk, double: FabricDouble
) -> None:
    """N14: each by whom the matrix lets; the acts are entries of the tenant's chain with the actor's pseudonym."""
    assert (await ask("POST", "/enrollment/peers", ENROL))[0] == 201
    assert (await ask("POST", "/enrollment/peers", ENROL))[0] == 200
    status, problem = await ask("POST", "/enrollment/peers", ENROL | {"sovereign": False})
    assert (status, problem["code"]) == (409, "peer_known")
    act = f"/enrollment/peers/{PEER}/action"
    assert (await ask("POST", act, {"action": "approve"}))[0] == 403
    assert (await ask("POST", act, {"action": "suspend"}, who="admin"))[1]["code"] == "transition_refused"
    status, found = await ask("POST", act, {"action": "approve", "reason": "visited"}, who="admin")
    assert (status, found["state"], found["reason"]) == (200, "approved", "visited")
    assert [one.state for one in double.enrolled.peers] == ["approved"]
    await ask("POST", act, {"action": "revoke"}, who="admin")
    assert [one.state for one in double.enrolled.peers] == ["revoked"]
    assert [one["state"] for one in (await ask("GET", "/enrollment/peers?state=revoked", who="auditor"))[1]] == [
        "revoked"
    ]
    assert await ask("GET", "/enrollment/peers?state=pending") == (200, [])
    await desk.seal()
    rows = desk.sql("SELECT leaf FROM ledger.entry WHERE kind = 'network:peer:approved' AND tenant = 'demo'")
    assert [msgspec.json.decode(leaf)["actor"] for (leaf,) in rows] == [ROLES["admin"].pseudonym]
    assert (await ask("POST", act.replace(PEER, OTHER), {"action": "approve"}, who="admin"))[0] == 404


async def test_only_an_operators_administrator_changes_the_planes_network(
    desk: Desk, settings: Settings, double: FabricDouble
) -> None:
    """I7: the network is shared; another tenant's administrator may look and propose, and no more."""
    await approved(desk)
    theirs = msgspec.structs.replace(settings, network=Network(enabled=True, operators=("demo",)))
    act = f"/enrollment/peers/{PEER}/action"
    async with served(desk, theirs) as ask:
        status, problem = await ask("POST", act, {"action": "revoke"}, who="outsider")
        assert (status, problem["code"]) == (403, "forbidden")
        assert (await ask("GET", f"/enrollment/peers/{PEER}", who="outsider"))[1]["state"] == "approved"
        said = {"action": "suspend", "reason": "ours to know"}
        assert (await ask("POST", act, said, who="admin"))[1]["reason"] == "ours to know"
        assert (await ask("GET", f"/enrollment/peers/{PEER}", who="outsider"))[1]["reason"] is None
    saas = msgspec.structs.replace(settings, profile="saas")
    async with served(desk, saas) as ask:
        assert (await ask("POST", act, {"action": "revoke"}, who="admin"))[0] == 403


async def test_peers_carry_the_records_facts_and_are_found_by_what_counts(
    ask: Call, desk: Desk, double: FabricDouble
) -> None:
    """N2, N8: zone and price from the enrolment; the smaller of reported and verified decides."""
    await approved(desk)
    double.peers = (peer(heard(3)), msgspec.structs.replace(peer(), peer_id=OTHER, state=None))
    (found,) = (await ask("GET", "/discovery/peers"))[1]
    assert (found["compliance_zone"], found["price_per_shot"]) == ("onprem", "0.001")
    assert (found["services"][0]["fidelity"], found["services"][0]["verified"]) == (0.99, None)
    assert await ask("GET", "/discovery/peers?service=cnot&min_fidelity=0.95") == (200, [])
    values = {"peer_id": PEER, "service": "cnot", "at": NOW, "probes": 5, "shots": 100, "because": "5 probes"}
    async with desk.plane.transaction(None) as conn:
        await store.judge(conn, values | {"reported_ppm": 990_000, "verified_ppm": 960_000, "degraded": False})
    assert len((await ask("GET", "/discovery/peers?service=cnot&min_fidelity=0.95"))[1]) == 1
    assert await ask("GET", "/discovery/peers?service=cz") == (200, [])
    assert await ask("GET", "/discovery/peers?available=1") == (200, [found | {"services": ANY}])
    assert (await ask("GET", "/discovery/peers?service=toffoli"))[0] == 400
    assert (await ask("GET", f"/discovery/peers/{PEER}"))[1]["region"] == "eu-west"
    assert (await ask("GET", f"/discovery/peers/{OTHER}"))[0] == 404
    quality = (await ask("GET", f"/metrics/fidelity/{PEER}"))[1]
    assert [(one["service_type"], one["verified"]) for one in quality["services"]] == [("cnot", 0.96)]
    assert quality["spent"] | {"currency": ANY} == dict.fromkeys(("probes", "failed", "shots", "duration_us"), 0) | {
        "since": None,
        "amount": "0",
        "currency": ANY,
    }
    values = {"peer_id": PEER, "service": "cnot", "at": NOW, "shots": 100, "facts": {}, "duration_us": 9}
    async with desk.plane.transaction(None) as conn:
        for code in (None, "late"):
            await store.keep_probe(conn, values | {"reported_ppm": 990_000, "code": code})
    spent = (await ask("GET", f"/metrics/fidelity/{PEER}"))[1]["spent"]
    assert (spent["probes"], spent["failed"], spent["shots"], spent["amount"]) == (2, 1, 200, "0.3")
    assert (await ask("GET", f"/metrics/fidelity/{OTHER}"))[0] == 404


async def test_a_network_lies_where_its_approved_nodes_lie(ask: Call, desk: Desk) -> None:
    """G2: by their enrolment; it has no place of its own."""
    await report(desk, FakeDriver())
    desk.sql("UPDATE jobs.backend SET provider = 'p2p', region = '', compliance_zone = '', sovereign = false")
    (listed,) = (await ask("GET", "/backends"))[1]
    assert (listed["region"], listed["compliance_zone"], listed["sovereign"]) == (None, None, False)
    await approved(desk)
    desk.plane.known.forget()
    (listed,) = (await ask("GET", "/backends"))[1]
    assert (listed["region"], listed["compliance_zone"], listed["sovereign"]) == ("eu-west", "onprem", True)
    await approved(desk, OTHER, compliance_zone="us-east", sovereign=False)
    desk.plane.known.forget()
    shown = (await ask("GET", "/backends/fake"))[1]
    assert (shown["compliance_zone"], shown["sovereign"]) == ("onprem, us-east", False)


async def test_bootstrap_runtime_services_and_topology(ask: Call, desk: Desk, double: FabricDouble) -> None:
    """N17."""
    await approved(desk)
    facts = NodeFacts(
        PEER,
        "online",
        "Lab A",
        "eu",
        "onprem",
        True,
        "0.1",
        "0.001",
        "USD",
        (Offer("cnot", 990_000, None, 1, 20),),
        9,
        0,
        0,
    )
    double.replies[AskSnapshot] = lambda _: SnapshotIs(Snapshot((facts,)), "00")
    double.peers = (peer(heard(3)),)
    link = Link(double.peer_id, PEER, True, 1500, 0, False)
    double.replies[AskTopology] = lambda _: TopologyIs(4, double.peer_id, double.peers, (link,))
    assert (await ask("GET", "/ready"))[1]["checks"]["network"]["ok"] is True
    entry = (await ask("GET", "/bootstrap/libp2p"))[1]
    assert (entry["security"], entry["listen_addrs"][0].endswith(entry["peer_id"])) == ("noise", True)
    assert (await ask("GET", "/bootstrap/libp2p/runtime"))[1]["up_to_date"] is False
    offered = {one["service_type"]: one["nodes"] for one in (await ask("GET", "/services"))[1]}
    assert [(one["counts"], one["usable"]) for one in offered["cnot"]] == [(0.0, False)], "no probe, no job"
    assert offered["cz"] == []
    live = (await ask("GET", "/discovery/network/topology"))[1]
    assert (live["nodes"][0]["latency_us"], live["links"][0]["latency_us"]) == (1000, 1500)
    double.replies[AskSnapshot] = lambda _: Refusal("busy", "later")
    assert (await ask("GET", "/services"))[1]["code"] == "conflict"


async def test_a_plan_is_its_tenants_own(ask: Call, desk: Desk) -> None:
    """I7: another tenant's plan doesn't exist, nor one of a project that the caller may not see."""
    plan = Plan("p1", "planner/1", "a", "b", "c", "d", 7, 100, "whole", "asked", "discard", (), (), (), ())
    async with desk.plane.transaction("demo") as conn:
        for _ in range(2):
            await store.keep_plan(conn, "demo", "job-1", 1, "demo", plan, Snapshot(()))
    status, shown = await ask("GET", "/plans/p1")
    assert (status, shown["plan"]["seed"], [one["job_id"] for one in shown["jobs"]]) == (200, 7, ["job-1"])
    assert (await ask("GET", "/plans/p1", who="outsider"))[0] == 404
    assert (await ask("GET", "/plans/p2"))[0] == 404


async def test_a_circuit_is_planned_without_a_job_and_what_is_missing_is_named(
    ask: Call, settings: Settings, desk: Desk, double: FabricDouble
) -> None:
    """N4: read behind the walls, planned on the fabric's snapshot, kept nowhere."""
    double.replies[AskSnapshot] = lambda _: SnapshotIs(network(), "00")
    before = desk.counts()
    spec = bell(circuit__source=base64.b64encode(EXAMPLE.read_bytes()).decode(), circuit__alias_model="swap")
    status, drawn = await ask("POST", "/plans", spec)
    assert status == 200
    assert (drawn["plan"]["mode"], drawn["plan"]["alias_model"]) == ("product", "swap")
    plan, program = msgspec.convert(drawn["plan"], Plan), msgspec.convert(drawn["program"], Program)
    assert [assignment.primary for assignment in plan.assignments] == ["n0", "n1", "n2"]
    assert plan.plan_id == drawn["plan_id"] == identity(plan)
    assert "teleportation" in svg(plan, program)
    known, config = msgspec.convert(drawn["snapshot"], Snapshot), msgspec.convert(drawn["config"], PlanConfig)
    assert plan_again(program, known, config, plan.seed, None, shots=plan.shots) == plan  # I9: by whoever has these
    assert (await ask("POST", "/plans", spec))[1] == drawn
    double.replies[AskSnapshot] = lambda _: SnapshotIs(network(node("n0", qubits=3)), "00")
    status, problem = await ask("POST", "/plans", spec)
    assert (status, problem["code"]) == (409, "plan_infeasible")
    assert problem["errors"][0] == {
        "field": "f1",
        "message": "it has 4 qubits, the nodes that offer its services take up to 3",
    }
    broken = bell(circuit__source=base64.b64encode(b"OPENQASM 3;\nqubit[2] q;\nfoo q[0];").decode())
    assert (await ask("POST", "/plans", broken))[1]["code"] == "circuit_invalid"
    looped = b"OPENQASM 3;\nqubit[2] q;\nbit c;\nwhile (c) { c = measure q[0]; }"
    status, problem = await ask("POST", "/plans", bell(circuit__source=base64.b64encode(looped).decode()))
    assert problem["code"] == "program_unsupported"
    assert "a while loop (line 4)" in problem["detail"]
    assert desk.counts() == before
    async with served(desk, msgspec.structs.replace(settings, network=Network())) as off:
        assert (await off("POST", "/plans", spec))[1]["code"] == "network_off"


async def test_the_live_topology_is_told_at_each_change(desk: Desk, settings: Settings, double: FabricDouble) -> None:
    """N9: what there is at once, then what differs, and the fabric's absence as what it is."""
    await approved(desk)
    double.peers = (peer(heard(3)),)
    found = Fabric(settings)
    serving = asyncio.create_task(found.serve())
    async with found.watch() as queue, asyncio.timeout(20):
        first = await queue.get()
        assert first is not None
        assert first["nodes"][0]["services"] == ["cnot"]
        double.peers = (msgspec.structs.replace(peer(heard(3)), state="unreachable", connected=False),)
        second = await queue.get()
        assert second is not None
        assert second["nodes"][0]["state"] == "unreachable"
        double.replies[AskTopology] = lambda _: Refusal("busy", "later")
        assert await queue.get() == {"code": "conflict", "detail": "later"}
        found.leave()
        assert await queue.get() is None
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
