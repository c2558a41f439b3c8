# SPDX-License-Identifier: Apache-2.0
"""Routing is a pure choice, explained, that no order of candidates and no price moves outside what is allowed (G9)."""

from __future__ import annotations

import random
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from control_plane.jobs.routing import Candidate, Route, eligible, fits, route
from control_plane.jobs.spec import BackendConstraints

IDS = ("a", "b", "c", "d", "e")
PROVIDERS = ("aer", "braket", "ibm")

constraints = st.builds(
    BackendConstraints,
    min_qubits=st.none() | st.integers(1, 40),
    max_depth=st.none() | st.integers(1, 100),
    allowed_providers=st.none() | st.lists(st.sampled_from(PROVIDERS), min_size=1, max_size=2).map(tuple),
    backend=st.none() | st.sampled_from(IDS),
)


def candidate(name: str) -> st.SearchStrategy[Candidate]:
    return st.builds(
        Candidate,
        id=st.just(name),
        provider=st.sampled_from(PROVIDERS),
        qubits=st.integers(1, 40),
        formats=st.sampled_from([("QASM3",), ("QASM2", "QASM3"), ("QPY",)]),
        state=st.sampled_from(["online", "online", "offline"]),
        region=st.just("r"),
        compliance_zone=st.just("z"),
        sovereign=st.booleans(),
        price=st.none() | st.decimals(min_value=0, max_value=2, places=2),
        currency=st.just("USD"),
        queue_s=st.integers(0, 2),
    )


fleets = st.lists(st.sampled_from(IDS), unique=True).flatmap(lambda ids: st.tuples(*map(candidate, ids))).map(list)
allowed = st.frozensets(st.sampled_from(IDS))


def choose(fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str], qubits: int = 2) -> Route:
    return route(fleet, asked, "QASM3", qubits, may)


@given(fleets, constraints, allowed, st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str], chance: random.Random
) -> None:
    """S2: deterministic; the route is the same value for every permutation."""
    shuffled = list(fleet)
    chance.shuffle(shuffled)
    assert choose(shuffled, asked, may) == choose(fleet, asked, may)


@given(fleets, constraints, allowed, st.integers(1, 40))
def test_what_is_chosen_was_allowed_and_fits(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str], qubits: int
) -> None:
    """G9, I5: never what policy left out, what is offline, unpriced, too small, or of a provider not named."""
    found = choose(fleet, asked, may, qubits).chosen
    if found is None:
        return
    assert found.id in may
    assert fits(found, asked, "QASM3", qubits) is None
    assert found.price is not None
    assert found.state == "online"
    assert found.qubits >= max(qubits, asked.min_qubits or 0)
    assert asked.allowed_providers is None or found.provider in asked.allowed_providers


@given(fleets, constraints, allowed)
def test_a_pinned_backend_is_honoured_or_nothing_is(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str]
) -> None:
    found = choose(fleet, asked, may).chosen
    assert asked.backend is None or found is None or found.id == asked.backend


@given(fleets, constraints, allowed)
def test_no_allowed_backend_is_left_standing_while_none_is_chosen(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str]
) -> None:
    left = [c for c in eligible(fleet, asked, "QASM3", 2) if c.id in may]
    assert (choose(fleet, asked, may).chosen is None) == (not left)


@given(fleets, constraints, allowed)
def test_each_candidate_is_accounted_for_with_a_reason(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str]
) -> None:
    """G9: losers are kept with the reason."""
    found = choose(fleet, asked, may)
    assert [line.backend for line in found.considered] == sorted(c.id for c in fleet)
    assert all(line.reason for line in found.considered)
    assert [line.backend for line in found.considered if line.verdict == "chosen"] == (
        [found.chosen.id] if found.chosen else []
    )


@given(fleets, constraints, allowed)
def test_the_shortest_queue_wins_then_the_price_then_the_id(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str]
) -> None:
    found = choose(fleet, asked, may).chosen
    if found is None:
        return
    for other in eligible(fleet, asked, "QASM3", 2):
        if other.id in may:
            assert (found.queue_s, found.price, found.id) <= (other.queue_s, other.price or Decimal(0), other.id)
