# SPDX-License-Identifier: Apache-2.0
"""A submitted circuit becomes a :class:`Program`: services, one-qubit gates, resets, conditions (N3).

Runs in a guarded child only. Enters bytes with their format, parameters and limits; leaves a program, or a structured
error that names what it can't take and, where it is known, the line: never a guess. OpenQASM 2 and 3 and QPY are read
by Qiskit's readers, after the aliases that a source uses have been declared for them (``words``). Gates of the source's
own are replaced by their definitions, whatever they are called; all else that no service or one-qubit gate is, is
translated to those, ``cnot`` and ``cz``. Barriers and delays say nothing to a network whose idle qubits are noiseless,
and are left out.

A branch becomes the condition of each of its operations: equality of bits and registers, and of a single bit the else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from msgspec.structs import replace
from qiskit.circuit import (
    AnnotatedOperation,
    Clbit,
    ControlFlowOp,
    Gate,
    IfElseOp,
    Instruction,
    QuantumCircuit,
)
from qiskit.circuit.equivalence_library import SessionEquivalenceLibrary
from qiskit.transpiler import PassManager
from qiskit.transpiler.passes import BasisTranslator, HighLevelSynthesis, UnrollCustomDefinitions

from hal_drivers.circuit import STANDARD, Submitted, read_as_written
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex, ProgramUnsupported
from hal_drivers.frames import CompileCall
from hal_drivers.p2p import words
from hal_drivers.p2p.aliases import DECLARED, OWN, TABLE
from hal_drivers.p2p.conditions import Condition, both, branches
from hal_drivers.p2p.ir import GATES, OPERATIONS, Operation, Program
from hal_drivers.prescan import code_alone
from hal_drivers.statements import line_of

if TYPE_CHECKING:
    from qiskit.circuit import Operation as Unitary

_SAME = {"cx": "cnot", "cz": "cz", "u1": "p", "u3": "u"} | {name: name for name in GATES}
"""Qiskit's standard gates that are the program's, by name."""
_NOTHING = frozenset({"barrier", "delay", "global_phase"})
_LOOPS = {
    "for_loop": "a for loop",
    "while_loop": "a while loop",
    "switch_case": "a switch",
    "break_loop": "a break",
    "continue_loop": "a continue",
    "store": "a classical variable",
}
_CONDITION = re.compile(r"\bif\s*+\(((?:[^;{}()]|\([^;{}()]*+\))*+)\)")
_OPERATOR = re.compile(r"&&?|\|\|?|<=?|>=?|[+*/%^]")
_LOOP_WORDS = {"for": "a for loop", "while": "a while loop", "switch": "a switch"}


class _Raw(NamedTuple):
    """An operation of the flat circuit: a name of the program's, or a gate that is yet to be translated."""

    name: str
    qubits: tuple[int, ...]
    bits: tuple[int, ...]
    parameters: tuple[float, ...]
    condition: Condition
    gate: Unitary | None = None


def read_program(call: CompileCall) -> tuple[Program, Submitted]:
    """Raises CircuitInvalid, CircuitTooComplex or ProgramUnsupported; anything else is the child's to sort."""
    limits = replace(call.limits, gates=min(call.limits.gates, OPERATIONS))
    code = "" if call.format == "QPY" else code_alone(call.format, call.source)
    words.refuse_modified(code)
    words.refuse_miscalled(code)
    meant = OWN | {"cnot"} if call.format == "QPY" else frozenset(words.aliases(code))
    flat = _Flat(meant, code, strict=call.format == "QPY")
    if call.format == "QASM3":  # before the reader, which knows some of them and says less
        flat.refuse_unsupported()
    source = call.source
    if call.format != "QPY":
        text = words.declared(source.decode(), words.undeclared(code))
        source = (words.bits_as_booleans(text) if call.format == "QASM3" else text).encode()
    submitted = read_as_written(replace(call, source=source, limits=limits))
    circuit = submitted.circuit
    raw = flat.block(circuit, range(circuit.num_qubits), range(circuit.num_clbits), ())
    operations = tuple(_translated(raw))
    program = Program(
        format=call.format,
        qubits=circuit.num_qubits,
        bits=circuit.num_clbits,
        operations=operations,
        registers=_registers(circuit),
        qubit_map=tuple(_called(circuit, place) for place in range(circuit.num_qubits)),
        alias_model=call.alias_model,
    )
    return program, submitted


# ---- flattening


