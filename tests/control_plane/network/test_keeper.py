# SPDX-License-Identifier: Apache-2.0
"""The keeper between plane and fabric: told in time, nothing lost, nothing twice, nothing without bound (N8, N10)."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from control_plane.network import keeper, store
from control_plane.network.acts import acted
from control_plane.network.enrolment import Asked
from control_plane.network.keeper import ANSWERS_AT_ONCE, Keeper, push
from control_plane.sealing import utc_now
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.errors import FabricAway
from hal_drivers.p2p.office import Enrol, Event, Heard, Known, Peer
from hal_drivers.p2p.wire import Advert, Signed
from tests.control_plane.jobs.desk import Desk
from tests.control_plane.network.test_enrolment import ADMIN, NOW, PEER, approved
from tests.hal_drivers.p2p.fabric_double import FabricDouble, fabric

CHANGED = Event(2, "2026-11-21T12:00:00.000Z", "peer:connected", node_id=PEER)


def keeper_of(desk: Desk, office: Office, name: str = "w1") -> Keeper:
    return Keeper(desk.plane.engine, office, name, utc_now)


def entries(desk: Desk) -> list[tuple[str, dict[str, object]]]:
    """Kind and body of each entry of the plane that waits, but for acts on enrolments."""
    rows = desk.sql("SELECT pending FROM ledger.inbox WHERE tenant = '_plane' ORDER BY id")
    told = [msgspec.json.decode(row) for (row,) in rows]
    return [(one["kind"], one["body"]) for one in told if not one["kind"].startswith("network:peer")]


def heard(serial: int, age_s: int = 1) -> Heard:
    advert = Advert(1, PEER, ("/ip4/127.0.0.1/tcp/1",), "cnot", 0.99, 1, 20, 1.0, "2026-11-21T12:00:00Z", serial, 60)
    return Heard(advert, Signed(PEER, b"{}", b"s"), age_s, stale=False)


def peer(*adverts: Heard) -> Peer:
    return Peer(PEER, "online", True, ("/ip4/127.0.0.1/tcp/1",), 0, 1000, 0, 0, 0, adverts)


async def test_the_fabric_is_told_once_and_again_at_each_change(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    """N14: the set as it is, what peers said before, and no proposal."""
    await approved(desk)
    keeping = keeper_of(desk, office)
    assert await keeping.step()
    assert [(one.peer_id, one.state) for one in double.enrolled.peers] == [(PEER, "approved")]
    assert double.known == Known(())
    await keeping.step()
    assert sum(isinstance(ask, Enrol) for ask in double.asked) == 1
    await acted(desk.plane.engine, ADMIN, PEER, Asked("revoke"), NOW)
    await keeping.step()
    assert [one.state for one in double.enrolled.peers] == ["revoked"]


async def test_an_act_is_pushed_at_once_and_an_older_set_never_replaces_a_newer(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    await approved(desk)
    await push(desk.plane.engine, office)
    assert double.enrolled.version == desk.sql("SELECT version FROM network.standing")[0][0]
    later = msgspec.structs.replace(double.enrolled, version=99)
    double.enrolled = later
    await push(desk.plane.engine, office)
    assert double.enrolled is later


async def test_a_database_that_was_set_back_is_believed(desk: Desk, office: Office, double: FabricDouble) -> None:
    """What the fabric was told before the restore doesn't outlive it."""
    double.enrolled = Enrol(99, ())
    await approved(desk)
    await keeper_of(desk, office).step()
    assert double.enrolled.version == 100
    assert len(double.enrolled.peers) == 1


async def test_one_keeps_at_a_time_and_another_takes_over(desk: Desk, office: Office, double: FabricDouble) -> None:
    first, second = keeper_of(desk, office), keeper_of(desk, office, "w2")
    assert (await first.step(), await second.step()) == (True, False)
    double.journal("answer:late", node_id=PEER, token="t", fragment_id="f0", epoch=1)
    desk.sql("UPDATE network.standing SET kept_until = now() - interval '1 second'")
    assert (await second.step(), await first.step()) == (True, False)
    assert [kind for kind, _ in entries(desk)].count("network:answer:late") == 1
    assert desk.sql("SELECT count(*) FROM network.event") == [(1,)]


