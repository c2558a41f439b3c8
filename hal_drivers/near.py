# SPDX-License-Identifier: Apache-2.0
"""The base of drivers that read and compile circuits on this machine, and have them run somewhere else.

A local driver of the same backends does what is done here: guarded children parse, compile and compute exact states,
behind this machine's walls. What runs elsewhere outlives this process, so handles are good anywhere. Not here: how a
task gets there (`dask`, `slurm`, `vendor`).
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from hal_drivers.base import Calibration, Compiled, CompileRequest, Device, Exact, ExactRequest
from hal_drivers.errors import BackendUnknown, ProgramUnsupported

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig
    from hal_drivers.local import LocalDriver
from hal_drivers.looking import Looking

AT_ONCE = 256
"""The most tasks of one process that are handed over side by side, however large the place."""


class Near:
    """Query and Compile of backends whose tasks run elsewhere; Control is the subclass's."""

    def __init__(self, near: LocalDriver, backends: Sequence[BackendConfig], config: DriversConfig) -> None:
        """`near` is the driver of the same backends on this machine; it only compiles and analyses."""
        self._near, self._config = near, config
        self._backends = {backend.id: backend for backend in backends}
        self._room = 1
        """How many tasks run side by side there, as far as anybody has asked."""

    async def __aenter__(self) -> Self:
        await self._near.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._near.__aexit__(kind, error, trace)

    def walls(self) -> dict[str, str]:
        """Those of this machine, where circuits are read; who runs them elsewhere refuses to without their own."""
        return self._near.walls()

    async def devices(self) -> tuple[Device, ...]:
        room = max(1, min(self._room, AT_ONCE))
        return tuple(
            replace(device, capabilities=replace(device.capabilities, handle_scope="anywhere", tasks_at_once=room))
            for device in await self._near.devices()
        )

    async def calibration(self, backend: str) -> Calibration:
        return await self._near.calibration(backend)

    async def compile(self, request: CompileRequest) -> Compiled:
        return await self._near.compile(request)

    async def analyse(self, request: ExactRequest) -> Exact:
        """As ``base.Analyst`` promises, for devices that claim it."""
        if not (await self._device(request.backend)).capabilities.exact:
            raise ProgramUnsupported(f"{request.backend} computes no exact states")
        return await self._near.analyse(request)

    async def open_session(self, backend: str) -> str:
        self._configured(backend)
        raise ProgramUnsupported(f"no sessions are opened at {backend}")

    async def close_session(self, session: str) -> None:
        raise ProgramUnsupported(f"the driver has no session {session[:64]}")

    def _configured(self, backend: str) -> BackendConfig:
        if backend not in self._backends:
            raise BackendUnknown(f"no backend {backend[:64]} here")
        return self._backends[backend]

    async def _device(self, backend: str) -> Device:
        self._configured(backend)
        return next(device for device in await self.devices() if device.id == backend)


class Watched(Near):
    """One such backend that is looked at again and again while the driver is entered, so that Query answers at once."""

    def __init__(self, near: LocalDriver, backend: BackendConfig, config: DriversConfig, looking: Looking) -> None:
        """`looking` keeps what it sees; until its first look nobody knows more than why not."""
        super().__init__(near, (backend,), config)
        self._backend, self._looking = backend, looking
        self._why: str | None = "no worker has reached it yet"

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self._looking.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._looking.__aexit__(kind, error, trace)
        await super().__aexit__(kind, error, trace)
