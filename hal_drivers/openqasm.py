# SPDX-License-Identifier: Apache-2.0
"""OpenQASM 3 text of a compiled circuit (decision 12), written here where it is flat, by Qiskit's exporter elsewhere.

A flat circuit (standard gates with numbers, measure, reset, barrier; every bit in one register) is written eight
times faster here, at the price of a test that both texts read back as the same circuit. Runs in the guarded child.
"""

from __future__ import annotations

import qiskit
from qiskit import qasm3
from qiskit.circuit import Bit, QuantumCircuit

EXPORT_GATES = 5_000
"""Qiskit's exporter takes 26 µs a gate; above this the artefact is kept as QPY alone."""

_PLAIN = "p x y z h s sdg t tdg sx rx ry rz cx cy cz cp crx cry crz ch swap ccx cswap id u1 u2 u3 reset barrier"
_NAMES = {name: name for name in _PLAIN.split(" ")} | {"u": "U"}


def to_qasm3(circuit: QuantumCircuit) -> str | None:
    """The text; None where OpenQASM 3 cannot express the circuit or writing it would take too long."""
    if (flat := _flat(circuit)) is not None:
        return flat
    if len(circuit.data) > EXPORT_GATES:
        return None
    try:
        return str(qasm3.dumps(circuit))
    except qiskit.exceptions.QiskitError:
        return None


def _flat(circuit: QuantumCircuit) -> str | None:
    bits = _places(circuit)
    if bits is None or circuit.global_phase != 0 or circuit.num_vars:
        return None
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";']
    lines += [f"bit[{register.size}] {register.name};" for register in circuit.cregs]
    lines += [f"qubit[{register.size}] {register.name};" for register in circuit.qregs]
    for instruction in circuit.data:
        operation, qubits = instruction.operation, [bits[qubit] for qubit in instruction.qubits]
        if operation.name == "measure":
            lines.append(f"{bits[instruction.clbits[0]]} = measure {qubits[0]};")
            continue
        name = _NAMES.get(operation.name)
        if name is None or getattr(operation, "label", None) is not None:
            return None
        arguments = [] if name == "barrier" else operation.params
        if not all(type(value) in (int, float) for value in arguments):
            return None
        angles = f"({', '.join(repr(value) for value in arguments)})" if arguments else ""
        lines.append(f"{name}{angles} {', '.join(qubits)};")
    return "\n".join(lines) + "\n"


def _places(circuit: QuantumCircuit) -> dict[Bit, str] | None:
    """Bit → its text; None where a bit has no register or two, which only the exporter can write."""
    bits: dict[Bit, str] = {}
    for register in (*circuit.qregs, *circuit.cregs):
        if not register.name.isidentifier() or not register.name.islower():
            return None
        for index, bit in enumerate(register):
            if bit in bits:
                return None
            bits[bit] = f"{register.name}[{index}]"
    return bits if len(bits) == circuit.num_qubits + circuit.num_clbits else None
