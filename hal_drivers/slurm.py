# SPDX-License-Identifier: Apache-2.0
"""Aer's engine on the nodes of a Slurm cluster: compiled here, run there as one batch job a task (issue 4, item 6).

``cluster = "slurm://PARTITION/FOLDER"`` names the partition and a folder that this machine and the nodes share. A task
is a folder in it, named after its token: the order, what the node leaves, and the number of its batch job. A batch job
is never requeued by Slurm, so a task runs at most once; another worker finds it by its folder or by the job's name.
What a node reports is checked like a child's answer, and its Slurm job id goes with the outcome, for sites join their
accounting on it.

Slurm's own words decide: a job that it no longer knows and that left nothing never ran. While its controller is away
nothing is concluded (BackendUnavailable).
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import msgspec

from hal_drivers.base import (
    Canceled,
    Cancellation,
    Compiled,
    DeviceStatus,
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
)
from hal_drivers.device import check_shots
from hal_drivers.errors import (
    BackendFailed,
    BackendUnavailable,
    BackendUnknown,
    HandleUnknown,
    NotFinished,
)
from hal_drivers.near import Near
from hal_drivers.order import (
    Answer,
    Broken,
    Done,
    Order,
    encode,
    read_answer,
    read_order,
    read_started,
    uncounted,
    write,
)
from hal_drivers.outcome import check_counts

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig
    from hal_drivers.local import LocalDriver

COMMAND_S = 20.0  # a Slurm command that says nothing for so long is as good as away
LOOK_S, ASK_S = 0.1, 2.0  # how often a task's folder is looked at, and its controller asked
SHARED_S = 10.0  # how late a file of a node's may appear here after its job has ended
START_S = 120.0  # what a node may take to start Python and its children, beyond the task's own deadline
NODE_BYTES = 640 << 20  # what the node's processes take beside the task's memory
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
WORKING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING", "RESIZING"})


class Place:
    """A backend's partition and shared folder, and the Slurm commands that act on them."""

    def __init__(self, cluster: str) -> None:
        """Raises BackendUnknown for a cluster that isn't ``slurm://PARTITION/FOLDER``."""
        url = urlsplit(cluster)
        if url.scheme != "slurm" or not url.netloc or len(url.path) < 2:
            raise BackendUnknown(
                "cluster: slurm://PARTITION/FOLDER names a partition and a folder that the nodes share"
            )
        self.partition, self.folder = url.netloc, Path(url.path)

    def name(self, token: str) -> str:
        """What the task's folder and, with a prefix, its batch job are called."""
        return hashlib.sha256(token.encode()).hexdigest()[:32]

    def of(self, token: str) -> Path:
        """The task's folder."""
        return self.folder / self.name(token)

    async def say(self, *words: str, script: str | None = None) -> str:
        """The output of a Slurm command; raises BackendUnavailable where it refuses or is not there."""
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError:
            raise BackendUnavailable(f"{words[0]} is not installed here") from None
        try:
            async with asyncio.timeout(COMMAND_S):
                told, said = await process.communicate(script.encode() if script is not None else None)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise BackendUnavailable(f"{words[0]} says nothing") from None
        if process.returncode and "nvalid job id" not in said.decode(errors="replace"):
            raise BackendUnavailable(f"{words[0]}: {_first_line(said)}")
        return told.decode(errors="replace").strip()

    async def room(self) -> int | None:
        """How many tasks of one processor each the partition has; None where it is not up."""
        told = await self.say("sinfo", "--noheader", f"--partition={self.partition}", "--format=%a %C")
        processors = re.match(r"up\s+\d+/\d+/\d+/(\d+)", told)
        return int(processors[1]) if processors is not None else None

    async def state(self, job: int) -> str | None:
        """Slurm's word for the job's state; None where it no longer knows it."""
        return (await self.say("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")) or None

    async def named(self, token: str) -> int | None:
        """The batch job of that token, ended or not, if Slurm knows one."""
        told = await self.say("squeue", "--noheader", "--states=all", f"--name=qcos-{self.name(token)}", "--format=%A")
        return int(told.split()[0]) if told.split() else None


