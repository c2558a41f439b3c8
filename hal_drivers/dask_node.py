# SPDX-License-Identifier: Apache-2.0
"""What a process of a Dask cluster does with an order: runs it through a local driver that it keeps.

Both functions run on the event loop of Dask's worker. One driver a backend stands there, with as many guarded children
as the worker has threads, warm for the next task. A task that is stopped has its child killed.
"""

from __future__ import annotations

import asyncio

import msgspec

from hal_drivers.base import Driver, Handle
from hal_drivers.config import DriversConfig
from hal_drivers.errors import DriverError
from hal_drivers.order import Broken, Order, encode, read_order, run
from hal_drivers.table import open_drivers

_drivers: dict[bytes, Driver] = {}
_running: dict[str, tuple[Driver, Handle]] = {}
_opening = asyncio.Lock()


async def carry_out(data: bytes) -> bytes:
    """An encoded Answer for an encoded Order; never raises for what the circuit or the backend does."""
    order = read_order(data)
    try:
        return encode(await run(await _driver(order), order, _began))
    except DriverError as error:
        return encode(Broken(error.code, error.detail))
    finally:
        _running.pop(order.task.token, None)


def _began(driver: Driver, handle: Handle) -> None:
    _running[str(handle["token"])] = driver, handle


async def stop(token: str) -> bool:
    """Kill the task; whether it ran here."""
    if token not in _running:
        return False
    driver, handle = _running[token]
    await driver.cancel(handle)
    return True


async def _driver(order: Order) -> Driver:
    facts = msgspec.msgpack.encode((order.backend, order.limits, order.require_walls))
    async with _opening:
        if facts not in _drivers:
            config = DriversConfig(
                backends=(order.backend,), children=_threads(), require_walls=order.require_walls, limits=order.limits
            )
            driver = open_drivers(config)[order.backend.id]
            await driver.__aenter__()  # it lives as long as this process, and its children die with it
            _drivers[facts] = driver
        return _drivers[facts]


def _threads() -> int:
    from distributed import get_worker

    threads: int = get_worker().state.nthreads
    return threads
