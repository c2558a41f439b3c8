# SPDX-License-Identifier: Apache-2.0
"""Our own pool of single-task children (decision 9), as a worker sees it.

``call`` hands one request to one child and returns its reply, or raises :class:`ChildLost` with the reason:
limits on memory are set from here, task by task, and CPU and wall time are watched from here, because a
hostile child keeps no promise. A child serves many tasks in turn; it is killed and replaced when it is
cancelled, over a limit, crashed, tainted, swollen or old, and a warm spare stands ready so that nobody waits
for its successor. Killing is SIGKILL to a process that stays a zombie until we order it reaped, so a pid
never means a stranger.

All processes are one worker's: they die with it, and a task that a dead worker held runs nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from hal_drivers import sandbox
from hal_drivers.errors import BackendUnavailable, WallsMissing
from hal_drivers.frames import (
    LENGTH,
    REPLY_BYTES,
    REQUEST_BYTES,
    CompileCall,
    Ready,
    Refusal,
    Reply,
    Request,
    decode_reply,
    frame,
)

START_S = 60.0
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


class ChildLost(Exception):
    """The child ended before it answered: ``reason`` is canceled | cpu | wall | crashed."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(f"{reason} ({exit_code})")
        self.reason = reason
        self.exit_code = exit_code


class Zygote:
    """The process that forks children; started anew if it ever dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = asyncio.Lock()

    async def fork(self, descriptor: int) -> int:
        """Pid of a new child that talks on ``descriptor``; raises BackendUnavailable."""
        async with self._lock:
            for attempt in (1, 2):
                if self._control is None:
                    await self._start()
                with contextlib.suppress(OSError):
                    word, _, argument = (await self._order(b"fork", [descriptor])).partition(" ")
                    if word == "forked":
                        return int(argument)
                self.close()
                if attempt == 2:
                    raise BackendUnavailable("no circuit child can be started")
        raise AssertionError

    async def reap(self, pid: int) -> int:
        """Exit code of a killed child; 0 when the zygote took it along."""
        async with self._lock:
            if self._control is None:
                return 0
            with contextlib.suppress(OSError):
                word, _, argument = (await self._order(f"reap {pid}".encode(), [])).partition(" ")
                return int(argument) if word == "reaped" else 0
            return 0

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            # A few milliseconds, once; and the death signal follows the thread that starts the process.
            self._process = subprocess.Popen(  # noqa: ASYNC220
                [
                    sys.executable,
                    "-P",
                    "-s",
                    "-B",
                    "-m",
                    "hal_drivers.child",
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                pass_fds=[theirs.fileno()],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        self._control = ours
        answer = await self._receive()
        if answer != "ready":
            self.close()
            raise BackendUnavailable(f"the circuit child does not start: {answer.removeprefix('failed ')[:80]}")

    async def _order(self, order: bytes, descriptors: list[int]) -> str:
        assert self._control is not None
        socket.send_fds(self._control, [order], descriptors)
        return await self._receive()

    async def _receive(self) -> str:
        assert self._control is not None
        try:
            async with asyncio.timeout(START_S):
                return (await asyncio.get_running_loop().sock_recv(self._control, 256)).decode()
        except TimeoutError:
            return "no answer"

    def close(self) -> None:
        """Kill it and, by their death signal, all its children."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


def _environment() -> dict[str, str]:
    """No credential, no home, one thread; only what Python needs to find this package and its libraries."""
    package_root = str(Path(__file__).resolve().parent.parent)
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = dict.fromkeys(threads, "1")
    environment |= {
        "PYTHONPATH": package_root,
        "PYTHONHASHSEED": "0",
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
    }
    # A second malloc arena reserves 64 MiB of the address space that the memory limit counts.
    environment |= {"QISKIT_PARALLEL": "FALSE", "MALLOC_ARENA_MAX": "1"}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment


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
        self._warm_bytes = self._address_space()
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
        return self._address_space() > self._warm_bytes + SWELL_BYTES

    async def call(self, request: bytes, bounds: Bounds) -> tuple[Reply, Spent]:
        """One task; raises EOFError when the child ends first, and kills it over a bound."""
        self.tasks += 1
        self._limit_memory(bounds.memory_bytes)
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

    def _limit_memory(self, extra: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            hard = resource.prlimit(self.pid, resource.RLIMIT_AS)[1]
            resource.prlimit(self.pid, resource.RLIMIT_AS, (self._address_space() + extra, hard))
        with contextlib.suppress(OSError), Path(f"/proc/{self.pid}/clear_refs").open("wb", 0) as marks:
            marks.write(b"5")  # the high-water mark starts anew, where the kernel lets us

    def _cpu(self) -> float:
        try:
            return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3)
        except OSError:
            return 0.0

    def _address_space(self) -> int:
        try:
            with Path(f"/proc/{self.pid}/statm").open("rb", 0) as file:
                return int(file.read(64).split()[0]) * _PAGE
        except OSError:
            return 0

    def _peak(self) -> int:
        try:
            with Path(f"/proc/{self.pid}/status").open("rb", 0) as file:
                return int(file.read(4096).partition(b"VmHWM:")[2].split()[0]) * 1024
        except (OSError, IndexError):
            return 0


