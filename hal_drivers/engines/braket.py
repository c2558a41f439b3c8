# SPDX-License-Identifier: Apache-2.0
"""Amazon Braket's local simulators in a guarded child.

A circuit is translated to OpenQASM 3 as Braket takes it (``cnot``, ``si``, ``phaseshift`` …) and runs from that text.
What the dialect or these simulators can't express is refused with the reason: control flow, reset, delay, and a
measurement in the circuit's middle. The simulators draw from numpy's default generator and take no seed; here that
generator is seeded for the length of the run, so the same program, seed and versions give the same counts.

The simulators' just-in-time compiled loops are switched off: they would compile for seconds in each child, want a cache
to write to and threads, and up to 20 qubits win nothing over plain numpy.
"""

from __future__ import annotations

import os

os.environ["NUMBA_DISABLE_JIT"] = "1"  # read once, by the imports below

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from braket.default_simulator import DensityMatrixSimulator, StateVectorSimulator, linalg_utils
from braket.ir.openqasm import Program
from msgspec.structs import replace
from qiskit.circuit import ControlFlowOp, QuantumCircuit
from qiskit.transpiler import generate_preset_pass_manager

from hal_drivers.base import Tally
from hal_drivers.circuit import active_qubits, compiled_facts, read_circuit, tools, warm
from hal_drivers.engine import RUN_OVERHEAD_BYTES
from hal_drivers.errors import CircuitTooComplex, DriverError, ProgramUnsupported
from hal_drivers.frames import Artefact, CompileCall, Counts, RunCall

if TYPE_CHECKING:
    from qiskit.transpiler import PassManager

linalg_utils._QUBIT_THRESHOLD = 1 << 10  # noqa: SLF001 - above it the compiled loops would run, uncompiled

_SAME = ("x", "y", "z", "h", "s", "t", "rx", "ry", "rz", "cy", "cz", "swap", "iswap", "ecr", "cswap")
_OTHER = {
    "id": "i",
    "sdg": "si",
    "tdg": "ti",
    "sx": "v",
    "sxdg": "vi",
    "p": "phaseshift",
    "u": "U",
    "cx": "cnot",
    "csx": "cv",
    "cp": "cphaseshift",
    "ccx": "ccnot",
    "rxx": "xx",
    "ryy": "yy",
    "rzz": "zz",
}
GATES = {name: name for name in _SAME} | _OTHER
"""Qiskit's name → Braket's, where both mean the same unitary up to a global phase."""
BATCHED = 10
"""Above this many qubits gates are contracted ten at a time; below, one at a time is faster."""
COPIES = 4
_SIMULATORS = {"braket_sv": StateVectorSimulator, "braket_dm": DensityMatrixSimulator}
_WIDTH = re.compile(r"^bit\[(\d+)\] c;$", re.MULTILINE)
_MEASURED = re.compile(r"^c\[(\d+)\] = measure q\[(\d+)\];$", re.MULTILINE)


def versions() -> dict[str, str]:
    """Every tool that has a say in the artefact or the counts."""
    return tools("amazon-braket-default-simulator", "amazon-braket-schemas")


def warm_up() -> None:
    """Run circuits of our own through readers and simulators."""
    warm(compile_circuit, run_circuit)


def compile_circuit(call: CompileCall) -> Artefact:
    """Read, bound, refuse what can't be said, translate."""
    submitted = read_circuit(call)
    _refuse(submitted.circuit)
    prepared = _pass_manager(call.setup.gates).run(submitted.circuit)
    _refuse(prepared)  # a definition may hide what the circuit doesn't show
    device = call.setup.device or "braket_sv"
    method, memory = _room(active_qubits(prepared), device, call.memory_bytes)
    text = to_braket(prepared, idle=not call.setup.gates or "i" in call.setup.gates)
    facts = compiled_facts(submitted, prepared, call.limits, method, memory)
    facts = replace(facts, runs=_written(text))
    return Artefact(artefact=text.encode(), qasm3=text, facts=facts, versions=versions())


