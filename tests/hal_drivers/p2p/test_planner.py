# SPDX-License-Identifier: Apache-2.0
"""I9 and I8 of the planner: the same inputs give the same bytes, and nothing runs where it may not (N4)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hal_drivers.p2p.ir import SERVICES, Program, canonical
from hal_drivers.p2p.placing import SHOWN
from hal_drivers.p2p.plan import Infeasible, NodeFacts, Offer, Plan, PlanConfig, Snapshot, Weights
from hal_drivers.p2p.planner import identity, in_order, plan
from tests.hal_drivers.p2p.programs import measure, network, node, program, programs

BELL = program(("bell_pair", (0, 1)), measure(0, 0))
THREE = program(*(("bell_pair", (q, q + 1)) for q in (0, 2, 4)), measure(0, 0), qubits=6)
CONFIG = PlanConfig()


def made(of: Program, nodes: Snapshot, config: PlanConfig = CONFIG, **more: Any) -> Plan:
    drawn = plan(of, nodes, config, 7, more.pop("allowed", None), **more)
    assert isinstance(drawn, Plan), drawn
    return drawn


def gap(of: Program, nodes: Snapshot, config: PlanConfig = CONFIG, **more: Any) -> tuple[str, str]:
    drawn = plan(of, nodes, config, 7, more.pop("allowed", None), **more)
    assert isinstance(drawn, Infeasible), drawn
    return drawn.gaps[0].missing, drawn.detail


@st.composite
def nodes(draw: st.DrawFn) -> NodeFacts:
    offers = tuple(
        Offer(service, draw(st.integers(880_000, 10**6)), draw(st.sampled_from([None, 950_000, 999_000])), 1, 6)
        for service in draw(st.permutations(SERVICES))[: draw(st.sampled_from([7, 7, 7, 3]))]
    )
    return replace(
        node(
            draw(st.text("abc", min_size=1, max_size=3)),
            latency_us=draw(st.integers(0, 10**5)),
            load_ppm=draw(st.integers(0, 10**6)),
            failure_ppm=draw(st.integers(0, 10**6)),
            price_per_fragment=str(draw(st.decimals("0", "2", places=3))),
            state=draw(st.sampled_from(["online", "online", "online", "stale"])),
        ),
        offers=offers,
    )


NETWORKS = st.lists(nodes(), max_size=7, unique_by=lambda one: one.node_id)


@given(programs(), NETWORKS, st.randoms(use_true_random=False), st.integers(0, 5))
def test_i9_the_same_inputs_give_the_same_bytes_in_whatever_order_they_come(
    of: Program, given_nodes: list[NodeFacts], chance: Any, seed: int
) -> None:
    windows = {one.node_id: 1 for one in given_nodes[:2]}
    first = plan(of, Snapshot(tuple(given_nodes)), CONFIG, seed, None, windows)
    shuffled = [replace(one, offers=tuple(chance.sample(one.offers, len(one.offers)))) for one in given_nodes]
    chance.shuffle(shuffled)
    again = plan(of, Snapshot(tuple(shuffled)), CONFIG, seed, None, dict(reversed(windows.items())))
    assert canonical(first) == canonical(again)
    if isinstance(first, Plan):
        assert first.plan_id == identity(first)
        assert identity(replace(first, seed=seed + 1)) != first.plan_id


@given(programs(), NETWORKS, st.data())
def test_i8_primary_and_fallbacks_are_allowed_online_and_good_enough(
    of: Program, given_nodes: list[NodeFacts], data: st.DataObject
) -> None:
    by_id = {one.node_id: one for one in given_nodes}
    allowed = frozenset(name for name in by_id if data.draw(st.booleans()))
    drawn = plan(of, Snapshot(tuple(given_nodes)), CONFIG, 1, allowed)
    if isinstance(drawn, Infeasible):
        assert drawn.gaps
        return
    fragments = {fragment.fragment_id: fragment for fragment in drawn.fragments}
    assert [assignment.fragment_id for assignment in drawn.assignments] == list(drawn.order)
    for assignment in drawn.assignments:
        chosen = (assignment.primary, *assignment.fallbacks)
        assert len(set(chosen)) == len(chosen)
        for name in chosen:
            offers = {offer.service: offer for offer in by_id[name].offers}
            assert name in allowed
            assert by_id[name].state == "online"
            for service in fragments[assignment.fragment_id].services:
                assert offers[service].judged_ppm >= CONFIG.default_min_fidelity_ppm
                assert offers[service].qubit_max >= len(fragments[assignment.fragment_id].qubits)


@given(programs(), NETWORKS)
def test_a_fallback_is_named_wherever_a_second_node_can(of: Program, given_nodes: list[NodeFacts]) -> None:
    drawn = plan(of, Snapshot(tuple(given_nodes)), CONFIG, 1, None)
    if isinstance(drawn, Plan):
        for assignment in drawn.assignments:
            feasible = [one for one in assignment.candidates if one.verdict != "excluded"]
            assert len(assignment.fallbacks) == min(CONFIG.fallbacks, len(feasible) - 1)
            costs = [one.cost for one in feasible]
            assert costs == sorted(costs, key=lambda cost: cost or 0)
            assert len(assignment.candidates) + assignment.left_out == len(given_nodes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("latency_us", 9_000), ("failure_ppm", 10_000), ("load_ppm", 60_000), ("price_per_fragment", "0.05")],
)
def test_the_cost_rises_with_each_of_its_terms(field: str, value: Any) -> None:
    worse = network(node("a", **{field: value}), node("b"))
    drawn = made(BELL, worse)
    assert drawn.assignments[0].primary == "b"
    assert drawn.assignments[0].fallbacks == ("a",)
    weights = Weights(latency=0, failure=0, load=0, price=0)
    assert made(BELL, worse, PlanConfig(weights=weights)).assignments[0].primary == "a"


def test_infidelity_costs_as_often_as_a_service_is_used_and_ties_go_to_the_lower_id() -> None:
    assert made(BELL, network(node("a", ppm=980_000), node("b"))).assignments[0].primary == "b"
    assert made(BELL, network(node("b"), node("a"))).assignments[0].primary == "a"
    only = PlanConfig(weights=Weights(latency=0, failure=0, load=0, price=0))
    costs = [made(of, network(node("a")), only).assignments[0].candidates[0].cost for of in (BELL, THREE)]
    assert costs == [20_000, 20_000]
    pairs = PlanConfig(weights=Weights(0, 0, 1, 10, 0, 0))
    assert made(BELL, network(node("a")), pairs).assignments[0].candidates[0].cost == 110_000


def test_the_price_is_that_of_a_fragment_and_its_shots() -> None:
    only = PlanConfig(weights=Weights(latency=0, failure=0, infidelity=0, entanglement=0, load=0))
    drawn = made(BELL, network(node("a")), only, shots=3_000)
    assert drawn.assignments[0].candidates[0].cost == int(Decimal("0.04") * 10**6)


def test_groups_spread_over_equal_nodes_and_open_windows_count() -> None:
    drawn = made(THREE, network())
    assert [assignment.primary for assignment in drawn.assignments] == ["n0", "n1", "n2"]
    drawn = made(THREE, network(), reservations={"n0": 1})
    assert [assignment.primary for assignment in drawn.assignments] == ["n1", "n2", "n3"]


def test_whole_by_configuration_puts_all_on_one_node() -> None:
    drawn = made(THREE, network(), PlanConfig(mode="whole"))
    assert (drawn.mode, len(drawn.fragments)) == ("whole", 1)
    assert "as configured" in drawn.mode_reason


@pytest.mark.parametrize(
    ("nodes", "config", "allowed", "missing", "said"),
    [
        ((), CONFIG, None, "network", "no node is enrolled"),
        ((node("a", services=("cz",)),), CONFIG, None, "service", "no node offers bell_pair, measurement_feedforward"),
        (
            (node("a", services=("bell_pair",)), node("b", services=("measurement_feedforward",))),
            CONFIG,
            None,
            "service",
            "no node offers all of bell_pair, measurement_feedforward",
        ),
        (
            (node("a", qubits=1),),
            CONFIG,
            None,
            "qubits",
            "it has 2 qubits, the nodes that offer its services take up to 1",
        ),
        ((node("a"),), CONFIG, frozenset({"b"}), "policy", "policy allows none of the 1 nodes"),
        ((node("a", state="stale"), node("b", state="degraded")), CONFIG, None, "state", "1 degraded, 1 stale"),
        ((node("a", currency="EUR"),), CONFIG, None, "price", "price in USD"),
        ((node("a", price_per_shot="NaN"),), CONFIG, None, "price", "price in USD"),
        (
            (node("a"),),
            PlanConfig(min_fidelity_ppm={"bell_pair": 995_000}),
            None,
            "fidelity",
            "bell_pair is judged 0.990000 at best, 0.995000 is asked",
        ),
    ],
)
def test_an_infeasible_plan_names_what_is_missing(
    nodes: tuple[NodeFacts, ...], config: PlanConfig, allowed: frozenset[str] | None, missing: str, said: str
) -> None:
    found = gap(BELL, Snapshot(nodes), config, allowed=allowed)
    assert found[0] == missing
    assert said in found[1]


def test_each_fragment_that_cannot_be_placed_is_named() -> None:
    of = program(("bell_pair", (0, 1)), *(("cnot", (q, q + 1)) for q in range(2, 6)), measure(0, 0), qubits=7)
    drawn = plan(of, network(node("a", qubits=4)), CONFIG, 1, None)
    assert isinstance(drawn, Infeasible)
    assert [one.fragment_id for one in drawn.gaps] == ["f2"]


def test_an_unverified_node_gets_nothing_and_the_plan_says_why() -> None:
    unknown = replace(node("a"), offers=tuple(Offer(service, 10**6, None, 1, 12) for service in SERVICES))
    drawn = made(BELL, network(unknown, node("b")))
    assert drawn.assignments[0].primary == "b"
    last = drawn.assignments[0].candidates[-1]
    assert (last.node_id, last.verdict) == ("a", "excluded")
    assert "judged 0.000000" in last.reason


def test_of_many_nodes_a_plan_lists_some_and_says_how_many_more() -> None:
    drawn = made(BELL, network(*(node(f"n{number:03}") for number in range(200))))
    assert len(drawn.assignments[0].candidates) == 3 + SHOWN
    assert drawn.assignments[0].left_out == 200 - 3 - SHOWN
    assert drawn.assignments[0].candidates[0].fidelity_ppm == 980_100


def test_abstract_services_are_named_as_such() -> None:
    drawn = made(program(("syndrome_extraction", (0,)), ("distillation", (0,)), measure(0, 0)), network())
    assert [said.partition(" ")[0] for said in drawn.approximations] == ["syndrome_extraction", "distillation"]


def test_a_snapshot_with_doubles_is_refused() -> None:
    with pytest.raises(ValueError, match="twice in the snapshot"):
        in_order(network(node("a"), node("a")))
    with pytest.raises(ValueError, match="a service twice"):
        in_order(network(replace(node("a"), offers=(Offer("cz", 1, 1, 1, 1), Offer("cz", 2, 2, 1, 1)))))


@settings(max_examples=20)
@given(st.integers(0, 10**18), st.integers(0, 10**6))
def test_no_figure_of_a_node_overflows_the_cost(figure: int, weight: int) -> None:
    heavy = Weights(*[weight] * 6)
    wild = node(
        "a", latency_us=figure, failure_ppm=figure, load_ppm=figure, price_per_fragment=str(figure), ppm=900_000
    )
    drawn = made(BELL, network(wild, node("b", latency_us=0)), PlanConfig(weights=heavy), reservations={"a": figure})
    costs = [one.cost for one in drawn.assignments[0].candidates]
    assert all(cost is not None and cost >= 0 for cost in costs)


def test_a_node_runs_no_more_shots_than_it_states() -> None:
    """N1, N4: its bound is in its advert; who states none has none."""
    small = replace(node("n0"), offers=tuple(replace(offer, shots_max=500) for offer in node("n0").offers))
    assert made(BELL, network(small, node("n1")), shots=501).assignments[0].primary == "n1"
    assert (
        made(BELL, network(small, node("n1")), shots=501).assignments[0].candidates[1].reason == "takes up to 500 shots"
    )
    assert made(BELL, network(small), shots=500).assignments[0].primary == "n0"
    missing, detail = gap(BELL, network(small), shots=501)
    assert (missing, "501 shots are asked for, the nodes that could run it take up to 500" in detail) == ("shots", True)
