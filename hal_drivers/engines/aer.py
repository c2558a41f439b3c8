# SPDX-License-Identifier: Apache-2.0
"""Qiskit Aer in a guarded child.

The translation keeps gates as they were submitted wherever Aer knows them (optimisation level 0, fixed seed): same
source, same versions → same artefact, byte for byte.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace
from qiskit import qpy
from qiskit.circuit import QuantumCircuit
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_aer import AerSimulator

from hal_drivers import exact
from hal_drivers.base import Exact, ExactRequest
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
from hal_drivers.errors import CircuitTooComplex, DriverError
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
    """The state before the measurements at the circuit's end, and what was asked of it.

    With the backend's noise where it has some and the state is small enough; amplitudes are the ideal ones either way.
    """
    circuit, _ = read_bound(call.request.format, call.request.source, call.request.parameters, call.limits)
    bare, noise = exact.one_state(circuit), call.setup.noise
    if noise is None or circuit.num_qubits > exact.NOISY_QUBITS:
        return ideal_state(call.request, circuit, bare)
    prepared = _pass_manager(_basis_of(call.setup.method), noisy=True).run(bare)
    prepared.save_density_matrix()
    density = saved(_simulator("density_matrix", noise), prepared, "density_matrix")
    flips = [[1 - noise.readout_01, noise.readout_01], [noise.readout_10, 1 - noise.readout_10]]
    readout = dict.fromkeys(range(circuit.num_qubits), flips)
    return noisy_state(call.request, circuit, bare, density, readout)


def ideal_state(request: ExactRequest, circuit: QuantumCircuit, bare: QuantumCircuit) -> Exact:
    """Without noise: `bare` is the circuit up to its measurements."""
    prepared = _pass_manager("statevector", noisy=False).run(bare)
    prepared.save_statevector()
    state = exact.State(saved(_simulator("statevector", None), prepared, "statevector"), circuit.num_qubits)
    return exact.describe(state, request, exact.measured_bits(circuit), circuit.num_clbits)


def noisy_state(
    request: ExactRequest, circuit: QuantumCircuit, bare: QuantumCircuit, density: Any, readout: exact.Readout
) -> Exact:
    """With noise, but for the amplitudes: a noisy state is no vector."""
    state = exact.State(density, circuit.num_qubits)
    found = exact.describe(state, request, exact.measured_bits(circuit), circuit.num_clbits, readout)
    if "statevector" not in request.fields:
        return found
    ideal = ideal_state(replace(request, fields=("statevector",)), circuit, bare)
    return replace(found, amplitudes=ideal.amplitudes, amplitudes_file=ideal.amplitudes_file)


def saved(simulator: AerSimulator, circuit: QuantumCircuit, name: str) -> Any:
    """What the circuit saves under this name."""
    result = simulator.run(circuit, shots=1).result()
    if not result.success:
        raise DriverError("the simulator refused the circuit")
    return np.asarray(result.data(0)[name])


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
