# SPDX-License-Identifier: Apache-2.0
"""IBM's fake backends in a guarded child: compiled for the real target, run on Aer with the snapshot's noise.

The circuit is placed and routed on the device's couplings (optimisation level 1, fixed seed) and kept as it would run
there, on physical qubits. To simulate it, the qubits that it uses are renumbered closely and the noise model is built
for what it uses alone, by Aer's own rules for a device: 156 qubits of noise cost seconds a run, five cost milliseconds.
"""

from __future__ import annotations

import importlib
import io
import json
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from qiskit import qpy
from qiskit.circuit import ClassicalRegister, ControlFlowOp, QuantumCircuit, QuantumRegister
from qiskit.providers import BackendV2, Options
from qiskit.transpiler import Target, generate_preset_pass_manager
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime.fake_provider.fake_backend import FakeBackendV2

from hal_drivers import exact
from hal_drivers.base import Exact
from hal_drivers.circuit import (
    Submitted,
    compiled_facts,
    measures_midway,
    read_bound,
    read_circuit,
    to_qpy,
    tools,
    warm,
)
from hal_drivers.engine import RUN_OVERHEAD_BYTES
from hal_drivers.engines import aer
from hal_drivers.engines.aer import counted
from hal_drivers.errors import CircuitTooComplex, ProgramUnsupported
from hal_drivers.frames import Artefact, CompileCall, Counts, ExactCall, RunCall, Setup
from hal_drivers.ibm import DEFAULT
from hal_drivers.openqasm import to_qasm3

if TYPE_CHECKING:
    from qiskit.transpiler import PassManager

DENSE_QUBITS = 7
"""Up to here the exact density matrix beats a trajectory a shot."""


def versions() -> dict[str, str]:
    """Every tool that has a say in the artefact or the counts."""
    return tools("qiskit-aer", "qiskit-ibm-runtime")


def warm_up() -> None:
    """Run circuits of our own through readers, target and simulator."""
    warm(compile_circuit, run_circuit)


def compile_circuit(call: CompileCall) -> Artefact:
    """Read, bound, place and route."""
    submitted = read_circuit(call)
    device = call.setup.device or DEFAULT
    if call.setup.configuration:
        return _for_processor(call, submitted)
    target = _target(device)
    if submitted.circuit.num_qubits > target.num_qubits:
        raise ProgramUnsupported(f"the circuit has {submitted.circuit.num_qubits} qubits, {device} {target.num_qubits}")
    prepared = _pass_manager(device).run(submitted.circuit)
    prepared.name, prepared.metadata = "circuit", {}
    method, memory = _choose_method(prepared, call.setup, call.memory_bytes)
    first, last = _layouts(prepared, submitted)
    facts = compiled_facts(submitted, prepared, call.limits, method, memory, first, last, _duration(prepared, target))
    text = to_qasm3(prepared)
    # QPY writes a layout's registers in no order, so the same circuit would have two hashes; the facts have it.
    prepared._layout = None  # noqa: SLF001 - there is no other way to take it off
    return Artefact(artefact=to_qpy(prepared), qasm3=text, facts=facts, versions=versions())


def _for_processor(call: CompileCall, submitted: Submitted) -> Artefact:
    """OpenQASM 3 on physical qubits and one register ``c``, as the sampler's REST interface takes it."""
    target, manager = _processor(call.setup.configuration, call.setup.properties)
    circuit = submitted.circuit
    if circuit.num_qubits > target.num_qubits:
        raise ProgramUnsupported(f"the circuit has {circuit.num_qubits} qubits, the processor {target.num_qubits}")
    if circuit.num_vars or any(isinstance(instruction.operation, ControlFlowOp) for instruction in circuit.data):
        raise ProgramUnsupported("control flow is not sent to the processor")
    flat = QuantumCircuit(QuantumRegister(circuit.num_qubits, "q"), ClassicalRegister(circuit.num_clbits, "c"))
    flat.compose(circuit, flat.qubits, flat.clbits, inplace=True)
    prepared = manager.run(flat)
    first, last = _layouts(prepared, submitted)
    facts = compiled_facts(submitted, prepared, call.limits, "device", 0, first, last, _duration(prepared, target))
    on_chip = QuantumCircuit(QuantumRegister(target.num_qubits, "q"), ClassicalRegister(circuit.num_clbits, "c"))
    on_chip.compose(prepared, on_chip.qubits, on_chip.clbits, inplace=True)
    text = to_qasm3(on_chip)
    if text is None:
        raise CircuitTooComplex("the circuit is too long to be written as OpenQASM 3")
    return Artefact(artefact=text.encode(), qasm3=text, facts=facts, versions=versions())


