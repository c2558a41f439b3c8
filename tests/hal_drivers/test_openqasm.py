# SPDX-License-Identifier: Apache-2.0
"""The text kept beside an artefact reads back as the circuit that ran (decision 12)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

qiskit = pytest.importorskip("qiskit")

from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qasm3  # noqa: E402
from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping  # noqa: E402

from hal_drivers import openqasm  # noqa: E402

# The importer reads id as U(0, 0, 0), which is the same gate by another name.
GATES = sorted(set(openqasm._NAMES) - {"barrier", "reset", "id"})
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
def test_our_text_reads_back_as_the_very_circuit(circuit: QuantumCircuit) -> None:
    """Angles too: Qiskit's exporter rounds those near a multiple of pi, 8e-11 becomes 0."""
    ours = openqasm._flat(circuit)
    assert ours is not None
    back = qasm3.loads(ours)
    assert (back.qregs, back.cregs) == (circuit.qregs, circuit.cregs)
    for read, written in zip(back.data, circuit.data, strict=True):
        assert read.operation.name == written.operation.name
        assert [back.find_bit(bit) for bit in (*read.qubits, *read.clbits)] == [
            circuit.find_bit(bit) for bit in (*written.qubits, *written.clbits)
        ]
        assert list(read.operation.params) == list(written.operation.params)


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
