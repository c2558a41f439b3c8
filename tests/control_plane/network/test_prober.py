# SPDX-License-Identifier: Apache-2.0
"""N8, I8: who is probed, when, and what follows; the fabric is a double, the nodes' noise is real."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.network import store
from control_plane.network.config import Network
from control_plane.network.prober import Prober
from control_plane.sealing import utc_now
from hal_drivers.engines.node import run_fragment
from hal_drivers.frames import FragmentCall
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.ir import SERVICES
from hal_drivers.p2p.office import Heard, Peer, Probe, Probed
from hal_drivers.p2p.probe import MEASURE
from hal_drivers.p2p.wire import Advert, Signed
from tests.control_plane.jobs.desk import Desk
from tests.control_plane.network.test_enrolment import PEER, approved
from tests.hal_drivers.p2p.fabric_double import FabricDouble


def node(*services: str, says: float = 0.99) -> Peer:
    heard = [
        Heard(
            Advert(1, PEER, (), service, says, 1, 20, 1.0, "2026-11-21T12:00:00Z", number, 60),  # type: ignore[arg-type]
            Signed(PEER, b"{}", b"s"),
            1,
            stale=False,
        )
        for number, service in enumerate(services, 1)
    ]
    return Peer(PEER, "unverified", True, (), 0, 1000, 0, 0, 0, tuple(heard))


def works(double: FabricDouble, has: float, **others: float) -> None:
    """The node behind the double computes its probes as real ones do."""
    true = dict.fromkeys(SERVICES, has) | others

    def answer(ask: Probe) -> Probed:
        memory = run_fragment(FragmentCall(ask.circuit, true, ask.shots, ask.seed))
        return Probed(memory.rows, ask.shots, 990_000, 1_000, None, None, ())

    double.replies[Probe] = answer


def prober(desk: Desk, office: Office, **settings: float) -> Prober:
    return Prober(desk.plane.engine, office, msgspec.convert({"probe_s": 3_600, **settings}, Network), utc_now)


async def judged(desk: Desk) -> dict[str, tuple[int, bool]]:
    async with desk.plane.transaction(None) as conn:
        return {key[1]: (row["verified_ppm"], row["degraded"]) for key, row in (await store.judged(conn)).items()}


async def test_a_node_is_verified_service_by_service_and_the_fabric_told(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    """Its measurement first, for every other bound rests on it; and then none before its time."""
    await approved(desk)
    double.peers = (node("cnot", "bell_pair", MEASURE),)
    works(double, 0.99)
    probing = prober(desk, office)
    for _ in range(5):
        await probing.step()
    asked = [ask.services for ask in double.asked if isinstance(ask, Probe)]
    assert [set(one) - {MEASURE} for one in asked] == [set(), {"bell_pair"}, {"cnot"}]
    found = await judged(desk)
    assert set(found) == {"cnot", "bell_pair", MEASURE}
    assert all(940_000 < verified < 990_500 and not degraded for verified, degraded in found.values())
    assert {one.service for one in double.enrolled.peers[0].verified} == set(found)


async def test_a_node_that_overstates_is_degraded_by_its_first_probe(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    await approved(desk)
    double.peers = (node("cnot", MEASURE),)
    works(double, 0.95, **{MEASURE: 0.99})
    probing = prober(desk, office)
    for _ in range(2):
        await probing.step()
    found = await judged(desk)
    assert found["cnot"][1]
    assert found["cnot"][0] < 950_000
    assert not found[MEASURE][1]
    assert [one.degraded for one in double.enrolled.peers[0].verified if one.service == "cnot"] == [True]
    told = [msgspec.json.decode(row) for (row,) in desk.sql("SELECT pending FROM ledger.inbox ORDER BY id")]
    (entry,) = [one for one in told if one["kind"].startswith("network:quality")]
    assert (entry["kind"], entry["tenant"], entry["body"]["service"]) == ("network:quality:degraded", "_plane", "cnot")


async def test_without_a_measurement_nothing_can_be_verified(desk: Desk, office: Office, double: FabricDouble) -> None:
    await approved(desk)
    double.peers = (node("cnot"),)
    await prober(desk, office).step()
    assert not [ask for ask in double.asked if isinstance(ask, Probe)]


@pytest.mark.parametrize(("code", "rows"), [("rows", 1), ("late", 1), ("window_taken", 0)])
async def test_a_probe_that_failed_verifies_nothing(
    desk: Desk, office: Office, double: FabricDouble, code: str, rows: int
) -> None:
    await approved(desk)
    double.peers = (node(MEASURE),)
    double.replies[Probe] = lambda _: Probed(b"", 0, None, 0, code, "told", ())
    await prober(desk, office).step()
    assert await judged(desk) == {}
    assert len(desk.sql("SELECT code FROM network.probe")) == rows


async def test_who_may_not_work_is_not_probed(desk: Desk, office: Office, double: FabricDouble) -> None:
    await approved(desk)
    for state in ("suspended", "revoked", "stale", "unreachable", None):
        double.peers = (msgspec.structs.replace(node(MEASURE), state=state),)
        await prober(desk, office).step()
    assert not [ask for ask in double.asked if isinstance(ask, Probe)]


async def test_tokens_and_seeds_are_never_the_same(desk: Desk, office: Office, double: FabricDouble) -> None:
    await approved(desk)
    double.peers = (node(MEASURE),)
    works(double, 0.99)
    for _ in range(4):
        await prober(desk, office, probe_s=0.0).step()
    asked = [ask for ask in double.asked if isinstance(ask, Probe)]
    assert len({ask.token for ask in asked}) == len({ask.seed for ask in asked}) == len(asked)