class _Flat:
    """Walks a circuit, its branches and its gates' definitions; ``code`` is where lines are looked up."""

    def __init__(self, meant: frozenset[str], code: str, *, strict: bool) -> None:
        self._meant, self._code, self._strict = meant, code, strict

    def block(
        self, circuit: QuantumCircuit, qubits: Sequence[int], bits: Sequence[int], condition: Condition
    ) -> list[_Raw]:
        """The operations of a circuit whose qubits and bits have these numbers in the program."""
        made: list[_Raw] = []
        for instruction in circuit.data:
            on = tuple(qubits[circuit.find_bit(qubit).index] for qubit in instruction.qubits)
            into = tuple(bits[circuit.find_bit(bit).index] for bit in instruction.clbits)
            operation = instruction.operation
            if isinstance(operation, IfElseOp):
                made += self._branch(circuit, operation, on, into, bits, condition)
            else:
                made += self._one(operation, on, into, condition)
        return made

    def _one(self, operation: Unitary, on: tuple[int, ...], into: tuple[int, ...], condition: Condition) -> list[_Raw]:
        name = operation.name
        if name in _LOOPS or isinstance(operation, ControlFlowOp):
            self._refuse(_LOOPS.get(name, "this control flow"))
        if name in _NOTHING and (not on or not isinstance(operation, Gate)):
            return []
        if name in ("measure", "reset") and not isinstance(operation, Gate):
            return [_Raw("measurement_feedforward" if into else "reset", on, into, (), condition)]
        if getattr(operation, "base_class", None) in STANDARD:
            if (known := _SAME.get(name)) is not None:
                return [_Raw(known, on, (), _angles(operation.params), condition)]
            return [_Raw("", on, (), (), condition, operation)]
        definition = None if isinstance(operation, AnnotatedOperation) else getattr(operation, "definition", None)
        # In OpenQASM an alias has the empty definition that was put there; in QPY it has none.
        empty = definition is None or not (self._strict or definition.data)
        if name in self._meant and empty and not isinstance(operation, AnnotatedOperation):
            return [self._service(name, on, into, condition)]
        if self._strict and (_mentions(operation) or (empty and any(word in name for word in OWN))):
            raise CircuitInvalid("a service alias takes no modifier")
        if definition is None:
            return [_Raw("", on, (), (), condition, operation)]
        return self.block(definition, on, into, condition)

    def _service(self, name: str, on: tuple[int, ...], into: tuple[int, ...], condition: Condition) -> _Raw:
        alias = TABLE[DECLARED[name]]
        if len(on) != alias.operands or into:
            raise CircuitInvalid(f"{alias.service} takes {alias.operands} qubits, {len(on)} are given")
        return _Raw(alias.service, on, (), (), condition)

    def _branch(
        self,
        circuit: QuantumCircuit,
        operation: IfElseOp,
        on: tuple[int, ...],
        into: tuple[int, ...],
        bits: Sequence[int],
        condition: Condition,
    ) -> list[_Raw]:
        def number(bit: Clbit) -> int:
            index: int = circuit.find_bit(bit).index
            return bits[index]

        met, failed = branches(operation.condition, number)
        if met is None:
            self._refuse("a condition that is no equality of bits or registers with a number", "if")
        blocks = operation.blocks
        if len(blocks) > 1 and blocks[1].data and failed is None:
            self._refuse("the else of a condition on several bits", "else")
        made: list[_Raw] = []
        for cases, block in zip((met, failed), blocks, strict=False):
            for case in cases or ():
                whole = both(condition, case)
                if whole is not None:
                    made += self.block(block, on, into, whole)
        asked = {bit for case in (met or ()) for bit, _ in case}
        if any(asked.intersection(raw.bits) for raw in made[:-1]):
            self._refuse("a branch that measures into a bit of its own condition before it ends", "if")
        return made

    def refuse_unsupported(self) -> None:
        """Raises ProgramUnsupported where the source has a word that begins one, or more than == in a condition."""
        for word, what in _LOOP_WORDS.items():
            if re.search(rf"\b{word}\b", self._code) is not None:
                self._refuse(what, word)
        for condition in _CONDITION.finditer(self._code):
            if (found := _OPERATOR.search(condition[1])) is not None:
                line = line_of(self._code, condition.start())
                raise ProgramUnsupported(f"a network runs no circuit with {found[0]} in a condition (line {line})")

    def _refuse(self, what: str, word: str = "") -> NoReturn:
        found = re.search(rf"\b{word}\b", self._code) if word else None
        where = f" (line {line_of(self._code, found.start())})" if found is not None else ""
        raise ProgramUnsupported(f"a network runs no circuit with {what}{where}")


