# SPDX-License-Identifier: Apache-2.0
"""The worker's half of the network's engine: circuits are read, and exact states computed, in guarded children here.

The children's half is ``hal_drivers.engines.network``. What is read is planned and run by ``driver``, not here.
"""

# ruff: noqa: D102 - what each method promises stands in engine.py

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from hal_drivers.base import ArtefactFormat, Calibration, Capabilities, Device
from hal_drivers.device import formats, record
from hal_drivers.engine import COMPILE_BOUNDS, described, missing, version
from hal_drivers.frames import Setup

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

AT_ONCE = 64
"""Runs of one worker side by side: the fabric waits for nodes, and nothing here computes."""
MAX_SHOTS = 100_000
"""What a node takes in one run unless its owner says otherwise."""


class NetworkEngine:
    """Ingestion and exact states of a network's circuits."""

    name = "network"
    eager = False
    compile_bounds = COMPILE_BOUNDS
    artefact_format: ArtefactFormat = "PLAN"

    def lacking(self) -> str | None:
        return missing(("qiskit", "qiskit"), ("qiskit_aer", "qiskit-aer"))

    def unusable(self, backend: BackendConfig) -> str | None:
        del backend
        return None

    def device(self, backend: BackendConfig, config: DriversConfig) -> Device:
        claims = Capabilities(
            formats(config.limits),
            control_flow=True,
            mid_circuit=True,
            seed=True,
            cancel="running",
            idempotent_submit=True,
            find_authoritative=True,
            tasks_at_once=AT_ONCE,
            programs=False,  # who received what of each item is nowhere kept
            services=True,
            exact=True,
        )
        return record(backend, claims, qubits=config.limits.qubits, max_shots=MAX_SHOTS)

    def calibration(self, backend: BackendConfig, since: datetime) -> Calibration:
        return described({"simulator": "qiskit-aer", "version": version("qiskit-aer"), "backend": backend.id}, since)

    def setup(self, backend: BackendConfig) -> Setup:
        del backend
        return Setup()
