# SPDX-License-Identifier: Apache-2.0
"""What a guarded child does with any circuit, whatever engine runs it: read, bind, bound. Only ``engines`` call this.

Nothing here is safe to call in a process that holds a secret, a socket or another tenant's data: the readers are
the attack surface (51 bytes of QASM 2 took 2.2 GB). The order is the defence: read what the driver has pre-scanned,
count symbolically what the definitions would expand to, and only then let an engine translate. What escapes those
counts meets the limits on the process. Messages that leave name lines and limits, no source (I10).
"""

from __future__ import annotations

import importlib.metadata
import io
import math
import platform
import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from qiskit import qasm2, qasm3, qpy
from qiskit.circuit import (
    AnnotatedOperation,
    Bit,
    ControlFlowOp,
    ControlledGate,
    ForLoopOp,
    Operation,
    QuantumCircuit,
)
from qiskit.circuit.annotated_operation import ControlModifier, PowerModifier
from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping

from hal_drivers.base import CompiledFacts, Format
from hal_drivers.basis import measured_in
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex, DriverError, ProgramUnsupported
from hal_drivers.frames import Artefact, CompileCall, Counts, RunCall
from hal_drivers.limits import Limits
from hal_drivers.own_gates import own_gates_apart
from hal_drivers.tally import counted

STANDARD = {gate.base_class: name for name, gate in get_standard_gate_name_mapping().items()}
CONTROL_FLOW = ("if_else", "for_loop", "while_loop", "switch_case")
DIRECTIVES = frozenset({"measure", "reset", "barrier", "delay", "store", "break_loop", "continue_loop"})


class Submitted(NamedTuple):
    """A circuit that was read and found within bounds."""

    circuit: QuantumCircuit
    gates: int
    """Once every definition and loop is unrolled."""
    measured: tuple[int, ...]
    """Classical bits that a measurement writes, ascending."""
    text: bool = True
    """Whether it came as a text, where a gate's name has one meaning."""


@cache
def tools(*distributions: str) -> dict[str, str]:
    """Versions of what reads a circuit and of what an engine names beside it."""
    names = ("qiskit", "qiskit-qasm3-import", "numpy", *distributions)
    return {name: importlib.metadata.version(name) for name in names} | {"python": platform.python_version()}


def read_circuit(call: CompileCall) -> Submitted:
    """For an engine, which goes by the names of gates.

    Raises CircuitInvalid, CircuitTooComplex or ProgramUnsupported; anything else is the child's to sort.
    """
    return _submitted(call, *read_bound(call.format, call.source, call.parameters, call.limits))


def read_as_written(call: CompileCall) -> Submitted:
    """For a reader of its own words: a gate that the source declares keeps its name. Raises the same."""
    return _submitted(call, *_bounded(call.format, call.source, call.parameters, call.limits))


def read_bound(form: Format, source: bytes, parameters: dict[str, float], limits: Limits) -> tuple[QuantumCircuit, int]:
    """The circuit with its parameters, and its gates once all is unrolled; raises as ``read_circuit``."""
    circuit, gates = _bounded(form, source, parameters, limits)
    return own_gates_apart(circuit), gates


def _submitted(call: CompileCall, circuit: QuantumCircuit, gates: int) -> Submitted:
    if call.basis is not None:
        circuit = measured_in(circuit, call.basis)
    measured = _measured_bits(circuit)
    if not measured:
        raise CircuitInvalid("no classical bits are measured")
    return Submitted(circuit, gates, tuple(sorted(measured)), call.format != "QPY")


def _bounded(form: Format, source: bytes, parameters: dict[str, float], limits: Limits) -> tuple[QuantumCircuit, int]:
    circuit = _bind(_read(form, source), parameters)
    if circuit.num_qubits > limits.qubits or circuit.num_clbits > limits.clbits:
        raise CircuitTooComplex(f"more than {limits.qubits} qubits or {limits.clbits} classical bits are declared")
    return circuit, expanded_gates(circuit, limits)


def compiled_facts(
    submitted: Submitted,
    prepared: QuantumCircuit,
    limits: Limits,
    method: str,
    memory_bytes: int,
    layout: tuple[int, ...] | None = None,
    final_layout: tuple[int, ...] | None = None,
    duration_s: float | None = None,
) -> CompiledFacts:
    """What policy judges and meters count of a translated circuit; raises CircuitTooComplex where that made it too
    large.
    """
    before, why = counted(submitted.circuit, distinct=submitted.text)
    after, why_after = counted(prepared)
    return CompiledFacts(
        qubits=submitted.circuit.num_qubits,
        clbits=prepared.num_clbits,
        depth=prepared.depth(),
        gates_before=submitted.gates,
        gates_after=expanded_gates(prepared, limits),
        operations={str(name): int(count) for name, count in sorted(prepared.count_ops().items())},
        layout=layout,
        final_layout=final_layout,
        duration_s=duration_s,
        measured_bits=submitted.measured,
        method=method,
        memory_bytes=memory_bytes,
        submitted=before,
        runs=after,
        uncounted=why or why_after,
    )


