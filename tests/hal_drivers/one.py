# SPDX-License-Identifier: Apache-2.0
"""One backend, or several over one pool, and one circuit, for tests of engines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from hal_drivers.base import Compiled, CompileRequest, Driver, Finished, Handle, Outcome, Running, Task
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.limits import Limits
from hal_drivers.table import open_drivers

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
BELL = HEAD + "qubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n"


def one(provider: str, **settings: object) -> Driver:
    """The driver of the backend ``one``, not entered."""
    backend = BackendConfig(id="one", provider=provider, **settings)  # type: ignore[arg-type]
    return open_drivers(DriversConfig(backends=(backend,), limits=Limits(qpy=True)))["one"]


def several(provider: str, named: Mapping[str, Mapping[str, object]]) -> Driver:
    """The driver that all these backends of one provider share, not entered."""
    backends = tuple(BackendConfig(id=name, provider=provider, **more) for name, more in named.items())  # type: ignore[arg-type]
    (driver,) = set(open_drivers(DriversConfig(backends=backends, limits=Limits(qpy=True))).values())
    return driver


async def compiled(
    driver: Driver, source: str, shots: int = 1000, basis: str | None = None, backend: str = "one"
) -> Compiled:
    """The circuit as the backend will run it."""
    request = CompileRequest(
        format="QASM3", source=source.encode(), parameters={}, backend=backend, shots=shots, basis=basis
    )
    return await driver.compile(request)


async def run(driver: Driver, source: str, *, shots: int = 1000, seed: int = 11, backend: str = "one") -> Outcome:
    """Compile, run and answer; asserts that it finished."""
    artefact = await compiled(driver, source, shots, backend=backend)
    token = f"{hash(source)}-{shots}-{seed}-{backend}"
    handle = await driver.submit(artefact, Task(token=token, shots=shots, seed=seed))
    status = await driver.poll(handle, 120)
    assert isinstance(status, Finished), status
    outcome = await driver.result(handle)
    await driver.forget(handle)
    return outcome


async def submitted(driver: Driver, source: bytes, token: str, shots: int = 100, deadline_s: float = 60.0) -> Handle:
    """The circuit handed over to the driver's one backend under that token."""
    (device,) = await driver.devices()
    request = CompileRequest(format="QASM3", source=source, parameters={}, backend=device.id, shots=shots)
    return await driver.submit(
        await driver.compile(request), Task(token=token, shots=shots, seed=7, deadline_s=deadline_s)
    )


async def until_running(driver: Driver, handle: Handle, within_s: float = 120.0) -> None:
    """Return once the task runs."""
    async with asyncio.timeout(within_s):
        while not isinstance(await driver.poll(handle, 0.2), Running):
            pass
