# SPDX-License-Identifier: Apache-2.0
"""A source's own gate under a name that engines know stays the source's own. Only guarded children call this.

Pass managers and simulators go by a gate's name: they would run Qiskit's X for a source's ``gate x a { … }``, whatever
it says. So such a gate becomes Qiskit's where it does exactly the same, which is how programs carry qelib1 with them,
and otherwise gets a name that nobody knows, under which its definition counts.
"""

from __future__ import annotations

from qiskit.circuit import (
    CircuitInstruction,
    ControlFlowOp,
    ControlledGate,
    Gate,
    Instruction,
    Operation,
    QuantumCircuit,
)
from qiskit.circuit.annotated_operation import AnnotatedOperation
from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping
from qiskit.quantum_info import Operator

from hal_drivers.errors import CircuitInvalid

_STANDARD = get_standard_gate_name_mapping()
_ENGINES = frozenset({
    *("cu2", "diagonal", "initialize", "kraus", "multiplexer", "pauli", "quantum_channel", "roerror", "superop"),
    *("mcp", "mcphase", "mcr", "mcrx", "mcry", "mcrz", "mcswap", "mcsx", "mcu", "mcu1", "mcu2", "mcu3", "mcx"),
    *("mcx_gray", "mcy", "mcz", "save_state", "set_statevector", "snapshot", "unitary"),
})  # fmt: skip
"""What Aer runs by name beside the standard gates."""
KNOWN = (frozenset(_STANDARD) | _ENGINES) - {"measure", "reset", "delay", "barrier"}
_COMPARED_QUBITS, COMPARED_GATES = 3, 64
OWN = "own_"
"""Before the name of a gate of the source's own."""


def own_gates_apart(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit in which each name of :data:`KNOWN` means what engines take it for.

    Raises CircuitInvalid for a gate of such a name that has no definition. Call it once the circuit is known to be
    within bounds: definitions are looked into.
    """
    return circuit if not _any_own(circuit, set()) else _renamed(circuit)


def _is_own(operation: Operation) -> bool:
    if operation.name not in KNOWN or not isinstance(operation, Instruction):
        return False
    return not operation.base_class.__module__.startswith("qiskit.circuit.library")


def _any_own(circuit: QuantumCircuit, seen: set[object]) -> bool:
    """Whether a gate in it is one, however deep; a kind of gate is looked into once."""
    return any(_holds_own(instruction.operation, seen) for instruction in circuit.data)


def _holds_own(operation: Operation, seen: set[object]) -> bool:
    if isinstance(operation, ControlFlowOp):
        return any(_any_own(block, seen) for block in operation.blocks)
    if isinstance(operation, AnnotatedOperation):
        return _holds_own(operation.base_op, seen)
    if _is_own(operation):
        return True
    kind = (type(operation), operation.name)
    if operation.name in KNOWN or kind in seen:
        return False
    seen.add(kind)
    if isinstance(operation, ControlledGate):
        return _holds_own(operation.base_gate, seen)
    inside = getattr(operation, "definition", None)
    return inside is not None and _any_own(inside, seen)


def _renamed(circuit: QuantumCircuit) -> QuantumCircuit:
    made = circuit.copy_empty_like()
    for instruction in circuit.data:
        made.append(CircuitInstruction(_made(instruction.operation), instruction.qubits, instruction.clbits))
    return made


def _made(operation: Operation) -> Operation:
    if isinstance(operation, ControlFlowOp):
        return operation.replace_blocks(_renamed(block) for block in operation.blocks)
    if isinstance(operation, AnnotatedOperation):
        return AnnotatedOperation(_made(operation.base_op), operation.modifiers)
    if isinstance(operation, ControlledGate) and (base := _made(operation.base_gate)) is not operation.base_gate:
        # Its own definition is no help: Qiskit made it by the name of what it controls.
        return base.control(operation.num_ctrl_qubits, ctrl_state=operation.ctrl_state, annotated=False)
    own = _is_own(operation)
    if own and operation.definition is None:
        raise CircuitInvalid(f"a gate is called {operation.name} and has no definition")
    if own and (standard := _standard(operation)) is not None:
        return standard
    if not own and (operation.name in _STANDARD or not isinstance(operation, Gate) or operation.definition is None):
        return operation
    return _defined(f"{OWN}{operation.name}" if own else operation.name, operation)


def _defined(name: str, operation: Instruction) -> Instruction:
    """The same by its definition alone: a controlled gate's control state is in it."""
    params = list(operation.params)
    if isinstance(operation, Gate):
        made: Instruction = Gate(name, operation.num_qubits, params)
    else:
        made = Instruction(name, operation.num_qubits, operation.num_clbits, params)
    made.definition = _renamed(operation.definition)
    return made


def _standard(operation: Instruction) -> Gate | None:
    """Qiskit's gate of that name, if it does exactly the same: phase included, for a control would show it."""
    prototype = _STANDARD.get(operation.name)
    if prototype is None or operation.num_qubits != prototype.num_qubits or operation.num_clbits:
        return None
    if len(operation.params) != len(prototype.params) or operation.num_qubits > _COMPARED_QUBITS:
        return None
    if operation.definition.size() > COMPARED_GATES:
        return None
    try:
        alike = prototype.base_class(*operation.params)
        return alike if Operator(operation.definition) == Operator(alike) else None
    except Exception:  # noqa: BLE001 - a definition that isn't unitary is no gate of Qiskit's
        return None
