# SPDX-License-Identifier: Apache-2.0
"""A source's own gate under a name that engines know does what the source says, at any depth and under control."""

from __future__ import annotations

import pytest
from qiskit import qasm2, qasm3, transpile
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import Operator

from hal_drivers.errors import CircuitInvalid
from hal_drivers.own_gates import KNOWN, own_gates_apart

NOTHING = "gate x a { U(0, 0, 0) a; }\n"


def names(circuit: QuantumCircuit) -> list[str]:
    return [instruction.operation.name for instruction in own_gates_apart(circuit).data]


@pytest.mark.parametrize(
    ("program", "same"),
    [
        (NOTHING + "qubit[1] q;\nx q[0];\n", "qubit[1] q;\n"),
        (NOTHING + "gate twice a { x a; x a; U(pi, 0, pi) a; }\nqubit[1] q;\ntwice q[0];\n", "U(pi, 0, pi) q[0];"),
        (NOTHING + "qubit[2] q;\nctrl @ x q[0], q[1];\n", "qubit[2] q;\n"),
        (NOTHING + "qubit[2] q;\nnegctrl @ x q[0], q[1];\n", "qubit[2] q;\n"),
        (NOTHING + "gate flip a { x a; U(pi, 0, pi) a; }\nqubit[2] q;\nctrl @ flip q[0], q[1];\n", "cx"),
        ("gate rx(t) a { U(0, 0, t) a; }\nqubit[1] q;\nrx(0.3) q[0];\n", "U(0, 0, 0.3) q[0];"),
        ("gate mcx a, b { U(0, 0, 0) a; }\nqubit[2] q;\nmcx q[0], q[1];\n", "qubit[2] q;\n"),
    ],
)
def test_its_definition_counts(program: str, same: str) -> None:
    made = own_gates_apart(qasm3.loads("OPENQASM 3.0;\n" + program))
    meant = QuantumCircuit(made.num_qubits)
    if same == "cx":
        # The language's U(pi, 0, pi) is X up to a phase, which a control shows.
        meant = qasm3.loads("OPENQASM 3.0;\nqubit[2] q;\nctrl @ U(pi, 0, pi) q[0], q[1];\n")
    elif same.startswith("U"):
        meant = qasm3.loads(f"OPENQASM 3.0;\nqubit[1] q;\n{same}\n")
    # By names alone, as an engine goes about it.
    unrolled = transpile(made, basis_gates=["u", "cx", "p"], optimization_level=0)
    assert Operator(unrolled).equiv(Operator(meant))
    assert not KNOWN & {name for name in names(made) if name.startswith("own_")}


def test_one_that_does_what_its_name_says_is_the_gate_itself() -> None:
    """Programs carry qelib1 with them: simulators know a Clifford circuit by its gates."""
    source = (
        "OPENQASM 2.0;\ngate u3(t,p,l) q { U(t,p,l) q; }\ngate u2(p,l) q { U(pi/2,p,l) q; }\n"
        "gate h a { u2(0,pi) a; }\ngate x a { u3(pi,0,pi) a; }\ngate cx c,t { CX c,t; }\n"
        "gate ccx a,b,c { h c; cx b,c; }\nqreg q[3];\nh q[0];\nx q[1];\ncx q[0],q[1];\nccx q[0],q[1],q[2];\n"
    )
    builtin = [one for one in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if one.builtin]
    found = names(qasm2.loads(source, include_path=(), custom_instructions=builtin))
    assert found == ["h", "x", "cx", "own_ccx"]


def test_a_circuit_of_known_gates_alone_is_left_as_it_is() -> None:
    circuit = qasm3.loads('OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nh q[0];\nctrl @ h q[0], q[1];\n')
    assert own_gates_apart(circuit) is circuit


def test_it_is_found_in_what_is_done_on_a_condition() -> None:
    source = "OPENQASM 3.0;\n" + NOTHING + "qubit[1] q;\nbit[1] c;\nif (c[0] == true) { x q[0]; }\n"
    (branch,) = own_gates_apart(qasm3.loads(source)).data
    assert [one.operation.name for one in branch.operation.blocks[0].data] == ["own_x"]


def test_without_a_definition_it_is_refused() -> None:
    source = "OPENQASM 2.0;\nopaque x a;\nqreg q[1];\nx q[0];\n"
    builtin = [one for one in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if one.builtin]
    with pytest.raises(CircuitInvalid, match="has no definition"):
        own_gates_apart(qasm2.loads(source, include_path=(), custom_instructions=builtin))
