# SPDX-License-Identifier: Apache-2.0
"""What a driver is made from: the backends as an administrator describes them, and what a plane grants its children.

Values only, which any process may hold; ``table`` alone turns them into drivers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from hal_drivers.guarded import Told
from hal_drivers.limits import Limits
from hal_drivers.p2p.plan import PlanConfig


class BackendConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One backend as the administrator describes it; region, zone and sovereignty are that person's word."""

    id: str
    provider: str = "aer"
    region: str = "local"
    compliance_zone: str = "sovereign"
    sovereign: bool = True
    memory_bytes: int = 1 << 30
    """What one run may use above the idle child; bounds the qubits of each method."""
    max_shots: int = 1_000_000
    device: str | None = None
    """The vendor's or the far side's own name for it: ``fake_manila``, ``braket_sv``, an ARN; None: the driver's."""
    method: str = "automatic"
    """How a simulator simulates; which words it takes is the driver's to say."""
    noise: str | None = None
    """The noise model of a simulator, as its driver names or reads it; None: the device's own, or none."""
    url: str | None = None
    """Where a remote backend listens."""
    ca: str | None = None
    """The file of certificates that alone vouch for ``url``; None: those of the machine."""
    credential: str | None = None
    """The name under which the worker keeps the backend's credential; the credential itself is in no setting."""
    cluster: str | None = None
    """Where the children of a local engine run instead of here: ``dask://host:port``, ``slurm://partition``."""


class DriversConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """All backends of a plane and what its children may use."""

    backends: tuple[BackendConfig, ...] = (BackendConfig(id="aer-local"),)
    children: int = 1
    """Runs of this process at once; beside them one child compiles and one stands warm as a spare."""
    require_walls: bool = False
    """True outside profile ``dev``: refuse to start where the kernel grants no wall."""
    limits: Limits = Limits()
    heard: Callable[[Told], None] | None = None
    """Told of each call of a guarded child once it is over, for traces; MUST NOT raise."""
    credential: Callable[[str], str] | None = None
    """Name → a backend's credential of now; raises DriverError. Given in a worker, to nobody else (S6)."""
    fabric: Path | None = None
    """The socket of the plane's fabric; None: there is no network."""
    planning: PlanConfig = PlanConfig()
    """By what a network's plans are made."""
