# SPDX-License-Identifier: Apache-2.0
"""A program as one task of a backend: its items run side by side under tokens of their own (G1, N9).

`Several` stands between `jobs.run` and a driver and speaks the driver's own Protocol, so that a program takes the steps
that a circuit takes: compiled, judged, intended, submitted, watched, settled, each once. Below it every item is one
task, `TOKEN.N`, at most as many at once as the device claims (`tasks_at_once`).

- An item that fails doesn't stop the others, unless `FAILURES` have failed and they are most of what has ended.
- A cancel stops what runs and submits nothing more; what had finished is kept, and the job is partial.
- After a crash each item is asked for by its token. Where the driver's word is proof (`find_authoritative`) those that
  it doesn't know are submitted, under the same tokens; where it isn't, one unknown item leaves all in doubt.
- A device that no longer knows an item leaves the whole in doubt, as it does for one circuit.
"""

# ruff: noqa: D102 - what each method promises stands in hal_drivers/base.py

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

from msgspec import Struct

from control_plane import crash
from control_plane.jobs import gathered, program
from control_plane.jobs import spec as specs
from control_plane.jobs.gathered import Ended, Gathered, Program
from control_plane.jobs.program import Item
from control_plane.jobs.spec import JobSpec
from hal_drivers.base import (
    Calibration,
    Canceled,
    Cancellation,
    Compiled,
    CompileRequest,
    Device,
    DeviceStatus,
    Driver,
    Failed,
    Finished,
    Handle,
    Outcome,
    Queued,
    Running,
    Status,
    Stopped,
    StoppedAfter,
    Task,
    TooLate,
    Unknown,
    Unsupported,
)
from hal_drivers.errors import (
    BackendFailed,
    BackendUnavailable,
    CircuitTooComplex,
    DriverError,
    HandleUnknown,
    NotFinished,
)
from hal_drivers.outcome import judged

COMPILED_BYTES = 32 << 20  # of all artefacts of a program together
RESULT_BYTES = 32 << 20  # of all counts of a program together; where they grow beyond, no further item is run
FAILURES = 3


Submit: TypeAlias = Callable[[Compiled, Task], Awaitable[Handle]]


class Limits(Struct, frozen=True):
    """How long one item may take: what its backend is told, when it is stopped for running on, or for not starting."""

    deadline_s: float
    overdue_s: float
    queue_s: float


