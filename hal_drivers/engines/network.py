# SPDX-License-Identifier: Apache-2.0
"""The network's part in a guarded child: a circuit becomes a program, and a program one simulation.

Compiling here is ingestion alone; where the program runs is planned outside, where no circuit byte is parsed. A run is
that of a single simulator, ideal or with the fidelities that the setup's ``configuration`` names (JSON, a service
each): what the network's answers are compared with.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import msgspec
import numpy as np
from qiskit_aer import AerSimulator

from hal_drivers import exact
from hal_drivers.base import CompiledFacts, Exact, Tally
from hal_drivers.circuit import own_circuits, tools
from hal_drivers.engines.aer import counted, saved
from hal_drivers.errors import ProgramUnsupported
from hal_drivers.frames import Artefact, CompileCall, Counts, ExactCall, RunCall
from hal_drivers.p2p.aliases import OWN
from hal_drivers.p2p.fragments import depth
from hal_drivers.p2p.ingest import read_program
from hal_drivers.p2p.ir import Operation, Program, canonical
from hal_drivers.p2p.lower import to_qiskit, whole
from hal_drivers.p2p.states import before_measurement
from hal_drivers.tally import counted as counted_before

METHOD = "network"
SERVED = OWN | {"cnot", "cz"}
"""Gates that only a network knows, and two that it may be meant to know."""
PURE = 1e-9
"""A density matrix whose purity is this near to 1 is given as the state that it is."""
_programs: msgspec.json.Decoder[Program] = msgspec.json.Decoder(Program)
_fidelities: msgspec.json.Decoder[dict[str, float]] = msgspec.json.Decoder(dict[str, float])


def versions() -> dict[str, str]:
    """Every tool that has a say in the program or the counts."""
    return tools("qiskit-aer")


def warm_up() -> None:
    """Run circuits of our own through ingestion and simulator."""
    for call in own_circuits():
        run_circuit(RunCall(artefact=compile_circuit(call).artefact, shots=8, seed=1, method=METHOD))


def compile_circuit(call: CompileCall) -> Artefact:
    """Read, bound, normalise."""
    program, submitted = read_program(call)
    before, why = counted_before(submitted.circuit, SERVED, distinct=submitted.text)
    facts = CompiledFacts(
        qubits=program.qubits,
        clbits=program.bits,
        depth=depth(program),
        gates_before=submitted.gates,
        gates_after=len(program.operations),
        operations=dict(sorted(Counter(operation.name for operation in program.operations).items())),
        layout=None,
        measured_bits=submitted.measured,
        method=METHOD,
        memory_bytes=0,
        submitted=before,
        runs=_operations(program),
        uncounted=why,
    )
    return Artefact(artefact=canonical(program), qasm3=None, facts=facts, versions=versions())


def _operations(program: Program) -> Tally:
    """A program's operations are gates, services and measurements already; each counts, conditions or not."""
    sizes = Counter(len(one.qubits) for one in program.operations if not one.bits and one.name != "reset")
    many = sum(times for qubits, times in sizes.items() if qubits > 2)
    return Tally(sizes[1], sizes[2], many, sum(bool(one.bits) for one in program.operations))


def run_circuit(call: RunCall) -> Counts:
    """The whole program on one simulator."""
    program = _programs.decode(call.artefact)
    fidelities = _fidelities.decode(call.setup.configuration) if call.setup.configuration else None
    built = to_qiskit(whole(program), fidelities)
    return counted(_simulator("statevector"), built, call, {"noise_model": "services" if fidelities else "none"})


def analyse_circuit(call: ExactCall) -> Exact:
    """The state before the measurements at the program's end, and what was asked of it.

    Without noise. Where a qubit is discarded the state may be mixed: then it has no amplitudes.
    """
    request = call.request
    reading = CompileCall(
        format=request.format,
        source=request.source,
        parameters=request.parameters,
        limits=call.limits,
        memory_bytes=0,
        alias_model=request.alias_model,
    )
    program, _ = read_program(reading)
    bare, bits = before_measurement(program)
    state = _state(program, bare)
    # A mixed state is no noisy one here: a discarded qubit makes it.
    return msgspec.structs.replace(exact.describe(state, request, bits, program.bits), label="exact_ideal")


def _state(program: Program, operations: tuple[Operation, ...]) -> exact.State:
    built = to_qiskit(msgspec.structs.replace(whole(program), operations=operations))
    n = program.qubits
    if "reset" not in built.count_ops():
        if n > exact.FILE_QUBITS:
            raise ProgramUnsupported(f"states are given to {exact.FILE_QUBITS} qubits, the circuit has {n}")
        built.save_statevector()
        return exact.State(saved(_simulator("statevector"), built, "statevector"), n)
    if n > exact.NOISY_QUBITS:
        raise ProgramUnsupported(
            f"the circuit discards a qubit: such states, which may be mixed, are given to {exact.NOISY_QUBITS} qubits"
        )
    built.save_density_matrix()
    density = saved(_simulator("density_matrix"), built, "density_matrix")
    if abs(1 - float(np.real(np.vdot(density, density)))) < PURE:
        # One column of |v><v| is v up to a phase; the longest is the least rounded.
        column = density[:, int(np.argmax(np.real(np.diagonal(density))))]
        return exact.State(column / np.linalg.norm(column), n)
    return exact.State(density, n)


@cache
def _simulator(method: str) -> AerSimulator:
    return AerSimulator(method=method, precision="double", max_parallel_threads=1)
