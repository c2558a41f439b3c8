# SPDX-License-Identifier: Apache-2.0
"""The registry believes each source for its own part, rejects with a reason, and stays bounded (N1, N2, N14)."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal_drivers.p2p.adverts import REASONS, Rejected
from hal_drivers.p2p.ir import SERVICES, canonical
from hal_drivers.p2p.office import KnownAdvert, Verified
from hal_drivers.p2p.quality import LINK_WINDOW, judge_link
from hal_drivers.p2p.registry import Bounds, Registry
from hal_drivers.p2p.wire import Signed
from tests.hal_drivers.p2p.adverts import advert, enrol, enrolled, peer, said

ANNA, BERT, EVE = peer(1), peer(2), peer(3)


def registry(*who: Any, **bounds: Any) -> Registry:
    made = Registry(Bounds(**bounds))
    made.enrol(enrol(*(who or (enrolled(ANNA), enrolled(BERT)))))
    for one in (ANNA, BERT):
        made.joined(one.peer_id)
    return made


def rejected(reg: Registry, data: bytes, reason: str, forwarder: str = ANNA.peer_id) -> None:
    before = dict(reg.rejected), reg.held(), reg.snapshot(0)
    with pytest.raises(Rejected) as caught:
        reg.hear(data, forwarder, 0)
    assert caught.value.reason == reason, caught.value.detail
    assert reg.rejected[reason] == before[0].get(reason, 0) + 1
    assert (reg.held(), reg.snapshot(0)) == before[1:], "a rejected advert changes nothing"


def test_an_advert_becomes_an_offer_with_the_enrolments_facts() -> None:
    reg = registry()
    reg.hear(said(ANNA), ANNA.peer_id, 0)
    facts = next(n for n in reg.snapshot(1).nodes if n.node_id == ANNA.peer_id)
    assert (facts.state, facts.compliance_zone, facts.price_per_shot) == ("online", "eu", "0.0001")
    [offer] = facts.offers
    assert (offer.service, offer.reported_ppm, offer.verified_ppm, offer.judged_ppm) == (
        "cnot",
        995_000,
        990_000,
        990_000,
    )


BAD: dict[str, dict[str, Any]] = {
    "version": {"version": 2},
    "range": {"fidelity": 1.01},
    "ttl": {"ttl_s": 0},
    "time": {"updated_at": "yesterday"},
    "addresses": {"listen_addrs": ("nowhere",)},
    "not_its_own": {"node_id": BERT.peer_id},
}


@pytest.mark.parametrize(("reason", "fields"), BAD.items())
def test_a_signed_advert_that_says_what_cannot_be_is_rejected_with_the_reason(
    reason: str, fields: dict[str, Any]
) -> None:
    rejected(registry(), said(ANNA, **fields), reason)


@pytest.mark.parametrize(
    "fields",
    [
        {"fidelity": -0.1},
        {"availability": 2.0},
        {"qubit_min": 0},
        {"qubit_min": 9, "qubit_max": 8},
        {"qubit_max": 5000},
        {"serial": 0},
        {"serial": 1 << 62},
    ],
)
def test_values_out_of_range(fields: dict[str, Any]) -> None:
    rejected(registry(), said(ANNA, **fields), "range")


def test_bytes_that_are_no_advert() -> None:
    reg = registry()
    body = json.loads(canonical(advert(ANNA)))
    unknown, nan, other = {**body, "region": "eu"}, {**body, "fidelity": "NaN"}, {**body, "service_type": "oracle"}
    for data in (b"", b"{}", b"\xff" * 20, b"[" * 3000, canonical(advert(ANNA))):
        rejected(reg, data, "not_an_advert")
    for fields in (unknown, nan, other):
        rejected(reg, canonical(ANNA.sign(json.dumps(fields).encode())), "not_an_advert")
    rejected(reg, b" " * 5000, "too_large")


def test_nobody_speaks_for_another_and_strangers_for_nobody() -> None:
    reg = registry()
    forged = msgspec.structs.replace(EVE.sign(canonical(advert(ANNA))), node_id=ANNA.peer_id)
    rejected(reg, canonical(forged), "signature", BERT.peer_id)
    rejected(reg, said(EVE), "not_enrolled")
    for state in ("suspended", "revoked"):
        reg.enrol(enrol(enrolled(ANNA, state=state), enrolled(BERT), version=2))
        rejected(reg, said(ANNA), "not_enrolled")


def test_an_advert_heard_again_or_older_is_a_replay_even_after_a_restart() -> None:
    reg = registry()
    reg.hear(said(ANNA, serial=7), ANNA.peer_id, 0)
    for serial in (7, 6, 1):
        rejected(reg, said(ANNA, serial=serial), "replayed")
    reg.hear(said(ANNA, serial=3, service_type="cz"), ANNA.peer_id, 0)
    again = registry()
    kept = tuple(KnownAdvert(heard.signed, heard.age_s) for p in reg.peers(0) for heard in p.adverts)
    again.know(kept, 100)
    rejected(again, said(ANNA, serial=7), "replayed")
    assert [o.service for n in again.snapshot(100).nodes for o in n.offers] == ["cnot", "cz"]


def test_what_the_database_kept_is_checked_anew_and_as_old_as_it_is() -> None:
    reg = registry()
    signed = msgspec.json.decode(said(ANNA), type=Signed)
    bent = msgspec.structs.replace(signed, signature=bytes(64))
    reg.know((KnownAdvert(bent, 0), KnownAdvert(signed, 50)), 100)
    assert reg.state(ANNA.peer_id, 100) == "stale"
    assert [(h.age_s, h.stale) for h in reg.peers(100)[0].adverts + reg.peers(100)[1].adverts] == [(50, True)]
    assert reg.rejected == {"signature": 1}


def test_a_link_is_its_newest_heartbeats() -> None:
    """N8: the fabric judges it by these."""
    reg = Registry()
    reg.enrol(enrol(enrolled(ANNA)))
    for _ in range(LINK_WINDOW):
        reg.beat(ANNA.peer_id, 2_000, 0)
    assert judge_link(reg.link(ANNA.peer_id), 500_000, 50_000).state == "good"
    for _ in range(20):
        reg.missed(ANNA.peer_id)
    assert len(reg.link(ANNA.peer_id)) == LINK_WINDOW
    verdict = judge_link(reg.link(ANNA.peer_id), 500_000, 50_000)
    assert (verdict.state, verdict.failure_ppm) == ("degraded", 200_000)
    assert not reg.link(BERT.peer_id)


def test_a_snapshot_does_not_move_with_every_heartbeat() -> None:
    """Plans of an idle network are the same, seconds apart; a node that has become slow is known as slow (N4, I9)."""
    reg = registry(enrolled(ANNA))

    def planned(*beats: int) -> int:
        for took_us in beats:
            reg.beat(ANNA.peer_id, took_us, 0)
        return reg.snapshot(0).nodes[0].latency_us

    assert planned(9_000) == 9_000
    assert {planned(took_us) for took_us in (6_000, 5_000, 17_000, 12_000, 8_000, 14_000, 5_500)} == {9_000}
    assert planned(*[40_000] * 40) == 40_000
    assert planned(*[1_000] * 40) == 1_000


def test_states_from_bad_to_good() -> None:
    reg = Registry()
    assert reg.state(ANNA.peer_id, 0) is None
    reg.enrol(enrol(enrolled(ANNA, verified=())))
    assert reg.state(ANNA.peer_id, 0) == "unreachable"
    reg.joined(ANNA.peer_id)
    assert reg.state(ANNA.peer_id, 0) == "stale"
    reg.hear(said(ANNA), ANNA.peer_id, 0)
    assert reg.state(ANNA.peer_id, 0) == "unverified"
    assert reg.snapshot(0).nodes[0].offers[0].judged_ppm == 0
    reg.enrol(enrol(enrolled(ANNA, verified=(Verified("cnot", 900_000, degraded=True),)), version=2))
    assert reg.state(ANNA.peer_id, 0) == "degraded"
    reg.enrol(enrol(enrolled(ANNA), version=3))
    assert reg.state(ANNA.peer_id, 20) == "online"
    assert reg.state(ANNA.peer_id, 20.1) == "stale"
    assert [reg.missed(ANNA.peer_id) for _ in range(2)] == [1, 2]
    assert reg.state(ANNA.peer_id, 0) == "unreachable"
    assert reg.beat(ANNA.peer_id, 900, 0)
    assert reg.state(ANNA.peer_id, 0) == "online"


def test_who_is_no_longer_approved_is_named_and_an_older_set_is_ignored() -> None:
    reg = registry()
    assert reg.enrol(enrol(enrolled(ANNA, state="revoked"), enrolled(BERT), version=5)) == frozenset({ANNA.peer_id})
    assert reg.enrol(enrol(enrolled(ANNA), enrolled(BERT), version=4)) is None
    assert not reg.may_join(ANNA.peer_id)
    assert reg.enrol(enrol(enrolled(ANNA, state="revoked"), version=6)) == frozenset({BERT.peer_id})


def test_found_by_service_fidelity_and_availability() -> None:
    reg = registry(enrolled(ANNA), enrolled(BERT, verified=(Verified("cnot", 950_000), Verified("cz", 999_000))))
    for serial, service in enumerate(("cnot", "cz"), 1):
        for who in (ANNA, BERT):
            reg.hear(said(who, service_type=service, serial=serial, fidelity=0.98), who.peer_id, 0)
    both = (ANNA.peer_id, BERT.peer_id)
    assert reg.find("cnot", 940_000, 0, 0) == tuple(sorted(both))
    assert reg.find("cnot", 960_000, 0, 0) == (ANNA.peer_id,)
    assert reg.find("cz", 0, 0, 0) == tuple(sorted(both))
    assert reg.find("cz", 1, 0, 0) == (BERT.peer_id,)
    reg.beat(BERT.peer_id, 1, 700_000)
    assert reg.find("cz", 1, 300_000, 0) == (BERT.peer_id,)
    assert reg.find("cz", 1, 300_001, 0) == ()
    assert reg.find("bell_pair", 0, 0, 0) == ()


def test_an_advert_holds_no_longer_than_the_plane_lets_it() -> None:
    reg = registry(ttl_s=5)
    reg.hear(said(ANNA, ttl_s=86_400), ANNA.peer_id, 0)
    assert (reg.state(ANNA.peer_id, 5), reg.state(ANNA.peer_id, 5.1)) == ("online", "stale")


def test_a_flood_is_bounded_by_who_sends_it() -> None:
    reg = registry(per_s=10.0, burst=20)
    taken = 0
    for serial in range(1, 1000):
        try:
            reg.hear(said(ANNA, serial=serial), ANNA.peer_id, serial / 1000)
            taken += 1
        except Rejected as error:
            assert error.reason == "too_many"
    assert taken == 29
    assert reg.held() == 1
    reg.hear(said(BERT), BERT.peer_id, 1)  # the others' share is theirs


def test_strangers_are_remembered_but_not_without_end() -> None:
    reg = registry()
    for number in range(3000):
        reg.stranger(f"stranger-{number}", number)
    found = [p for p in reg.peers(3000) if p.state is None]
    assert len(found) == 1000
    assert all(p.adverts == () and p.last_heard_s is not None and p.last_heard_s <= 1000 for p in found)


def test_ten_thousand_adverts_are_held_and_no_more_than_the_bound() -> None:
    many = [peer(n) for n in range(10, 40)]
    reg = Registry(Bounds(adverts=100))
    reg.enrol(enrol(*(enrolled(who) for who in many)))
    full = 0
    for who in many:
        for serial, service in enumerate(SERVICES, 1):
            try:
                reg.hear(said(who, service_type=service, serial=serial), who.peer_id, 0)
            except Rejected as error:
                full += error.reason == "too_many"
    assert (reg.held(), full) == (100, 30 * 7 - 100)
    reg.hear(said(many[0], serial=100), many[0].peer_id, 0)  # what is held may still be renewed


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)).map(
        lambda value: json.dumps(value).encode()
    )
    | st.builds(
        lambda body, signature: canonical(Signed(ANNA.peer_id, body, signature)),
        st.binary(max_size=200),
        st.binary(max_size=64),
    )
)
def test_whatever_comes_is_an_advert_or_rejected(data: bytes) -> None:
    reg = registry()
    with pytest.raises(Rejected) as caught:
        reg.hear(data, ANNA.peer_id, 0)
    assert caught.value.reason in REASONS


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(6)), st.data())
def test_the_snapshot_knows_no_order_of_arrival(order: list[int], data: st.DataObject) -> None:
    words = [(who, said(who, service_type=s, serial=n)) for who in (ANNA, BERT) for n, s in enumerate(SERVICES[:3], 1)]
    one, other = registry(), registry()
    for who, word in words:
        one.hear(word, who.peer_id, 0)
    for place in order:
        who, word = words[place]
        other.hear(word, who.peer_id, 0)
    now = data.draw(st.floats(0, 40))
    assert canonical(one.snapshot(now)) == canonical(other.snapshot(now))


def test_a_bent_byte_is_never_believed() -> None:
    whole = said(ANNA)
    signed = json.loads(whole)
    body = bytearray(base64.b64decode(signed["body"]))
    for place in range(0, len(body), 7):
        bent = bytearray(body)
        bent[place] ^= 1
        data = json.dumps({**signed, "body": base64.b64encode(bytes(bent)).decode()}).encode()
        with pytest.raises(Rejected):
            registry().hear(data, ANNA.peer_id, 0)
