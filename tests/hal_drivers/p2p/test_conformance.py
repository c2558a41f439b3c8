# SPDX-License-Identifier: Apache-2.0
"""The driver's conformance suite over the real thing: fabric and nodes as processes, libp2p between them (G14, N6).

`test_driver` runs the same over desks in one process; what differs here is all that lies between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import msgspec
import pytest

from hal_drivers.base import Canceled, Driver, Finished, Stopped, Task, Witness
from hal_drivers.p2p.identity import verify
from hal_drivers.p2p.office import RunResult
from tests.busy import Watch, gone
from tests.conformance.driver import CHECKS, LONG, Check
from tests.hal_drivers.p2p.peers import until
from tests.hal_drivers.p2p.test_driver import asked, driver_of
from tests.hal_drivers.p2p.test_over_the_network import Lab

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        made = Lab(tmp_path_factory.mktemp("lab"), stack)
        made.populate()
        yield made


@pytest.fixture
async def driver(lab: Lab) -> AsyncIterator[Driver]:
    made = driver_of(lab.folder / "f" / "fabric.sock")
    async with made:
        for _ in range(600):
            if (await made.status("p2p")).online:
                break
            await asyncio.sleep(0.05)
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_network_of_processes_is_a_device_like_any_other(driver: Driver, check: Check) -> None:
    await check(driver, (await driver.devices())[0])


async def test_a_cancel_stops_the_node_that_runs_and_is_told_with_its_words(lab: Lab, driver: Driver) -> None:
    """N6: nothing of it runs any more, not even in the node's child."""
    by_pid = {node.process.pid: node_id for node_id, node in lab.nodes.items()}
    watch = Watch(by_pid)
    await asyncio.to_thread(until, "nothing goes on", watch.settled)
    compiled = await driver.compile(asked(LONG))
    handle = await driver.submit(compiled, Task(token="long", shots=100_000, seed=1, deadline_s=60))
    pid, child = await asyncio.to_thread(until, "a node computes", watch.computing)
    node_id = by_pid[pid]
    assert isinstance(await driver.cancel(handle), Canceled)
    assert isinstance(await driver.poll(handle), Stopped)
    await asyncio.to_thread(until, "its child is killed", lambda: gone(child))
    assert isinstance(driver, Witness)
    (shown,) = await driver.exhibits(handle)
    run = msgspec.json.decode(shown.data, type=RunResult).run
    assert run.state == "canceled"
    assert {one.status for one in run.fragments} <= {"canceled", "completed"}
    stopped = [
        attempt
        for one in run.fragments
        for attempt in one.attempts
        if (attempt.node_id, attempt.status) == (node_id, "canceled")
    ]
    worked = max(stopped, key=lambda attempt: len(attempt.answers))
    assert worked.answers, "it gave the window"
    for answer in worked.answers:
        verify(answer)
    after = await driver.submit(await driver.compile(asked()), Task(token="after", shots=100, seed=1))
    assert isinstance(await driver.poll(after, 30), Finished)
