# SPDX-License-Identifier: Apache-2.0
"""The driver of every local engine: the tasks of one worker process over a pool of guarded children (issue 2, item 8).

What differs between simulators is an :class:`~hal_drivers.engine.Engine`; the work is in ``pool`` and in the children.
A task lives as long as the process that submitted it: after a restart ``find`` answers None, and that is proof, because
the children died with the worker. A child's answer is checked before it counts: outcomes are bit strings of the
compiled width and add up to the shots asked for.

The pool of an engine that is not ``eager`` starts with its first work, so that a plane pays for what it uses. An engine
whose package is not installed is offline and says so; nothing breaks.
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self, assert_never

from hal_drivers import prescan
from hal_drivers.base import (
    Block,
    Calibration,
    Canceled,
    Cancellation,
    Compiled,
    CompileRequest,
    Device,
    DeviceStatus,
    Exact,
    ExactRequest,
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
    Usage,
)
from hal_drivers.device import check_shots
from hal_drivers.engine import RUN_OVERHEAD_BYTES, Engine
from hal_drivers.errors import (
    BackendFailed,
    BackendUnavailable,
    BackendUnknown,
    CircuitInvalid,
    CircuitTooComplex,
    DriverError,
    HandleUnknown,
    NotFinished,
    ProgramUnsupported,
)
from hal_drivers.frames import Artefact, CompileCall, Counts, ExactCall, Ready, Refusal, Reply, RunCall
from hal_drivers.guarded import Bounds, Child, ChildLost, Spent
from hal_drivers.outcome import check_counts
from hal_drivers.pool import Pool

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig

EXACT_BOUNDS = Bounds(memory_bytes=768 << 20, cpu_s=30.0, wall_s=60.0)
"""What computing a state of up to 20 qubits, and all that is asked of it, may use."""
KEPT_TASKS = 10_000
"""Ended tasks kept for ``result``; the oldest go first if the plane never forgets any."""


class _Record:
    """One task of this process."""

    def __init__(self, task: Task, compiled: Compiled, seed: int) -> None:
        self.task = task
        self.compiled = compiled
        self.seed = seed
        self.status: Status = Queued()
        self.outcome: Outcome | None = None
        self.child: Child | None = None
        self.ended = asyncio.Event()
        self.work: asyncio.Task[None] | None = None


class LocalDriver:
    """Several configured backends over one engine's pool; Query works before the driver is entered."""

    def __init__(self, engine: Engine, backends: Sequence[BackendConfig], config: DriversConfig) -> None:
        self._engine = engine
        self._backends = {backend.id: backend for backend in backends}
        self._devices = {backend.id: engine.device(backend, config) for backend in backends}
        self._config = config
        self._open = False
        self._pool: Pool | None = None
        self._starting = asyncio.Lock()
        self._records: dict[str, _Record] = {}
        self._process = secrets.token_hex(8)
        self._since = datetime.now(UTC)

    async def __aenter__(self) -> Self:
        self._open = True
        if self._engine.eager and self._engine.lacking() is None:
            await self._entered()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        work = [record.work for record in self._records.values() if record.work is not None]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        self._open = False
        if self._pool is not None:
            await self._pool.close()
        self._pool = None

    def walls(self) -> dict[str, str]:
        """As the children found them; empty before there are any."""
        return self._pool.walls() if self._pool is not None else {}

    # ---- Query

    async def devices(self) -> tuple[Device, ...]:
        return tuple(self._devices.values())

    async def status(self, backend: str) -> DeviceStatus:
        lacking = self._engine.lacking() or self._engine.unusable(self._configured(backend))
        waiting = self._pool.waiting if self._pool is not None else 0
        return DeviceStatus(online=lacking is None, queue_depth=waiting, reason=lacking)

    async def calibration(self, backend: str) -> Calibration:
        self._usable(self._configured(backend))
        return self._engine.calibration(self._configured(backend), self._since)

    def _configured(self, backend: str) -> BackendConfig:
        if backend not in self._backends:
            raise BackendUnknown(f"no backend {backend[:64]} here")
        return self._backends[backend]

    def _usable(self, backend: BackendConfig) -> None:
        if (lacking := self._engine.lacking() or self._engine.unusable(backend)) is not None:
            raise BackendUnavailable(lacking)

    # ---- Compile

    async def compile(self, request: CompileRequest) -> Compiled:
        backend = self._configured(request.backend)
        self._usable(backend)
        check_shots(request.shots, self._devices[backend.id])
        prescan.prescan(request.format, request.source, self._config.limits)
        call = CompileCall(
            format=request.format,
            source=request.source,
            parameters=request.parameters,
            limits=self._config.limits,
            memory_bytes=backend.memory_bytes,
            setup=self._engine.setup(backend),
            basis=request.basis,
            alias_model=request.alias_model,
        )
        reply, spent = await self._read(call, self._engine.compile_bounds)
        if not isinstance(reply, Artefact):
            raise BackendFailed("the circuit child gave no artefact")
        return Compiled(
            backend=request.backend,
            artefact=reply.artefact,
            format=self._engine.artefact_format,
            qasm3=reply.qasm3,
            facts=reply.facts,
            versions=reply.versions,
            usage=_usage(spent),
        )

    async def analyse(self, request: ExactRequest) -> Exact:
        """As ``base.Analyst`` promises, of an engine whose devices claim it."""
        backend = self._configured(request.backend)
        if not self._devices[backend.id].capabilities.exact:
            raise ProgramUnsupported("this backend computes no exact states")
        self._usable(backend)
        prescan.prescan(request.format, request.source, self._config.limits)
        call = ExactCall(request=request, limits=self._config.limits, setup=self._engine.setup(backend))
        reply, _ = await self._read(call, EXACT_BOUNDS)
        if not isinstance(reply, Exact):
            raise BackendFailed("the circuit child gave no state")
        return reply

    async def _read(self, call: CompileCall | ExactCall, bounds: Bounds) -> tuple[Reply, Spent]:
        """What a guarded child makes of a stranger's circuit; raises what its refusal or its end means."""
        try:
            reply, spent = await (await self._entered()).call(call, bounds)
        except ChildLost as lost:
            raise _lost_while_compiling(lost) from None
        if isinstance(reply, Refusal):
            raise _refused(reply)
        return reply, spent

    async def _entered(self) -> Pool:
        """The pool, started where it is not yet."""
        if self._pool is not None:
            return self._pool
        async with self._starting:
            if not self._open:
                raise BackendUnavailable("the driver is not started in this process")
            if self._pool is None:
                config = self._config
                pool = Pool(
                    config.children, engine=self._engine.name, require_walls=config.require_walls, heard=config.heard
                )
                self._pool = await pool.__aenter__()
        return self._pool

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        backend = self._configured(compiled.backend)
        if not self._open:
            raise BackendUnavailable("the driver is not started in this process")
        self._usable(backend)
        check_shots(task.shots, self._devices[backend.id])
        if task.token not in self._records:
            # 53 bits: the seed goes into canonical JSON as an integer.
            seed = task.seed if task.seed is not None else secrets.randbits(53)
            record = _Record(task, compiled, seed)
            self._records[task.token] = record
            record.work = asyncio.get_running_loop().create_task(self._run(record))
            # A task cancelled before its first step never enters _run.
            record.work.add_done_callback(lambda _: record.ended.set())
            self._shed()
        return self._handle(task.token)

    def _shed(self) -> None:
        while len(self._records) > KEPT_TASKS:
            oldest = next((token for token, record in self._records.items() if record.ended.is_set()), None)
            if oldest is None:
                return
            del self._records[oldest]

    def _handle(self, token: str) -> Handle:
        return {"driver": self._engine.name, "process": self._process, "token": token}

    async def find(self, token: str) -> Handle | None:
        return self._handle(token) if token in self._records else None

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        record = self._record(handle)
        if record is None:
            return Unknown()
        if wait_s > 0 and not record.ended.is_set():
            try:
                async with asyncio.timeout(wait_s):
                    await record.ended.wait()
            except TimeoutError:
                pass
        return record.status

    async def cancel(self, handle: Handle) -> Cancellation:
        record = self._record(handle)
        if record is None:
            raise HandleUnknown("no task of this process has that handle")
        match record.status:
            case Stopped():
                return Canceled()
            case Finished() | Failed() | Unknown():
                return TooLate()
            case Queued() | Running():
                record.status = Stopped()
                if record.child is not None:
                    record.child.kill("canceled")
                elif record.work is not None:
                    record.work.cancel()
                await record.ended.wait()
                return Canceled()
            case _:
                assert_never(record.status)

    async def result(self, handle: Handle) -> Outcome:
        record = self._record(handle)
        if record is None:
            raise HandleUnknown("no task of this process has that handle")
        if record.outcome is None:
            raise NotFinished("the task has no result")
        return record.outcome

    async def forget(self, handle: Handle) -> None:
        record = self._record(handle)
        if record is not None and record.ended.is_set():
            del self._records[record.task.token]

    async def open_session(self, backend: str) -> str:
        self._configured(backend)
        raise ProgramUnsupported("a local simulator has no sessions")

    async def close_session(self, session: str) -> None:
        raise ProgramUnsupported(f"a local simulator has no session {session[:64]}")

    def _record(self, handle: Handle) -> _Record | None:
        if handle.get("driver") != self._engine.name or handle.get("process") != self._process:
            return None
        return self._records.get(str(handle.get("token")))

    async def _run(self, record: _Record) -> None:
        """Everything that can end a task ends here, and sets ``ended`` once."""
        try:
            await self._execute(record)
        except asyncio.CancelledError:
            record.status = Stopped()
        except DriverError as error:
            self._fail(record, error.code, error.detail)
        except ChildLost as lost:
            self._fail(record, *_lost_while_running(lost))
        finally:
            record.child = None
            record.ended.set()

    def _fail(self, record: _Record, code: str, detail: str) -> None:
        if not isinstance(record.status, Stopped):
            record.status = Failed(code=code, detail=detail)

    async def _execute(self, record: _Record) -> None:
        backend, compiled = self._configured(record.compiled.backend), record.compiled
        started_at: datetime | None = None

        def started(child: Child) -> None:
            nonlocal started_at
            started_at = datetime.now(UTC)
            record.child, record.status = child, Running(started_at=started_at)

        call = RunCall(
            artefact=compiled.artefact,
            shots=record.task.shots,
            seed=record.seed,
            method=compiled.facts.method,
            setup=self._engine.setup(backend),
        )
        bounds = Bounds(
            memory_bytes=backend.memory_bytes + RUN_OVERHEAD_BYTES,
            cpu_s=math.inf,
            wall_s=record.task.deadline_s,
        )
        reply, spent = await (await self._entered()).call(call, bounds, started)
        if isinstance(reply, Refusal):
            raise _refused(reply)
        if not isinstance(reply, Counts) or started_at is None:
            raise BackendFailed("the circuit child gave no counts")
        if isinstance(record.status, Stopped):
            return
        check_counts(reply.counts, compiled.facts.clbits, record.task.shots)
        record.outcome = _outcome(reply, spent, record, started_at)
        record.status = Finished()


