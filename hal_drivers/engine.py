# SPDX-License-Identifier: Apache-2.0
"""The seam between the driver of local simulators and one simulator: what a worker must know of an engine.

An engine's other half is the module ``hal_drivers.engines.NAME``, which guarded children load: it imports the
simulator, translates and runs. This half imports none of it, so that a worker or API process can hold capability
records of a simulator whose libraries it never loads.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from hal_drivers.base import ArtefactFormat, Calibration, Device
from hal_drivers.frames import Setup
from hal_drivers.guarded import Bounds

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

RUN_OVERHEAD_BYTES = 32 << 20
"""What a run needs beside its state: sampling tables, the result, the simulator's own buffers."""
COMPILE_BOUNDS = Bounds(memory_bytes=320 << 20, cpu_s=1.3, wall_s=10.0)
"""With the idle child's 100 MB below 512 MB; wall time is wider: a busy machine is no fault of the circuit."""


class Engine(Protocol):
    """One kind of simulator. All answers are pure in the configuration and the installed packages."""

    @property
    def name(self) -> str:
        """The module below ``hal_drivers.engines`` that children load, and the driver's word in handles."""
        ...

    @property
    def eager(self) -> bool:
        """Whether its pool starts with the driver rather than with the first work."""
        ...

    @property
    def compile_bounds(self) -> Bounds:
        """What one compilation may use."""
        ...

    @property
    def artefact_format(self) -> ArtefactFormat:
        """What the compiled artefact is."""
        ...

    def lacking(self) -> str | None:
        """Why the engine can't run on this machine, or None."""
        ...

    def unusable(self, backend: BackendConfig) -> str | None:
        """Why the engine can't serve this backend as it is configured, or None."""
        ...

    def device(self, backend: BackendConfig, config: DriversConfig) -> Device:
        """The capability record; also of a backend that is lacking or unusable."""
        ...

    def calibration(self, backend: BackendConfig, since: datetime) -> Calibration:
        """The snapshot in force; ``since`` is when this process first knew of it."""
        ...

    def setup(self, backend: BackendConfig) -> Setup:
        """What a child must know of the backend."""
        ...


@functools.cache
def missing(*packages: tuple[str, str]) -> str | None:
    """The reason for the first (module, distribution) that isn't installed, or None."""
    for module, distribution in packages:
        if importlib.util.find_spec(module) is None:
            return f"package {distribution} is not installed"
    return None


@functools.cache
def version(distribution: str) -> str:
    """The installed version of a package."""
    return importlib.metadata.version(distribution)


def described(facts: Mapping[str, object], since: datetime) -> Calibration:
    """The calibration of a simulator: what it is, as sorted JSON under its own hash."""
    data = msgspec.json.encode(facts, order="sorted")
    return Calibration(id="sha256:" + hashlib.sha256(data).hexdigest(), valid_from=since, data=data)


def statevector_qubits(memory_bytes: int) -> int:
    """How many qubits a double-precision statevector has room for."""
    return int(math.log2(max(1, memory_bytes - RUN_OVERHEAD_BYTES) / 16))
