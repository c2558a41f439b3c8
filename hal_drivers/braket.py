# SPDX-License-Identifier: Apache-2.0
"""The worker's half of the Braket engine: Amazon's local simulators, each program in Braket's own dialect (G14).

``device`` is ``braket_sv`` (statevector, the default) or ``braket_dm`` (density matrix). Nothing leaves the machine.
"""

# ruff: noqa: D102 - what each method promises stands in engine.py

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from hal_drivers.base import Calibration, Device, Format
from hal_drivers.device import local_claims, record
from hal_drivers.engine import described, missing, statevector_qubits, version
from hal_drivers.frames import Setup
from hal_drivers.guarded import Bounds

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

DEVICES = {"braket_sv": "statevector", "braket_dm": "density_matrix"}
COPIES = 4
"""Arrays of the state's size that a run holds at once: the state, its twin, probabilities and their sums."""
MAX_SHOTS = 100_000
"""Each shot is a list of characters on its way out of the simulator."""


class BraketEngine:
    """The simulators of amazon-braket-default-simulator."""

    name = "braket"
    eager = False
    compile_bounds = Bounds(memory_bytes=320 << 20, cpu_s=2.0, wall_s=15.0)
    artefact_format: Format = "QASM3"

    def lacking(self) -> str | None:
        return missing(("qiskit", "qiskit"), ("braket", "amazon-braket-sdk"))

    def unusable(self, backend: BackendConfig) -> str | None:
        if _device(backend) not in DEVICES:
            return f"Braket has no local device {_device(backend)[:64]}; there are {', '.join(DEVICES)}"
        if backend.method not in ("automatic", DEVICES[_device(backend)]):
            return f"{_device(backend)} simulates by {DEVICES[_device(backend)]}, not by {backend.method[:64]}"
        if backend.noise not in (None, "none"):
            return "Braket's local devices are ideal here; noise models are Aer's"
        return None

    def device(self, backend: BackendConfig, config: DriversConfig) -> Device:
        method = DEVICES.get(_device(backend), "statevector")
        most = statevector_qubits(backend.memory_bytes // COPIES) // (2 if method == "density_matrix" else 1)
        return record(
            backend,
            local_claims(config),
            qubits=min(most, config.limits.qubits),
            max_shots=MAX_SHOTS,
            by_method={method: min(most, config.limits.qubits)},
            sku="local-simulator",
        )

    def calibration(self, backend: BackendConfig, since: datetime) -> Calibration:
        facts = {
            "simulator": _device(backend),
            "version": version("amazon-braket-default-simulator"),
            "precision": "double",
            "noise_model": "none",
            "backend": backend.id,
        }
        return described(facts, since)

    def setup(self, backend: BackendConfig) -> Setup:
        return Setup(device=_device(backend))


def _device(backend: BackendConfig) -> str:
    return backend.device or "braket_sv"