def _mentions(operation: Unitary) -> bool:
    """Whether a modified gate is, or is made of, an alias: what Qiskit makes of that has lost the alias."""
    base = getattr(operation, "base_op", None) or getattr(operation, "base_gate", None)
    todo = [base] if base is not None else []
    while todo:
        one = todo.pop()
        if any(word in one.name for word in OWN) or one.name == "cnot":
            return True
        if getattr(one, "base_class", None) in STANDARD:
            continue
        inner = getattr(one, "base_op", None) or getattr(one, "base_gate", None)
        todo += [inner] if inner is not None else []
        definition = None if inner is not None else getattr(one, "definition", None)
        todo += [instruction.operation for instruction in definition.data] if definition is not None else []
    return False


def _angles(parameters: Iterable[object]) -> tuple[float, ...]:
    made = tuple(float(value) for value in parameters)  # type: ignore[arg-type]
    if not all(math.isfinite(value) for value in made):
        raise CircuitInvalid("an angle is not a finite number")
    return made


# ---- translating


def _translated(raw: list[_Raw]) -> Iterable[Operation]:
    """Operations with their numbers; other gates become those that nodes know, all of them in one run."""
    templates = _templates([one.gate for one in raw if one.gate is not None])
    number = 0
    for one in raw:
        made = [one]
        if one.gate is not None:
            made = [
                _Raw(name, tuple(one.qubits[place] for place in places), (), angles, one.condition)
                for name, places, angles in templates[id(one.gate)]
            ]
        for step in made:
            if number >= OPERATIONS:
                raise CircuitTooComplex(f"the circuit translates to more than {OPERATIONS} operations of the network")
            yield Operation(number, step.name, step.qubits, step.bits, step.parameters, step.condition)  # type: ignore[arg-type]
            number += 1


_Template = list[tuple[str, tuple[int, ...], tuple[float, ...]]]


def _templates(gates: list[Unitary]) -> dict[int, _Template]:
    """By object; alike gates are translated once, each on qubits of its own in one circuit."""
    kinds: dict[object, list[Unitary]] = {}
    for gate in gates:
        kinds.setdefault(_kind(gate), []).append(gate)
    if not kinds:
        return {}
    distinct = [alike[0] for alike in kinds.values()]
    scratch = QuantumCircuit(sum(gate.num_qubits for gate in distinct))
    owner: list[tuple[int, int]] = []
    for place, gate in enumerate(distinct):
        scratch.append(gate, range(len(owner), len(owner) + gate.num_qubits))
        owner += [(place, local) for local in range(gate.num_qubits)]
    made: list[_Template] = [[] for _ in distinct]
    prepared = _passes().run(scratch)
    for instruction in prepared.data:
        if instruction.name in _NOTHING:
            continue
        on = [owner[prepared.find_bit(qubit).index] for qubit in instruction.qubits]
        if (known := _SAME.get(instruction.name)) is None and instruction.name != "reset":
            raise ProgramUnsupported("the circuit has an operation that can't be translated to gates")
        angles = _angles(instruction.operation.params)
        made[on[0][0]].append((known or "reset", tuple(local for _, local in on), angles))
    by_kind = dict(zip(kinds, made, strict=True))
    return {id(gate): by_kind[kind] for kind, alike in kinds.items() for gate in alike}


def _kind(gate: Unitary) -> object:
    if isinstance(gate, Instruction) and getattr(gate, "base_class", None) in STANDARD:
        return gate.base_class, gate.name, _angles(gate.params), getattr(gate, "ctrl_state", None)
    return id(gate)


@cache
def _passes() -> PassManager:
    """Kept; by names, which is safe here: gates of a source's own are gone."""
    basis = [*GATES, "cx", "cz", "reset"]
    library = SessionEquivalenceLibrary
    return PassManager(
        [
            HighLevelSynthesis(basis_gates=basis, equivalence_library=library),
            UnrollCustomDefinitions(library, basis_gates=basis),
            BasisTranslator(library, basis),
        ]
    )


# ---- naming


def _registers(circuit: QuantumCircuit) -> tuple[tuple[str, int], ...]:
    """The classical registers where they are the bits in their order, else one of them all."""
    listed = [bit for register in circuit.cregs for bit in register]
    if listed == list(circuit.clbits):
        return tuple((str(register.name), len(register)) for register in circuit.cregs)
    return (("bits", circuit.num_clbits),)


def _called(circuit: QuantumCircuit, place: int) -> str:
    registers = circuit.find_bit(circuit.qubits[place]).registers
    return f"{registers[0][0].name}[{registers[0][1]}]" if registers else f"${place}"