class Pool:
    """``children`` runs at once, one compilation beside them, one warm spare; ``async with`` ends every
    process.

    Compilations have a lane of their own: they last milliseconds and must not stand behind a run of minutes.
    """

    def __init__(self, children: int, *, require_walls: bool) -> None:
        self._children = children
        self._require_walls = require_walls
        self._zygote = Zygote()
        self._runs = asyncio.Semaphore(children)
        self._compiles = asyncio.Semaphore(1)
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._arrived = asyncio.Condition()
        self._background: set[asyncio.Task[None]] = set()
        self._ready: Ready | None = None
        self._failure: BackendUnavailable | None = None
        self.waiting = 0

    async def __aenter__(self) -> Self:
        try:
            await self._spawn()
            if self._require_walls and (missing := self.walls_missing()):
                raise WallsMissing(f"around the circuit child there is no {', no '.join(missing)}")
            await asyncio.gather(*(self._spawn() for _ in range(self._children + 1)))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Kill every process; calls in flight raise ChildLost."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for child in [*self._idle, *self._busy]:
            child.kill("canceled")
        self._idle.clear()
        self._zygote.close()

    @property
    def versions(self) -> dict[str, str]:
        """The tools inside the children."""
        return self._ready.versions if self._ready else {}

    def walls(self) -> dict[str, str]:
        """Wall → ``holds`` or ``missing``, as the children found them; empty before the pool is entered."""
        if self._ready is None:
            return {}
        walls = {name: "holds" if up else "missing" for name, up in self._ready.walls.items()}
        return walls | {f"no {leak}": "leaks" for leak in self._ready.leaks}

    def walls_missing(self) -> list[str]:
        """What is too little for any profile but ``dev``: no wall to the network, or none to the limits."""
        assert self._ready is not None
        missing = [] if any(self._ready.walls.get(name) for name in sandbox.NETWORK_WALLS) else ["network wall"]
        if "network" in self._ready.leaks:
            missing.append("closed network")
        return missing if self._ready.walls.get("rlimits") else [*missing, "process limits"]

    async def call(
        self, request: Request, bounds: Bounds, started: Callable[[Child], None] | None = None
    ) -> tuple[Reply, Spent]:
        """Raises ChildLost, or BackendUnavailable if there is no child. ``started`` gets it, to kill it."""
        data = frame(request, REQUEST_BYTES)
        lane = self._compiles if isinstance(request, CompileCall) else self._runs
        self.waiting += 1
        try:
            await lane.acquire()
        finally:
            self.waiting -= 1
        try:
            child = await self._take()
            if started is not None:
                started(child)
            return await self._serve(child, data, bounds)
        finally:
            lane.release()

    async def _serve(self, child: Child, data: bytes, bounds: Bounds) -> tuple[Reply, Spent]:
        try:
            return await child.call(data, bounds)
        except EOFError:
            raise await self._mourn(child) from None
        except asyncio.CancelledError:
            child.kill("canceled")
            self._later(self._reap(child))
            raise
        finally:
            self._give_back(child)

    async def _take(self) -> Child:
        async with self._arrived:
            await self._arrived.wait_for(lambda: bool(self._idle) or self._failure is not None)
            if not self._idle:
                failure, self._failure = self._failure, None
                self._replace()
                assert failure is not None
                raise failure
            # The newest first: the spare at the bottom stays as it was born.
            child = self._idle.pop()
            self._busy.add(child)
            return child

    def _give_back(self, child: Child) -> None:
        self._busy.discard(child)
        if child.spent_up:
            if child.reason is None:
                child.kill("replaced")
                self._later(self._reap(child))
            self._replace()
            return
        self._idle.append(child)
        self._later(self._announce())

    async def _mourn(self, child: Child) -> ChildLost:
        reason = child.reason or "crashed"
        child.kill(reason)
        return ChildLost(reason, await self._zygote.reap(child.pid))

    async def _reap(self, child: Child) -> None:
        await self._zygote.reap(child.pid)

    async def _announce(self) -> None:
        async with self._arrived:
            self._arrived.notify()

    def _replace(self) -> None:
        self._later(self._respawn())

    async def _respawn(self) -> None:
        try:
            await self._spawn()
        except BackendUnavailable as error:
            async with self._arrived:
                self._failure = error
                self._arrived.notify_all()

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                pid = await self._zygote.fork(theirs.fileno())
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 20)
        except BaseException:
            ours.close()
            raise
        child = Child(pid, reader, writer)
        try:
            self._ready = await child.greet()
        except (EOFError, TimeoutError):
            lost = await self._mourn(child)
            raise BackendUnavailable(f"a circuit child ended while it started ({lost.exit_code})") from None
        except BaseException:
            child.kill("canceled")
            raise
        async with self._arrived:
            self._idle.insert(0, child)
            self._arrived.notify()
