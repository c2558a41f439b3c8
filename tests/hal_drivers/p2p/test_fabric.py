# SPDX-License-Identifier: Apache-2.0
"""The fabric among real peers: Noise or nothing, the enrolled or nobody, cut off within a second (N1, N2, N14, I8).

Each peer is a process; waits are by condition, and each that is promised in time is held to the promise in the bench.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hal_drivers.p2p.office import AskPeers, AskSnapshot, AskStanding, AskTopology, Known, KnownAdvert
from tests.hal_drivers.p2p.adverts import enrol, enrolled, peer
from tests.hal_drivers.p2p.peers import Network, Peer, until

ANNA, BERT = peer(1), peer(2)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(tmp_path, stack)


def test_a_node_joins_once_enrolled_and_is_cut_off_once_it_is_not(network: Network) -> None:
    node = network.add("node", number=1, computes=False)
    assert node.begun()["peer_id"] == ANNA.peer_id
    until("it is refused before anybody was enrolled", lambda: network.refused().get("not_enrolled"))
    assert network.state(ANNA) is None
    assert network.office.ask(AskSnapshot()).snapshot.nodes == ()

    network.office.ask(enrol(enrolled(ANNA, verified=()), version=1))
    until("it is heard", lambda: network.state(ANNA) == "unverified")
    network.office.ask(enrol(enrolled(ANNA), version=2))
    assert network.state(ANNA) == "online"
    [facts] = network.office.ask(AskSnapshot()).snapshot.nodes
    assert [(o.service, o.reported_ppm) for o in facts.offers] == [("cnot", 990_000)]
    until("its heartbeat is answered", lambda: network.office.ask(AskSnapshot()).snapshot.nodes[0].latency_us)
    [link] = network.office.ask(AskTopology()).links
    assert (link.to_id, link.connected) == (ANNA.peer_id, True)
    assert link.failure_ppm < 1_000_000, "one was answered; while it was still being cut off some may not have been"
    assert network.office.ask(enrol(enrolled(ANNA), version=1)).code == "out_of_date"

    network.office.ask(enrol(enrolled(ANNA, state="suspended"), version=3))
    assert network.state(ANNA) == "suspended"
    until("its connection is gone", lambda: not network.office.ask(AskTopology()).links[0].connected)
    network.office.ask(enrol(enrolled(ANNA), version=4))
    until("approved again it comes back by itself", lambda: network.state(ANNA) == "online")
    network.office.ask(enrol(enrolled(ANNA, state="revoked"), version=5))
    until("revoked: gone", lambda: network.kinds(ANNA.peer_id)[-1] == "peer:disconnected")
    assert network.state(ANNA) == "revoked"


@pytest.mark.parametrize("noes", [1, 3])
def test_who_is_let_in_while_it_is_being_cut_off_is_heard(tmp_path: Path, noes: int) -> None:
    """The door is asked at the connection and at each stream: a yes in between left half of a connection behind."""
    with Peer("hesitant", tmp_path / "two", noes=noes) as two:
        assert two.begun()["heard"]


@pytest.mark.parametrize("role", ["plaintext", "stolen"])
def test_nobody_becomes_another_by_plaintext_or_a_stolen_public_key(network: Network, role: str) -> None:
    network.office.ask(enrol(enrolled(ANNA)))
    assert network.add(role, victim=ANNA.peer_id).begun()["refused"]
    assert network.state(ANNA) == "unreachable"
    assert network.office.ask(AskStanding()).connected == 0
    assert network.kinds(ANNA.peer_id) == []


def test_a_stopped_node_is_unreachable_and_a_killed_one_is_gone(network: Network) -> None:
    network.again(heartbeat_limit_s=0.3)
    network.office.ask(enrol(enrolled(ANNA)))
    node = network.add("node", number=1, computes=False)
    node.begun()
    until("it is there", lambda: network.state(ANNA) == "online")
    node.process.send_signal(signal.SIGSTOP)
    until("it answers nothing", lambda: network.state(ANNA) == "unreachable")
    [link] = network.office.ask(AskTopology()).links
    assert (link.connected, link.degraded) == (True, True)
    assert link.failure_ppm > 0
    node.process.send_signal(signal.SIGCONT)
    until("it goes on", lambda: network.state(ANNA) == "online")
    node.process.kill()
    until("it is gone", lambda: network.state(ANNA) == "unreachable")
    until("said", lambda: network.kinds(ANNA.peer_id)[-1] == "peer:disconnected")
    assert "peer:unreachable" in network.kinds(ANNA.peer_id)


def test_a_fabric_that_was_killed_knows_again_what_the_plane_tells_it(network: Network) -> None:
    network.office.ask(enrol(enrolled(ANNA)))
    network.add("node", number=1, computes=False).begun()
    until("it is there", lambda: network.state(ANNA) == "online")
    [anna] = network.office.ask(AskPeers()).peers
    before = network.office.ask(AskStanding())
    network.again()
    after = network.office.ask(AskStanding())
    assert (after.peer_id, after.enrolled_version, after.adverts) == (before.peer_id, 0, 0)
    until("its journal goes on", lambda: network.office.ask(AskStanding()).events_last > before.events_last)
    network.office.ask(enrol(enrolled(ANNA)))
    network.office.ask(Known(tuple(KnownAdvert(heard.signed, heard.age_s) for heard in anna.adverts)))
    assert network.office.ask(AskStanding()).adverts == 1
    until("the node comes back by itself", lambda: network.state(ANNA) == "online")
    # Gossip may say again what it said while the fabric was gone; nothing else of it is refused.
    assert set(network.office.ask(AskStanding()).rejected) <= {"replayed"}


def test_a_fabric_that_breaks_says_so(tmp_path: Path) -> None:
    with Peer("fabric", tmp_path / "f", breaks=True) as broken:
        broken.begun()
        assert broken.process.wait(timeout=60) == 1
    assert "RuntimeError: it broke" in (tmp_path / "f" / "err").read_text()


def test_replays_others_words_and_garbage_are_counted_and_change_nothing(network: Network) -> None:
    network.office.ask(enrol(enrolled(ANNA), enrolled(BERT)))
    network.add("flooder", number=1, flood=0).begun()
    wanted = {"replayed": 1, "not_an_advert": 1, "not_enrolled": 1, "range": 1}
    until("each is counted", lambda: network.office.ask(AskStanding()).rejected == wanted)
    until("and told", lambda: network.refused("advert:rejected") == wanted)
    assert network.office.ask(AskStanding()).adverts == 1


def test_a_flood_costs_its_sender_and_nobody_else(network: Network) -> None:
    network.again(bounds={"per_s": 1.0, "burst": 50})
    network.office.ask(enrol(enrolled(ANNA), enrolled(BERT)))
    network.add("flooder", number=1, flood=400)
    network.add("node", number=2, computes=False).begun()
    until("its share is spent", lambda: network.refused("advert:rejected").get("too_many", 0) >= 10)
    until("the others go on", lambda: network.state(BERT) == "online")
    assert len([kind for kind in network.kinds(ANNA.peer_id) if kind == "advert:rejected"]) < 40
    assert network.office.ask(AskStanding()).adverts == 2
