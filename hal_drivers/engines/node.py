# SPDX-License-Identifier: Apache-2.0
"""Qiskit Aer in the guarded child of a service node: one fragment under the node's true fidelities, a row a shot.

The circuit is built by ``p2p.lower``, the one reading of the services, with each service's channel in its place. Small
circuits that end in their measurements are computed as a density matrix and sampled; others run shot by shot, by the
stabilizer method where all gates are Clifford (a depolarising channel is a mixture of Paulis).
"""

from __future__ import annotations

import time

from qiskit_aer import AerSimulator

from hal_drivers.circuit import tools
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex, DriverError
from hal_drivers.frames import FragmentCall, Memory
from hal_drivers.p2p.aliases import faults, services_of
from hal_drivers.p2p.given import known_bits, patterns, put_back, seed_of, specialise
from hal_drivers.p2p.ir import SERVICES, Circuit, Operation
from hal_drivers.p2p.lower import to_qiskit
from hal_drivers.p2p.rows import width

DENSITY_QUBITS = 6
_CLIFFORD = frozenset({*SERVICES, "id", "x", "y", "z", "h", "s", "sdg", "sx", "sxdg", "reset"})


def versions() -> dict[str, str]:
    """Every tool that has a say in the rows."""
    return tools("qiskit-aer")


def warm_up() -> None:
    """A circuit of our own by each method, so that a stranger's finds all libraries loaded."""
    bell = (
        Operation(0, "bell_pair", (0, 1)),
        *(Operation(1 + q, "measurement_feedforward", (q,), (q,)) for q in (0, 1)),
    )
    fed = (Operation(3, "x", (0,), condition=((1, 1),)), Operation(4, "measurement_feedforward", (0,), (0,)))
    fine = (Operation(5, "t", (0,)), Operation(6, "measurement_feedforward", (0,), (0,)))
    fidelities = {"bell_pair": 0.99, "measurement_feedforward": 0.99}
    for operations in (bell, (*bell, *fed), (*bell, *fed, *fine)):
        run_fragment(FragmentCall(Circuit(2, 2, operations), fidelities, shots=4, seed=1))


def run_fragment(call: FragmentCall) -> Memory:
    """One run, or one a pattern of the given bits."""
    circuit = call.circuit
    if fault := next(faults(circuit.operations, circuit.qubits, circuit.bits), None):
        raise CircuitInvalid(fault)
    if missing := [service for service in services_of(circuit.operations) if service not in call.fidelities]:
        raise CircuitInvalid(f"this node has no {missing[0]}")
    began = time.perf_counter()
    if call.given is None:
        method, rows = _rows(circuit, call, call.shots, b"")
        return Memory(rows=rows, methods=(method,), seconds=time.perf_counter() - began)
    try:
        found = patterns(call.given, call.shots)
        parts, methods = [], set()
        for pattern, shots in found.items():
            known = known_bits(call.given, pattern)
            method, rows = _rows(specialise(circuit, known), call, len(shots), pattern)
            parts.append((shots, _with(rows, known, circuit.bits)))
            methods.add(method)
    except ValueError as error:
        raise CircuitInvalid(str(error)) from None
    rows = put_back(call.shots, width(circuit.bits), parts)
    return Memory(rows=rows, methods=tuple(sorted(methods)), seconds=time.perf_counter() - began)


def _rows(circuit: Circuit, call: FragmentCall, shots: int, pattern: bytes) -> tuple[str, bytes]:
    size = width(circuit.bits)
    if not any(operation.bits for operation in circuit.operations):
        return "none", bytes(size * shots)  # nothing is recorded, and Aer refuses such a run
    method = _method(circuit)
    simulator = AerSimulator(method=method, precision="double", max_parallel_threads=1)
    built = to_qiskit(circuit, call.fidelities)
    result = simulator.run(built, shots=shots, seed_simulator=seed_of(call.seed, pattern), memory=True).result()
    if not result.success:
        if "memory" in str(result.status).lower():
            raise CircuitTooComplex("the fragment asks for more memory than this node grants")
        raise DriverError("the simulator refused the fragment")
    return method, b"".join(int(row, 16).to_bytes(size, "little") for row in result.results[0].data.memory)


def _method(circuit: Circuit) -> str:
    if circuit.qubits <= DENSITY_QUBITS and _ends_in_measurements(circuit):
        return "density_matrix"
    return "stabilizer" if all(operation.name in _CLIFFORD for operation in circuit.operations) else "statevector"


def _ends_in_measurements(circuit: Circuit) -> bool:
    """Else the density matrix would be run anew for every shot."""
    measured: set[int] = set()
    for operation in circuit.operations:
        if operation.condition or measured.intersection(operation.qubits):
            return False
        if operation.bits:
            measured.update(operation.qubits)
    return True


def _with(rows: bytes, known: dict[int, int], bits: int) -> bytes:
    """The rows with the given bits where they belong: a row is over all bits of the circuit."""
    size = width(bits)
    mask = sum(value << bit for bit, value in known.items()).to_bytes(size, "little")
    return bytes(byte | mask[place % size] for place, byte in enumerate(rows))
