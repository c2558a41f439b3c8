# SPDX-License-Identifier: Apache-2.0
"""Sessions: the jobs of one workflow share one, where a backend has them (S9)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.jobs.session import close_idle
from control_plane.jobs.spec import ProgramUnsupported
from hal_drivers.errors import BackendUnavailable
from tests.control_plane.jobs.desk import Desk, bell, report
from tests.control_plane.jobs.ends import NOTHING, finish
from tests.fakes import FakeDriver


async def with_sessions(desk: Desk) -> FakeDriver:
    """A backend that has sessions, as its worker reports it."""
    driver = FakeDriver()
    driver.capabilities = msgspec.structs.replace(driver.capabilities, session=True)
    await report(desk, driver)
    desk.plane.known.forget()
    return driver


async def run(desk: Desk, driver: FakeDriver, workflow: str = "vqe-1", **changes: Any) -> str:
    """One step of a workflow, in its session; the state that it ends in."""
    job_id = await desk.admitted(execution__session=True, workflow__id=workflow, **changes)
    await (await desk.attempt(driver)).advance()
    return await finish(desk, job_id)


async def test_the_jobs_of_a_workflow_share_one_session(desk: Desk) -> None:
    driver = await with_sessions(desk)
    assert [await run(desk, driver) for _ in range(3)] == ["COMPLETED"] * 3
    assert {task.session for task in driver.tasks.values()} == {"session-1"}
    assert await run(desk, driver, "vqe-2") == "COMPLETED"
    assert await run(desk, driver, workflow__session="run-2") == "COMPLETED"
    assert driver.opened == 3


async def test_all_items_of_a_program_run_in_it(desk: Desk) -> None:
    driver = await with_sessions(desk)
    document = bell(execution__session=True, workflow__id="vqe-1")
    document["program"] = {"kind": "sampler", "circuits": [document.pop("circuit")] * 3}
    await desk.submit(document)
    await desk.seal()
    await (await desk.attempt(driver)).advance()
    assert [task.session for task in driver.tasks.values()] == ["session-1"] * 3


async def test_a_session_that_the_device_has_ended_is_opened_anew(desk: Desk) -> None:
    driver = await with_sessions(desk)
    assert await run(desk, driver) == "COMPLETED"
    driver.sessions.clear()
    assert await run(desk, driver) == "COMPLETED"
    assert [task.session for task in driver.tasks.values()] == ["session-1", "session-2"]


async def test_a_session_that_can_not_be_opened_fails_the_job_and_costs_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await with_sessions(desk)

    async def away(backend: str) -> str:
        raise BackendUnavailable(f"{backend} is away")

    monkeypatch.setattr(driver, "open_session", away)
    assert await run(desk, driver) == "FAILED"
    assert (driver.submissions, await desk.money()) == (0, NOTHING)


async def test_what_no_job_has_used_for_long_is_closed(desk: Desk) -> None:
    driver = await with_sessions(desk)
    await run(desk, driver)
    assert await close_idle(desk.plane, {"fake": driver}) == 0
    assert await close_idle(desk.plane, {"another": driver}, 0.0) == 0
    assert await close_idle(desk.plane, {"fake": driver}, 0.0) == 1
    assert driver.sessions == set()
    assert await run(desk, driver) == "COMPLETED"
    assert driver.opened == 2


async def test_where_no_backend_has_sessions_one_is_refused(desk: Desk, driver: FakeDriver) -> None:
    assert not driver.capabilities.session
    with pytest.raises(ProgramUnsupported, match="no backend of this plane has sessions"):
        await desk.submit(bell(execution__session=True, workflow__id="vqe-1"))
