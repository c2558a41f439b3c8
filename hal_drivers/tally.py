# SPDX-License-Identifier: Apache-2.0
"""How many gates and measurements a circuit has, as formulas of vendors count them (G6). For guarded children only.

Enters a circuit that was read and found within bounds; leaves a ``Tally``, or ``Uncountable`` with the reason, never a
guess. Counted is what stands in the circuit:

- A standard gate on up to three qubits, controls among them, is one gate, identities and virtual ones too.
- A wider one, a gate of the source's own (but for a standard one that it defines anew), a controlled gate that is no
  standard one, a matrix: what its definition comes to. No format's library has wider gates: they would count
  differently by format.
- One measurement a measured qubit. Resets, barriers, delays, classical stores and the global phase count as nothing.
- A ``for`` over known values counts its body for each of them. A condition's branches count once each, whether a shot
  takes them or not: all are compiled. A ``while``, a ``for`` with a break or a continue, and a gate under a power or
  control that is only noted have no number that is known before they run or are translated.
- A service of a network is one gate of as many qubits as it takes.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import NamedTuple

from msgspec import UNSET, UnsetType
from qiskit.circuit import (
    AnnotatedOperation,
    BoxOp,
    BreakLoopOp,
    ContinueLoopOp,
    ControlFlowOp,
    ForLoopOp,
    Gate,
    IfElseOp,
    Instruction,
    Operation,
    QuantumCircuit,
    SwitchCaseOp,
)
from qiskit.circuit.annotated_operation import InverseModifier
from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping
from qiskit.quantum_info import Operator

from hal_drivers.base import Tally
from hal_drivers.own_gates import COMPARED_GATES, OWN

_WIDEST = 3
_GATES = {
    name: gate
    for name, gate in get_standard_gate_name_mapping().items()
    if isinstance(gate, Gate) and gate.num_qubits <= _WIDEST
}
_QUBITS = {name: gate.num_qubits for name, gate in _GATES.items()}
_STANDARD = {gate.base_class for gate in _GATES.values()}
_NOTHING = frozenset({"reset", "barrier", "delay", "store"})
_LIBRARY = "qiskit.circuit.library."
_FLAT = frozenset({"measure", *_NOTHING})


class Uncountable(Exception):
    """No number is known; the text says why and quotes nothing of the source (I10)."""


class _Sum(NamedTuple):
    one: int = 0
    two: int = 0
    many: int = 0
    measured: int = 0

    def plus(self, other: _Sum, times: int = 1) -> _Sum:
        return _Sum(*(a + times * b for a, b in zip(self, other, strict=True)))


def tally(circuit: QuantumCircuit, services: frozenset[str] = frozenset(), *, distinct: bool = False) -> Tally:
    """What stands in it; raises Uncountable.

    ``services`` are names that a network serves where a source doesn't define them; ``distinct``: a name means one
    definition throughout, as it does in a text and not in a QPY file.
    """
    return Tally(*_Counting(services, distinct=distinct).block(circuit))


def counted(
    circuit: QuantumCircuit, services: frozenset[str] = frozenset(), *, distinct: bool = False
) -> tuple[Tally | UnsetType, str | UnsetType]:
    """The tally, or why there is none, as ``CompiledFacts`` has them."""
    try:
        return tally(circuit, services, distinct=distinct), UNSET
    except Uncountable as reason:
        return UNSET, str(reason)


class _Counting:
    """One count; of a text each definition is looked into once, because nested ones double with each level."""

    def __init__(self, services: frozenset[str], *, distinct: bool) -> None:
        self._services, self._distinct = services, distinct
        self._known: dict[object, _Sum] = {}
        self._compared: dict[object, int | None] = {}

    def block(self, circuit: QuantumCircuit) -> _Sum:
        names = circuit.count_ops()
        if not self._services and all(name in _QUBITS or name in _FLAT for name in names):
            # The quick way: a name of Qiskit's means Qiskit's gate (``own_gates``).
            found = _Sum()
            for name, times in names.items():
                found = found.plus(_Sum(measured=times) if name == "measure" else _gate(_QUBITS.get(name, 0), times))
            return found
        found = _Sum()
        for instruction in circuit.data:
            found = found.plus(self._one(instruction.operation))
        return found

    def _one(self, operation: Operation) -> _Sum:
        if getattr(operation, "base_class", None) in _STANDARD:
            return _gate(operation.num_qubits)
        if isinstance(operation, ControlFlowOp):
            return self._controlled(operation)
        if isinstance(operation, BreakLoopOp | ContinueLoopOp):
            raise Uncountable("a loop may end early")
        if isinstance(operation, Instruction) and not isinstance(operation, Gate) and operation.name in _FLAT:
            return _Sum(measured=operation.num_qubits if operation.name == "measure" else 0)
        if isinstance(operation, AnnotatedOperation):
            if all(isinstance(modifier, InverseModifier) for modifier in operation.modifiers):
                return self._one(operation.base_op)
            raise Uncountable("a gate stands under a modifier that only a compiler turns into gates")
        return self._defined(operation)

    def _controlled(self, operation: ControlFlowOp) -> _Sum:
        inside = _Sum()
        for body in operation.blocks:
            inside = inside.plus(self.block(body))
        match operation:
            case ForLoopOp():
                turns = operation.params[0]
                if not isinstance(turns, Sized):
                    raise Uncountable("a loop has turns that only running can tell")
                return _Sum().plus(inside, len(turns))
            case IfElseOp() | SwitchCaseOp() | BoxOp():
                return inside
            case _:
                raise Uncountable("a loop has turns that only running can tell")

    def _defined(self, operation: Operation) -> _Sum:
        definition = getattr(operation, "definition", None)
        if operation.name in self._services and (definition is None or not definition.data):
            return _gate(operation.num_qubits)
        if definition is None:
            raise Uncountable("an operation has no definition in gates")
        if operation.name.removeprefix(OWN) in _GATES and (known := self._standard(operation, definition)) is not None:
            return _gate(known)
        key = (type(operation), operation.name, operation.num_qubits)
        if not self._distinct or (type(operation).__module__ or _LIBRARY).startswith(_LIBRARY):
            return self.block(definition)  # Qiskit's own, made of their parameters; they nest no further than they are
        if key not in self._known:
            self._known[key] = self.block(definition)
        return self._known[key]

    def _standard(self, operation: Operation, definition: QuantumCircuit) -> int | None:
        """As `_spelt_out`; of a text what was compared once is known."""
        key = (type(operation), operation.name, operation.num_qubits, tuple(map(str, operation.params)))
        if not self._distinct:
            return _spelt_out(operation, definition)
        if key not in self._compared:
            self._compared[key] = _spelt_out(operation, definition)
        return self._compared[key]


def _spelt_out(operation: Operation, definition: QuantumCircuit) -> int | None:
    """The qubits of the standard gate that a source defines anew under its name, up to a phase; None for any other.

    Programs bring definitions of what their format's library lacks: that makes no gate several.
    """
    prototype = _GATES.get(operation.name.removeprefix(OWN))
    if prototype is None or operation.num_qubits != prototype.num_qubits or definition.size() > COMPARED_GATES:
        return None
    try:
        alike = Operator(definition).equiv(prototype.base_class(*operation.params))
    except Exception:  # noqa: BLE001 - other parameters, or no unitary: it is another gate
        return None
    return prototype.num_qubits if alike else None


def _gate(qubits: int, times: int = 1) -> _Sum:
    """So many gates of one size; none where it acts on no qubit."""
    match qubits:
        case 0:
            return _Sum()
        case 1:
            return _Sum(one=times)
        case 2:
            return _Sum(two=times)
        case _:
            return _Sum(many=times)
