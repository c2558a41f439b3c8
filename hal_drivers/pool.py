# SPDX-License-Identifier: Apache-2.0
"""Our own pool of single-task children (decision 9), as a worker sees it.

``call`` hands one request to one child and returns its reply, or raises ChildLost with the reason. A child serves many
tasks in turn; it is killed and replaced when it is cancelled, over a bound, crashed, tainted, swollen or old, and a
warm spare stands ready so that nobody waits for its successor.

All processes are one worker's: they die with it, and a task that a dead worker held runs nowhere.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Self

from hal_drivers import sandbox
from hal_drivers.errors import BackendUnavailable, WallsMissing
from hal_drivers.frames import REQUEST_BYTES, CompileCall, Ready, Reply, Request, frame
from hal_drivers.guarded import Bounds, Child, ChildLost, Spent, Told
from hal_drivers.zygote import Zygote


class Pool:
    """``children`` runs at once, one compilation beside them, one warm spare; ``async with`` ends every
    process.

    Compilations have a lane of their own: they last milliseconds and must not stand behind a run of minutes.
    """

    def __init__(
        self,
        children: int,
        *,
        require_walls: bool,
        heard: Callable[[Told], None] | None = None,
        engine: str = "aer",
    ) -> None:
        """`heard` is told of each call once it is over, in the context of its caller; it MUST NOT raise."""
        self._children = children
        self._heard = heard
        self._require_walls = require_walls
        self._zygote = Zygote(engine)
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
        operation = "compile" if isinstance(request, CompileCall) else "run"
        lane = self._compiles if operation == "compile" else self._runs
        self.waiting += 1
        try:
            await lane.acquire()
        finally:
            self.waiting -= 1
        try:
            child = await self._take()
            if started is not None:
                started(child)
            return await self._serve(child, data, bounds, operation)
        finally:
            lane.release()

    async def _serve(self, child: Child, data: bytes, bounds: Bounds, operation: str) -> tuple[Reply, Spent]:
        began = time.monotonic()
        try:
            reply, spent = await child.call(data, bounds)
            self._tell(Told(operation, child.pid, "ok", spent.wall_s, spent.cpu_s, spent.peak_memory_bytes))
            return reply, spent
        except EOFError:
            lost = await self._mourn(child)
            self._tell(Told(operation, child.pid, lost.reason, time.monotonic() - began))
            raise lost from None
        except asyncio.CancelledError:
            self._tell(Told(operation, child.pid, "canceled", time.monotonic() - began))
            child.kill("canceled")
            self._later(self._reap(child))
            raise
        finally:
            self._give_back(child)

    def _tell(self, told: Told) -> None:
        if self._heard is not None:
            self._heard(told)

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
