# SPDX-License-Identifier: Apache-2.0
"""A circuit measured in a Pauli basis: what an estimator's item adds to the circuit that was submitted.

Runs in a guarded child only. The basis is a letter a qubit in Qiskit's order (the last letter is qubit 0). X and Y are
rotated onto Z, each letter but I is measured into a classical bit, the lowest qubit first; so a result string is the
basis without its I's, read in the same direction. Measurements at the circuit's end are taken away before; one in its
middle, or control flow that may hold one, is refused: nobody could say what the observable is of.
"""

from __future__ import annotations

from qiskit.circuit import ClassicalRegister, ControlFlowOp, QuantumCircuit

from hal_drivers.errors import CircuitInvalid, ProgramUnsupported


def unmeasured(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit without the measurements at its end; raises ProgramUnsupported where that isn't all of them."""
    if any(isinstance(instruction.operation, ControlFlowOp) for instruction in circuit.data):
        raise ProgramUnsupported("the circuit has control flow: there is no one state before its measurement")
    bare: QuantumCircuit = circuit.remove_final_measurements(inplace=False)
    for instruction in bare.data:
        if instruction.clbits or instruction.name == "measure":
            raise ProgramUnsupported("the circuit measures in its middle: there is no one state before its measurement")
    return bare


def measured_in(circuit: QuantumCircuit, basis: str) -> QuantumCircuit:
    """The circuit, rotated and measured in this basis; raises CircuitInvalid where the letters aren't its qubits."""
    if len(basis) != circuit.num_qubits:
        raise CircuitInvalid(f"an observable of {len(basis)} letters for a circuit of {circuit.num_qubits} qubits")
    measured = unmeasured(circuit)
    letters = [(qubit, letter) for qubit, letter in enumerate(reversed(basis)) if letter != "I"]
    bits = ClassicalRegister(len(letters), "basis")
    measured.add_register(bits)
    for bit, (qubit, letter) in enumerate(letters):
        if letter == "Y":
            measured.sdg(qubit)
        if letter in ("X", "Y"):
            measured.h(qubit)
        measured.measure(qubit, bits[bit])
    return measured
