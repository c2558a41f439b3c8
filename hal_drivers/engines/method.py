# SPDX-License-Identifier: Apache-2.0
"""How Aer simulates a circuit, and what memory that takes: chosen by the circuit, or as the backend is set.

Memory is judged by method: a 2^n rule alone would refuse valid work such as a GHZ state of 500. What an estimate can't
bound from below (a matrix product state's bonds) is left to the limit on the process.
"""

from __future__ import annotations

from qiskit.circuit import ControlFlowOp, QuantumCircuit

from hal_drivers.circuit import DIRECTIVES, active_qubits, measures_midway
from hal_drivers.engine import RUN_OVERHEAD_BYTES
from hal_drivers.errors import CircuitTooComplex, ProgramUnsupported
from hal_drivers.frames import CompileCall

_CLIFFORD = frozenset({"h", "s", "sdg", "sx", "sxdg", "x", "y", "z", "id", "cx", "cy", "cz", "swap", "ecr"})
DENSE_QUBITS = 7
"""With noise the exact density matrix beats a trajectory a shot up to here."""


def choose_method(circuit: QuantumCircuit, call: CompileCall) -> tuple[str, int]:
    """The method and its memory; raises CircuitTooComplex, or ProgramUnsupported where the set method can't."""
    active = active_qubits(circuit)
    match call.setup.method:
        case "automatic" if call.setup.noise is None:
            return _ideal(circuit, active, call.memory_bytes)
        case "automatic":
            return _noisy(circuit, active, call)
        case "density_matrix":
            if measures_midway(circuit):
                raise ProgramUnsupported(
                    "by density_matrix a circuit that measures or resets in its middle would run every shot anew; "
                    "use statevector"
                )
            return _fitting("density_matrix", 2 * active, active, call.memory_bytes)
        case "stabilizer":
            if not is_clifford(circuit):
                raise ProgramUnsupported("the stabilizer method takes Clifford gates only")
            return "stabilizer", _tableau(active)
        case "matrix_product_state":
            return "matrix_product_state", min(_bonds(circuit), call.memory_bytes) + RUN_OVERHEAD_BYTES
        case _:
            return _fitting("statevector", active, active, call.memory_bytes)


def _ideal(circuit: QuantumCircuit, active: int, memory_bytes: int) -> tuple[str, int]:
    statevector = (16 << active) + RUN_OVERHEAD_BYTES
    if statevector <= memory_bytes and active <= 16:
        return "statevector", statevector
    if is_clifford(circuit):
        return "stabilizer", _tableau(active)
    if statevector <= memory_bytes:
        return "statevector", statevector
    raise CircuitTooComplex(
        f"{active} qubits with gates outside the Clifford group need more than {memory_bytes >> 20} MiB"
    )


def _noisy(circuit: QuantumCircuit, active: int, call: CompileCall) -> tuple[str, int]:
    """Exact where that is cheap; else a trajectory a shot, by the smallest state that can follow the noise."""
    if active <= DENSE_QUBITS and not measures_midway(circuit):
        return _fitting("density_matrix", 2 * active, active, call.memory_bytes)
    noise = call.setup.noise
    if active > 16 and noise is not None and not noise.relaxes and is_clifford(circuit):
        return "stabilizer", _tableau(active)
    return _fitting("statevector", active, active, call.memory_bytes)


def _fitting(method: str, exponent: int, active: int, memory_bytes: int) -> tuple[str, int]:
    needed = (16 << exponent) + RUN_OVERHEAD_BYTES
    if needed > memory_bytes:
        raise CircuitTooComplex(f"{active} qubits by {method} need more than {memory_bytes >> 20} MiB")
    return method, needed


def _tableau(active: int) -> int:
    return active * active + RUN_OVERHEAD_BYTES


def _bonds(circuit: QuantumCircuit) -> int:
    """Upper bound of the tensors: across a cut each gate multiplies the bond by four at most."""
    qubits: int = circuit.num_qubits
    crossed = [0] * max(1, qubits - 1)
    for instruction in circuit.data:
        places = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        if instruction.name != "barrier" and len(places) > 1:
            for cut in range(min(places), max(places)):
                crossed[cut] += 2
    bond = [min(power, cut + 1, qubits - cut - 1, 40) for cut, power in enumerate(crossed)]
    return sum(32 << (left + right) for left, right in zip([0, *bond], [*bond, 0], strict=True))


def is_clifford(circuit: QuantumCircuit) -> bool:
    """Whether every gate is by its name one of the Clifford group."""
    for instruction in circuit.data:
        operation = instruction.operation
        if isinstance(operation, ControlFlowOp):
            if not all(is_clifford(body) for body in operation.blocks):
                return False
        elif operation.name not in _CLIFFORD and operation.name not in DIRECTIVES:
            return False
    return True
