# SPDX-License-Identifier: Apache-2.0
"""The only module that names drivers: a configured backend becomes the driver that reaches it.

``open_drivers`` starts nothing, so the API process can read capability records; ``running`` starts the
drivers of a worker and ends them with it. Several backends may share one driver (and so one pool of
children). Drivers are imported when a backend asks for them: a plane without Aer installed can still serve
others.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from hal_drivers.base import Driver
from hal_drivers.errors import BackendUnknown
from hal_drivers.guarded import Told
from hal_drivers.limits import Limits
from hal_drivers.local import LocalDriver
from hal_drivers.p2p.plan import PlanConfig

PROVIDERS = ("aer", "aws-braket", "ibm-quantum", "remote", "p2p")


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


def default_backends() -> tuple[dict[str, Any], ...]:
    """The simulators of this machine whose packages are installed, as `[[backend]]` tables would say it."""
    named = [("aer", "aer", "qiskit_aer"), ("braket-local", "aws-braket", "braket")]
    named.append(("ibm-fake", "ibm-quantum", "qiskit_ibm_runtime"))
    here = {"region": "local", "compliance_zone": "onprem", "sovereign": True}
    return tuple(
        {"id": backend, "provider": provider, **here}
        for backend, provider, module in named
        if provider == "aer" or importlib.util.find_spec(module) is not None
    )


def open_drivers(config: DriversConfig) -> dict[str, Driver]:
    """Backend id → driver, nothing started; raises BackendUnknown for a provider no driver serves."""
    by_place: dict[tuple[str, str], list[BackendConfig]] = {}
    for backend in config.backends:
        if backend.provider not in PROVIDERS:
            raise BackendUnknown(f"backend {backend.id}: no driver serves provider {backend.provider}")
        # Each remote backend and cluster has a driver, and so a connection, a credential and an egress, of its own.
        alone = backend.id if backend.provider in ("remote", "p2p") or backend.cluster or _is_far(backend) else ""
        by_place.setdefault((backend.provider, alone), []).append(backend)
    drivers: dict[str, Driver] = {}
    for backends in by_place.values():
        driver = _placed(backends, config)
        drivers.update((backend.id, driver) for backend in backends)
    return drivers


def _is_far(backend: BackendConfig) -> bool:
    """Whether it is a vendor's device, and not the simulator of one on this machine."""
    device = backend.device or ""
    if backend.provider == "ibm-quantum":
        return bool(device) and not device.startswith("fake_")
    return backend.provider == "aws-braket" and device.startswith("arn:")


def _open(provider: str, backends: Sequence[BackendConfig], config: DriversConfig) -> Driver:
    match provider:
        case "aer":
            from hal_drivers.aer import AerEngine

            return LocalDriver(AerEngine(), backends, config)
        case "aws-braket" if _is_far(backends[0]):
            from hal_drivers.aws import AwsDriver

            return AwsDriver(backends[0], config)
        case "aws-braket":
            from hal_drivers.braket import BraketEngine

            return LocalDriver(BraketEngine(), backends, config)
        case "ibm-quantum" if _is_far(backends[0]):
            from hal_drivers.ibm_cloud import IbmDriver

            return IbmDriver(backends[0], config)
        case "ibm-quantum":
            from hal_drivers.ibm import IbmEngine

            return LocalDriver(IbmEngine(), backends, config)
        case "remote":
            from hal_drivers.remote.driver import RemoteDriver

            return RemoteDriver(backends[0], config)
        case "p2p":
            from hal_drivers.p2p.driver import NetworkDriver

            return NetworkDriver(backends[0], config)
        case _:
            raise BackendUnknown(f"no driver serves provider {provider}")


def _placed(backends: Sequence[BackendConfig], config: DriversConfig) -> Driver:
    """The provider's driver, or the one that has its work done on the cluster that the backends name."""
    near = _open(backends[0].provider, backends, config)
    if not (cluster := backends[0].cluster):
        return near
    if not isinstance(near, LocalDriver):
        raise BackendUnknown(f"backend {backends[0].id}: a cluster runs simulators of this machine, not a service's")
    match cluster.partition(":")[0]:
        case "slurm":
            from hal_drivers.slurm import SlurmDriver

            return SlurmDriver(near, backends, config)
        case "dask" | "dasks":
            from hal_drivers.dask import DaskDriver

            return DaskDriver(near, backends, config)
        case scheme:
            raise BackendUnknown(f"no driver reaches a cluster by {scheme}://")


@asynccontextmanager
async def running(drivers: Mapping[str, Driver]) -> AsyncIterator[None]:
    """Start each distinct driver once, and end them all, with every task they hold, on the way out."""
    async with AsyncExitStack() as stack:
        for driver in {id(driver): driver for driver in drivers.values()}.values():
            await stack.enter_async_context(driver)
        yield
