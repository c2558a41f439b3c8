# SPDX-License-Identifier: Apache-2.0
"""What happened to fragments, what the result is estimated to be worth, and what nodes ask for it (N6, N15, N14)."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from control_plane.jobs import divided, fees
from control_plane.jobs.asking import Asking, bound
from hal_drivers.p2p import planned
from hal_drivers.p2p.ir import canonical
from hal_drivers.p2p.plan import PlanConfig, Snapshot
from tests.hal_drivers.p2p.programs import measure, node, program

PROGRAM = program(("cnot", (0, 1)), measure(1, 0), measure(2, 1), qubits=3, bits=2)
DEAR = {"price_per_fragment": "0.02", "price_per_shot": "0.001"}
NODES = (node("a", latency_us=1), node("b", latency_us=2, **DEAR), node("c", latency_us=3, currency="EUR"))


def made(*nodes: Any) -> planned.Planned:
    found = planned.make(PROGRAM, Snapshot(nodes or NODES), PlanConfig(), 100)
    assert isinstance(found, planned.Planned), found
    return found


def attempt(name: str, status: str, fidelity: float | None = None) -> dict[str, Any]:
    body = json.dumps({"type": "executed", "fidelity": fidelity}).encode()
    code = None if status == "accepted" else "late"
    return {
        "node_id": name,
        "epoch": 1,
        "status": status,
        "started_at": "t1",
        "ended_at": "t2",
        "observed_ppm": 980_000 if code is None else None,
        "code": code,
        "detail": None,
        "answers": [] if fidelity is None else [{"body": base64.b64encode(body).decode()}],
    }


def ran(*fragments: tuple[str | None, list[dict[str, Any]]]) -> dict[str, Any]:
    told = [
        {
            "fragment_id": one.fragment_id,
            "status": "completed" if name else "canceled",
            "node_id": name,
            "attempts": attempts,
            "started_at": "t1",
            "ended_at": "t3",
            "observed_ppm": 980_000 if name else None,
            "code": None,
            "detail": None,
        }
        for one, (name, attempts) in zip(made().plan.fragments, fragments, strict=True)
    ]
    return {"run": {"fragments": told}, "shots": 100, "seed": 7}


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(canonical(made()))
    return found


def test_each_fragment_says_who_ran_it_and_what_was_tried() -> None:
    network = ran(("b", [attempt("a", "late"), attempt("b", "accepted", 0.97)]), (None, []))
    first, second = divided.fragment_results(document(), network)
    assert (first["node"], first["status"], first["observed_fidelity"]) == ("b", "completed", 0.98)
    assert [(one["node"], one["error"]) for one in first["attempts"]] == [
        ("a", {"code": "late", "detail": ""}),
        ("b", None),
    ]
    assert (second["node"], second["shots"]) == (None, 0)
    assert first["seed"] != second["seed"]
    plan = document()["plan"]
    assert divided.drawn(document()) | plan == plan


def test_the_estimate_is_the_product_of_the_smaller_words_and_is_called_an_estimate() -> None:
    low, high = 0.5, 1.0
    network = ran(("a", [attempt("a", "accepted", low)]), ("b", [attempt("b", "accepted", high)]))
    told = divided.estimate(document(), network)
    judged = next(
        one.fidelity_ppm
        for assigned in made().plan.assignments[1:]
        for one in assigned.candidates
        if one.node_id == "b"
    )
    assert judged is not None
    assert told["value"] == pytest.approx(low * judged / 1e6)
    assert told["label"] == "estimated"


def test_fees_are_what_accepted_nodes_ask_and_the_bound_is_that_of_the_dearest() -> None:
    """Whatever was tried before costs nothing."""
    plan = made(NODES[0], NODES[1])
    network = ran(("a", [attempt("b", "late"), attempt("a", "accepted", 1.0)]), (None, [attempt("b", "late")]))
    cheap = Decimal(NODES[0].price_per_fragment) + 100 * Decimal(NODES[0].price_per_shot)
    assert fees.charged(plan, json.dumps(network).encode()) == cheap
    assert fees.most(plan) == 2 * (Decimal("0.02") + 100 * Decimal("0.001"))


def test_the_hold_of_admission_has_room_for_every_plan() -> None:
    """I3: as many fragments as qubits, each at the dearest node of the card's currency."""
    asked = [
        Asking(one.node_id, Decimal(one.price_per_fragment), Decimal(one.price_per_shot), one.currency) for one in NODES
    ]
    most = bound(asked, "USD", fragments=PROGRAM.qubits, shots=100)
    assert most == PROGRAM.qubits * (Decimal("0.02") + 100 * Decimal("0.001"))
    for nodes in (NODES, NODES[:1], NODES[1:]):
        assert fees.most(made(*nodes)) <= most
    assert bound(asked, "CHF", fragments=3, shots=100) == 0


def test_a_plan_keeps_to_the_currency_of_the_rate_card() -> None:
    assert not fees.in_other_currency(made(), "USD")
    assert fees.in_other_currency(made(), "EUR") == sorted(made().nodes)
