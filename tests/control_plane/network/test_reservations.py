# SPDX-License-Identifier: Apache-2.0
"""Windows without a job, over HTTP and over faults (N5, N17, N10, G2, G5, I6, I7)."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from control_plane.errors import QcosError
from control_plane.network.acts import acted
from control_plane.network.config import Network
from control_plane.network.enrolment import Asked as Act
from control_plane.reservations.asked import fold
from control_plane.reservations.keeping import Keeping
from control_plane.sealing import utc_now
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.office import (
    AskSnapshot,
    CancelReservation,
    Refusal,
    Reply,
    ReservationIs,
    ReserveWindow,
    SnapshotIs,
)
from hal_drivers.p2p.plan import NodeFacts, Offer, Snapshot
from tests.control_plane.jobs.desk import Desk, report
from tests.control_plane.network.test_api import served
from tests.control_plane.network.test_enrolment import ADMIN, NOW, OTHER, PEER, approved
from tests.fakes import FakeDriver
from tests.hal_drivers.p2p.fabric_double import FabricDouble, fabric

Ask = Callable[..., Any]
BODY: dict[str, Any] = {
    "node_id": PEER,
    "services": ["cnot"],
    "duration_s": 60,
    "governance": {"project": "demo", "classification": "internal", "purpose": "maintenance"},
}


class Lab:
    """A plane whose network has one node, and what its fabric is asked."""

    def __init__(self, desk: Desk, ask: Ask, double: FabricDouble, office: Office) -> None:
        self.desk, self.ask, self.double = desk, ask, double
        self.keeping = Keeping(desk.plane.engine, office, utc_now)
        facts = ("Lab A", "eu", "onprem", True, "0.1", "0.001", "USD", (Offer("cnot", 990_000, 980_000, 1, 20),))
        self.offer(NodeFacts(PEER, "online", *facts, 9, 0, 0))
        self.says("REQUESTED", "PREPARED", "COMMITTED")
        double.replies[CancelReservation] = lambda ask: _standing(ask.reservation_id, ("CANCELED",))

    def offer(self, *nodes: NodeFacts) -> None:
        """What the fabric knows of nodes."""
        self.nodes = nodes
        self.double.replies[AskSnapshot] = lambda _: SnapshotIs(Snapshot(nodes), "00")

    def says(self, *states: str, **facts: Any) -> None:
        """What a node answers to whoever wants a window."""
        self.double.replies[ReserveWindow] = lambda ask: _standing(ask.reservation_id, states, **facts)

    def asked(self, kind: type) -> list[Any]:
        """What of this kind the fabric was asked."""
        return [one for one in self.double.asked if isinstance(one, kind)]

    async def reserve(self, **changes: Any) -> dict[str, Any]:
        """A window that is granted."""
        status, found = await self.ask("POST", "/reservations", BODY | changes)
        assert status == 201, found
        shown: dict[str, Any] = found
        return shown

    async def state(self, reservation_id: str) -> tuple[str, str | None]:
        """(state, code)."""
        _, found = await self.ask("GET", f"/reservations/{reservation_id}")
        return found["state"], found["code"]

    def age(self, seconds: int) -> None:
        """So much time passes for what is reserved."""
        self.desk.sql(
            "UPDATE network.reservation SET changed_at = changed_at - make_interval(secs => %s)", float(seconds)
        )


def _standing(name: str, states: tuple[str, ...], **facts: Any) -> Reply:
    told: dict[str, Any] = {"fence": 7 if "PREPARED" in states else None, "starts_in_ms": 0, "expires_in_ms": None}
    told |= {"next_free_in_ms": None, "code": None, "detail": None} | facts
    at = "2026-11-21T12:00:00.000Z"
    return msgspec.convert(
        {"type": "reservation", "reservation_id": name, "node_id": PEER, "state": states[-1]}
        | told
        | {"moves": [(state, at) for state in states]},
        ReservationIs,
    )


@pytest.fixture
async def lab(desk: Desk) -> AsyncIterator[Lab]:
    await approved(desk)
    driver = FakeDriver()
    await report(desk, driver)
    desk.sql("UPDATE jobs.backend SET provider = 'p2p', compliance_zone = '', sovereign = false")
    desk.plane.known.forget()
    with TemporaryDirectory(prefix="q") as folder:
        changed = {"home": Path(folder), "network": Network(enabled=True)}
        settings = msgspec.structs.replace(desk.plane.settings, **changed)
        settings.fabric_socket.parent.mkdir(parents=True)
        office = Office(settings.fabric_socket)
        async with fabric(settings.fabric_socket) as double, served(desk, settings) as ask:
            yield Lab(desk, ask, double, office)
            await office.close()


async def test_a_window_is_reserved_shown_listed_and_given_back(lab: Lab) -> None:
    """N17; each act an entry of the tenant, after the decision that allowed it (G2, G5)."""
    made = await lab.reserve(correlation_id="upgrade-7", starts_at=None)
    assert (made["state"], made["fence"], made["correlation_id"]) == ("COMMITTED", 7, "upgrade-7")
    assert [one["state"] for one in made["history"]] == ["REQUESTED", "PREPARED", "COMMITTED"]
    (wanted,) = lab.asked(ReserveWindow)
    assert (wanted.node_id, wanted.services, wanted.starts_in_ms) == (PEER, ("cnot",), 0)
    assert 59_000 < wanted.duration_ms <= 60_000
    path = f"/reservations/{made['reservation_id']}"
    assert await lab.ask("GET", path) == (200, made)
    assert await lab.ask("GET", f"/reservations?state=COMMITTED&node_id={PEER}&project=demo") == (200, [made])
    assert await lab.ask("GET", "/reservations?state=REJECTED") == (200, [])
    status, ended = await lab.ask("POST", f"{path}/cancel")
    assert (status, ended["state"], ended["code"]) == (200, "CANCELED", "canceled")
    assert await lab.ask("POST", f"{path}/cancel") == (200, ended)
    assert [one.node_id for one in lab.asked(CancelReservation)] == [PEER]
    kinds = [kind for kind in lab.desk.kinds() if "reservation" in kind or "decision" in kind]
    told = ["policy:decision:allow", *(f"network:reservation:{one}" for one in ("requested", "committed", "canceled"))]
    assert kinds == told
    await lab.desk.seal()
    assert (await lab.desk.replayed()).differences == []
    lab.desk.sql("UPDATE network.reservation SET state = 'COMMITTED'")
    assert "COMMITTED where the ledger says CANCELED" in (await lab.desk.replayed()).differences[0]


async def test_the_same_key_reserves_once(lab: Lab) -> None:
    first = await lab.ask("POST", "/reservations", BODY, key="k1")
    again = await lab.ask("POST", "/reservations", BODY, key="k1")
    assert (first[0], again) == (201, (200, first[1]))
    assert len(lab.asked(ReserveWindow)) == 1
    status, problem = await lab.ask("POST", "/reservations", BODY | {"duration_s": 61}, key="k1")
    assert (status, problem["code"]) == (409, "idempotency_conflict")


async def test_what_policy_denies_reserves_nothing(lab: Lab) -> None:
    """G2: by role, zone and number; the denial is an entry, and no node hears of it."""
    status, denied = await lab.ask("POST", "/reservations", BODY, who="user")
    assert (status, denied["code"], denied["reasons"][0]["code"]) == (403, "policy_denied", "role_required")
    assert (await lab.ask("POST", "/reservations", BODY, who="outsider"))[1]["code"] == "budget_missing"
    cloud = [msgspec.structs.replace(one, compliance_zone="us", sovereign=False) for one in lab.nodes]
    lab.offer(*cloud)
    secret = BODY | {"governance": BODY["governance"] | {"classification": "confidential"}}
    assert (await lab.ask("POST", "/reservations", secret))[1]["reasons"][0]["code"] == "zone_required"
    assert (await lab.ask("GET", "/reservations"))[1] == []
    assert lab.asked(ReserveWindow) == []
    assert lab.desk.kinds().count("policy:decision:deny") == 2, "and the outsider's, in their own chain"
    for _ in range(8):
        await lab.reserve()
    problem = (await lab.ask("POST", "/reservations", BODY))[1]
    assert problem["reasons"][0]["code"] == "quota_exceeded"
    assert "8 of 8 reserved windows" in problem["detail"]


async def test_a_reservation_is_its_tenants_own(lab: Lab) -> None:
    """I7."""
    path = f"/reservations/{(await lab.reserve())['reservation_id']}"
    assert (await lab.ask("GET", path, who="outsider"))[0] == 404
    assert (await lab.ask("POST", f"{path}/cancel", who="outsider"))[0] == 404
    assert await lab.ask("GET", "/reservations", who="outsider") == (200, [])
    assert (await lab.ask("GET", path, who="auditor"))[0] == 200
    assert (await lab.ask("POST", f"{path}/cancel", who="user"))[1]["code"] == "forbidden"


@pytest.mark.parametrize(
    ("change", "status", "code", "said"),
    [
        ({"node_id": OTHER}, 400, "node_unknown", "no node"),
        ({"node_id": "me"}, 400, "request_invalid", "node_id"),
        ({"services": ["toffoli"]}, 400, "request_invalid", "services"),
        ({"services": []}, 400, "request_invalid", "services"),
        ({"services": ["cz"]}, 409, "node_unusable", "offers no cz"),
        ({"qubits": 21}, 409, "node_unusable", "1 to 20 qubits"),
        ({"min_fidelity": 0.985}, 409, "node_unusable", "counts 0.980000"),
        ({"duration_s": 0}, 400, "request_invalid", "duration_s"),
        ({"duration_s": -1}, 400, "request_invalid", "duration_s"),
        ({"duration_s": 3601}, 400, "request_invalid", "duration_s"),
        ({"starts_at": "2020-01-01T00:00:00Z"}, 400, "request_invalid", "starts_at: it lies in the past"),
        ({"starts_at": "0001-01-01T00:00:00+14:00"}, 400, "request_invalid", "starts_at"),
        ({"starts_at": "9999-12-31T23:59:59-12:00"}, 400, "request_invalid", "starts_at: the window would not end"),
        ({"starts_at": "2027-01-01T00:00:00"}, 400, "request_invalid", "starts_at"),
        ({"starts_at": 7}, 400, "request_invalid", "starts_at"),
        ({"governance": {"project": "demo"}}, 400, "request_invalid", "governance"),
        ({"colour": "red"}, 400, "request_invalid", "colour"),
    ],
)
async def test_bad_input_is_named_and_leaves_nothing(
    lab: Lab, change: dict[str, Any], status: int, code: str, said: str
) -> None:
    """N13, N17."""
    before = lab.desk.counts()
    got, problem = await lab.ask("POST", "/reservations", BODY | change)
    assert (got, problem["code"]) == (status, code)
    assert said in problem["detail"]
    assert lab.desk.counts() == before
    assert lab.asked(ReserveWindow) == []


async def test_a_node_that_is_out_grants_nothing(lab: Lab) -> None:
    """I8: suspended, or not verified."""
    lab.offer(*(msgspec.structs.replace(one, state="unverified") for one in lab.nodes))
    assert "is unverified" in (await lab.ask("POST", "/reservations", BODY))[1]["detail"]
    await acted(lab.desk.plane.engine, ADMIN, PEER, Act("suspend"), NOW)
    status, problem = await lab.ask("POST", "/reservations", BODY)
    assert (status, problem["code"], "suspended" in problem["detail"]) == (409, "node_unusable", True)


async def test_a_window_that_is_taken_names_the_next_free_one(lab: Lab) -> None:
    """N5."""
    lab.says("REQUESTED", "REJECTED", next_free_in_ms=30_000, code="window_taken", detail="the window is taken")
    status, problem = await lab.ask("POST", "/reservations", BODY, key="k")
    assert (status, problem["code"], problem["state"]) == (409, "window_taken", "REJECTED")
    free_in = dt.datetime.fromisoformat(problem["next_free_at"]) - utc_now()
    assert dt.timedelta(seconds=20) < free_in <= dt.timedelta(seconds=30)
    assert await lab.state(problem["reservation_id"]) == ("REJECTED", "window_taken")
    assert (await lab.ask("POST", "/reservations", BODY, key="k"))[1]["reservation_id"] == problem["reservation_id"]
    lab.says("REQUESTED", "CANCELED", code="late", detail="no answer in 2 s")
    status, problem = await lab.ask("POST", "/reservations", BODY)
    assert (status, problem["code"], problem["state"]) == (503, "node_unreachable", "CANCELED")


async def test_without_a_fabric_it_is_said_and_nothing_is_left_open(lab: Lab) -> None:
    """N7, N10: a window that nobody heard of again is given back and ended."""
    lab.double.replies[ReserveWindow] = lambda _: Refusal("busy", "the fabric is starting")
    assert (await lab.ask("POST", "/reservations", BODY, key="k"))[1]["code"] == "conflict"
    (left,) = (await lab.ask("GET", "/reservations?state=REQUESTED"))[1]
    await lab.keeping.step(())
    assert (await lab.state(left["reservation_id"]))[0] == "REQUESTED", "its request may still be on its way"
    lab.age(60)
    await lab.keeping.step(())
    assert await lab.state(left["reservation_id"]) == ("CANCELED", "abandoned")
    assert len(lab.asked(CancelReservation)) == 1
    lab.double.replies[AskSnapshot] = lambda _: Refusal("busy", "later")
    assert (await lab.ask("POST", "/reservations", BODY))[1]["code"] == "conflict"


async def test_a_request_that_comes_again_goes_on(lab: Lab) -> None:
    lab.double.replies[ReserveWindow] = lambda _: Refusal("busy", "the fabric is starting")
    await lab.ask("POST", "/reservations", BODY, key="k")
    lab.says("REQUESTED", "PREPARED", "COMMITTED")
    status, found = await lab.ask("POST", "/reservations", BODY, key="k")
    assert (status, found["state"]) == (200, "COMMITTED")


async def test_a_window_ends_by_its_time(lab: Lab) -> None:
    """N5: shown at once, told by the keeper."""
    name = (await lab.reserve())["reservation_id"]
    lab.desk.sql("""UPDATE network.reservation SET answer = answer || '{"ends_at": "2026-01-01T00:00:00.000Z"}'""")
    assert (await lab.state(name))[0] == "EXPIRED"
    assert [one["state"] for one in (await lab.ask("GET", "/reservations?state=EXPIRED"))[1]] == ["EXPIRED"]
    assert (await lab.ask("POST", f"/reservations/{name}/cancel"))[1]["code"] == "transition_refused"
    await lab.keeping.step(())
    assert lab.desk.kinds()[-1] == "network:reservation:expired"
    await lab.keeping.step(())
    assert lab.desk.kinds().count("network:reservation:expired") == 1


async def test_a_window_outlives_a_fabric_and_a_node_or_is_ended_as_lost(lab: Lab) -> None:
    """N10: whoever may have forgotten it is asked again, once; until it answers nothing is told."""
    name = (await lab.reserve())["reservation_id"]
    lab.double.asked.clear()
    await lab.keeping.step(())
    await lab.keeping.step(())
    assert [one.again for one in lab.asked(ReserveWindow)] == [True], "a keeper that begins asks for all"
    lab.double.replies[ReserveWindow] = lambda _: Refusal("unreachable", "not yet")
    await lab.keeping.step({PEER})
    await lab.keeping.step({OTHER})
    assert await lab.state(name) == ("COMMITTED", None)
    assert len(lab.asked(ReserveWindow)) == 3
    lab.says("REQUESTED", "REJECTED", code="window_taken", detail="the window is taken")
    await lab.keeping.step(())
    assert await lab.state(name) == ("FAILED", "window_lost")


async def test_a_node_that_is_revoked_keeps_no_window(lab: Lab) -> None:
    name = (await lab.reserve())["reservation_id"]
    await acted(lab.desk.plane.engine, ADMIN, PEER, Act("revoke"), NOW)
    await lab.keeping.step(())
    assert await lab.state(name) == ("FAILED", "not_enrolled")


async def test_without_a_network_there_is_nothing_to_reserve(desk: Desk) -> None:
    async with served(desk, desk.plane.settings) as ask:
        for method, path in (("POST", ""), ("GET", ""), ("GET", "/r"), ("POST", "/r/cancel")):
            status, problem = await ask(method, f"/reservations{path}", BODY if not path else None)
            assert (status, problem["code"]) == (404, "network_off")


def test_entries_that_do_not_follow_are_found() -> None:
    """I6."""
    moved = {"reservation_id": "r", "moves": [{"state": "COMMITTED", "at": "x"}]}
    with pytest.raises(QcosError, match="does not move from None to COMMITTED"):
        fold({}, "demo", "network:reservation:committed", moved)
