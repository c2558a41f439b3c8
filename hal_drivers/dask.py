# SPDX-License-Identifier: Apache-2.0
"""Aer's engine on a Dask cluster: compiled here, run behind the same walls in the cluster's processes (decision 7).

``cluster = "dask://HOST:PORT"`` names the scheduler. A task is one future, published under its token, so that another
worker of the plane finds it; in each of the cluster's processes it is carried out by the local driver with its guarded
children (`hal_drivers.dask_node`), which keep limits and meters. Cancelling kills the child there.

Dask speaks pickle: who can reach the scheduler is trusted like this machine. Outside profile ``dev`` it must be
``dasks://``, which takes Dask's own TLS settings. While the scheduler is away nothing is concluded
(BackendUnavailable). A cluster process that dies takes its task with it: the scheduler may give it to another, where
the same seed gives the same counts.
"""

# ruff: noqa: D102 - what each method promises stands in base.py

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import msgspec

from hal_drivers import dask_node
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
from hal_drivers.order import STOPPED, Broken, Done, Order, encode, read_answer, uncounted
from hal_drivers.outcome import check_counts

if TYPE_CHECKING:
    from distributed import Client, Future

    from hal_drivers.config import BackendConfig, DriversConfig
    from hal_drivers.local import LocalDriver

CONNECT_S, ANSWER_S = 5.0, 20.0
KEY = "qcos-"


class _Task:
    """A task of the cluster as this process knows it."""

    def __init__(self, future: Future, compiled: Compiled | None, shots: int | None) -> None:
        self.future, self.compiled, self.shots = future, compiled, shots
        self.started_at: datetime | None = None


