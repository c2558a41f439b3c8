# SPDX-License-Identifier: Apache-2.0
"""A task that is carried out on another machine: what the worker hands over, what comes back, and who does it there.

An Order holds all that a node needs and no credential: the backend's facts, the compiled circuit, the task. On the node
the same local driver runs it behind the same walls, with the same limits and meters as on the worker's machine
(decision 9); the answer is that driver's outcome, or why there is none.

``python -m hal_drivers.order FOLDER`` is the node's side for batch systems: it reads ``FOLDER/order``, says in
``FOLDER/started`` since when and as which batch job, and leaves ``FOLDER/answer``. Each file appears whole or not at
all. Messages are msgpack of closed structs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from hal_drivers.base import Compiled, Driver, Failed, Finished, Handle, Outcome, Stopped, Task
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendFailed, DriverError
from hal_drivers.limits import Limits
from hal_drivers.table import open_drivers, running

JOB_VARIABLE = "SLURM_JOB_ID"
STOPPED = "stopped"  # the code of an answer to a task that was stopped where it ran


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """One task for one node; ``backend`` names no cluster, because there it is local."""

    backend: BackendConfig
    limits: Limits
    require_walls: bool
    compiled: Compiled
    task: Task


class Done(Struct, frozen=True, tag="done", forbid_unknown_fields=True):
    """The driver there finished."""

    outcome: Outcome


class Broken(Struct, frozen=True, tag="broken", forbid_unknown_fields=True):
    """There is no outcome; the code is one of ``errors.py`` or ``deadline_exceeded``."""

    code: str
    detail: str


class Started(Struct, frozen=True, forbid_unknown_fields=True):
    """When the node began, and which job of the batch system it is."""

    at: datetime
    job: str


Answer: TypeAlias = Done | Broken

encode = msgspec.msgpack.Encoder().encode
_orders = msgspec.msgpack.Decoder(Order)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_started = msgspec.msgpack.Decoder(Started)


def uncounted(compiled: Compiled) -> Compiled:
    """What a node needs of it: tallies stay here, so that a node of an earlier release can read the order too."""
    return replace(compiled, facts=replace(compiled.facts, submitted=UNSET, runs=UNSET, uncounted=UNSET))


def read_order(data: bytes) -> Order:
    """Raises BackendFailed where the folder holds something else."""
    try:
        return _orders.decode(data)
    except msgspec.MsgspecError:
        raise BackendFailed("the task's folder holds no order that can be read") from None


def read_answer(data: bytes) -> Answer:
    """Raises BackendFailed where a node has left something else."""
    try:
        return _answers.decode(data)
    except msgspec.MsgspecError:
        raise BackendFailed("the node left no answer that can be read") from None


def read_started(data: bytes) -> Started:
    """Raises BackendFailed where a node has left something else."""
    try:
        return _started.decode(data)
    except msgspec.MsgspecError:
        raise BackendFailed("the node has not said when it started") from None


async def carry_out(order: Order) -> Answer:
    """Run the task through a local driver of its own; never raises for what the circuit or the backend does."""
    config = DriversConfig(
        backends=(order.backend,), children=1, require_walls=order.require_walls, limits=order.limits
    )
    try:
        drivers = open_drivers(config)
        async with running(drivers):
            return await run(drivers[order.backend.id], order)
    except DriverError as error:
        return Broken(error.code, error.detail)


async def run(driver: Driver, order: Order, began: Callable[[Driver, Handle], None] = lambda _, __: None) -> Answer:
    """The order's task through a driver that is entered; `began` has the handle by which it can be stopped."""
    handle = await driver.submit(order.compiled, order.task)
    began(driver, handle)
    try:
        while True:
            match await driver.poll(handle, order.task.deadline_s):
                case Finished():
                    return Done(await driver.result(handle))
                case Failed(code=code, detail=detail):
                    return Broken(code, detail)
                case Stopped():
                    return Broken(STOPPED, "stopped on request")
                case _:
                    continue
    except asyncio.CancelledError:
        await driver.cancel(handle)
        raise
    finally:
        await driver.forget(handle)


def write(path: Path, data: bytes) -> None:
    """Write a file that appears whole; only its owner reads it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def main() -> int:
    """Carry out the order in the folder named by the first argument."""
    folder = Path(sys.argv[1])
    write(folder / "started", encode(Started(datetime.now(UTC), os.environ.get(JOB_VARIABLE, ""))))
    order = read_order((folder / "order").read_bytes())
    write(folder / "answer", encode(asyncio.run(carry_out(order))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