def own_circuits() -> tuple[CompileCall, ...]:
    """Circuits of our own that wake every reader, for engines to warm up on."""
    bell = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[1] q;\nbit[1] c;\nh q[0];\nc = measure q;\n'
    old = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\nh q[0];\nmeasure q -> c;\n'
    limits = Limits()
    qasm3.loads(bell)
    sources: tuple[tuple[Format, str], ...] = (("QASM2", old), ("QASM3", bell))
    return tuple(
        CompileCall(format=form, source=source.encode(), parameters={}, limits=limits, memory_bytes=1 << 28)
        for form, source in sources
    )


def warm(compile_circuit: Callable[[CompileCall], Artefact], run_circuit: Callable[[RunCall], Counts]) -> None:
    """Run circuits of our own through an engine, so that a stranger's finds all that it needs loaded."""
    for call in own_circuits():
        made = compile_circuit(call)
        run_circuit(RunCall(artefact=made.artefact, shots=8, seed=1, method=made.facts.method))


def active_qubits(circuit: QuantumCircuit) -> int:
    """Aer drops idle qubits, except where control flow keeps it from knowing them."""
    declared: int = circuit.num_qubits
    if any(isinstance(instruction.operation, ControlFlowOp) for instruction in circuit.data):
        return declared
    used = {qubit for instruction in circuit.data if instruction.name != "barrier" for qubit in instruction.qubits}
    return len(used)


def measures_midway(circuit: QuantumCircuit) -> bool:
    """Whether a shot can't be drawn from one final state: something follows a measurement, or depends on one."""
    done: set[Bit] = set()
    for instruction in circuit.data:
        operation = instruction.operation
        if isinstance(operation, ControlFlowOp) or operation.name == "reset":
            return True
        if operation.name != "barrier" and not done.isdisjoint(instruction.qubits):
            return True
        if operation.name == "measure":
            done.update(instruction.qubits)
    return False


def to_qpy(circuit: QuantumCircuit) -> bytes:
    """The circuit as Qiskit keeps it."""
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    return buffer.getvalue()


# ---- reading

_GATE = re.compile(r"\bgate\s++(\w++)")
_INCLUDED = re.compile(r"""\binclude\b\s*+([^;]*+)""")
_STANDARD_NAMES = frozenset(STANDARD.values())
_PLACE = re.compile(r"(?:^|[:\s\"'])(\d{1,7})[,:]\s?\d{1,7}")
_CONDITION = "a condition compares a bit with true or false, or a register with a number"
_REASONS = {
    "conditions must be": _CONDITION,
    "in register comparisons": _CONDITION,
    "unsupported binary operation": _CONDITION,
    "unhandled binary operator": "it uses an operator that is not supported",
    "must save their result": "a measurement names no bit that it goes into",
    "cannot be resolved into a qiskit value": "it uses a feature that is not supported",
    "duplicate": "a gate acts twice on one qubit",
    "by zero": "a value is divided by zero",
    "not defined": "a name is not defined",
    "already": "a name is defined twice",
    "out-of-range": "an index is out of range",
    "out of range": "an index is out of range",
    "include": "an include is not allowed",
    "imports not": "an include is not allowed",
    "version": "the version statement is not understood",
    "not supported": "it uses a feature that is not supported",
    "not yet supported": "it uses a feature that is not supported",
    "takes": "a gate has a wrong number of arguments",
    "type": "a value has the wrong type",
    "expected": "a statement is malformed",
}


