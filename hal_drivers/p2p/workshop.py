# SPDX-License-Identifier: Apache-2.0
"""The guarded children of a service node, as its Trio process sees them: Aer holds the GIL for a whole run, heartbeats
must go on, and a circuit comes from outside.

The processes are those of ``hal_drivers.child`` (engine ``node``): one zygote, up to ``children`` at once behind the
same walls, each killed when its run is over its bound or nobody wants it any more. They die with the node.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from hal_drivers.frames import (
    LENGTH,
    REPLY_BYTES,
    REQUEST_BYTES,
    FragmentCall,
    Memory,
    Ready,
    Refusal,
    Reply,
    decode_reply,
    frame,
)
from hal_drivers.guarded import SWELL_BYTES, TASKS_A_CHILD, address_space, grant_memory
from hal_drivers.zygote import START_S, start_zygote

MEMORY_BYTES = 1 << 30


class RunLost(Exception):
    """The run gave no rows: ``code`` is refused | over_time | crashed."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class _Child:
    def __init__(self, pid: int, stream: trio.SocketStream) -> None:
        self.pid = pid
        self.stream = stream
        self.versions: dict[str, str] = {}
        self.warm_bytes = 0
        self.tasks = 0

    async def call(self, request: FragmentCall) -> Reply:
        self.tasks += 1
        grant_memory(self.pid, MEMORY_BYTES)
        await self.stream.send_all(frame(request, REQUEST_BYTES))
        return await self.receive()

    async def receive(self) -> Reply:
        size = LENGTH.unpack(await self._exactly(LENGTH.size))[0]
        if size > REPLY_BYTES:
            raise EOFError
        return decode_reply(await self._exactly(size))

    async def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = await self.stream.receive_some(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    @property
    def spent_up(self) -> bool:
        return self.tasks >= TASKS_A_CHILD or address_space(self.pid) > self.warm_bytes + SWELL_BYTES

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Workshop:
    """Made by :func:`open_workshop`."""

    def __init__(self, children: int, control: trio.socket.SocketType) -> None:
        self._control = control
        self._orders = trio.Lock()
        self._lane = trio.CapacityLimiter(children)
        self._idle: list[_Child] = []
        self.versions: dict[str, str] = {}

    async def run(self, call: FragmentCall, limit_s: float) -> Memory:
        """Raises RunLost. Canceled, or over ``limit_s``, its child is killed: nothing of it runs any more."""
        async with self._lane:
            try:
                child = self._idle.pop() if self._idle else await self._fork()
            except (EOFError, OSError, trio.TooSlowError, msgspec.DecodeError):
                raise RunLost("crashed", "no child could be started") from None
            answered = False
            try:
                with trio.fail_after(limit_s):
                    reply = await child.call(call)
                answered = isinstance(reply, Memory) or (isinstance(reply, Refusal) and not reply.tainted)
            except trio.TooSlowError:
                raise RunLost("over_time", f"it ran longer than {limit_s:.3f} s") from None
            except (EOFError, trio.BrokenResourceError, msgspec.DecodeError):
                raise RunLost("crashed", "the child that ran it ended") from None
            except ValueError as error:  # the request is over the bound of a frame
                answered = True
                raise RunLost("refused", str(error)) from None
            finally:
                await self._back(child, sound=answered and not child.spent_up)
        match reply:
            case Memory():
                return reply
            case Refusal():
                raise RunLost("refused", f"{reply.code}: {reply.detail}")
            case _:
                raise RunLost("crashed", "the child said something else than rows")

    async def warm(self) -> None:
        """Have one child ready, so that the first fragment doesn't wait for it; raises RunLost."""
        async with self._lane:
            try:
                self._idle.append(await self._fork())
            except (EOFError, OSError, trio.TooSlowError, msgspec.DecodeError) as error:
                raise RunLost("crashed", f"no child could be started: {error}") from None

    def close(self) -> None:
        """Let go of the idle children; they end with the zygote at the latest."""
        for child in self._idle:
            child.stream.socket.close()
        self._idle.clear()

    async def _back(self, child: _Child, *, sound: bool) -> None:
        if sound:
            self._idle.append(child)
            return
        child.kill()
        with trio.CancelScope(shield=True), trio.move_on_after(START_S):
            await child.stream.aclose()
            await self._order(f"reap {child.pid}".encode(), [])

    async def _fork(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            word, _, pid = (await self._order(b"fork", [theirs.fileno()])).partition(" ")
        if word != "forked":
            ours.close()
            raise EOFError(word)
        ours.setblocking(False)
        child = _Child(int(pid), trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        try:
            with trio.fail_after(START_S):
                ready = await child.receive()
        except BaseException:
            await self._back(child, sound=False)
            raise
        if isinstance(ready, Ready):
            child.warm_bytes, self.versions = address_space(child.pid), ready.versions
            return child
        await self._back(child, sound=False)
        raise EOFError

    async def _order(self, order: bytes, descriptors: list[int]) -> str:
        async with self._orders:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
            with trio.CancelScope(shield=True):  # an order without its answer would shift all answers after it
                await self._control.sendmsg([order], rights if descriptors else [])
                with trio.fail_after(START_S):
                    answer = await self._control.recv(256)
        return answer.decode()


@asynccontextmanager
async def open_workshop(children: int) -> AsyncIterator[Workshop]:
    """Start the zygote and one warm child; leaving ends all of them. Raises RunLost."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with theirs:
        zygote = start_zygote("node", theirs)
    control = trio.socket.from_stdlib_socket(ours)
    try:
        with trio.move_on_after(START_S) as late:
            answer = (await control.recv(256)).decode()
        if late.cancelled_caught or answer != "ready":
            raise RunLost("crashed", "the children's zygote does not start")
        workshop = Workshop(children, control)
        try:
            await workshop.warm()
            yield workshop
        finally:
            workshop.close()
    finally:
        control.close()
        zygote.kill()  # and, by their death signal, all its children
        zygote.wait()
