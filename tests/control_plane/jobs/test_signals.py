# SPDX-License-Identifier: Apache-2.0
"""Cancel, hold and resume, before, while and after a job runs (N9)."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from control_plane.errors import Refused
from control_plane.jobs import control, leases
from control_plane.jobs.run import Run
from control_plane.jobs.transition import MovedOn
from tests.control_plane.jobs.desk import Desk, person
from tests.control_plane.jobs.ends import NOTHING, finish, soon
from tests.fakes import FakeDriver


async def test_a_waiting_job_is_cancelled_here_and_now(desk: Desk, driver: FakeDriver) -> None:
    """S1: CANCELED, free of charge, with evidence; asking again changes nothing."""
    job_id = await desk.admitted()
    await control.signal(desk.plane, person(), "cancel", job_id)
    after = desk.counts()
    await control.signal(desk.plane, person(), "cancel", job_id)
    assert desk.counts() == after
    assert await desk.claim() == []
    assert await finish(desk, job_id) == "CANCELED"
    assert await desk.money() == NOTHING


async def test_a_running_job_is_stopped_and_costs_nothing(desk: Desk, driver: FakeDriver) -> None:
    job_id = await desk.admitted()
    run = await desk.attempt(driver)
    driver.gate.clear()
    going = asyncio.create_task(run.advance())
    await soon(lambda: driver.tasks)
    await control.signal(desk.plane, person(), "cancel", job_id)
    async with desk.plane.transaction(None) as conn:
        held = await leases.heartbeat(conn, "w1", 10, [("demo", job_id), ("demo", "no-such-job")])
    assert held == {("demo", job_id): True}
    run.cancel()
    await going
    assert await finish(desk, job_id) == "CANCELED"
    assert await desk.money() == NOTHING
    assert len(driver.stopped) == 1


async def test_a_cancel_before_the_intent_keeps_the_backend_out_of_it(desk: Desk, driver: FakeDriver) -> None:
    job_id = await desk.admitted()
    run = await desk.attempt(driver)
    await control.signal(desk.plane, person(), "cancel", job_id)
    with pytest.raises(MovedOn):
        await run.advance()
    assert driver.submissions == 0
    assert await finish(desk, job_id) == "CANCELED"


async def test_a_cancel_that_comes_too_late_says_so(desk: Desk, driver: FakeDriver) -> None:
    job_id = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    with pytest.raises(Refused) as caught:
        await control.signal(desk.plane, person(), "cancel", job_id)
    assert caught.value.code == "too_late"


async def test_a_cancel_that_was_asked_of_a_lost_worker_is_kept(desk: Desk, driver: FakeDriver) -> None:
    """The worker died before it heard of it: whoever takes the job next ends it."""
    job_id = await desk.admitted()
    await desk.attempt(driver, "w1")
    await control.signal(desk.plane, person(), "cancel", job_id)
    for _ in range(3):
        desk.lose_lease()
        for claimed in await desk.claim("w2"):
            await Run(desk.plane, {"fake": driver}, claimed).advance()
    assert await finish(desk, job_id) == "CANCELED"
    assert driver.submissions == 0
    assert await desk.money() == NOTHING


async def test_a_held_job_waits_until_it_is_resumed(desk: Desk, driver: FakeDriver) -> None:
    """S1: hold and resume are entries, idempotent, and refuse what has ended."""
    job_id = await desk.admitted()
    for _ in range(2):
        await control.signal(desk.plane, person(), "hold", job_id)
    assert await desk.claim() == []
    for _ in range(2):
        await control.signal(desk.plane, person(), "resume", job_id)
    assert desk.kinds()[-2:] == ["job:control:held", "job:control:resumed"]
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    for what in ("hold", "resume"):
        with pytest.raises(Refused) as caught:
            await control.signal(desk.plane, person(), what, job_id)
        assert caught.value.code == "transition_refused"


async def test_a_held_job_can_be_cancelled(desk: Desk) -> None:
    job_id = await desk.admitted()
    await control.signal(desk.plane, person(), "hold", job_id)
    await control.signal(desk.plane, person(), "cancel", job_id)
    assert await finish(desk, job_id) == "CANCELED"
    assert await desk.money() == NOTHING


async def test_signals_and_claims_at_once_leave_one_story(desk: Desk, driver: FakeDriver) -> None:
    """S3: holds, resumes, cancels and claims race; whatever order wins, the ledger folds to the row."""
    job_ids = [await desk.admitted() for _ in range(4)]
    signals = [
        control.signal(desk.plane, person(), what, job_id)
        for job_id in job_ids
        for what in ("hold", "resume", "cancel", "hold", "resume")
    ]
    claims = [desk.claim(f"w{n}", 2) for n in range(4)]
    outcomes = await asyncio.gather(*signals, *claims, return_exceptions=True)
    assert all(isinstance(o, Refused | list | type(None)) for o in outcomes), outcomes
    for claimed in [one for found in outcomes if isinstance(found, list) for one in found]:
        with contextlib.suppress(MovedOn):
            await Run(desk.plane, {"fake": driver}, claimed).advance()
    await desk.seal()
    for job_id in job_ids:
        assert await finish(desk, job_id) == "CANCELED"
    assert await desk.money() == NOTHING


async def test_another_tenants_signal_finds_no_job(desk: Desk) -> None:
    """I7."""
    job_id = await desk.admitted()
    with pytest.raises(Refused) as caught:
        await control.signal(desk.plane, person("ann", "other"), "cancel", job_id)
    assert caught.value.code == "not_found"
