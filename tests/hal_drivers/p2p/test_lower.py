# SPDX-License-Identifier: Apache-2.0
"""What a service does to a state, and what its average gate fidelity means (N3, N15)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import DensityMatrix, Operator, Statevector, SuperOp, average_gate_fidelity
from qiskit_aer import AerSimulator
from qiskit_aer.noise import depolarizing_error

from hal_drivers.p2p.aliases import DECLARED, OWN, TABLE, channel_of, depolarising, faults, services_of
from hal_drivers.p2p.ir import GATES, SERVICES, Circuit, Operation, Service
from hal_drivers.p2p.lower import to_qiskit


def circuit(*operations: tuple[Any, ...], qubits: int = 2, bits: int = 1, model: Any = "discard") -> Circuit:
    made = (Operation(place, *rest) for place, rest in enumerate(operations))
    return Circuit(qubits, bits, tuple(made), model)


def state(made: Circuit, fidelities: dict[str, float] | None = None) -> DensityMatrix:
    built = to_qiskit(made, fidelities)
    built.save_density_matrix()
    return DensityMatrix(AerSimulator(method="density_matrix").run(built, shots=1).result().data(0)["density_matrix"])


def test_the_table_has_every_service_and_one_word_means_one() -> None:
    assert set(TABLE) == set(SERVICES)
    assert DECLARED["teleport"] == "teleportation"
    assert {"bell_pair", "teleport", "teleportation", "syndrome_extraction", "distillation"} == OWN
    assert {service for service, alias in TABLE.items() if alias.abstract} == {"syndrome_extraction", "distillation"}
    assert all(max(channel_of(s, m)) < TABLE[s].operands for s in SERVICES for m in ("discard", "swap"))


@given(st.sampled_from([1, 2]), st.floats(0, 1))
def test_the_channel_has_the_average_gate_fidelity_that_is_advertised(qubits: int, above: float) -> None:
    least = 1 / (1 << qubits)
    fidelity = least + above * (1 - least)
    error = depolarizing_error(depolarising(fidelity, qubits), qubits)
    assert average_gate_fidelity(SuperOp(error)) == pytest.approx(fidelity)


@pytest.mark.parametrize("fidelity", [0.2, 1.1, math.nan])
def test_no_channel_has_an_impossible_fidelity(fidelity: float) -> None:
    with pytest.raises(ValueError, match="average gate fidelity"):
        depolarising(fidelity, 2)


def test_a_bell_pair_is_made_from_whatever_was_there() -> None:
    made = state(circuit(("x", (0,)), ("h", (1,)), ("bell_pair", (1, 0))))
    assert np.allclose(made.data, DensityMatrix(Statevector([1, 0, 0, 1]) / math.sqrt(2)).data)


def test_teleport_discards_b_moves_a_there_and_leaves_a_reset() -> None:
    made = state(circuit(("rx", (0,), (), (0.7,)), ("x", (1,)), ("teleportation", (0, 1))))
    moved = Statevector.from_instruction(_one("rx", 0.7))
    assert np.allclose(made.data, DensityMatrix(moved.tensor(Statevector([1, 0]))).data)


def test_teleport_as_a_swap_keeps_b() -> None:
    made = state(circuit(("x", (1,)), ("teleportation", (0, 1)), model="swap"))
    assert np.allclose(made.data, DensityMatrix(Statevector.from_label("01")).data)


def test_abstract_services_are_the_identity_with_the_nodes_channel() -> None:
    made = circuit(("h", (0,)), ("syndrome_extraction", (0,)), ("distillation", (0,)), qubits=1)
    assert np.allclose(state(made).data, DensityMatrix.from_label("+").data)
    noisy = state(made, {"syndrome_extraction": 0.9, "distillation": 1.0})
    assert noisy.data[0, 1].real == pytest.approx((1 - depolarising(0.9, 1)) / 2)


@pytest.mark.parametrize(
    ("service", "model"),
    [("cnot", "discard"), ("cz", "discard"), ("teleportation", "discard"), ("teleportation", "swap")],
)
def test_the_channel_acts_on_the_channels_qubits(service: Service, model: Any) -> None:
    prepared = [("h", (0,)), ("t", (0,)), ("h", (1,)), ("ry", (1,), (), (0.4,))]
    ideal = state(circuit(*prepared, (service, (0, 1)), model=model), {service: 1.0})
    noisy = state(circuit(*prepared, (service, (0, 1)), model=model), {service: 0.8})
    on = channel_of(service, model)
    expected = ideal.evolve(SuperOp(depolarizing_error(depolarising(0.8, len(on)), len(on))), list(on))
    assert np.allclose(noisy.data, expected.data)


def test_a_measurement_is_noisy_before_it_is_made() -> None:
    built = to_qiskit(circuit(("x", (0,)), ("measurement_feedforward", (0,), (0,))), {"measurement_feedforward": 0.5})
    assert [instruction.operation.num_clbits for instruction in built.data] == [0, 0, 1]
    counts = AerSimulator().run(built, shots=4000, seed_simulator=1).result().get_counts()
    assert abs(counts["0"] - 2000) < 5 * math.sqrt(1000)


@pytest.mark.parametrize("gate", GATES)
def test_each_gate_is_qiskits(gate: str) -> None:
    angles = {"u": (0.1, 0.2, 0.3)}.get(gate, (0.3,) if gate in ("rx", "ry", "rz", "p") else ())
    made = to_qiskit(circuit((gate, (0,), (), angles), qubits=1))
    assert Operator(made) == Operator(_one(gate, *angles))


@pytest.mark.parametrize("values", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_condition_holds_where_all_its_bits_have_their_values(values: tuple[int, int]) -> None:
    measured = [("measurement_feedforward", (0,), (0,)), ("measurement_feedforward", (1,), (1,))]
    conditioned = Operation(9, "x", (2,), condition=((0, values[0]), (1, values[1])))
    read = Operation(10, "measurement_feedforward", (2,), (2,), condition=((0, values[0]),))
    made = circuit(("x", (1,)), *measured, qubits=3, bits=3)
    built = to_qiskit(Circuit(3, 3, (*made.operations, conditioned, read)))
    counts = AerSimulator().run(built, shots=20, seed_simulator=1).result().get_counts()
    assert counts == {"110" if values == (0, 1) else "010": 20}


def test_a_strangers_operations_are_judged_by_the_table() -> None:
    good = circuit(("u", (0,), (), (0.1, 0.2, 0.3)), ("cnot", (0, 1)), ("measurement_feedforward", (0,), (0,)))
    assert not list(faults(good.operations, 2, 1))
    bad = [
        Operation(0, "cnot", (0, 0)),
        Operation(0, "cnot", (0,)),
        Operation(0, "x", (2,)),
        Operation(0, "rx", (0,)),
        Operation(0, "x", (0,), (0,)),
        Operation(0, "measurement_feedforward", (0,)),
        Operation(0, "measurement_feedforward", (0,), (1,)),
        Operation(0, "x", (0,), condition=((1, 0),)),
        Operation(0, "x", (0,), condition=((0, 2),)),
        Operation(0, "syndrome_extraction", (0, 1)),
    ]
    assert all(list(faults((operation,), 2, 1)) for operation in bad)


def test_services_stand_in_the_tables_order() -> None:
    assert services_of(circuit(("cz", (0, 1)), ("x", (0,)), ("bell_pair", (0, 1))).operations) == ("bell_pair", "cz")


def _one(gate: str, *angles: float) -> QuantumCircuit:
    made = QuantumCircuit(1)
    getattr(made, gate)(*angles, 0)
    return made