def run_circuit(call: RunCall) -> Counts:
    """One circuit, one task."""
    circuit = qpy.load(io.BytesIO(call.artefact))[0]
    device = call.setup.device or DEFAULT
    used = _used(circuit)
    close = _renumbered(circuit, used)
    noise = None if call.setup.ideal else _noise(device, circuit, used)
    simulator = AerSimulator(method=call.method, noise_model=noise, precision="double", max_parallel_threads=1)
    named = {"device": device, "noise_model": "none" if noise is None else "the device's own"}
    return counted(simulator, close, call, named)


def analyse_circuit(call: ExactCall) -> Exact:
    """The state as Aer's engine says, with the device's noise: of the circuit as it is placed and routed."""
    request, device = call.request, call.setup.device or DEFAULT
    circuit, _ = read_bound(request.format, request.source, request.parameters, call.limits)
    bare = exact.one_state(circuit)
    if call.setup.ideal or circuit.num_qubits > min(exact.NOISY_QUBITS, _target(device).num_qubits):
        return aer.ideal_state(request, circuit, bare)
    # What isn't measured is placed as if all of it were: the placement minds the readout, too.
    prepared = _pass_manager(device).run(circuit if exact.measured_bits(circuit) else bare.measure_all(inplace=False))
    last = prepared.layout.final_index_layout(filter_ancillas=True) if prepared.layout else range(circuit.num_qubits)
    used = sorted({*_used(prepared), *last})
    if len(used) > exact.NOISY_QUBITS:
        return aer.ideal_state(request, circuit, bare)
    noise = _noise(device, prepared, used)
    close = _renumbered(prepared, used).remove_final_measurements(inplace=False)
    place = [used.index(physical) for physical in last]
    close.save_density_matrix(qubits=place)
    simulator = AerSimulator(method="density_matrix", noise_model=noise, precision="double", max_parallel_threads=1)
    density = aer.saved(simulator, close, "density_matrix")
    # Aer has no other way to ask for them.
    read = {qubits[0]: error.probabilities for qubits, error in noise._local_readout_errors.items()}  # noqa: SLF001
    readout = {virtual: read[physical] for virtual, physical in enumerate(place) if physical in read}
    return aer.noisy_state(request, circuit, bare, density, readout)


def _choose_method(circuit: QuantumCircuit, setup: Setup, memory_bytes: int) -> tuple[str, int]:
    active = len(_used(circuit))
    dense = (16 << 2 * active) + RUN_OVERHEAD_BYTES
    sampled = (16 << active) + RUN_OVERHEAD_BYTES
    if setup.method == "automatic":
        # What is measured in its middle runs every shot anew: a trajectory is then the smaller state.
        exact = not setup.ideal and active <= DENSE_QUBITS and not measures_midway(circuit)
        method = "density_matrix" if exact else "statevector"
    else:
        method = setup.method
    needed = dense if method == "density_matrix" else sampled
    if needed > memory_bytes:
        raise CircuitTooComplex(f"{active} used qubits by {method} need more than {memory_bytes >> 20} MiB")
    return method, needed


def _layouts(circuit: QuantumCircuit, submitted: Submitted) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Physical qubit of each virtual one, at the start and at the end."""
    if circuit.layout is None:
        plain = tuple(range(submitted.circuit.num_qubits))
        return plain, plain
    first = circuit.layout.initial_index_layout(filter_ancillas=True)
    return tuple(first), tuple(circuit.layout.final_index_layout(filter_ancillas=True))


def _duration(circuit: QuantumCircuit, target: Target) -> float | None:
    """Seconds of one shot by the target's own durations; None where it states too few."""
    try:
        return float(circuit.estimate_duration(target, unit="s"))
    except Exception:  # noqa: BLE001 - control flow, or an instruction without a duration: no estimate
        return None


# ---- simulating what is used


