# SPDX-License-Identifier: Apache-2.0
"""Small real implementations of the project's Protocols, for tests: no mocks, no expectations, behaviour only."""

from __future__ import annotations

import asyncio
import datetime as dt
from types import TracebackType
from typing import Self

from hal_drivers.base import (
    Block,
    Calibration,
    Canceled,
    Cancellation,
    Capabilities,
    Compiled,
    CompiledFacts,
    CompileRequest,
    Device,
    DeviceStatus,
    Failed,
    Finished,
    Handle,
    Outcome,
    Running,
    Status,
    Stopped,
    Tally,
    Task,
    TooLate,
    Unknown,
    Usage,
)
from hal_drivers.errors import BackendUnknown, DriverError, HandleUnknown, NotFinished, ProgramUnsupported, SessionEnded

BEGAN = dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC)


class FakeDriver:
    """A backend that answers every circuit with half zeros, half ones, and can be held, broken or made forgetful.

    `tasks` outlives a worker, as a vendor's does: two workers that share one see the same tasks. While `gate` is clear
    a task runs on, while `compiling` is, a compilation; `breaks` raises at the named call; `remembers` False makes
    `find` answer None. A token in `held` runs on even while `gate` is set.
    """

    def __init__(
        self,
        backend: str = "fake",
        *,
        find_authoritative: bool = True,
        wall_s: float = 0.01,
        provider: str = "aer",
    ) -> None:
        self.backend, self.wall_s, self.provider = backend, wall_s, provider
        self.capabilities = Capabilities(
            formats=("QASM2", "QASM3"),
            seed=True,
            cancel="running",
            idempotent_submit=True,
            find_authoritative=find_authoritative,
        )
        self.tasks: dict[str, Task] = {}
        self.widths: dict[str, int] = {}
        self.held: set[str] = set()
        self.sessions: set[str] = set()
        self.opened = 0
        self.stopped: set[str] = set()
        self.failed: dict[str, Failed] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.compiling = asyncio.Event()
        self.compiling.set()
        self.breaks: dict[str, BaseException] = {}
        self.remembers = True
        self.depth = 2
        self.submissions = self.compilations = 0

    async def devices(self) -> tuple[Device, ...]:
        return (
            Device(
                id=self.backend,
                provider=self.provider,
                qubits=20,
                simulator=True,
                region="local",
                compliance_zone="onprem",
                sovereign=True,
                max_shots=1_000_000,
                capabilities=self.capabilities,
            ),
        )

    async def status(self, backend: str) -> DeviceStatus:
        self._know(backend)
        return DeviceStatus(online=True, queue_depth=0)

    async def calibration(self, backend: str) -> Calibration:
        self._know(backend)
        return Calibration("ideal", BEGAN, b"ideal")

    async def compile(self, request: CompileRequest) -> Compiled:
        await self.compiling.wait()
        self._may("compile")
        self.compilations += 1
        self._know(request.backend)
        facts = CompiledFacts(
            qubits=2,
            clbits=2 if request.basis is None else len(request.basis.replace("I", "")),
            depth=self.depth,
            gates_before=2,
            gates_after=2,
            operations={"h": 1, "cx": 1},
            layout=None,
            measured_bits=(0, 1),
            method="fake",
            memory_bytes=1,
            submitted=Tally(1, 1, 0, 2),
            runs=Tally(1, 1, 0, 2),
        )
        return Compiled(request.backend, request.source, "QPY", request.source.decode(), facts, {"fake": "1"})

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        self._may("submit")
        self._know(compiled.backend)
        if task.session is not None and task.session not in self.sessions:
            raise SessionEnded("the session is over")
        if task.token not in self.tasks:
            self.submissions += 1
            self.tasks[task.token] = task
            self.widths[task.token] = compiled.facts.clbits
        self._may("submitted")
        return {"driver": "fake", "token": task.token}

    async def find(self, token: str) -> Handle | None:
        self._may("find")
        return {"driver": "fake", "token": token} if self.remembers and token in self.tasks else None

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        self._may("poll")
        task = self._task(handle)
        if task is None:
            return Unknown()
        try:
            await asyncio.wait_for(self.gate.wait(), wait_s)
        except TimeoutError:
            return Running(BEGAN)
        if task.token in self.held and task.token not in self.stopped:
            await asyncio.sleep(min(wait_s, 0.02))
            return Running(BEGAN)
        if task.token in self.stopped:
            return Stopped()
        return self.failed.get(task.token, Finished())

    async def cancel(self, handle: Handle) -> Cancellation:
        task = self._task(handle)
        held = task is not None and task.token in self.held
        if task is None or (self.gate.is_set() and not held and task.token not in self.stopped):
            return TooLate()
        self.stopped.add(task.token)
        return Canceled()

    async def result(self, handle: Handle) -> Outcome:
        self._may("result")
        task = self._task(handle)
        if task is None:
            raise HandleUnknown("no such task")
        if not self.gate.is_set():
            raise NotFinished("it runs")
        ended = BEGAN + dt.timedelta(seconds=self.wall_s)
        width = self.widths[task.token]
        counts = {"0" * width: task.shots - task.shots // 2, "1" * width: task.shots // 2}
        counts = {bits: n for bits, n in counts.items() if n}
        return Outcome(
            counts=counts,
            blocks=(Block(task.shots, counts, BEGAN, ended),),
            shots_executed=task.shots,
            partial=None,
            seed=7 if task.seed is None else task.seed,
            method="fake",
            usage=Usage(wall_s=self.wall_s, cpu_s=self.wall_s, peak_memory_bytes=1 << 20),
            started_at=BEGAN,
            ended_at=ended,
            metadata={},
        )

    async def forget(self, handle: Handle) -> None:
        self._may("forget")

    async def open_session(self, backend: str) -> str:
        if not self.capabilities.session:
            raise ProgramUnsupported(f"{backend} has no sessions")
        self.opened += 1
        self.sessions.add(f"session-{self.opened}")
        return f"session-{self.opened}"

    async def close_session(self, session: str) -> None:
        if not self.capabilities.session:
            raise ProgramUnsupported("there are no sessions")
        self.sessions.discard(session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()

    def walls(self) -> dict[str, str]:
        return {}

    def _may(self, call: str) -> None:
        if call in self.breaks:
            raise self.breaks[call]

    def _know(self, backend: str) -> None:
        if backend != self.backend:
            raise BackendUnknown(f"no backend {backend}")

    def _task(self, handle: Handle) -> Task | None:
        return self.tasks.get(str(handle.get("token"))) if handle.get("driver") == "fake" else None


class Dead(BaseException):
    """What stands for SIGKILL inside a test's process: nobody may catch it."""


class Broken(DriverError):
    """A driver's failure of no particular kind."""

    code = "backend_failed"