class Several:
    """One job's program on one driver; made anew for each attempt."""

    def __init__(self, driver: Driver, spec: JobSpec, items: tuple[Item, ...], limits: Limits, submit: Submit) -> None:
        """Nothing runs yet; `submit` is how an item is handed to the driver."""
        self._submit_item = submit
        self._driver, self._spec, self._items, self._limits = driver, spec, items, limits
        self._backend = ""
        self._built: Program | None = None
        self._token = ""
        self._next = 0
        self._asking = False
        self._flying: dict[int, Handle] = {}
        self._handles: dict[int, Handle] = {}
        self._since: dict[int, tuple[str, float]] = {}
        self._ended: dict[int, Ended] = {}
        self._submitting: asyncio.Task[None] | None = None
        self._halt: str | None = None
        self._overdue: dict[int, tuple[str, ...]] = {}
        self._lost = False
        self._bytes = 0

    async def devices(self) -> tuple[Device, ...]:
        return await self._driver.devices()

    async def status(self, backend: str) -> DeviceStatus:
        return await self._driver.status(backend)

    async def calibration(self, backend: str) -> Calibration:
        return await self._driver.calibration(backend)

    def walls(self) -> dict[str, str]:
        return self._driver.walls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The driver is its worker's to end."""

    async def open_session(self, backend: str) -> str:
        return await self._driver.open_session(backend)

    async def close_session(self, session: str) -> None:
        await self._driver.close_session(session)

    # ---- Compile

    async def compile(self, request: CompileRequest) -> Program:
        """Every item, each in a guarded child; raises what the first of them raises, naming it."""
        self._backend = request.backend
        if self._built is None:
            built: list[Compiled] = []
            size = 0
            for item in self._items:
                built.append(await self._compiled(item, request.backend))
                size += len(built[-1].artefact)
                if size > COMPILED_BYTES:
                    raise CircuitTooComplex(f"{item.where}: compiled, the items need more than {COMPILED_BYTES} bytes")
            self._built = gathered.built_program(request.backend, built)
        return self._built

    def adopt(self, built: Program) -> None:
        """Run what was compiled before, by another attempt or process, instead of compiling anew."""
        self._built = built

    async def _compiled(self, item: Item, backend: str) -> Compiled:
        circuit = program.circuit_of(self._spec, item)
        request = CompileRequest(
            format=circuit.format,
            source=specs.source_bytes(circuit),
            parameters=item.values,
            backend=backend,
            shots=self._spec.shots,
            basis=item.basis,
            alias_model=circuit.alias_model or "discard",
        )
        try:
            return await self._driver.compile(request)
        except BackendUnavailable:
            raise
        except DriverError as error:
            error.detail = f"{item.where}: {error.detail}"
            raise

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        """Hand over the first items; raises what the first one's submission raises, and then nothing runs."""
        self._backend, self._token = compiled.backend, task.token
        await self._hand_over(0)
        with contextlib.suppress(BackendUnavailable):  # the first one runs; the others are asked for again
            await self._fill()
        return self._handle()

    def handles(self) -> list[Handle]:
        """What the driver knows the items by that were handed over, in the items' order."""
        return [self._handles[number] for number in sorted(self._handles)]

    def _handle(self) -> Handle:
        return {"program": self._token, "items": len(self._items)}

    def _mine(self, handle: Handle) -> None:
        if handle != self._handle():
            raise HandleUnknown("this attempt has no such program")

    async def _fill(self) -> None:
        """Submit until as many run as the device takes at once."""
        at_once = await self._at_once()
        while self._halt is None and self._next < len(self._items) and len(self._flying) < at_once:
            number = self._next
            try:
                await self._hand_over(number)
            except BackendUnavailable:
                raise  # nothing was started; it is asked again
            except DriverError as error:
                self._end(number, None, error.code, error.detail)
                self._next = number + 1

    async def _hand_over(self, number: int) -> None:
        # Shielded: a task whose handle nobody has can't be stopped.
        self._submitting = asyncio.ensure_future(self._submit(number))
        await asyncio.shield(self._submitting)

    async def _submit(self, number: int) -> None:
        token = program.token(self._token, number)
        handle = await self._driver.find(token) if self._asking else None
        if handle is None:
            built = await self.compile(self._request())
            handle = await self._submit_item(built.items[number], self._task(number))
        crash.point("items.submitted")
        self._flying[number] = self._handles[number] = handle
        self._next = number + 1

    def _task(self, number: int) -> Task:
        """What was, or will be, handed over under the item's token."""
        return Task(
            token=program.token(self._token, number),
            shots=self._spec.shots,
            seed=program.seed(self._spec, number),
            deadline_s=self._limits.deadline_s,
        )

    def _request(self) -> CompileRequest:
        return CompileRequest(
            format=self._spec.circuits[0].format, source=b"", parameters={}, backend=self._backend, shots=1
        )

    async def _at_once(self) -> int:
        devices = await self._driver.devices()
        return max(1, next(one.capabilities.tasks_at_once for one in devices if one.id == self._backend))

    async def find(self, token: str) -> Handle | None:
        """None where nothing of it is known, or where what isn't known may have run."""
        return await self.resume(token, self._backend)

    async def resume(self, token: str, backend: str) -> Handle | None:
        """`find`, by an attempt that has not submitted: what was found is watched, what never ran is submitted."""
        self._token, self._backend, self._asking = token, backend, True
        self._flying = {}
        devices = await self._driver.devices()
        proof = next(one.capabilities.find_authoritative for one in devices if one.id == backend)
        for item in self._items:
            handle = await self._driver.find(program.token(token, item.number))
            if handle is None:
                if not proof:
                    return None
                break
            self._flying[item.number] = self._handles[item.number] = handle
        self._next = len(self._flying)
        return self._handle() if self._flying else None

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        """Running until all have ended; an item that ends lets the next one start."""
        self._mine(handle)
        await self._fill()
        if self._flying:
            await self._look(wait_s)
            await self._fill()
        if self._lost:
            return Unknown()
        if self._flying or (self._halt is None and self._next < len(self._items)):
            started = [outcome.started_at for outcome in self._finished()]
            return Running(min(started)) if started else Queued()
        if self._finished():
            return Finished()
        failed = next((one for one in self._ended.values() if one.code not in (None, "canceled")), None)
        if failed is None:
            return Stopped()
        return Failed(failed.code or "", f"{failed.item.where}: {failed.detail}")

    async def _look(self, wait_s: float) -> None:
        polls = {
            asyncio.ensure_future(self._driver.poll(handle, wait_s)): number for number, handle in self._flying.items()
        }
        try:
            await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
            for poll, number in polls.items():
                if poll.done():
                    await self._heed(number, poll)
        finally:
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)

    async def _heed(self, number: int, poll: asyncio.Future[Status]) -> None:
        try:
            match await poll:
                case Finished():
                    outcome = await self._driver.result(self._flying[number])
                    built = await self.compile(self._request())
                    self._end(number, judged(outcome, built.items[number], self._task(number)))
                case Failed(code=code, detail=detail):
                    self._end(number, None, code, detail)
                case Stopped():
                    self._end(number, None, "canceled", "canceled on request")
                case Unknown():
                    await self._miss(number)
                case Queued() | Running() as status:
                    await self._wait(number, status)
        except BackendUnavailable:
            raise  # what runs there may still end well
        except DriverError as error:
            self._end(number, None, error.code, error.detail)

    async def _wait(self, number: int, status: Queued | Running) -> None:
        """An item ends whatever its backend does: it is stopped beyond its time, and in doubt where it can't be."""
        word = "ran" if isinstance(status, Running) else "waited"
        known, since = self._since.get(number, ("", 0.0))
        now = time.monotonic()
        if known != word:
            self._since[number] = word, now
            return
        limit_s = self._limits.overdue_s if word == "ran" else self._limits.queue_s
        if now - since <= limit_s:
            return
        match await self._driver.cancel(self._flying[number]):
            case Canceled() | StoppedAfter(shots=0):
                self._end(number, None, "deadline_exceeded", f"it {word} for more than {limit_s:g} s, and was stopped")
            case StoppedAfter() | TooLate() if word not in self._overdue.get(number, ()):
                self._overdue[number] = (*self._overdue.get(number, ()), word)  # its end is told by the next poll
            case _:
                self._lost = True

    async def _miss(self, number: int) -> None:
        """The device doesn't know the item: nothing was run only where that is its proof (I3)."""
        devices = await self._driver.devices()
        proof = next(one.capabilities.find_authoritative for one in devices if one.id == self._backend)
        if proof and self._finished() and await self._driver.find(program.token(self._token, number)) is None:
            self._end(number, None, BackendFailed.code, "the backend lost it")
        else:
            self._lost = True

    def _end(self, number: int, outcome: Outcome | None, code: str | None = None, detail: str | None = None) -> None:
        self._flying.pop(number, None)
        crash.point("items.ended")
        self._ended[number] = Ended(self._items[number], outcome, code, detail)
        if outcome is not None:
            self._bytes += sum(len(bits) + 16 for bits in outcome.counts) * 2
            if self._bytes > RESULT_BYTES:
                self._halt = self._halt or f"the counts are larger than {RESULT_BYTES} bytes"
        failed = len(self._ended) - len(self._finished())
        if failed >= FAILURES and failed > len(self._finished()):
            self._halt = self._halt or f"{failed} items failed"

    def _finished(self) -> list[Outcome]:
        return [one.outcome for one in self._ended.values() if one.outcome is not None]

    async def cancel(self, handle: Handle) -> Cancellation:
        """Stop what runs and submit no more; what has finished is handed out as partial."""
        self._mine(handle)
        self._halt = "canceled on request"
        if self._submitting is not None:
            with contextlib.suppress(DriverError):
                await asyncio.shield(self._submitting)
        for number, flying in list(self._flying.items()):
            # Of one that wasn't stopped before its first shot the next poll tells the end.
            if await self._driver.cancel(flying) in (Canceled(), StoppedAfter(0)):
                self._end(number, None, "canceled", "canceled on request")
        if self._flying:
            return Unsupported()
        executed = sum(outcome.shots_executed for outcome in self._finished())
        return StoppedAfter(executed) if executed else Canceled()

    async def result(self, handle: Handle) -> Gathered:
        self._mine(handle)
        ended = tuple(self._ended.get(item.number, Ended(item, None)) for item in self._items)
        outcomes = [one.outcome for one in ended if one.outcome is not None]
        if not outcomes or self._flying:
            raise NotFinished("the program has no result")
        return Gathered(
            counts={},
            blocks=(),
            shots_executed=sum(outcome.shots_executed for outcome in outcomes),
            partial=gathered.partial(ended, self._halt),
            seed=self._spec.execution.seed,
            method=", ".join(sorted({outcome.method for outcome in outcomes})),
            usage=gathered.total_usage([outcome.usage for outcome in outcomes]),
            started_at=min(outcome.started_at for outcome in outcomes),
            ended_at=max(outcome.ended_at for outcome in outcomes),
            metadata={},
            accounting=gathered.accounting(outcomes),
            items=ended,
        )

    async def forget(self, handle: Handle) -> None:
        self._mine(handle)
        for number in self._ended:
            if number in self._handles:
                await self._driver.forget(self._handles[number])


async def items_of(driver: Driver, token: str) -> list[Handle]:
    """The handles that the driver knows under a job's token: of its one circuit, or of its program's items."""
    found: list[Handle] = []
    if (handle := await driver.find(token)) is not None:
        found.append(handle)
    number = 0
    while (handle := await driver.find(program.token(token, number))) is not None:
        found.append(handle)
        number += 1
    return found
