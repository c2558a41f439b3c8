# SPDX-License-Identifier: Apache-2.0
"""Qiskit Aer in a guarded child.

The translation keeps gates as they were submitted wherever Aer knows them (optimisation level 0, fixed seed): same
source, same versions → same artefact, byte for byte.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from qiskit import qpy
from qiskit.circuit import QuantumCircuit
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_aer import AerSimulator

from hal_drivers import exact
from hal_drivers.base import Exact
from hal_drivers.basis import unmeasured
from hal_drivers.circuit import (
    CONTROL_FLOW,
    STANDARD,
    compiled_facts,
    own_circuits,
    read_bound,
    read_circuit,
    to_qpy,
    tools,
)
from hal_drivers.engines.method import choose_method
from hal_drivers.engines.noisy import SIZES, noise_model
from hal_drivers.errors import CircuitTooComplex, DriverError, ProgramUnsupported
from hal_drivers.frames import Artefact, CompileCall, Counts, ExactCall, RunCall
from hal_drivers.noise import Noise
from hal_drivers.openqasm import to_qasm3

if TYPE_CHECKING:
    from qiskit.transpiler import PassManager


def versions() -> dict[str, str]:
    """Every tool that has a say in the artefact or the counts."""
    return tools("qiskit-aer")


def warm_up() -> None:
    """Run circuits of our own through the readers, so that a stranger's finds all libraries loaded."""
    for call in own_circuits():
        artefact = compile_circuit(call).artefact
        for method in ("statevector", "stabilizer"):
            run_circuit(RunCall(artefact=artefact, shots=8, seed=1, method=method))


def compile_circuit(call: CompileCall) -> Artefact:
    """Read, bound, translate, and choose the method."""
    submitted = read_circuit(call)
    noisy = call.setup.noise is not None
    prepared = _pass_manager(_basis_of(call.setup.method), noisy=noisy).run(submitted.circuit)
    prepared.name, prepared.metadata = "circuit", {}
    method, memory = choose_method(prepared, call)
    facts = compiled_facts(submitted, prepared, call.limits, method, memory)
    return Artefact(artefact=to_qpy(prepared), qasm3=to_qasm3(prepared), facts=facts, versions=versions())


def run_circuit(call: RunCall) -> Counts:
    """One circuit, one task: Aer derives another seed for the second circuit of a batch."""
    circuit = qpy.load(io.BytesIO(call.artefact))[0]
    noise = call.setup.noise
    named = {"noise_model": "none" if noise is None else noise.hash}
    return counted(_simulator(call.method, noise), circuit, call, named)


def counted(simulator: AerSimulator, circuit: QuantumCircuit, call: RunCall, named: dict[str, str]) -> Counts:
    """The run itself, on whatever simulator of Aer's; ``named`` joins the metadata."""
    result = simulator.run(circuit, shots=call.shots, seed_simulator=call.seed).result()
    if not result.success:
        if "memory" in str(result.status).lower():
            raise CircuitTooComplex("the simulator asks for more memory than this backend grants")
        raise DriverError("the simulator refused the circuit")
    run = result.results[0]
    width = circuit.num_clbits
    counts = {format(int(outcome, 16), f"0{width}b"): shots for outcome, shots in run.data.counts.items()}
    return Counts(
        counts=dict(sorted(counts.items())),
        method=str(run.metadata.get("method", call.method)),
        seconds=float(run.time_taken),
        metadata={"precision": "double", **named, "seed_simulator": str(run.seed_simulator)},
    )


def analyse_circuit(call: ExactCall) -> Exact:
    """The state before the measurements at the circuit's end, and what was asked of it."""
    request = call.request
    circuit, _ = read_bound(request.format, request.source, request.parameters, call.limits)
    qubits = circuit.num_qubits
    if qubits > exact.FILE_QUBITS:
        raise ProgramUnsupported(f"states are given to {exact.FILE_QUBITS} qubits, the circuit has {qubits}")
    bare = unmeasured(circuit)
    if any(instruction.name == "reset" for instruction in bare.decompose("initialize").data):
        raise ProgramUnsupported("the circuit resets a qubit: there is no one state before its measurement")
    bits = {
        circuit.find_bit(instruction.clbits[0]).index: circuit.find_bit(instruction.qubits[0]).index
        for instruction in circuit.data
        if instruction.name == "measure"
    }
    prepared = _pass_manager("statevector", noisy=False).run(bare)
    prepared.save_statevector()
    result = _simulator("statevector", None).run(prepared, shots=1).result()
    if not result.success:
        raise DriverError("the simulator refused the circuit")
    state = exact.State(np.asarray(result.data(0)["statevector"]), qubits)
    return exact.describe(state, request, bits, circuit.num_clbits, "exact_ideal")


def _basis_of(method: str) -> str:
    """Whose gates a circuit is translated to: those of the statevector, which it and most others know."""
    return method if method in ("density_matrix", "matrix_product_state") else "statevector"


@cache
def _pass_manager(method: str, *, noisy: bool) -> PassManager:
    """Kept: building it costs 400 times what running it does."""
    known = set(STANDARD.values())
    basis = [name for name in AerSimulator(method=method).configuration().basis_gates if name in known]
    if noisy:  # what the noise has errors for, by whichever method it is then run
        both = set(AerSimulator(method="density_matrix").configuration().basis_gates)
        basis = [name for name in basis if SIZES.get(name, 0) in (1, 2) and name in both]
    return generate_preset_pass_manager(0, basis_gates=[*basis, "measure", *CONTROL_FLOW], seed_transpiler=0)


@cache
def _simulator(method: str, noise: Noise | None) -> AerSimulator:
    if noise is None:
        return AerSimulator(method=method, precision="double", max_parallel_threads=1)
    return AerSimulator(method=method, precision="double", max_parallel_threads=1, noise_model=noise_model(noise))
