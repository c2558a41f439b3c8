# SPDX-License-Identifier: Apache-2.0
"""Gates and measurements are counted as vendors bill them, the same in every format, or not at all (G6)."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from qiskit import QuantumCircuit, qasm2, qasm3, qpy
from qiskit.circuit import AnnotatedOperation, ControlModifier, InverseModifier
from qiskit.circuit.library import UnitaryGate, XGate
from qiskit.circuit.random import random_circuit

from hal_drivers.base import Format, Tally
from hal_drivers.circuit import read_bound
from hal_drivers.limits import Limits
from hal_drivers.tally import counted, tally

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[4] q;\nbit[4] c;\n'
OLD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'


def read(form: Format, source: bytes) -> QuantumCircuit:
    return read_bound(form, source, {}, Limits())[0]


def of(body: str) -> tuple[object, object]:
    return counted(read("QASM3", (HEAD + body).encode()), distinct=True)


def in_qpy(circuit: QuantumCircuit) -> bytes:
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    return buffer.getvalue()


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_circuit_counts_the_same_in_every_format(qubits: int, depth: int, seed: int) -> None:
    """G6: QASM 2, QASM 3 and QPY are spellings of one circuit."""
    circuit = random_circuit(qubits, depth, max_operands=4, measure=True, seed=seed)
    old = tally(read("QASM2", qasm2.dumps(circuit).encode()), distinct=True)
    assert old == tally(read("QASM3", qasm3.dumps(circuit).encode()), distinct=True)
    assert old == tally(read("QPY", in_qpy(circuit)))
    assert old.measurements == qubits


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("h q; c = measure q;", Tally(4, 0, 0, 4)),
        ("rz(0.1) q[0]; id q[1]; cx q[0], q[1]; ccx q[0], q[1], q[2]; cswap q[0], q[1], q[2];", Tally(2, 1, 2, 0)),
        ("gphase(0.5); barrier q; delay[10ns] q[0]; reset q[0]; c[0] = measure q[0];", Tally(0, 0, 0, 1)),
        (
            "gate pair a, b { h a; cx a, b; } gate two a, b, c { pair a, b; pair b, c; } two q[0], q[1], q[2];",
            Tally(2, 2),
        ),
        ("for int i in [0:4] { h q[0]; for int j in {1, 2, 3} { cx q[0], q[1]; } }", Tally(5, 15)),
        ("for int i in [0:0] { x q[0]; }", Tally(1)),
        ("if (c[0]) { x q[0]; } else { h q[1]; z q[1]; }", Tally(3)),
        ("inv @ s q[0];", Tally(1)),
    ],
)
def test_what_stands_in_the_circuit_counts(body: str, expected: Tally) -> None:
    """G6: by how many qubits a gate acts on; resets, barriers, delays and the global phase are no gates."""
    assert of(body) == (expected, UNSET)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("while (c[0]) { h q[0]; c[0] = measure q[0]; }", "a loop has turns that only running can tell"),
        ("for int i in [0:4] { h q[0]; if (c[0]) { break; } }", "a loop may end early"),
        ("for int i in [0:4] { if (c[0]) { continue; } h q[0]; }", "a loop may end early"),
    ],
)
def test_what_only_running_can_tell_is_absent_with_a_reason(body: str, why: str) -> None:
    """G6: never a guess."""
    assert of(body) == (UNSET, why)


def test_a_switchs_cases_count_once_each() -> None:
    """All of them are compiled."""
    circuit = QuantumCircuit(2, 2)
    with circuit.switch(circuit.cregs[0]) as case:
        with case(1):
            circuit.x(0)
        with case(2):
            circuit.cx(0, 1)
    assert tally(circuit) == Tally(1, 1)


def test_a_modifier_that_is_only_noted_has_no_number_but_an_inverse() -> None:
    """How many gates a noted control comes to is a compiler's choice."""
    circuit = QuantumCircuit(3)
    circuit.append(AnnotatedOperation(XGate(), InverseModifier()), [0])
    assert tally(circuit) == Tally(1)
    circuit.append(AnnotatedOperation(XGate(), ControlModifier(2)), [0, 1, 2])
    found, why = counted(circuit)
    assert (found, why) == (UNSET, "a gate stands under a modifier that only a compiler turns into gates")


def test_gates_of_one_name_in_a_qpy_file_count_each_by_its_own_definition() -> None:
    """A file may call two things by one name; a text can't."""
    one, many = QuantumCircuit(1, name="same"), QuantumCircuit(1, name="same")
    one.h(0)
    for _ in range(3):
        many.h(0)
    circuit = QuantumCircuit(1)
    circuit.append(one.to_gate(), [0])
    circuit.append(many.to_gate(), [0])
    assert tally(read("QPY", in_qpy(circuit))) == Tally(4)


def test_nested_definitions_are_looked_into_once() -> None:
    """Sixteen levels are sixty-five thousand gates, and are counted without looking at each."""
    gates = "".join(f"gate g{n} a {{ g{n - 1} a; g{n - 1} a; }}\n" for n in range(1, 17))
    source = f"{OLD}gate g0 a {{ h a; }}\n{gates}qreg q[1];\ncreg c[1];\ng16 q[0];\nmeasure q -> c;\n"
    assert tally(read("QASM2", source.encode()), distinct=True) == Tally(1 << 16, measurements=1)


def test_a_matrix_counts_as_the_gates_that_it_is_made_of() -> None:
    """No vendor runs a matrix."""
    circuit = QuantumCircuit(1)
    circuit.append(UnitaryGate([[0, 1], [1, 0]]), [0])
    assert tally(circuit) == Tally(1)