def _used(circuit: QuantumCircuit) -> list[int]:
    """Physical qubits that an operation touches, ascending."""
    touched = {qubit for instruction in circuit.data if instruction.name != "barrier" for qubit in instruction.qubits}
    return sorted(circuit.find_bit(qubit).index for qubit in touched)


def _renumbered(circuit: QuantumCircuit, used: list[int]) -> QuantumCircuit:
    """The circuit on its used qubits alone; classical bits, registers and variables stay."""
    if circuit.num_vars or len(used) == circuit.num_qubits:
        return circuit
    close = QuantumCircuit(len(used))
    for register in circuit.cregs:
        close.add_register(register)
    close.add_bits([bit for bit in circuit.clbits if not circuit.find_bit(bit).registers])
    place = {circuit.qubits[physical]: close.qubits[number] for number, physical in enumerate(used)}
    for instruction in circuit.data:
        if instruction.name != "barrier":
            close.append(instruction.operation, [place[qubit] for qubit in instruction.qubits], instruction.clbits)
    return close


def _noise(device: str, circuit: QuantumCircuit, used: list[int]) -> NoiseModel:
    """The device's noise for the operations of this circuit, on the close numbering."""
    whole = _target(device)
    kept = used if not circuit.num_vars else list(range(circuit.num_qubits))
    number = {physical: close for close, physical in enumerate(kept)}
    part = Target(
        num_qubits=len(kept), dt=whole.dt, qubit_properties=[whole.qubit_properties[physical] for physical in kept]
    )
    wanted: dict[str, set[tuple[int, ...]]] = {"measure": {(physical,) for physical in kept}}
    _operations(circuit, {qubit: index for index, qubit in enumerate(circuit.qubits)}, wanted)
    for name, places in sorted(wanted.items()):
        known = whole[name] if name in whole.operation_names else {}
        properties = {tuple(number[q] for q in qubits): known[qubits] for qubits in sorted(places) if qubits in known}
        if properties:
            part.add_instruction(whole.operation_from_name(name), properties)
    return NoiseModel.from_backend(_Part(part))


def _operations(circuit: QuantumCircuit, physical: dict[Any, int], found: dict[str, set[tuple[int, ...]]]) -> None:
    for instruction in circuit.data:
        qubits = [physical[qubit] for qubit in instruction.qubits]
        if isinstance(instruction.operation, ControlFlowOp):
            for body in instruction.operation.blocks:
                _operations(body, dict(zip(body.qubits, qubits, strict=True)), found)
        else:
            found.setdefault(instruction.operation.name, set()).add(tuple(qubits))


class _Part(BackendV2):  # type: ignore[misc]
    """A target as Aer's noise rules want to see it."""

    def __init__(self, target: Target) -> None:
        super().__init__(name="part")
        self._target = target

    @property
    def target(self) -> Target:
        return self._target

    @property
    def max_circuits(self) -> int | None:
        return None

    @classmethod
    def _default_options(cls) -> Options:
        return Options()

    def run(self, *_: object, **__: object) -> None:
        """Refused: the part is only looked at."""
        raise TypeError("a part of a device runs nothing")


@cache
def _target(device: str) -> Target:
    name = device.removeprefix("fake_")
    module = importlib.import_module(f"qiskit_ibm_runtime.fake_provider.backends.{name}.fake_{name}")
    found = next(
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, FakeBackendV2) and getattr(kind, "backend_name", "") == device
    )
    return found().target


@lru_cache(maxsize=2)
def _processor(configuration: bytes, properties: bytes) -> tuple[Target, PassManager]:
    """Target and pass manager of a processor that its vendor describes; kept for the description in force."""
    from qiskit_ibm_runtime.models import BackendConfiguration, BackendProperties
    from qiskit_ibm_runtime.utils.backend_converter import convert_to_target
    from qiskit_ibm_runtime.utils.backend_decoder import decode_backend_configuration, properties_from_server_data

    described, measured = json.loads(configuration), json.loads(properties)
    decode_backend_configuration(described)
    properties_from_server_data(measured)
    target = convert_to_target(
        configuration=BackendConfiguration.from_dict(described), properties=BackendProperties.from_dict(measured)
    )
    return target, generate_preset_pass_manager(1, target=target, seed_transpiler=0)


@cache
def _pass_manager(device: str) -> PassManager:
    return generate_preset_pass_manager(1, target=_target(device), seed_transpiler=0)