def _outcome(reply: Counts, spent: Spent, record: _Record, started_at: datetime) -> Outcome:
    ended_at, shots = datetime.now(UTC), record.task.shots
    return Outcome(
        counts=reply.counts,
        blocks=(Block(shots=shots, counts=reply.counts, start=started_at, end=ended_at),),
        shots_executed=shots,
        partial=None,
        seed=record.seed,
        method=reply.method,
        usage=_usage(spent),
        started_at=started_at,
        ended_at=ended_at,
        metadata=reply.metadata,
    )


def _usage(spent: Spent) -> Usage:
    return Usage(wall_s=spent.wall_s, cpu_s=spent.cpu_s, peak_memory_bytes=spent.peak_memory_bytes, source="measured")


def _refused(reply: Refusal | Ready) -> DriverError:
    if isinstance(reply, Refusal):
        if reply.code == CircuitInvalid.code:
            return CircuitInvalid(reply.detail, line=reply.line)
        if reply.code == CircuitTooComplex.code:
            return CircuitTooComplex(reply.detail, line=reply.line)
        if reply.code == ProgramUnsupported.code:
            return ProgramUnsupported(reply.detail)
        return BackendFailed(reply.detail)
    return BackendFailed("the circuit child answered out of turn")


def _lost_while_compiling(lost: ChildLost) -> DriverError:
    """A circuit that kills its reader is at fault, unless we took the child away ourselves."""
    match lost.reason:
        case "cpu" | "wall":
            return CircuitTooComplex("reading and translating the circuit takes longer than is granted")
        case "canceled":
            return BackendUnavailable("the driver is being stopped")
        case _ if lost.exit_code == -6:  # SIGABRT: what Rust and C++ do when an allocation fails
            return CircuitTooComplex("the circuit needs more memory than is granted")
        case _:
            return CircuitInvalid("the circuit breaks its reader")


def _lost_while_running(lost: ChildLost) -> tuple[str, str]:
    match lost.reason:
        case "wall":
            return "deadline_exceeded", "the task reached its deadline and was stopped"
        case "canceled":
            return BackendUnavailable.code, "the driver was stopped"
        case _ if lost.exit_code == -6:
            return CircuitTooComplex.code, "the run needs more memory than this backend grants"
        case _:
            return BackendFailed.code, "the simulator ended before it answered"
