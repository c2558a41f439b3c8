# SPDX-License-Identifier: Apache-2.0
"""The worker's end of the zygote: start it, have it fork children, have it reap those that we killed.

A killed child stays a zombie until it is reaped by order, so its pid never comes to mean a stranger. The environment
of all these processes is built from nothing: no credential of the worker's is in it (S6, I10).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from hal_drivers.errors import BackendUnavailable

START_S = 60.0


class Zygote:
    """The process that forks children; started anew if it ever dies."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
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
            self._process = start_zygote(self._engine, theirs)
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


def start_zygote(engine: str, control: socket.socket) -> subprocess.Popen[bytes]:
    """The process, with its end of the control socket; it says ``ready`` or why not. From the main thread: the death
    signal follows the thread that starts it. Takes a few milliseconds.
    """
    descriptor = control.fileno()
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-B", "-m", "hal_drivers.child", str(descriptor), str(os.getpid()), engine],
        pass_fds=[descriptor],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


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
