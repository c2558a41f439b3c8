# SPDX-License-Identifier: Apache-2.0
"""The worker's half of the Aer engine: an ideal simulator on this machine (G14)."""

# ruff: noqa: D102 - what each method promises stands in engine.py

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from hal_drivers.base import Calibration, Capabilities, Device, Format
from hal_drivers.engine import COMPILE_BOUNDS, described, formats, missing, statevector_qubits, version
from hal_drivers.frames import Setup

if TYPE_CHECKING:
    from hal_drivers.table import BackendConfig, DriversConfig


class AerEngine:
    """Qiskit Aer."""

    name = "aer"
    eager = True
    compile_bounds = COMPILE_BOUNDS
    artefact_format: Format = "QPY"

    def lacking(self) -> str | None:
        return missing(("qiskit", "qiskit"), ("qiskit_aer", "qiskit-aer"))

    def unusable(self, backend: BackendConfig) -> str | None:
        del backend
        return None

    def device(self, backend: BackendConfig, config: DriversConfig) -> Device:
        limits = config.limits
        by_method = {
            "statevector": min(statevector_qubits(backend.memory_bytes), limits.qubits),
            "stabilizer": limits.qubits,
        }
        return Device(
            id=backend.id,
            provider=backend.provider,
            qubits=max(by_method.values()),
            simulator=True,
            region=backend.region,
            compliance_zone=backend.compliance_zone,
            sovereign=backend.sovereign,
            max_shots=backend.max_shots,
            capabilities=Capabilities(
                formats=formats(limits),
                control_flow=True,
                mid_circuit=True,
                seed=True,
                cancel="running",
                idempotent_submit=True,
                find_authoritative=True,
                handle_scope="process",
                tasks_at_once=config.children,
                exact=True,
            ),
            qubits_by_method=by_method,
        )

    def calibration(self, backend: BackendConfig, since: datetime) -> Calibration:
        """An ideal simulator's calibration is what it is: version, precision, no noise."""
        facts = {
            "simulator": "qiskit-aer",
            "version": version("qiskit-aer"),
            "precision": "double",
            "noise_model": "none",
            "backend": backend.id,
        }
        return described(facts, since)

    def setup(self, backend: BackendConfig) -> Setup:
        return Setup(device=backend.device, method=backend.method)
