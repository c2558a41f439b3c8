# SPDX-License-Identifier: Apache-2.0
"""An administrator's noise as Aer's noise model: the same errors on every qubit and every pair.

After a gate its qubits depolarize and, where times are given, relax for as long as the gate lasts; a measured bit
flips. Gates of more qubits have no error of their own: a circuit for a noisy backend is translated to gates of one
and two.
"""

from __future__ import annotations

from functools import cache

from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping
from qiskit_aer.noise import NoiseModel, QuantumError, ReadoutError, depolarizing_error, thermal_relaxation_error

from hal_drivers.noise import Noise

SIZES = {name: gate.num_qubits for name, gate in get_standard_gate_name_mapping().items()}
_FREE = frozenset({"measure", "reset", "delay", "barrier", "global_phase"})


@cache
def noise_model(noise: Noise) -> NoiseModel:
    """Kept: a backend has one."""
    gates = [name for name, size in SIZES.items() if size <= 2 and name not in _FREE]
    model = NoiseModel(basis_gates=gates)
    for size in (1, 2):
        error = _gate_error(noise, size)
        if error is not None:
            model.add_all_qubit_quantum_error(error, [name for name in gates if SIZES[name] == size])
    flipped, dropped = noise.readout_01, noise.readout_10
    if flipped or dropped:
        model.add_all_qubit_readout_error(ReadoutError([[1 - flipped, flipped], [dropped, 1 - dropped]]))
    return model


def _gate_error(noise: Noise, size: int) -> QuantumError | None:
    strength = noise.depolarizing_1q if size == 1 else noise.depolarizing_2q
    found = depolarizing_error(strength, size) if strength else None
    if noise.t1_us is None or noise.t2_us is None:
        return found
    seconds = (noise.gate_1q_ns if size == 1 else noise.gate_2q_ns) * 1e-9
    decay = thermal_relaxation_error(noise.t1_us * 1e-6, noise.t2_us * 1e-6, seconds)
    whole = decay if size == 1 else decay.tensor(decay)
    return whole if found is None else found.compose(whole)