def run_circuit(call: RunCall) -> Counts:
    """One program, one task."""
    text = call.artefact.decode()
    width, measured = _measurements(text)
    device = call.setup.device or "braket_sv"
    began = time.perf_counter()
    with _seeded(call.seed):
        many = device == "braket_sv" and len(measured) > BATCHED
        result = _SIMULATORS[device]().run(Program(source=text), shots=call.shots, batch_size=10 if many else 1)
    seconds = time.perf_counter() - began
    column = {qubit: place for place, qubit in enumerate(result.measuredQubits)}
    counts: Counter[str] = Counter()
    for row, shots in Counter("".join(row) for row in result.measurements).items():
        bits = ["0"] * width
        for bit, qubit in measured.items():
            bits[width - 1 - bit] = row[column[qubit]]  # the last classical bit stands left
        counts["".join(bits)] += shots
    return Counts(
        counts=dict(sorted(counts.items())),
        method=call.method,
        seconds=seconds,
        metadata={"precision": "double", "noise_model": "none", "simulator": device, "seed_simulator": str(call.seed)},
    )


def to_braket(circuit: QuantumCircuit, *, idle: bool = True) -> str:
    """The circuit as Braket's OpenQASM 3, measurements last; raises ProgramUnsupported. `idle`: it has an identity."""
    head = ["OPENQASM 3.0;", f"bit[{circuit.num_clbits}] c;", f"qubit[{circuit.num_qubits}] q;"]
    gates: list[str] = []
    ends: dict[int, int] = {}
    touched: set[int] = set()
    for instruction in circuit.data:
        qubits = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        name = instruction.operation.name
        if name == "barrier":
            continue
        if any(qubit in ends.values() for qubit in qubits):
            raise ProgramUnsupported("Braket's local simulators measure at the end only, each qubit once")
        if name == "measure":
            ends[circuit.find_bit(instruction.clbits[0]).index] = qubits[0]
            continue
        touched.update(qubits)
        gates.append(_gate(name, instruction.operation.params, qubits))
    # A qubit that no gate touches isn't there for the simulator; the identity brings it in.
    gates += [f"i q[{qubit}];" for qubit in sorted(set(ends.values()) - touched) if idle]
    measures = [f"c[{bit}] = measure q[{qubit}];" for bit, qubit in sorted(ends.items())]
    return "\n".join([*head, *gates, *measures]) + "\n"


def _written(text: str) -> Tally:
    """What the program has, gate by gate: the identities that were put there among them."""
    lines = text.splitlines()[3:]  # behind version, bits and qubits
    measured = sum(_MEASURED.match(line) is not None for line in lines)
    arities = Counter(line.count("q[") for line in lines if _MEASURED.match(line) is None)
    many = sum(times for qubits, times in arities.items() if qubits > 2)
    return Tally(arities[1], arities[2], many, measured)


def _gate(name: str, params: list[float], qubits: list[int]) -> str:
    if name not in GATES:
        raise ProgramUnsupported(f"Braket's dialect has no {name[:64]}")
    angles = f"({', '.join(repr(float(value)) for value in params)})" if params else ""
    return f"{GATES[name]}{angles} {', '.join(f'q[{qubit}]' for qubit in qubits)};"


def _refuse(circuit: QuantumCircuit) -> None:
    for instruction in circuit.data:
        name = instruction.operation.name
        if isinstance(instruction.operation, ControlFlowOp) or name == "store":
            raise ProgramUnsupported("Braket's local simulators have no control flow")
        if name in ("reset", "initialize", "delay"):
            raise ProgramUnsupported(f"Braket's local simulators have no {name}")


def _room(active: int, device: str, memory_bytes: int) -> tuple[str, int]:
    if device not in _SIMULATORS:  # a processor: the state is its own affair
        return "device", 0
    dense = device == "braket_dm"
    needed = COPIES * (16 << (2 * active if dense else active)) + RUN_OVERHEAD_BYTES
    if needed > memory_bytes:
        raise CircuitTooComplex(f"{active} qubits on {device} need more than {memory_bytes >> 20} MiB")
    return "density_matrix" if dense else "statevector", needed


def _measurements(text: str) -> tuple[int, dict[int, int]]:
    """Width of the result and classical bit → qubit, from the text's own last lines."""
    width = _WIDTH.search(text)
    if width is None:
        raise DriverError("the artefact is not one of this engine")
    return int(width.group(1)), {int(bit): int(qubit) for bit, qubit in _MEASURED.findall(text)}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    original = np.random.default_rng
    np.random.default_rng = lambda: original(seed)  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        np.random.default_rng = original


@cache
def _pass_manager(gates: tuple[str, ...]) -> PassManager:
    """For all gates that the dialect has, or those of them that a device takes."""
    known = [ours for ours, theirs in GATES.items() if not gates or theirs.lower() in gates]
    return generate_preset_pass_manager(0, basis_gates=[*known, "measure", "reset", "delay"], seed_transpiler=0)