def _read(form: Format, source: bytes) -> QuantumCircuit:
    try:
        match form:
            case "QASM2":
                text = source.decode()
                return qasm2.loads(text, include_path=(), custom_instructions=_known_in(text))
            case "QASM3":
                return _read_qasm3(source.decode())
            case "QPY":
                return _read_qpy(source)
    except (DriverError, MemoryError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001 - the readers raise what they like; each means the same here
        raise _invalid(form, error) from None


def _known_in(source: str) -> tuple[qasm2.CustomInstruction, ...]:
    """What the reader takes for gates of Qiskit's: without the include a gate called `h` is the source's own."""
    known: tuple[qasm2.CustomInstruction, ...] = qasm2.LEGACY_CUSTOM_INSTRUCTIONS
    return known if "qelib1.inc" in source else tuple(one for one in known if one.builtin)


def _read_qasm3(source: str) -> QuantumCircuit:
    """The native reader takes basic circuits forty times faster; what it refuses the importer judges.

    It takes every `h` for Qiskit's: a source that defines one of its own is the importer's.
    """
    if any(name in _STANDARD_NAMES for name in _GATE.findall(source)):
        return qasm3.loads(source)
    if any(name != '"stdgates.inc"' for name in _INCLUDED.findall(source)):
        return qasm3.loads(source)  # at another, and at other quotes, the native reader panics
    try:
        return qasm3.loads_experimental(source)
    except Exception:  # noqa: BLE001 - its refusals are no verdict
        return qasm3.loads(source)


def _read_qpy(source: bytes) -> QuantumCircuit:
    loaded = qpy.load(io.BytesIO(source))
    if len(loaded) != 1 or not isinstance(loaded[0], QuantumCircuit):
        raise CircuitInvalid("a QPY file must hold exactly one circuit")
    return loaded[0]


def _invalid(form: Format, error: BaseException) -> CircuitInvalid:
    """A reader's message quotes the source; only its place and a phrase of our own leave the child."""
    text = str(error)[:2_000]
    line = _line(text) or _parsers_line(error.__cause__)
    reason = next((ours for theirs, ours in _REASONS.items() if theirs in text.lower()), "it is malformed")
    where = f" at line {line}" if line else ""
    return CircuitInvalid(f"the {form} source cannot be read{where}: {reason}", line=line)


def _line(message: str) -> int | None:
    place = _PLACE.search(message)
    return int(place.group(1)) if place else None


def _parsers_line(cause: BaseException | None) -> int | None:
    """Where ANTLR stopped: its error has no text, and is wrapped in one that has none either."""
    token = getattr(cause.args[0], "offendingToken", None) if cause is not None and cause.args else None
    line = getattr(token, "line", None)
    return line if isinstance(line, int) else None


def _bind(circuit: QuantumCircuit, values: dict[str, float]) -> QuantumCircuit:
    wanted = {parameter.name for parameter in circuit.parameters}
    if missing := sorted(wanted - values.keys()):
        raise CircuitInvalid(f"no value for parameter {missing[0][:64]}")
    if extra := sorted(values.keys() - wanted):
        raise CircuitInvalid(f"the circuit has no parameter {extra[0][:64]}")
    if not all(math.isfinite(value) for value in values.values()):
        raise CircuitInvalid("a parameter is not a finite number")
    if next(iter(circuit.iter_input_vars()), None) is not None:
        raise ProgramUnsupported("classical input variables other than angles are not supported")
    return circuit.assign_parameters(values) if wanted else circuit


# ---- bounding


def expanded_gates(circuit: QuantumCircuit, limits: Limits) -> int:
    """Gates once every definition and loop is unrolled, without unrolling; raises CircuitTooComplex."""
    known: dict[object, int] = {}

    def block(body: QuantumCircuit) -> int:
        total = 0
        for instruction in body.data:
            total += weight(instruction.operation)
            if total > limits.gates:
                raise CircuitTooComplex(f"the circuit expands to more than {limits.gates} gates")
        return total

    def weight(operation: Operation) -> int:
        if operation.name in DIRECTIVES or getattr(operation, "base_class", None) in STANDARD:
            return 1
        if isinstance(operation, ControlFlowOp):
            return _repeats(operation) * max(1, sum(block(body) for body in operation.blocks))
        if isinstance(operation, AnnotatedOperation):
            return _annotated(operation, limits) * weight(operation.base_op)
        if isinstance(operation, ControlledGate) and operation.num_ctrl_qubits > limits.controls:
            raise CircuitTooComplex(f"a gate has more than {limits.controls} controls")
        return _defined(operation, known, block)

    return block(circuit)


def _repeats(operation: ControlFlowOp) -> int:
    # A while loop's count is unknowable; its run has a deadline.
    repeats: int = len(operation.params[0]) if isinstance(operation, ForLoopOp) else 1
    return repeats


def _annotated(operation: AnnotatedOperation, limits: Limits) -> int:
    factor = 1
    for modifier in operation.modifiers:
        if isinstance(modifier, ControlModifier):
            if modifier.num_ctrl_qubits > limits.controls:
                raise CircuitTooComplex(f"a gate has more than {limits.controls} controls")
            factor *= 1 << modifier.num_ctrl_qubits
        elif isinstance(modifier, PowerModifier):
            factor *= max(1, math.ceil(min(abs(float(modifier.power)), 1e9)))
    return factor


def _defined(operation: Operation, known: dict[object, int], block: Callable[[QuantumCircuit], int]) -> int:
    """Weight by definition, each looked into once: nested definitions double in size with each level."""
    key: tuple[object, ...] | None = (type(operation), operation.name, operation.num_qubits, tuple(operation.params))
    try:
        if key in known:
            return known[key]
    except TypeError:
        key = None  # an array among the parameters
    definition = getattr(operation, "definition", None)
    # Without a definition it is synthesised, at about 4^n gates.
    weight: int = 4 ** min(operation.num_qubits, 16) if definition is None else max(1, block(definition))
    if key is not None:
        known[key] = weight
    return weight


def _measured_bits(circuit: QuantumCircuit) -> set[int]:
    found: set[int] = set()
    for instruction in circuit.data:
        bits = [circuit.find_bit(bit).index for bit in instruction.clbits]
        if isinstance(instruction.operation, ControlFlowOp):
            for body in instruction.operation.blocks:
                found |= {bits[inner] for inner in _measured_bits(body)}
        elif instruction.operation.name == "measure":
            found |= set(bits)
        elif bits and (definition := getattr(instruction.operation, "definition", None)) is not None:
            found |= {bits[inner] for inner in _measured_bits(definition)}
    return found