class SlurmDriver(Near):
    """The backends of Slurm clusters."""

    def __init__(self, near: LocalDriver, backends: Sequence[BackendConfig], config: DriversConfig) -> None:
        super().__init__(near, backends, config)
        self._places = {backend.id: Place(backend.cluster or "") for backend in backends}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for place in self._places.values():
            with contextlib.suppress(OSError):  # `status` says that it isn't there
                place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    # ---- Query

    async def status(self, backend: str) -> DeviceStatus:
        place = self._place(backend)
        if not place.folder.is_dir():
            return DeviceStatus(online=False, queue_depth=0, reason="the folder that the nodes share is not there")
        try:
            waiting = await place.say(
                "squeue", "--noheader", f"--partition={place.partition}", "--states=PENDING", "--format=%A"
            )
            room = await place.room()
        except BackendUnavailable as error:
            return DeviceStatus(online=False, queue_depth=0, reason=error.detail)
        if room is None:
            return DeviceStatus(online=False, queue_depth=0, reason=f"partition {place.partition} is not up")
        self._room = room
        return DeviceStatus(online=True, queue_depth=len(waiting.split()))

    def _place(self, backend: str) -> Place:
        return self._places[self._configured(backend).id]

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        place, backend = self._place(compiled.backend), self._backends[compiled.backend]
        check_shots(task.shots, await self._device(compiled.backend))
        if (found := await self._found(compiled.backend, task.token)) is not None:
            return found
        order = Order(
            backend=msgspec.structs.replace(backend, cluster=None),
            limits=self._config.limits,
            require_walls=self._config.require_walls,
            compiled=uncounted(compiled),
            task=task,
        )
        folder = place.of(task.token)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            write(folder / "order", encode(order))
        except OSError:
            raise BackendUnavailable("the folder that the nodes share can't be written") from None
        told = await place.say(
            "sbatch",
            "--parsable",
            "--no-requeue",
            f"--partition={place.partition}",
            f"--job-name=qcos-{place.name(task.token)}",
            "--ntasks=1",
            "--cpus-per-task=1",
            f"--mem={(backend.memory_bytes + NODE_BYTES) >> 20}M",
            f"--time={math.ceil((task.deadline_s + START_S) / 60)}",
            f"--chdir={folder}",
            "--output=/dev/null",
            "--export=NONE",
            script=f"#!/bin/sh\nexec '{sys.executable}' -m hal_drivers.order '{folder}'\n",
        )
        job = int(told.partition(";")[0])
        write(folder / "job", str(job).encode())
        return self._handle(compiled.backend, task.token, job)

    def _handle(self, backend: str, token: str, job: int) -> Handle:
        return {"driver": "slurm", "backend": backend, "token": token, "job": job}

    async def find(self, token: str) -> Handle | None:
        for backend in self._backends:
            if (found := await self._found(backend, token)) is not None:
                return found
        return None

    async def _found(self, backend: str, token: str) -> Handle | None:
        place = self._place(backend)
        folder = place.of(token)
        if not folder.is_dir():
            return None
        if (told := _read(folder / "job")) is not None:
            return self._handle(backend, token, int(told))
        if (begun := _read(folder / "started")) is not None:
            return self._handle(backend, token, int(read_started(begun).job))
        job = await place.named(token)
        if job is None:
            return None
        write(folder / "job", str(job).encode())
        return self._handle(backend, token, job)

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        if (mine := self._mine(handle)) is None:
            return Unknown()
        place, folder, job = mine
        loop = asyncio.get_running_loop()
        until, ask = loop.time() + wait_s, 0.0
        status: Status = Queued()
        while True:
            if (answer := self._answer(folder)) is not None:
                return Finished() if isinstance(answer, Done) else Failed(code=answer.code, detail=answer.detail)
            if loop.time() >= ask:
                status, ask = await self._standing(place, folder, job), loop.time() + ASK_S
            if isinstance(status, Failed | Stopped | Finished) or loop.time() >= until:
                return status
            await asyncio.sleep(min(LOOK_S, max(0.0, until - loop.time())))

    async def _standing(self, place: Place, folder: Path, job: int) -> Status:
        """What Slurm and the folder say of a task that has no answer yet."""
        state = await place.state(job)
        if state in WAITING:
            return Queued()
        begun = _read(folder / "started")
        if state in WORKING:
            return Running(started_at=read_started(begun).at if begun is not None else datetime.now(UTC))
        waited = 0.0
        while waited < SHARED_S and self._answer(folder) is None and not (folder / "stopped").exists():
            await asyncio.sleep(LOOK_S)
            waited += LOOK_S
        if (answer := self._answer(folder)) is not None:
            return Finished() if isinstance(answer, Done) else Failed(code=answer.code, detail=answer.detail)
        if (folder / "stopped").exists():
            return Stopped()
        if state == "TIMEOUT":
            return Failed("deadline_exceeded", "Slurm ended the job at its time limit")
        return Failed(BackendFailed.code, f"the Slurm job ended without an answer ({(state or 'unknown').lower()})")

    async def cancel(self, handle: Handle) -> Cancellation:
        if (mine := self._mine(handle)) is None:
            raise HandleUnknown("no task of these clusters has that handle")
        place, folder, job = mine
        if (folder / "stopped").exists():
            return Canceled()
        if self._answer(folder) is not None:
            return TooLate()
        await place.say("scancel", str(job))
        while (await place.state(job)) in WAITING | WORKING:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(LOOK_S)
        if self._answer(folder) is not None:
            return TooLate()
        write(folder / "stopped", b"")
        return Canceled()

    async def result(self, handle: Handle) -> Outcome:
        if (mine := self._mine(handle)) is None:
            raise HandleUnknown("no task of these clusters has that handle")
        place, folder, job = mine
        answer = self._answer(folder)
        if not isinstance(answer, Done):
            raise NotFinished("the task has no result")
        order = read_order((folder / "order").read_bytes())
        check_counts(answer.outcome.counts, order.compiled.facts.clbits, order.task.shots)
        known = {"slurm_job_id": str(job), "slurm_partition": place.partition}
        outcome = answer.outcome
        return msgspec.structs.replace(outcome, metadata=outcome.metadata | known, accounting=known)

    def _answer(self, folder: Path) -> Answer | None:
        data = _read(folder / "answer")
        if data is None:
            return None
        try:
            return read_answer(data)
        except BackendFailed as error:
            return Broken(error.code, error.detail)

    async def forget(self, handle: Handle) -> None:
        if (mine := self._mine(handle)) is not None:
            shutil.rmtree(mine[1], ignore_errors=True)

    def _mine(self, handle: Handle) -> tuple[Place, Path, int] | None:
        place = self._places.get(str(handle.get("backend"))) if handle.get("driver") == "slurm" else None
        job = handle.get("job")
        if place is None or not isinstance(job, int):
            return None
        folder = place.of(str(handle.get("token")))
        return (place, folder, job) if folder.is_dir() else None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _first_line(said: bytes) -> str:
    """What a command complains of, without paths of this machine."""
    line = said.decode(errors="replace").strip().partition("\n")[0]
    return line.rpartition("error: ")[2][:200] or "refused"
