# SPDX-License-Identifier: Apache-2.0
"""Programs and networks for tests, and a reference that runs classical ones: bits alone, no amplitudes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from hal_drivers.p2p.ir import SERVICES, Circuit, Operation, Program, Service
from hal_drivers.p2p.plan import NodeFacts, NodeState, Offer, Snapshot


def program(*operations: tuple[Any, ...], qubits: int = 2, bits: int = 1, **more: Any) -> Program:
    made = tuple(Operation(place, *rest) for place, rest in enumerate(operations))
    return Program("QASM3", qubits, bits, made, (("c", bits),), tuple(f"q[{q}]" for q in range(qubits)), **more)


def measure(qubit: int, bit: int, condition: tuple[tuple[int, int], ...] = ()) -> tuple[Any, ...]:
    return "measurement_feedforward", (qubit,), (bit,), (), condition


def when(name: str, qubits: tuple[int, ...], *condition: tuple[int, int]) -> tuple[Any, ...]:
    return name, qubits, (), (), condition


def node(name: str, **more: Any) -> NodeFacts:
    services: tuple[Service, ...] = more.pop("services", SERVICES)
    ppm: int = more.pop("ppm", 990_000)
    most: int = more.pop("qubits", 12)
    state: NodeState = more.pop("state", "online")
    facts: dict[str, Any] = {
        "organisation": "lab",
        "region": "local",
        "compliance_zone": "onprem",
        "sovereign": True,
        "price_per_fragment": "0.01",
        "price_per_shot": "0.00001",
        "currency": "USD",
        "latency_us": 1_000,
        "load_ppm": 0,
        "failure_ppm": 0,
    }
    offers = tuple(Offer(service, ppm, ppm, 1, most) for service in services)
    return NodeFacts(node_id=name, state=state, offers=offers, **facts | more)


def network(*nodes: NodeFacts) -> Snapshot:
    return Snapshot(nodes or tuple(node(f"n{number}") for number in range(5)))


@st.composite
def programs(draw: st.DrawFn, *, most_qubits: int = 6, most: int = 24) -> Program:
    """Reversible gates, resets, measurements and conditions, in any order: what bits alone can follow."""
    qubits = draw(st.integers(1, most_qubits))
    bits = draw(st.integers(1, 4))
    condition = st.lists(st.tuples(st.integers(0, bits - 1), st.integers(0, 1)), max_size=2).map(tuple)
    one = st.integers(0, qubits - 1).map(lambda q: (q,))
    made: list[tuple[Any, ...]] = []
    for _ in range(draw(st.integers(1, most))):
        name = draw(
            st.sampled_from(
                ["x", "cnot", "measurement_feedforward", "measurement_feedforward", "teleportation", "reset"]
            )
        )
        if name in ("cnot", "teleportation"):
            if qubits < 2:
                continue
            pair = draw(st.lists(st.integers(0, qubits - 1), min_size=2, max_size=2, unique=True))
            made.append((name, tuple(pair), (), (), draw(condition)))
        elif name == "measurement_feedforward":
            made.append((name, draw(one), (draw(st.integers(0, bits - 1)),), (), draw(condition)))
        else:
            made.append((name, draw(one), (), (), draw(condition)))
    return program(*made, qubits=qubits, bits=bits)


def run(circuit: Circuit, bits: list[int]) -> list[int]:
    """One shot; ``bits`` is what was recorded before."""
    state, recorded = [0] * circuit.qubits, list(bits)
    for operation in circuit.operations:
        if any(recorded[bit] != value for bit, value in operation.condition):
            continue
        a, b = operation.qubits[0], operation.qubits[-1]
        match operation.name:
            case "x":
                state[a] ^= 1
            case "cnot":
                state[b] ^= state[a]
            case "reset":
                state[a] = 0
            case "teleportation":
                state[b], state[a] = state[a], 0
            case "measurement_feedforward":
                recorded[operation.bits[0]] = state[a]
    return recorded
