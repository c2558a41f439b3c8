# SPDX-License-Identifier: Apache-2.0
"""The worker's end of one guarded child: one call at a time, every bound kept from outside.

Memory is limited task by task (``prlimit``), CPU and wall time are watched, and over a bound the child is killed: a
hostile child keeps no promise. What a call used is measured here too, never asked of the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from hal_drivers.errors import BackendUnavailable
from hal_drivers.frames import LENGTH, REPLY_BYTES, Ready, Refusal, Reply, decode_reply
from hal_drivers.zygote import START_S

TASKS_A_CHILD = 5_000
SWELL_BYTES = 256 << 20
"""A child whose address space has grown by this much beyond its warm size is replaced."""
_PAGE = resource.getpagesize()


class Bounds(Struct, frozen=True):
    """What one call may use; memory is counted above the idle child."""

    memory_bytes: int
    cpu_s: float
    wall_s: float


class Spent(Struct, frozen=True):
    """What it did use, measured from outside."""

    wall_s: float
    cpu_s: float
    peak_memory_bytes: int


class Told(Struct, frozen=True):
    """One call of a child, told when it is over: `operation` is compile | run, `ending` is ok or why it was lost."""

    operation: str
    pid: int
    ending: str
    wall_s: float
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None


class ChildLost(Exception):
    """The child ended before it answered: ``reason`` is canceled | cpu | wall | crashed."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(f"{reason} ({exit_code})")
        self.reason = reason
        self.exit_code = exit_code


def address_space(pid: int) -> int:
    """What a process has mapped, in bytes; 0 when it is gone."""
    try:
        with Path(f"/proc/{pid}/statm").open("rb", 0) as file:
            return int(file.read(64).split()[0]) * _PAGE
    except OSError:
        return 0


def grant_memory(pid: int, extra: int) -> None:
    """Bound a child to so much more than it has now."""
    with contextlib.suppress(ProcessLookupError):
        hard = resource.prlimit(pid, resource.RLIMIT_AS)[1]
        resource.prlimit(pid, resource.RLIMIT_AS, (address_space(pid) + extra, hard))
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/clear_refs").open("wb", 0) as marks:
        marks.write(b"5")  # the high-water mark starts anew, where the kernel lets us


class Child:
    """One warm process; one call at a time."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.ready: Ready | None = None
        self.tasks = 0
        self.tainted = False
        self._reader = reader
        self._writer = writer
        self._reason: str | None = None
        self._warm_bytes = 0
        self._expected: int | None = None

    async def greet(self) -> Ready:
        """Wait until it is warm and walled."""
        async with asyncio.timeout(START_S):
            reply = await self._receive()
        if not isinstance(reply, Ready):
            raise BackendUnavailable("a circuit child said something else than ready")
        self.ready = reply
        self._warm_bytes = address_space(self.pid)
        return reply

    def kill(self, reason: str) -> None:
        """Stop it now; the first reason counts."""
        self._reason = self._reason or reason
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._writer.close()

    @property
    def reason(self) -> str | None:
        """Why it was killed, if it was."""
        return self._reason

    @property
    def spent_up(self) -> bool:
        """Whether it must be replaced before the next task."""
        if self._reason is not None or self.tainted or self.tasks >= TASKS_A_CHILD:
            return True
        return address_space(self.pid) > self._warm_bytes + SWELL_BYTES

    async def call(self, request: bytes, bounds: Bounds) -> tuple[Reply, Spent]:
        """One task; raises EOFError when the child ends first, and kills it over a bound."""
        self.tasks += 1
        grant_memory(self.pid, bounds.memory_bytes)
        started, cpu_started = time.monotonic(), self._cpu()
        self._writer.write(request)
        while True:
            try:
                async with asyncio.timeout(self._next_look(bounds, started, cpu_started)):
                    reply = await self._receive()
                break
            except TimeoutError:
                if time.monotonic() - started >= bounds.wall_s:
                    self.kill("wall")
                elif self._cpu() - cpu_started >= bounds.cpu_s:
                    self.kill("cpu")
        spent = Spent(
            wall_s=time.monotonic() - started, cpu_s=self._cpu() - cpu_started, peak_memory_bytes=self._peak()
        )
        self.tainted = isinstance(reply, Ready) or (isinstance(reply, Refusal) and reply.tainted)
        return reply, spent

    def _next_look(self, bounds: Bounds, started: float, cpu_started: float) -> float:
        # One thread cannot use CPU faster than the clock runs, so looking any earlier shows nothing.
        wall = bounds.wall_s - (time.monotonic() - started)
        return max(0.005, min(wall, bounds.cpu_s - (self._cpu() - cpu_started)))

    async def _receive(self) -> Reply:
        """May be cancelled and called again: what is known of a half-read frame is kept."""
        try:
            if self._expected is None:
                self._expected = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
            if self._expected > REPLY_BYTES:
                raise EOFError
            body = await self._reader.readexactly(self._expected)
            self._expected = None
            return decode_reply(body)
        except (asyncio.IncompleteReadError, OSError, msgspec.DecodeError) as error:
            raise EOFError from error

    def _cpu(self) -> float:
        try:
            return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3)
        except OSError:
            return 0.0

    def _peak(self) -> int:
        try:
            with Path(f"/proc/{self.pid}/status").open("rb", 0) as file:
                return int(file.read(4096).partition(b"VmHWM:")[2].split()[0]) * 1024
        except (OSError, IndexError):
            return 0
