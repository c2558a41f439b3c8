# SPDX-License-Identifier: Apache-2.0
"""The worker's half of the Aer engine: a simulator on this machine, ideal or with an administrator's noise (G14)."""

# ruff: noqa: D102 - what each method promises stands in engine.py

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from hal_drivers.base import Calibration, Device, Format
from hal_drivers.device import local_claims, record
from hal_drivers.engine import COMPILE_BOUNDS, described, missing, statevector_qubits, version
from hal_drivers.frames import Setup
from hal_drivers.noise import read_noise

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig


METHODS = ("automatic", "statevector", "density_matrix", "stabilizer", "matrix_product_state")


class AerEngine:
    """Qiskit Aer."""

    name = "aer"
    eager = True
    compile_bounds = COMPILE_BOUNDS
    artefact_format: Format = "QPY"

    def lacking(self) -> str | None:
        return missing(("qiskit", "qiskit"), ("qiskit_aer", "qiskit-aer"))

    def unusable(self, backend: BackendConfig) -> str | None:
        if backend.method not in METHODS:
            return f"Aer has no method {backend.method[:64]} here; there are {', '.join(METHODS)}"
        try:
            noise = read_noise(backend.noise)
        except ValueError as error:
            return str(error)
        if backend.method == "stabilizer" and noise is not None and noise.relaxes:
            return "the stabilizer method can't follow relaxation: leave out t1_us and t2_us"
        return None

    def device(self, backend: BackendConfig, config: DriversConfig) -> Device:
        by_method = _qubits(backend, config.limits.qubits)
        whole = backend.method != "density_matrix"
        claims = local_claims(config, dynamic=whole, exact=True)
        return record(backend, claims, qubits=max(by_method.values()), by_method=by_method)

    def calibration(self, backend: BackendConfig, since: datetime) -> Calibration:
        """A simulator's calibration is what it is: version, precision, noise."""
        noise = read_noise(backend.noise)
        facts: dict[str, object] = {
            "simulator": "qiskit-aer",
            "version": version("qiskit-aer"),
            "precision": "double",
            "noise_model": "none" if noise is None else noise.hash,
            "backend": backend.id,
        }
        return described(facts if noise is None else facts | {"noise": noise}, since)

    def setup(self, backend: BackendConfig) -> Setup:
        return Setup(method=backend.method, noise=read_noise(backend.noise))


def _qubits(backend: BackendConfig, most: int) -> dict[str, int]:
    """The qubits of each method that a circuit may get; of an unusable backend none."""
    statevector = min(statevector_qubits(backend.memory_bytes), most)
    room = {
        "statevector": statevector,
        "density_matrix": statevector // 2,
        "stabilizer": most,
        "matrix_product_state": most,
    }
    if backend.method in room:
        return {backend.method: room[backend.method]}
    if backend.method != "automatic":
        return {"none": 0}
    try:
        noise = read_noise(backend.noise)
    except ValueError:
        return {"none": 0}
    offered = ["statevector"] if noise is None else ["statevector", "density_matrix"]
    if noise is None or not noise.relaxes:
        offered.append("stabilizer")
    return {method: room[method] for method in offered}