async def test_late_and_second_answers_are_entries_and_a_flood_of_them_is_folded(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    said = Signed(PEER, b"body", b"signature")
    double.journal("answer:second", node_id=PEER, token="t", fragment_id="f0", epoch=2, signed=said)
    for _ in range(ANSWERS_AT_ONCE + 9):
        double.journal("answer:late", node_id=PEER, token="t", fragment_id="f0", epoch=1)
    double.journal("attempt:accepted", node_id=PEER, token="t", fragment_id="f0", epoch=2)
    await keeper_of(desk, office).step()
    told = [(kind, body) for kind, body in entries(desk) if kind.startswith("network:answer")]
    assert len(told) == ANSWERS_AT_ONCE + 1
    assert told[0][0] == "network:answer:second"
    assert told[0][1]["epoch"] == 2
    assert str(told[0][1]["answer"]).startswith("sha256:")
    assert told[-1][1]["times"] == {"answer:late": 10}
    ((kept,),) = desk.sql("SELECT signed FROM network.event WHERE kind = 'answer:second'")
    assert msgspec.json.decode(kept)["body"] == base64.b64encode(b"body").decode()


async def test_what_was_turned_away_is_counted_into_the_checkpoint(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    """N1: a flood of rejected adverts is a line; the ledger names the head of the journal that has each."""
    for _ in range(3):
        double.journal("advert:rejected", node_id=PEER, reason="replay", count=1000)
    double.journal("peer:refused", reason="not_enrolled", count=7)
    keeping = keeper_of(desk, office)
    await keeping.step()
    ((kind, body),) = entries(desk)
    assert kind == keeper.CHECKPOINT
    assert (body["seq"], body["head"]) == (4, double.head(4))
    assert body["turned_away"] == [
        {"kind": "advert:rejected", "reason": "replay", "times": 3000},
        {"kind": "peer:refused", "reason": "not_enrolled", "times": 7},
    ]
    double.journal("peer:connected", node_id=PEER)
    await keeping.step()
    assert len(entries(desk)) == 1, "the next is a minute away"


async def test_probes_are_metered_once_to_the_plane(desk: Desk, office: Office, double: FabricDouble) -> None:
    """N8, G6: in the checkpoint's transaction, at the enrolment's price, in no tenant's budget."""
    await approved(desk)
    values = {"peer_id": PEER, "service": "cnot", "at": NOW, "facts": {}, "reported_ppm": 990_000, "duration_us": 7}
    async with desk.plane.transaction(None) as conn:
        await store.keep_probe(conn, values | {"shots": 1000, "code": None})
        await store.keep_probe(conn, values | {"shots": 0, "code": "late", "reported_ppm": None})
    double.journal("peer:connected", node_id=PEER)
    keeping = keeper_of(desk, office)
    await keeping.step()
    (_, (kind, body)) = entries(desk)
    used = {"probes": 2, "failed": 1, "shots": 1000, "duration_us": 14, "amount": "1.1", "currency": "USD"}
    assert (kind, body) == (keeper.METERED, {"nodes": [used | {"peer_id": PEER}]})
    desk.sql("UPDATE network.standing SET told_at = NULL")
    double.journal("peer:disconnected", node_id=PEER)
    await keeping.step()
    assert [kind for kind, _ in entries(desk)].count(keeper.METERED) == 1
    assert (await desk.money())[1] == 0


async def test_what_is_kept_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of each service, however many probes there were."""
    monkeypatch.setattr(store, "PROBES_AT_MOST", 2)
    monkeypatch.setattr(store, "JUDGEMENTS_AT_MOST", 2)
    probe = {
        "peer_id": PEER,
        "at": utc_now(),
        "shots": 1,
        "facts": {},
        "reported_ppm": 1,
        "duration_us": 7,
        "code": None,
    }
    judgement = {"peer_id": PEER, "at": utc_now(), "probes": 1, "shots": 1, "reported_ppm": 1, "because": ""}
    async with desk.plane.transaction(None) as conn:
        for number in range(4):
            for service in ("cnot", "cz"):
                await store.keep_probe(conn, probe | {"service": service})
                found = {"service": service, "verified_ppm": number, "degraded": False}
                await store.judge(conn, judgement | found)
        await store.prune(conn)
        assert {key: row["verified_ppm"] for key, row in (await store.judged(conn)).items()} == {
            (PEER, "cnot"): 3,
            (PEER, "cz"): 3,
        }
    assert desk.sql("SELECT service, count(*) FROM network.probe GROUP BY 1 ORDER BY 1") == [("cnot", 2), ("cz", 2)]
    assert desk.sql("SELECT service, count(*) FROM network.quality GROUP BY 1 ORDER BY 1") == [("cnot", 2), ("cz", 2)]


@pytest.mark.parametrize(
    ("spoil", "because"),
    [
        (lambda double: double.events.clear(), "it ends at 0, the database knows 2"),
        (lambda double: double.events.__setitem__(1, CHANGED), "line 2 is not the one that the database knows"),
    ],
)
async def test_another_journal_is_told_of_and_read_from_its_beginning(
    desk: Desk, office: Office, double: FabricDouble, spoil: object, because: str
) -> None:
    """N10: at the start of fabric and keeper the journal is held against the ledger."""
    double.journal("peer:connected", node_id=PEER)
    double.journal("peer:disconnected", node_id=PEER)
    await keeper_of(desk, office).step()
    assert callable(spoil)
    spoil(double)
    again = keeper_of(desk, office)
    await again.step()
    (_, (kind, body)) = entries(desk)[:2]
    assert (kind, body["because"]) == (keeper.BROKEN, because)
    double.journal("peer:connected", node_id=PEER)
    await again.step()
    assert desk.sql("SELECT max(run) FROM network.event") == [(1,)]
    assert desk.sql("SELECT run, seq FROM network.standing") == [(1, len(double.events))]


async def test_the_journal_is_held_against_the_ledger_whatever_the_rows_say(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    """N10: who can write the plane's rows and the journal, but not the log, is found."""
    double.journal("peer:connected", node_id=PEER)
    double.journal("peer:disconnected", node_id=PEER)
    await keeper_of(desk, office).step()
    await desk.seal()
    assert entries(desk) == []
    await keeper_of(desk, office).step()
    assert entries(desk) == [], "nothing has changed"
    double.events[1] = CHANGED
    desk.sql("UPDATE network.standing SET head = %s, told_head = %s RETURNING run", double.head(2), double.head(2))
    await keeper_of(desk, office).step()
    (kind, body) = entries(desk)[0]
    assert (kind, body["because"]) == (keeper.BROKEN, "line 2 is not the one that the ledger knows")


async def test_a_journal_that_rotated_goes_on_and_says_what_was_never_read(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    keeping = keeper_of(desk, office)
    double.journal("peer:connected", node_id=PEER)
    await keeping.step()
    for _ in range(5):
        double.journal("peer:connected", node_id=PEER)
    double.dropped = 4
    await keeping.step()
    assert desk.sql("SELECT seq FROM network.event ORDER BY seq") == [(1,), (5,), (6,)]
    (kind, body) = entries(desk)[-1]
    assert (kind, body["lost"]) == (keeper.BROKEN, 3)


async def test_adverts_outlive_fabric_and_plane_with_their_age(
    desk: Desk, office: Office, double: FabricDouble
) -> None:
    """N2: the registry survives a restart, and knows how old what it knows is."""
    await approved(desk)
    double.peers = (peer(heard(7, age_s=40)),)
    await keeper_of(desk, office).step()
    assert desk.sql("SELECT service, serial FROM network.advert") == [("cnot", 7)]
    assert desk.sql("SELECT count(*) FROM network.topology") == [(1,)]
    double.known = None
    await keeper_of(desk, office).step()
    assert double.known is not None
    (known,) = double.known.adverts
    assert 40 <= known.age_s <= 100
    await acted(desk.plane.engine, ADMIN, PEER, Asked("suspend"), NOW)
    double.known = None
    await keeper_of(desk, office).step()
    assert double.known == Known(())


async def test_a_fabric_that_is_away_costs_nothing_but_time(desk: Desk, office: Office, socket: Path) -> None:
    keeping = keeper_of(desk, office)
    with pytest.raises(FabricAway):
        await keeping.step()
    async with fabric(socket) as double:
        assert await keeping.step()
        assert double.enrolled.version > 0
