# SPDX-License-Identifier: Apache-2.0
"""The worker's half of the IBM engine: IBM's processors as qiskit-ibm-runtime snapshots them, simulated here (G14).

``device`` is the fake backend's name (``fake_hanoi``); its own JSON files, read without the SDK, say how many qubits it
has and what its calibration was and when. ``noise = "none"`` keeps target and layout and runs ideal.
"""

# ruff: noqa: D102 - what each method promises stands in engine.py

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from hal_drivers.base import Calibration, Device, Format
from hal_drivers.device import local_claims, record
from hal_drivers.engine import missing
from hal_drivers.errors import BackendUnavailable
from hal_drivers.frames import Setup
from hal_drivers.guarded import Bounds

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

DEFAULT = "fake_hanoi"
"""27 qubits, calibrated in February 2025: the youngest snapshot of its size, and small enough for every evidence."""
_NAME = re.compile(r"fake_([a-z0-9]+)")


class _Configuration(Struct, frozen=True):
    n_qubits: int
    max_shots: int = 8192


class _Properties(Struct, frozen=True):
    last_update_date: datetime


class IbmEngine:
    """The fake backends of qiskit-ibm-runtime on Aer."""

    name = "ibm"
    eager = False
    compile_bounds = Bounds(memory_bytes=768 << 20, cpu_s=10.0, wall_s=60.0)
    """Placing and routing on a device's couplings is real work: larger circuits take seconds."""
    artefact_format: Format = "QPY"

    def lacking(self) -> str | None:
        return missing(("qiskit", "qiskit"), ("qiskit_aer", "qiskit-aer"), ("qiskit_ibm_runtime", "qiskit-ibm-runtime"))

    def unusable(self, backend: BackendConfig) -> str | None:
        if snapshot(_device(backend)) is None:
            return f"qiskit-ibm-runtime has no fake backend {_device(backend)[:64]}"
        if backend.noise not in (None, "none"):
            return "a fake backend has its own noise, or with noise = none no noise"
        if backend.method not in ("automatic", "statevector", "density_matrix"):
            return f"a fake backend is simulated by statevector or density_matrix, not by {backend.method[:64]}"
        return None

    def device(self, backend: BackendConfig, config: DriversConfig) -> Device:
        found = snapshot(_device(backend)) if self.lacking() is None else None
        facts = _configuration(found[0]) if found is not None else _Configuration(n_qubits=0)
        return record(
            backend,
            local_claims(config, dynamic=True, exact=True),
            qubits=min(facts.n_qubits, config.limits.qubits),
            max_shots=facts.max_shots,
            sku="local-simulator",
        )

    def calibration(self, backend: BackendConfig, since: datetime) -> Calibration:
        """The snapshot's own properties, byte for byte, valid from the date that they state."""
        del since
        found = snapshot(_device(backend))
        if found is None:
            raise BackendUnavailable("the fake backend is gone")
        return _calibration(found[1])

    def setup(self, backend: BackendConfig) -> Setup:
        return Setup(device=_device(backend), method=backend.method, ideal=backend.noise == "none")


def _device(backend: BackendConfig) -> str:
    return backend.device or DEFAULT


@functools.cache
def snapshot(device: str) -> tuple[Path, Path] | None:
    """The files with configuration and properties of a fake backend, found without importing the package."""
    name = _NAME.fullmatch(device)
    package = importlib.util.find_spec("qiskit_ibm_runtime")
    if name is None or package is None or not package.submodule_search_locations:
        return None
    folder = Path(package.submodule_search_locations[0]) / "fake_provider" / "backends" / name.group(1)
    found = folder / f"conf_{name.group(1)}.json", folder / f"props_{name.group(1)}.json"
    return found if all(path.is_file() for path in found) else None


@functools.cache
def _configuration(path: Path) -> _Configuration:
    return msgspec.json.decode(path.read_bytes(), type=_Configuration)


@functools.cache
def _calibration(path: Path) -> Calibration:
    return calibration_of(path.read_bytes())


def calibration_of(data: bytes) -> Calibration:
    """A processor's properties, valid from the time that they state; raises MsgspecError where they are none."""
    stated = msgspec.json.decode(data, type=_Properties).last_update_date
    at = stated.astimezone(UTC) if stated.tzinfo is not None else stated.replace(tzinfo=UTC)
    return Calibration(id="sha256:" + hashlib.sha256(data).hexdigest(), valid_from=at, data=data)
