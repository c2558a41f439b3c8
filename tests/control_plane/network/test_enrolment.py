# SPDX-License-Identifier: Apache-2.0
"""Who may join, by whose word: the acts, their entries, and that the rows are a cache of these (N14, G5, I6)."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from control_plane.errors import QcosError, Refused
from control_plane.network import acts, enrolment, store
from control_plane.network.acts import Actor, acted, enrol_own, proposed
from control_plane.network.enrolment import MOVES, Action, Asked, Proposal, Record
from hal_drivers.p2p.identity import peer_id_of
from tests.control_plane.jobs.desk import Desk

NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
ADMIN = Actor("demo", "a-admin")
PEER, OTHER = sorted(peer_id_of(bytes([number]) * 32) for number in (1, 2))


def proposal(peer_id: str = PEER, **changes: Any) -> Proposal:
    facts: dict[str, Any] = {
        "peer_id": peer_id,
        "organisation": "Lab A",
        "region": "eu-west",
        "compliance_zone": "onprem",
        "sovereign": True,
        "price_per_fragment": "0.10",
        "price_per_shot": "0.0010",
        "currency": "USD",
    }
    return msgspec.convert(facts | changes, Proposal)


async def approved(desk: Desk, peer_id: str = PEER, **changes: Any) -> Record:
    await proposed(desk.plane.engine, ADMIN, proposal(peer_id, **changes), NOW)
    return await acted(desk.plane.engine, ADMIN, peer_id, Asked("approve"), NOW)


@given(st.lists(st.sampled_from(sorted(MOVES))))
def test_no_other_move_is_possible_and_the_entries_fold_to_the_record(wanted: list[Action]) -> None:
    """A revoked peer never comes back; what is refused changes nothing."""
    record = enrolment.propose(proposal())
    told: dict[str, Record] = {}
    enrolment.fold(told, enrolment.PROPOSED, msgspec.to_builtins(record))
    for action in wanted:
        from_states, to, kind = MOVES[action]
        if record.state in from_states:
            record, named = enrolment.act(record, action, "why")
            assert (record.state, named) == (to, kind)
            enrolment.fold(told, kind, msgspec.to_builtins(record))
        else:
            with pytest.raises(Refused) as refused:
                enrolment.act(record, action)
            assert refused.value.code == "transition_refused"
            with pytest.raises(QcosError):
                enrolment.fold(told, kind, msgspec.to_builtins(msgspec.structs.replace(record, state=to)))
    assert told == {PEER: record}
    assert ("revoke" in wanted) == (record.state == "revoked")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"peer_id": "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"}, "peer_id"),
        ({"peer_id": PEER + "\n"}, "peer_id"),
        ({"price_per_shot": "NaN"}, "price_per_shot"),
        ({"price_per_shot": "-1"}, "price_per_shot"),
        ({"price_per_fragment": "1e3"}, "price_per_fragment"),
        ({"currency": "usd"}, "currency"),
        ({"organisation": "Lab\x1b[31m"}, "organisation"),
        ({"compliance_zone": ""}, "compliance_zone"),
        ({"sovereign": "yes"}, "sovereign"),
        ({"fidelity": 1.0}, "fidelity"),
    ],
)
def test_a_proposal_is_judged_field_by_field(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        proposal(**changes)


async def test_each_act_is_an_entry_and_the_rows_follow_from_them(desk: Desk) -> None:
    await approved(desk)
    await acted(desk.plane.engine, ADMIN, PEER, Asked("suspend", "maintenance"), NOW)
    await acted(desk.plane.engine, ADMIN, PEER, Asked("approve"), NOW)
    await acted(desk.plane.engine, ADMIN, PEER, Asked("revoke", "key lost"), NOW)
    acts_told = [kind for kind in desk.kinds() if kind.startswith("network:")]
    assert acts_told == [
        f"network:peer:{name}" for name in ("proposed", "approved", "suspended", "approved", "revoked")
    ]
    replayed = await desk.replayed()
    assert replayed.agrees, replayed.differences
    desk.sql("UPDATE network.enrolment SET state = 'approved'")
    changed = await desk.replayed()
    assert not changed.agrees
    assert PEER in changed.differences[0]


async def test_a_refused_act_leaves_no_entry(desk: Desk) -> None:
    await proposed(desk.plane.engine, ADMIN, proposal(), NOW)
    before = desk.kinds()
    with pytest.raises(Refused, match="suspend needs approved") as refused:
        await acted(desk.plane.engine, ADMIN, PEER, Asked("suspend"), NOW)
    assert refused.value.code == "transition_refused"
    with pytest.raises(Refused) as unknown:
        await acted(desk.plane.engine, ADMIN, OTHER, Asked("approve"), NOW)
    assert unknown.value.code == "not_found"
    assert desk.kinds() == before


async def test_a_proposal_again_changes_nothing_and_another_is_a_conflict(desk: Desk) -> None:
    _, first = await proposed(desk.plane.engine, ADMIN, proposal(), NOW)
    record, again = await proposed(desk.plane.engine, ADMIN, proposal(price_per_shot="0.001"), NOW)
    assert (first, again, record.price_per_shot) == (True, False, "0.001")
    with pytest.raises(Refused) as refused:
        await proposed(desk.plane.engine, ADMIN, proposal(compliance_zone="sovereign"), NOW)
    assert refused.value.code == "peer_known"
    assert [kind for kind in desk.kinds() if kind.startswith("network:")] == ["network:peer:proposed"]


async def test_acts_at_once_follow_one_another(desk: Desk) -> None:
    """One of two proposals, and one of two approvals, is the first; the number of the set rises with each."""
    pool = desk.plane.engine
    made = await asyncio.gather(*(proposed(pool, ADMIN, proposal(), NOW) for _ in range(4)))
    assert sorted(new for _, new in made) == [False, False, False, True]
    done = await asyncio.gather(
        *(acted(pool, ADMIN, PEER, Asked("approve"), NOW) for _ in range(4)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in done) == ["Record", "Refused", "Refused", "Refused"]
    assert (await desk.replayed()).agrees


async def test_the_fabric_is_told_the_whole_set_and_of_no_proposal(desk: Desk) -> None:
    await approved(desk)
    await proposed(desk.plane.engine, ADMIN, proposal(OTHER), NOW)
    async with desk.plane.transaction(None) as conn:
        before = await store.enrol(conn)
        values = {"peer_id": PEER, "service": "cnot", "at": NOW, "probes": 5, "shots": 100, "because": "5 probes"}
        await store.judge(conn, values | {"reported_ppm": 990_000, "verified_ppm": 970_000, "degraded": False})
        await store.judge(conn, values | {"reported_ppm": 990_000, "verified_ppm": 950_000, "degraded": True})
    async with desk.plane.transaction(None) as conn:
        after = await store.enrol(conn)
    (peer,) = before.peers
    assert (peer.peer_id, peer.state, peer.price_per_shot, peer.verified) == (PEER, "approved", "0.001", ())
    (judged,) = after.peers
    assert [(one.service, one.verified_ppm, one.degraded) for one in judged.verified] == [("cnot", 950_000, True)]
    assert after.version == before.version + 2


async def test_own_nodes_are_enrolled_once_by_the_plane_and_stay_out_when_revoked(desk: Desk) -> None:
    pool = desk.plane.engine
    for _ in range(2):
        assert [one.state for one in await enrol_own(pool, [proposal(), proposal(OTHER)], NOW)] == ["approved"] * 2
    await acted(pool, ADMIN, PEER, Asked("revoke"), NOW)
    assert [one.state for one in await enrol_own(pool, [proposal(), proposal(OTHER)], NOW)] == ["revoked", "approved"]
    assert desk.sql("SELECT count(*) FROM ledger.inbox WHERE tenant = '_plane'") == [(4,)]
    assert (await desk.replayed()).agrees


async def test_plans_and_reservations_are_a_tenants_own(desk: Desk) -> None:
    """I7: by the database, whatever a query asks."""
    desk.sql(
        "INSERT INTO network.plan (tenant, plan_id, job_id, attempt, project, plan, snapshot)"
        " VALUES ('demo', 'p', 'j', 1, 'demo', '{}', '{}')"
    )
    for tenant, seen in (("demo", 1), ("other", 0)):
        (rows,) = await desk.plane.read(tenant, ("SELECT * FROM network.plan", {}))
        assert len(rows) == seen
    with pytest.raises(DBAPIError, match="row-level security"):
        async with desk.plane.transaction("other") as conn:
            await conn.exec_driver_sql(
                "INSERT INTO network.plan (tenant, plan_id, job_id, attempt, project, plan, snapshot)"
                " VALUES ('demo', 'q', 'j', 1, 'demo', '{}', '{}')"
            )


async def test_an_id_that_carries_no_key_is_no_peer(desk: Desk) -> None:
    """What a node signs is checked against its id alone: one that looks like an id and isn't would verify nothing."""
    with pytest.raises(Refused, match="peer_id") as refused:
        await proposed(desk.plane.engine, ADMIN, proposal("12D3KooW" + "z" * 44), NOW)
    assert refused.value.code == "request_invalid"
    assert refused.value.errors[0]["field"] == "peer_id"


async def test_no_more_peers_than_the_plane_takes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "PEERS_AT_MOST", 1)
    await proposed(desk.plane.engine, ADMIN, proposal(), NOW)
    with pytest.raises(Refused) as refused:
        await proposed(desk.plane.engine, ADMIN, proposal(OTHER), NOW)
    assert refused.value.code == "too_many_peers"
