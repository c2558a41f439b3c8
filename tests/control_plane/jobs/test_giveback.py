# SPDX-License-Identifier: Apache-2.0
"""A worker that is told to stop loses no job: it finishes what it can, gives back the rest, and nobody waits (N10)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from control_plane.jobs.giveback import give_back
from control_plane.jobs.live import Bell
from control_plane.worker import Worker
from tests.control_plane.jobs.desk import Desk
from tests.fakes import FakeDriver

AT_ONCE_S = 20.0


async def soon(seen: Any) -> None:
    """Wait until something is so; a test's time limit ends it otherwise."""
    async with asyncio.timeout(AT_ONCE_S):
        while not seen():  # noqa: ASYNC110 - what is waited for is a row or a fake's state
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def working(desk: Desk, driver: FakeDriver, *, stop_limit_s: float) -> AsyncIterator[asyncio.Event]:
    """A worker that serves until the block sets the event, and has ended after it. Leases last an hour."""
    settings = replace(desk.plane.settings, lease_s=3600.0, stop_limit_s=stop_limit_s)
    plane = dataclasses.replace(desk.plane, settings=settings)
    worker = Worker(plane, {"fake": driver}, "w1", Bell(desk.database.app, lambda _: True), 2)
    stop = asyncio.Event()
    serving = asyncio.create_task(worker.serve(stop))
    try:
        yield stop
        await asyncio.wait_for(serving, AT_ONCE_S)
    finally:
        serving.cancel()


async def completes(desk: Desk, driver: FakeDriver, job_id: str) -> None:
    """Another worker takes the job now, no lease having ended, and brings it to its end."""
    driver.gate.set()
    async with working(desk, driver, stop_limit_s=60) as stop:
        await soon(lambda: desk.sql("SELECT final FROM jobs.job WHERE job_id = %s", job_id) == [("COMPLETED",)])
        stop.set()
    await desk.seal()
    assert await desk.state(job_id) == "COMPLETED"
    replayed = await desk.replayed()
    assert replayed.agrees, replayed.differences


async def test_what_ends_within_the_limit_is_finished(desk: Desk, driver: FakeDriver) -> None:
    """A stop asked for while a job runs: nothing more is claimed, the job ends as it would have."""
    driver.gate.clear()
    running = await desk.admitted()
    async with working(desk, driver, stop_limit_s=60) as stop:
        await soon(lambda: driver.tasks)
        stop.set()
        waiting = await desk.admitted()  # sealed later than any claim that was on its way
        driver.gate.set()
    assert desk.sql("SELECT final FROM jobs.job WHERE job_id = %s", running) == [("COMPLETED",)]
    assert desk.sql("SELECT state, attempt FROM jobs.job WHERE job_id = %s", waiting) == [("QUEUED", 0)]


async def test_what_runs_here_longer_than_the_limit_is_stopped_and_given_back(desk: Desk, driver: FakeDriver) -> None:
    """Its task is cancelled, its row queued, and the entry says why; the next worker starts it without any wait."""
    driver.capabilities = replace(driver.capabilities, handle_scope="process")
    driver.gate.clear()
    job_id = await desk.admitted()
    async with working(desk, driver, stop_limit_s=0) as stop:
        await soon(lambda: driver.tasks)
        stop.set()
    assert len(driver.stopped) == 1
    row = await desk.row(job_id)
    assert (row["state"], row["token"], row["worker"]) == ("QUEUED", None, None)
    assert desk.kinds()[-1] == "job:attempt:abandoned"
    await completes(desk, driver, job_id)
    assert driver.submissions == 2


async def test_a_vendors_task_runs_on_and_the_next_worker_finds_it(desk: Desk, driver: FakeDriver) -> None:
    """I3: what was handed over is neither cancelled nor submitted again; only the lease ends."""
    driver.gate.clear()
    job_id = await desk.admitted()
    async with working(desk, driver, stop_limit_s=0) as stop:
        await soon(lambda: desk.sql("SELECT handle FROM jobs.job WHERE handle IS NOT NULL"))
        stop.set()
    assert driver.stopped == set()
    row = await desk.row(job_id)
    assert (row["state"], row["worker"]) == ("EXECUTING", None)
    await completes(desk, driver, job_id)
    assert driver.submissions == 1


async def test_an_attempt_that_hangs_before_its_intent_is_ended_and_given_back(
    desk: Desk, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compile that doesn't answer keeps no worker from stopping."""
    hangs, entered = driver.compile, asyncio.Event()

    async def compile_never(_: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("control_plane.worker.LETTING_GO_S", 0.01)
    monkeypatch.setattr(driver, "compile", compile_never)
    job_id = await desk.admitted()
    async with working(desk, driver, stop_limit_s=0) as stop:
        await entered.wait()
        stop.set()
    assert desk.sql("SELECT state FROM jobs.job") == [("QUEUED",)]
    monkeypatch.setattr(driver, "compile", hangs)
    await completes(desk, driver, job_id)


@pytest.mark.parametrize("meanwhile", ["settled", "taken"])
async def test_a_job_that_moved_on_is_left_as_it_is(
    desk: Desk, driver: FakeDriver, meanwhile: Literal["settled", "taken"]
) -> None:
    """Giving back looks at the row under its lock: an end, or another worker's claim, stays."""
    job_id = await desk.admitted()
    run = await desk.attempt(driver, "w1")
    if meanwhile == "settled":
        await run.advance()
    else:
        desk.sql("UPDATE jobs.job SET worker = 'w2'")
    before = dict(await desk.row(job_id))
    await give_back(desk.plane, {"fake": driver}, ("demo", job_id), "w1")
    assert dict(await desk.row(job_id)) == before
