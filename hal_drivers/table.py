# SPDX-License-Identifier: Apache-2.0
"""The only module that names drivers: a configured backend becomes the driver that reaches it.

``open_drivers`` starts nothing, so the API process can read capability records; ``running`` starts the
drivers of a worker and ends them with it. Several backends may share one driver (and so one pool of
children). Drivers are imported when a backend asks for them: a plane without Aer installed can still serve
others.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from hal_drivers.base import Driver
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendUnknown
from hal_drivers.local import LocalDriver

PROVIDERS = ("aer", "aws-braket", "ibm-quantum", "remote", "p2p")


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
