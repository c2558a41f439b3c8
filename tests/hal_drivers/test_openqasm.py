# SPDX-License-Identifier: Apache-2.0
"""The text kept beside an artefact reads back as the circuit that ran (decision 12)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

qiskit = pytest.importorskip("qiskit")

from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qasm3  # noqa: E402
from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping  # noqa: E402

from hal_drivers import openqasm  # noqa: E402

GATES = sorted(set(openqasm._NAMES) - {"barrier", "reset"})
STANDARD = get_standard_gate_name_mapping()


@st.composite
def flat_circuits(draw: st.DrawFn) -> QuantumCircuit:
    circuit = QuantumCircuit(QuantumRegister(3, "a"), QuantumRegister(2, "b"), ClassicalRegister(3, "c"))
    for name in draw(st.lists(st.sampled_from([*GATES, "barrier", "reset", "measure"]), max_size=12)):
        qubits = draw(st.permutations(range(5)))
        if name == "barrier":
            circuit.barrier(qubits[:2])
        elif name == "reset":
            circuit.reset(qubits[0])
        elif name == "measure":
            circuit.measure(qubits[0], draw(st.integers(0, 2)))
        else:
            gate = type(STANDARD[name])
            count = len(STANDARD[name].params)
            angles = draw(st.lists(st.floats(-10, 10), min_size=count, max_size=count))
            circuit.append(gate(*angles), qubits[: STANDARD[name].num_qubits])
    return circuit


@given(flat_circuits())
@settings(deadline=None, max_examples=60)
def test_our_text_and_qiskits_read_back_as_the_same_circuit(circuit: QuantumCircuit) -> None:
    ours = openqasm._flat(circuit)
    assert ours is not None
    mine, theirs = qasm3.loads(ours), qasm3.loads(qasm3.dumps(circuit))
    assert mine.qregs == theirs.qregs
    assert mine.cregs == theirs.cregs
    for left, right in zip(mine.data, theirs.data, strict=True):
        assert left.operation.name == right.operation.name
        assert (left.qubits, left.clbits) == (right.qubits, right.clbits)
        for one, other in zip(left.operation.params, right.operation.params, strict=True):
            assert math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)


def test_what_is_not_flat_is_left_to_qiskit() -> None:
    looped = QuantumCircuit(1, 1)
    with looped.for_loop(range(3)):
        looped.x(0)
    looped.measure(0, 0)
    loose = QuantumCircuit([qiskit.circuit.Qubit()], [qiskit.circuit.Clbit()])
    loose.measure(0, 0)
    phased = QuantumCircuit(1, 1, global_phase=1.0)
    phased.measure(0, 0)
    for circuit in (looped, loose, phased):
        assert openqasm._flat(circuit) is None
        assert openqasm.to_qasm3(circuit) == qasm3.dumps(circuit)


def test_a_text_that_would_take_too_long_is_not_written() -> None:
    circuit = QuantumCircuit(1, 1, global_phase=1.0)
    for _ in range(openqasm.EXPORT_GATES + 1):
        circuit.x(0)
    assert openqasm.to_qasm3(circuit) is None
