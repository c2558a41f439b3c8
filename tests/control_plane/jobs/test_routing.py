# SPDX-License-Identifier: Apache-2.0
"""Routing is a pure choice, explained, that no order of candidates and no price moves outside what is allowed (G9)."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import SettingInvalid
from control_plane.jobs import weights
from control_plane.jobs.routing import Candidate, Route, Wanted, eligible, fits, route
from control_plane.jobs.spec import BackendConstraints, Objective
from control_plane.jobs.weights import Weights
from control_plane.settings import Settings, from_json, to_json

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
        survival=st.none() | st.floats(0.5, 1),
        succeeded=st.integers(0, 3),
        ended=st.integers(3, 5),
    )


fleets = st.lists(st.sampled_from(IDS), unique=True).flatmap(lambda ids: st.tuples(*map(candidate, ids))).map(list)
allowed = st.frozensets(st.sampled_from(IDS))


objectives = st.sampled_from(get_args(Objective))


def choose(
    fleet: list[Candidate],
    asked: BackendConstraints,
    may: frozenset[str],
    qubits: int = 2,
    objective: Objective = "balanced",
) -> Route:
    return route(fleet, Wanted(asked, ("QASM3",), qubits, objective=objective), may)


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
    assert fits(found, Wanted(asked, ("QASM3",), qubits)) is None
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
    left = [c for c in eligible(fleet, Wanted(asked, ("QASM3",), 2)) if c.id in may]
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


@given(fleets, constraints, allowed, objectives, st.data())
def test_a_loser_that_goes_changes_nothing_about_the_winner(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str], objective: Objective, data: st.DataObject
) -> None:
    """Each score is a function of its own backend alone: the winner's line stays as it is, word for word."""
    found = choose(fleet, asked, may, objective=objective)
    losers = [c for c in fleet if c is not found.chosen]
    if not losers:
        return
    gone = data.draw(st.sampled_from(losers))
    without = choose([c for c in fleet if c is not gone], asked, may, objective=objective)
    assert without.chosen == found.chosen
    assert without.considered == tuple(line for line in found.considered if line.backend != gone.id)


@given(fleets, constraints, allowed, st.sets(st.sampled_from(IDS)))
def test_a_backend_that_failed_the_job_is_not_chosen_again(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str], broken: set[str]
) -> None:
    found = route(fleet, Wanted(asked, ("QASM3",), 2), may, failed=dict.fromkeys(broken, "attempt 1 failed there"))
    assert found.chosen is None or found.chosen.id not in broken


@given(fleets, constraints, allowed)
def test_without_weights_the_price_decides_and_then_the_id(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str]
) -> None:
    none = Weights(queue=0, price=0, fidelity=0, history=0)
    found = route(fleet, Wanted(asked, ("QASM3",), 2), may, none).chosen
    left = [c for c in eligible(fleet, Wanted(asked, ("QASM3",), 2)) if c.id in may]
    assert found == min(left, key=lambda c: (c.price or 0, c.id), default=None)


KEYS: dict[Objective, Callable[[Candidate], float]] = {
    "cheapest": lambda c: float(c.price or 0),
    "fastest": lambda c: c.queue_s,
    "best": lambda c: -(0.5 if c.survival is None else c.survival**2),
}


@pytest.mark.parametrize("objective", KEYS)
@given(fleet=fleets, asked=constraints, may=allowed)
def test_an_objective_comes_before_the_score(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str], objective: Objective
) -> None:
    found = choose(fleet, asked, may, objective=objective).chosen
    left = [c for c in eligible(fleet, Wanted(asked, ("QASM3",), 2)) if c.id in may]
    assert found is None or KEYS[objective](found) == min(KEYS[objective](c) for c in left)


@given(fleets, constraints, allowed, st.decimals(min_value=0, max_value=2, places=2))
def test_no_price_above_the_bound_is_ever_chosen(
    fleet: list[Candidate], asked: BackendConstraints, may: frozenset[str], most: Decimal
) -> None:
    found = route(fleet, Wanted(asked, ("QASM3",), 2, most=most), may)
    assert found.chosen is None or (found.chosen.price is not None and found.chosen.price <= most)


def one(name: str, **facts: Any) -> Candidate:
    plain: dict[str, Any] = {
        "provider": "aer",
        "qubits": 20,
        "formats": ("QASM3",),
        "state": "online",
        "region": "r",
        "compliance_zone": "z",
        "sovereign": True,
        "price": Decimal("0.52"),
        "currency": "USD",
        "survival": 1.0,
    }
    return Candidate(id=name, **plain | facts)


def said(*fleet: Candidate) -> dict[str, tuple[str, str]]:
    found = choose(list(fleet), BackendConstraints(), frozenset(IDS), 5)
    return {line.backend: (line.verdict, line.reason) for line in found.considered}


def test_a_line_states_each_component() -> None:
    found = said(one("a", queue_s=3, survival=0.99, succeeded=12, ended=12), one("b", survival=None, state="offline"))
    assert found["a"] == ("chosen", "0.886: queue 3 s, price 0.52 USD, fidelity 0.951, 12 of 12 succeeded")
    assert found["b"] == ("excluded", "offline")


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"queue_s": 600}, "queue 600 s"),
        ({"price": Decimal(5)}, "price 5 USD"),
        ({"survival": 0.9}, "fidelity 0.590"),
        ({"survival": None}, "fidelity unknown"),
        ({"succeeded": 1, "ended": 9}, "1 of 9 succeeded"),
    ],
)
def test_each_component_decides_where_the_others_are_equal(worse: dict[str, Any], why: str) -> None:
    """The loser's line says what spoke against it."""
    found = said(one("a", **worse), one("b"))
    assert (found["a"][0], found["b"][0]) == ("not_chosen", "chosen")
    assert why in found["a"][1]


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({"quue": 1}, "routing.quue"),
        ({"queue": -1}, "routing.queue"),
        ({"price": float("nan")}, "routing.price"),
        ({"fidelity": "2"}, "routing.fidelity"),
        ({"history": True}, "routing.history"),
        ({"failovers": 1.5}, "routing.failovers"),
        ([], "routing"),
    ],
)
def test_a_weight_that_is_none_stops_the_start(table: object, field: str) -> None:
    """N11: the message names the key."""
    with pytest.raises(SettingInvalid) as caught:
        weights.read(table)
    assert field in str(caught.value)


def test_weights_are_named_by_their_hash() -> None:
    assert weights.read({"queue": 3}).hash == Weights().hash
    assert weights.read({"queue": 4}).hash != Weights().hash
    assert Weights().hash in Weights().shown
    assert from_json(to_json(Settings(routing=Weights(price=6)))).routing.hash == Weights(price=6.0).hash
