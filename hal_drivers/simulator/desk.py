# SPDX-License-Identifier: Apache-2.0
"""The tasks of a served simulator: at most one a token, each followed to its end by the server itself.

Enter requests that were decoded; leave values of ``remote.wire`` or a ``Refused``. What a client compiled here carries
a ticket, a MAC over all of it; nothing else is run, so no artefact of a stranger's making reaches the engine. Not here:
HTTP, who may ask, how often.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from datetime import UTC, datetime

from msgspec.structs import replace

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
    TooLate,
    Unknown,
)
from hal_drivers.errors import BackendFailed, CircuitTooComplex, DriverError
from hal_drivers.order import uncounted
from hal_drivers.remote.wire import ARTEFACT_BYTES, Ceased, Ended, Shown, Standing, Submission, encode
from hal_drivers.simulator.keep import Keep, Kept

LIVE = 1_000
"""Tasks that wait or run at once; more are refused as busy."""
COMPILING = 64
LONGEST_DEADLINE_S = 86_400.0
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_POLL_S = 30.0


class Refused(Exception):
    """A request that isn't served: status, code, and what to say."""

    def __init__(self, status: int, code: str, detail: str, *, authoritative: bool = False) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.authoritative = status, code, detail, authoritative


class _Live:
    """A task that hasn't ended."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.handle: Handle | None = None
        self.ended = asyncio.Event()


class Desk:
    """One engine's tasks, by token."""

    def __init__(self, driver: Driver, keep: Keep, key: bytes) -> None:
        """`key` makes tickets; a server that keeps it across restarts runs what it compiled before."""
        self._driver, self.keep, self._key = driver, keep, key
        self._live: dict[str, _Live] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._compiling = 0

    async def close(self) -> None:
        """Follow nothing any more; the engine's own end stops what runs."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    async def devices(self) -> tuple[Device, ...]:
        """What the engine claims, as it is claimed over this protocol."""
        return tuple(
            replace(
                device,
                capabilities=replace(
                    device.capabilities,
                    idempotent_submit=True,
                    find_authoritative=self.keep.authoritative,
                    handle_scope="anywhere",
                    session=False,
                    batch=False,
                    exact=False,
                ),
            )
            for device in await self._driver.devices()
        )

    async def standing(self, device: str) -> Standing:
        """Raises DriverError BackendUnknown."""
        status: DeviceStatus = await self._driver.status(device)
        calibration: Calibration = await self._driver.calibration(device)
        depth = max(status.queue_depth, len(self._live) - 1)
        return Standing(device, datetime.now(UTC), replace(status, queue_depth=max(0, depth)), calibration)

    async def compile(self, request: CompileRequest, *, tallied: bool = True) -> Compiled:
        """Raises DriverError, Refused; without tallies for a client that doesn't know them."""
        if self._compiling >= COMPILING:
            raise Refused(503, "busy", "too much is being compiled")
        self._compiling += 1
        try:
            compiled = await self._driver.compile(request)
        finally:
            self._compiling -= 1
        if not tallied:
            compiled = uncounted(compiled)
        if len(compiled.artefact) + len(compiled.qasm3 or "") > ARTEFACT_BYTES:
            raise CircuitTooComplex("the compiled circuit is larger than this simulator sends")
        return replace(compiled, ticket=self._ticket(compiled))

    def _ticket(self, compiled: Compiled) -> str:
        bare = replace(compiled, ticket=None, usage=None)
        return hmac.new(self._key, encode(bare), hashlib.sha256).hexdigest()

    async def put(self, token: str, submission: Submission) -> tuple[bool, Shown]:
        """Whether the task is new, and its status. The same body again is the same task; another one is refused."""
        task, compiled = submission.task, submission.compiled
        if not _TOKEN.fullmatch(token) or task.token != token:
            raise Refused(
                400, "request_invalid", "the token of the path is 1 to 128 of A-Z a-z 0-9 . _ ~ -, and the task's"
            )
        if not hmac.compare_digest(compiled.ticket or "", self._ticket(compiled)):
            raise Refused(422, "ticket_invalid", "this simulator did not compile that")
        if not 0 < task.deadline_s <= LONGEST_DEADLINE_S or (task.seed is not None and not 0 <= task.seed < 1 << 53):
            raise Refused(400, "request_invalid", "deadline_s is more than 0 and at most a day, a seed 53 bits")
        body = hashlib.sha256(encode(submission)).hexdigest()
        kept = await asyncio.to_thread(self.keep.read, token)
        known = self._live.get(token) or kept  # looked at last: another request may have come in between
        if known is not None:
            if known.body != body:
                raise Refused(409, "token_conflict", "another task was submitted under this token")
            return False, await self.shown(token, 0.0)
        if len(self._live) >= LIVE:
            raise Refused(503, "busy", "too many tasks wait")
        live = self._live[token] = _Live(body)
        try:
            await asyncio.to_thread(self.keep.write, token, Kept(body))
            live.handle = await self._driver.submit(replace(compiled, ticket=None), task)
        except DriverError as error:
            await self._end(token, live, Failed(error.code, error.detail), None)
            return True, await self.shown(token, 0.0)
        except BaseException:
            del self._live[token]
            live.ended.set()
            raise
        following = asyncio.create_task(self._follow(token, live, live.handle))
        self._following.add(following)
        following.add_done_callback(self._following.discard)
        return True, await self.shown(token, 0.0)

    async def _follow(self, token: str, live: _Live, handle: Handle) -> None:
        """To its end, whether anybody asks or not."""
        outcome: Outcome | None = None
        try:
            status = await self._driver.poll(handle, _POLL_S)
            while isinstance(status, Queued | Running):
                status = await self._driver.poll(handle, _POLL_S)
            if isinstance(status, Finished):
                outcome = await self._driver.result(handle)
        except DriverError as error:
            status = Failed(error.code, error.detail)
        if isinstance(status, Unknown):
            status = Failed(BackendFailed.code, "the engine lost the task")
        await self._end(token, live, status, outcome)
        await self._driver.forget(handle)

    async def _end(self, token: str, live: _Live, status: Status, outcome: Outcome | None) -> None:
        await asyncio.to_thread(self.keep.write, token, Kept(live.body, status, outcome))
        self._live.pop(token, None)
        live.ended.set()

    async def _find(self, token: str) -> _Live | Kept:
        live = self._live.get(token)
        if live is not None:
            return live
        kept = await asyncio.to_thread(self.keep.read, token) if _TOKEN.fullmatch(token) else None
        if kept is None:
            raise Refused(404, "task_unknown", "no task has this token", authoritative=self.keep.authoritative)
        if kept.forgotten:
            raise Refused(410, "task_forgotten", "the task has ended and was forgotten on request")
        return kept

    async def shown(self, token: str, wait_s: float) -> Shown:
        """Its status, at once when it ends and after `wait_s` at the latest."""
        found = await self._find(token)
        if isinstance(found, _Live):
            if wait_s > 0 and not found.ended.is_set():
                try:
                    async with asyncio.timeout(wait_s):
                        await found.ended.wait()
                except TimeoutError:
                    pass
            if not found.ended.is_set():
                status = await self._driver.poll(found.handle) if found.handle is not None else Queued()
                if isinstance(status, Finished | Failed | Stopped | Unknown):  # told once it is written
                    await found.ended.wait()
                else:
                    return Shown(token, datetime.now(UTC), status)
            found = await self._find(token)
        assert isinstance(found, Kept)
        assert found.status is not None
        return Shown(token, datetime.now(UTC), found.status)

    async def result(self, token: str) -> Ended:
        """The outcome, until it is forgotten."""
        found = await self._find(token)
        if isinstance(found, _Live) or found.outcome is None:
            raise Refused(409, "not_finished", "the task has no result")
        return Ended(token, datetime.now(UTC), found.outcome)

    async def cancel(self, token: str) -> Ceased:
        """Stop it; idempotent."""
        found = await self._find(token)
        cancellation: Cancellation
        if isinstance(found, _Live) and found.handle is not None:
            cancellation = await self._driver.cancel(found.handle)
            if isinstance(cancellation, Canceled | StoppedAfter):
                await found.ended.wait()  # its end is durable before it is told
        elif isinstance(found, Kept) and isinstance(found.status, Stopped):
            cancellation = Canceled()
        else:
            cancellation = TooLate()
        return Ceased(token, datetime.now(UTC), cancellation)

    async def forget(self, token: str) -> None:
        """Free an ended task; the token stays known as used. What still runs, or is unknown, is left as it is."""
        if token in self._live or not _TOKEN.fullmatch(token):
            return
        kept = await asyncio.to_thread(self.keep.read, token)
        if kept is not None and not kept.forgotten:
            await asyncio.to_thread(self.keep.write, token, Kept(kept.body, kept.status, None, forgotten=True))
