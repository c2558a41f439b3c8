# SPDX-License-Identifier: Apache-2.0
"""Children and their lives: started, waited for, restarted with back-off, stopped in order.

Enters: a `Child` a process (command, environment, probe). Leaves: processes that end with this one, whatever ends it:
`enter` asks the kernel for a signal at its parent's death. A child that dies is started again, later each time it dies
soon after; one that is stopped by a signal is told of. Not here: which children a plane has (`up`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from control_plane import logs
from control_plane.errors import StartFailed, Unusable
from control_plane.home import ProcessRecord, is_stopped, started_at
from control_plane.privilege import Identity, own

log = logging.getLogger("qcos.up")
_BACKOFF_S = (0.05, 0.2, 1.0, 2.0, 5.0)
_STEADY_S = 2.0  # a child that served this long before it died starts again at once
_POLL_S = 0.01
_LOOK_S = 1.0

Probe = Callable[[], Awaitable[bool]]


async def _no_probe() -> bool:
    return True


class Child:
    """One supervised process. `says_ready` = it writes to the pipe named by QCOS_READY_FD; then `probe` must hold."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        says_ready: bool = False,
        probe: Probe = _no_probe,
        who: Identity | None = None,
        before: Callable[[], None] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_limit_s: float = 10.0,
        end_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.ready = False
        self.restarts = 0
        self.changed: Callable[[], None] = lambda: None
        self._command = (who or own()).command(command, end_signal)
        self._log = log
        self._environment = dict(environment or {})
        self._descriptors = tuple(descriptors)
        self._says_ready = says_ready
        self._probe = probe
        self._before = before
        self._stop_signal = stop_signal
        self._stop_limit_s = stop_limit_s
        self._end_signal = end_signal
        self._process: asyncio.subprocess.Process | None = None
        self._pid, self._started = 0, 0
        self._keeper: asyncio.Task[None] | None = None

    def record(self) -> ProcessRecord:
        """What the plane's record says of this child."""
        return ProcessRecord(self.name, self._pid, self.ready, self.restarts, self._started)

    async def start(self, limit_s: float) -> None:
        """Start, wait until ready, then keep it alive; raises StartFailed, which names the log."""
        try:
            async with asyncio.timeout(limit_s):
                await self._once()
        except TimeoutError:
            await self.stop()
            raise StartFailed(f"{self.name} wasn't ready within {limit_s:g} s; see {self._log}") from None
        except OSError as error:
            await self.stop()
            raise StartFailed(f"{self.name} can't be started: {self._command[0]}: {error.strerror or error}") from error
        except Unusable:
            await self.stop()
            raise
        self._keeper = asyncio.create_task(self._keep(limit_s), name=f"keep {self.name}")

    async def stop(self) -> None:
        """Ask the process to end, wait, then kill it. Safe to call at any time."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        self.ready = False
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self._stop_signal)
        try:
            async with asyncio.timeout(self._stop_limit_s):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def end_now(self) -> None:
        """End the process without asking it; a `stop` that waits for it then returns."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._end_signal)

    async def _once(self) -> None:
        if self._before is not None:
            self._before()
        read, write = os.pipe()
        environment = {**self._environment, "QCOS_READY_FD": str(write)}
        try:
            try:
                await self._spawn(environment, write)
            finally:
                os.close(write)
            await self._until_ready(read)
        finally:
            os.close(read)
        self.ready = True
        self.changed()

    async def _spawn(self, environment: Mapping[str, str], write: int) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(write, *self._descriptors),
                start_new_session=True,
            )
        self._pid, self._started = self._process.pid, started_at(self._process.pid)
        self.changed()

    async def _until_ready(self, read: int) -> None:
        os.set_blocking(read, False)
        waiting = self._says_ready
        while waiting or not await self._probe():
            self._refuse_dead()
            with contextlib.suppress(BlockingIOError):
                waiting = waiting and os.read(read, 16) != b"ready"
            await asyncio.sleep(_POLL_S)
        self._refuse_dead()

    def _refuse_dead(self) -> None:
        code = None if self._process is None else self._process.returncode
        if code is not None:
            raise StartFailed(f"{self.name} ended with {code} before it was ready{self._last_words()}; see {self._log}")

    def _last_words(self) -> str:
        try:
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return f" ({logs.message_of(lines[-1])[:300]})" if lines else ""

    async def _keep(self, limit_s: float) -> None:
        soon = 0
        while True:
            begun = asyncio.get_running_loop().time()
            assert self._process is not None
            code = await self._ended(self._process)
            self.ready = False
            self.changed()
            lived_s = asyncio.get_running_loop().time() - begun
            soon = 0 if lived_s > _STEADY_S else min(soon + 1, len(_BACKOFF_S))
            note(f"{self.name} ended with {code}; started again in {_BACKOFF_S[max(soon - 1, 0)]:g} s")
            await asyncio.sleep(_BACKOFF_S[max(soon - 1, 0)])
            self.restarts += 1
            try:
                # Not wait_for: that of Python 3.11 loses a cancellation which comes as the child gets ready.
                async with asyncio.timeout(limit_s):
                    await self._once()
            except Exception as error:  # noqa: BLE001 - a keeper that ends would keep nothing alive any more
                note(f"{self.name} did not come back: {str(error) or type(error).__name__}")
                self._end_unready()

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """Wait for its end, and tell of one that was stopped; it isn't killed, for whoever stopped it may go on."""
        ended, stopped = asyncio.ensure_future(process.wait()), False
        try:
            while not (await asyncio.wait({ended}, timeout=_LOOK_S))[0]:
                if is_stopped(process.pid) != stopped:
                    stopped = not stopped
                    told = "is stopped and does nothing; kill -CONT lets it go on, kill -9 has it started anew"
                    note(f"{self.name} (pid {process.pid}) {told if stopped else 'goes on'}")
            return ended.result()
        finally:
            ended.cancel()

    def _end_unready(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


def note(text: str) -> None:
    """A line for whoever watches `up`: on standard error, so that `--json` stays one document; JSON in `up.log`."""
    if logs.begun():
        log.warning("%s", text)
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"qcos: {text}\n")
        sys.stderr.flush()
