# SPDX-License-Identifier: Apache-2.0
"""The base of drivers of one device at a vendor's service: circuits are translated here, and run there (G14).

While the driver is entered it looks at the device every half minute, so that ``devices``, ``status`` and
``calibration`` answer at once. A handle holds the plane's token and, once the service has told it, the service's own
name of the task under ``member``; where the answer to a submission was lost, the task is found by its token. What a
service's error says may quote the circuit, so it is told nowhere.
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from hal_drivers.base import (
    Calibration,
    Canceled,
    Cancellation,
    Compiled,
    CompileRequest,
    Device,
    DeviceStatus,
    Failed,
    Finished,
    Handle,
    Outcome,
    Queued,
    Running,
    Status,
    Stopped,
    Task,
    TooLate,
    Unknown,
    Unsupported,
)
from hal_drivers.device import check_shots
from hal_drivers.engine import Engine
from hal_drivers.errors import BackendFailed, BackendUnavailable, DriverError, HandleUnknown, ProgramUnsupported
from hal_drivers.frames import Setup
from hal_drivers.local import LocalDriver
from hal_drivers.looking import Looking
from hal_drivers.near import Watched

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

LOOK_S = 30.0
POLL_S = 1.0
CANCEL_S = 30.0


class Translating:
    """What makes an engine of this machine a translator for a processor far away, whose memory isn't ours."""

    processor = Setup()

    def unusable(self, backend: BackendConfig) -> str | None:
        del backend
        return None

    def setup(self, backend: BackendConfig) -> Setup:
        del backend
        return self.processor


class Seen(Struct, frozen=True):
    """What a look at the device has found; ``offline`` says why it takes no tasks."""

    qubits: int
    max_shots: int
    calibration: Calibration
    queue_depth: int
    offline: str | None


class VendorDriver(Watched, ABC):
    """One configured device."""

    member: ClassVar[str] = "task"
    """Where a handle holds the service's own name of the task."""

    def __init__(self, engine: Engine, backend: BackendConfig, config: DriversConfig, ours: Device) -> None:
        """`ours` is the device's record as long as nobody has seen it."""
        near = LocalDriver(engine, (backend,), config)
        super().__init__(near, backend, config, Looking(self._look, LOOK_S, LOOK_S))
        self._ours = ours
        self._seen: Seen | None = None

    # ---- what a service must answer

    @abstractmethod
    async def _see(self) -> Seen:
        """Look at the device; raises DriverError."""

    @abstractmethod
    async def _send(self, compiled: Compiled, task: Task, handle: Handle) -> Handle:
        """Submit; the handle goes back with the task's name, or without where nobody knows whether it arrived."""

    @abstractmethod
    async def _named(self, token: str) -> str | None:
        """The service's name of the task under that token."""

    @abstractmethod
    async def _status(self, name: str) -> Status:
        """The task's status of now; raises HandleUnknown."""

    @abstractmethod
    async def _stop(self, name: str) -> None:
        """Ask the service to stop the task; one that has ended is no error."""

    @abstractmethod
    async def _outcome(self, name: str, handle: Handle) -> Outcome:
        """The outcome of a task; raises NotFinished, and ValueError for what can't be a result."""

    # ---- Query, Compile

    async def devices(self) -> tuple[Device, ...]:
        if self._seen is None:
            return (self._ours,)
        most = min(self._seen.max_shots, self._ours.max_shots)
        return (replace(self._ours, qubits=self._seen.qubits, max_shots=most),)

    async def status(self, backend: str) -> DeviceStatus:
        self._configured(backend)
        depth = self._seen.queue_depth if self._seen is not None else 0
        return DeviceStatus(online=self._why is None, queue_depth=depth, reason=self._why)

    async def calibration(self, backend: str) -> Calibration:
        """The device's properties as the service gave them."""
        self._configured(backend)
        if self._seen is None:
            raise BackendUnavailable(f"{backend}: {self._why}")
        return self._seen.calibration

    async def compile(self, request: CompileRequest) -> Compiled:
        device = await self._device(request.backend)
        if self._seen is None:
            raise BackendUnavailable(f"{request.backend}: {self._why}")
        check_shots(request.shots, device)
        compiled = await super().compile(request)
        if compiled.facts.qubits > device.qubits:
            raise ProgramUnsupported(f"the circuit has {compiled.facts.qubits} qubits, the device {device.qubits}")
        return compiled

    async def _look(self) -> None:
        """What the device is and how it is; what keeps it from answering is why it is offline."""
        try:
            self._seen = await self._see()
        except DriverError as error:
            self._why = error.detail
        else:
            self._why = self._seen.offline

    def _secret(self) -> str:
        """The backend's credential of now."""
        if self._backend.credential is None or self._config.credential is None:
            raise BackendUnavailable(f"{self._backend.id}: it needs a credential")
        return self._config.credential(self._backend.credential)

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        check_shots(task.shots, await self._device(compiled.backend))
        return await self._send(compiled, task, self._handle(task.token))

    def _handle(self, token: str) -> Handle:
        return {"driver": self._backend.provider, "backend": self._backend.id, "token": token}

    async def find(self, token: str) -> Handle | None:
        name = await self._named(token)
        return self._handle(token) | {self.member: name} if name is not None else None

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        name = await self._known(handle)
        clock = asyncio.get_running_loop().time
        until = clock() + wait_s
        while name is not None:
            try:
                status = await self._status(name)
            except HandleUnknown:
                break
            left = until - clock()
            if not isinstance(status, Queued | Running) or left <= 0:
                return status
            await asyncio.sleep(min(POLL_S, left))
        return Unknown()

    async def cancel(self, handle: Handle) -> Cancellation:
        await self._stop(await self._name(handle))
        match await self.poll(handle, CANCEL_S):
            case Stopped():
                return Canceled()
            case Finished() | Failed() | Unknown():
                return TooLate()
            case _:
                return Unsupported()

    async def result(self, handle: Handle) -> Outcome:
        name = await self._name(handle)
        try:
            return await self._outcome(name, handle)
        except ValueError as error:
            raise BackendFailed(f"the result can't be read: {error}") from None

    async def forget(self, handle: Handle) -> None:
        """The service keeps what it keeps."""

    async def _known(self, handle: Handle) -> str | None:
        """The service's name of the task: of the handle, or found by the token."""
        token = str(handle.get("token"))
        if not self._handle(token).items() <= handle.items():
            return None
        return str(handle[self.member]) if self.member in handle else await self._named(token)

    async def _name(self, handle: Handle) -> str:
        if (name := await self._known(handle)) is None:
            raise HandleUnknown("that handle is of no task of this backend")
        return name