class DaskDriver(Near):
    """The backends of one Dask scheduler."""

    def __init__(self, near: LocalDriver, backends: Sequence[BackendConfig], config: DriversConfig) -> None:
        super().__init__(near, backends, config)
        self._address = _address(backends, config)
        self._client: Client | None = None
        self._tasks: dict[str, _Task] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        with contextlib.suppress(BackendUnavailable):  # `status` says so; it may come later
            async with self._asking() as client:
                self._room = await _threads(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):  # what runs in the cluster is published and goes on without us
                async with asyncio.timeout(CONNECT_S):
                    await self._client.close()
        await super().__aexit__(kind, error, trace)

    async def _connected(self) -> Client:
        from distributed import Client

        if self._client is None:
            try:
                self._client = await Client(
                    self._address, asynchronous=True, timeout=CONNECT_S, set_as_default=False, name="qcos"
                )
            except (OSError, TimeoutError, ValueError):
                raise BackendUnavailable("the Dask scheduler doesn't answer") from None
        return self._client

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Client]:
        """The client, for a question that must be answered soon; its silence concludes nothing."""
        client = await self._connected()
        try:
            async with asyncio.timeout(ANSWER_S):
                yield client
        except (OSError, TimeoutError) as error:
            raise BackendUnavailable("the Dask scheduler doesn't answer") from error

    # ---- Query

    async def status(self, backend: str) -> DeviceStatus:
        self._configured(backend)
        try:
            async with self._asking() as client:
                self._room = await _threads(client)
        except BackendUnavailable as error:
            return DeviceStatus(online=False, queue_depth=0, reason=error.detail)
        if not self._room:
            return DeviceStatus(online=False, queue_depth=0, reason="the Dask cluster has no workers")
        open_ones = sum(1 for task in self._tasks.values() if not task.future.done())
        return DeviceStatus(online=True, queue_depth=max(0, open_ones - self._room))

    # ---- Control

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        backend = self._configured(compiled.backend)
        check_shots(task.shots, await self._device(compiled.backend))
        if (found := await self.find(task.token)) is not None:
            return found
        seeded = task if task.seed is not None else msgspec.structs.replace(task, seed=secrets.randbits(53))
        order = Order(
            backend=msgspec.structs.replace(backend, cluster=None, credential=None),
            limits=self._config.limits,
            require_walls=self._config.require_walls,
            compiled=uncounted(compiled),
            task=seeded,
        )
        key = KEY + task.token
        async with self._asking() as client:
            future = client.submit(dask_node.carry_out, encode(order), key=key, pure=False, retries=0)
            await client.publish_dataset(future, name=key)
        self._tasks[task.token] = _Task(future, compiled, task.shots)
        return self._handle(task.token)

    def _handle(self, token: str) -> Handle:
        return {"driver": "dask", "scheduler": self._address, "token": token}

    async def find(self, token: str) -> Handle | None:
        if token not in self._tasks:
            async with self._asking() as client:
                if KEY + token not in await client.list_datasets():
                    return None
                self._tasks[token] = _Task(await client.get_dataset(KEY + token), None, None)
        return self._handle(token)

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        task = await self._task(handle)
        if task is None:
            return Unknown()
        if wait_s > 0 and not task.future.done():
            await _ended(task.future, wait_s)
        if not task.future.done():
            return await self._standing(task)
        match await self._answer(task):
            case Done():
                return Finished()
            case Broken(code=code) if code == STOPPED:
                return Stopped()
            case Broken(code=code, detail=detail):
                return Failed(code=code, detail=detail)

    async def _standing(self, task: _Task) -> Status:
        if task.started_at is None:
            async with self._asking() as client:
                told = await client.processing()
            if any(task.future.key in keys for keys in told.values()):
                task.started_at = datetime.now(UTC)
        return Running(started_at=task.started_at) if task.started_at is not None else Queued()

    async def _answer(self, task: _Task) -> Done | Broken:
        """What the cluster left of an ended future."""
        future = task.future
        if future.status == "cancelled":
            return Broken(STOPPED, "cancelled before it started")
        if future.status != "finished":
            return Broken(BackendFailed.code, "the cluster lost the process that held the task")
        try:
            async with self._asking():
                return read_answer(await future)
        except BackendFailed as error:
            return Broken(error.code, error.detail)

    async def cancel(self, handle: Handle) -> Cancellation:
        task = await self._task(handle)
        if task is None:
            raise HandleUnknown("no task of this cluster has that handle")
        token = str(handle["token"])
        if not task.future.done():
            async with self._asking() as client:
                stopped: dict[str, Any] = await client.run(dask_node.stop, token)
                if not any(stopped.values()):  # no process has begun it, or it has just ended
                    await task.future.cancel()
                    stopped = await client.run(dask_node.stop, token)
            await _ended(task.future, ANSWER_S)
        answer = await self._answer(task)
        return Canceled() if isinstance(answer, Broken) and answer.code == STOPPED else TooLate()

    async def result(self, handle: Handle) -> Outcome:
        task = await self._task(handle)
        if task is None:
            raise HandleUnknown("no task of this cluster has that handle")
        answer = await self._answer(task) if task.future.done() else None
        if not isinstance(answer, Done):
            raise NotFinished("the task has no result")
        outcome = answer.outcome
        if not outcome.counts:
            raise BackendFailed("the cluster gave no counts")
        width = task.compiled.facts.clbits if task.compiled is not None else len(next(iter(outcome.counts)))
        check_counts(outcome.counts, width, task.shots if task.shots is not None else outcome.shots_executed)
        return outcome

    async def forget(self, handle: Handle) -> None:
        if await self._task(handle) is None:
            return
        token = str(handle["token"])
        del self._tasks[token]
        async with self._asking() as client:
            with contextlib.suppress(KeyError):
                await client.unpublish_dataset(KEY + token)

    async def _task(self, handle: Handle) -> _Task | None:
        if handle.get("driver") != "dask" or handle.get("scheduler") != self._address:
            return None
        token = str(handle.get("token"))
        return self._tasks.get(token) if await self.find(token) is not None else None


async def _threads(client: Client) -> int:
    """How many tasks the cluster runs at once."""
    told = await client.scheduler.identity()  # type: ignore[union-attr]
    return sum(worker["nthreads"] for worker in told["workers"].values())


async def _ended(future: Future, wait_s: float) -> None:
    """Wait until the future has ended, or no longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await future._state.wait()  # type: ignore[union-attr]  # noqa: SLF001 - its result() raises what it raised


def _address(backends: Sequence[BackendConfig], config: DriversConfig) -> str:
    """The scheduler's address as Dask writes it; raises BackendUnknown for one that may not be trusted."""
    url = urlsplit(backends[0].cluster or "")
    if url.hostname is None or url.port is None:
        raise BackendUnknown("cluster: dask://HOST:PORT names the scheduler")
    if url.scheme == "dask" and config.require_walls:
        raise BackendUnknown("cluster: outside profile dev a Dask cluster is reached by TLS: dasks://HOST:PORT")
    return f"{'tls' if url.scheme == 'dasks' else 'tcp'}://{url.netloc}"
