# SPDX-License-Identifier: Apache-2.0
"""What becomes of a lost worker's job, at whatever step it was lost; leases and claims (I3, N10)."""

from __future__ import annotations

import asyncio
import dataclasses
from decimal import Decimal
from typing import Any, Literal

import psycopg
import pytest
from msgspec.structs import replace

from control_plane.jobs import evidence, leases, settle, store
from control_plane.jobs.claim import MAX_ATTEMPTS
from control_plane.jobs.live import Bell
from control_plane.jobs.run import Run
from control_plane.jobs.transition import MovedOn
from control_plane.worker import Worker
from hal_drivers.errors import BackendUnavailable
from tests.control_plane.jobs.desk import Desk, bell
from tests.control_plane.jobs.ends import finish, lost_after_intent, soon
from tests.fakes import Dead, FakeDriver


async def test_a_job_whose_workers_are_lost_before_anything_is_told_ends(desk: Desk, driver: FakeDriver) -> None:
    """N10: what breaks each worker that takes it doesn't go round for ever."""
    job_id = await desk.admitted()
    for turn in range(MAX_ATTEMPTS):
        assert len(await desk.claim(f"w{turn}")) == 1
        desk.lose_lease()
    assert await desk.claim() == []
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["error"]["code"] == "job_lost"


async def test_a_worker_that_lost_its_lease_writes_nothing(desk: Desk, driver: FakeDriver) -> None:
    """I3: the late worker has a result; another has the job; only the other's counts."""
    job_id = await desk.admitted()
    late = await desk.attempt(driver, "late")
    desk.lose_lease()
    (claimed,) = await desk.claim("w2")
    before = desk.counts()
    with pytest.raises(MovedOn):
        await late.advance()
    assert desk.counts() == before
    assert driver.submissions == 0
    await Run(desk.plane, {"fake": driver}, claimed).advance()
    row = await desk.row(job_id)
    assert (row["final"], row["attempt"], driver.submissions) == ("COMPLETED", 1, 1)
    assert await finish(desk, job_id) == "COMPLETED"


async def test_of_two_workers_that_end_one_job_one_counts(desk: Desk, driver: FakeDriver) -> None:
    """I3: a stalled worker and the one that recovered its task both bring the result; it is charged once."""
    job_id = await desk.admitted()
    driver.gate.clear()
    stalled = asyncio.create_task((await desk.attempt(driver, "w1")).advance())
    await soon(lambda: desk.sql("SELECT 1 FROM jobs.job WHERE handle IS NOT NULL"))
    desk.lose_lease()
    other = await desk.attempt(driver, "w2")
    driver.gate.set()
    ends = await asyncio.gather(stalled, other.advance(), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["MovedOn", "NoneType"]
    assert driver.submissions == 1
    assert await finish(desk, job_id) == "COMPLETED"
    assert await desk.money() == (Decimal(0), (await desk.row(job_id))["cost_amount"])


async def test_a_task_that_is_found_again_is_not_submitted_again(desk: Desk, driver: FakeDriver) -> None:
    """Path step 6: the worker died after the backend took the task and before the handle was stored."""
    job_id = await lost_after_intent(desk, driver, "submitted")
    await (await desk.attempt(driver, "w2")).advance()
    assert driver.submissions == 1
    assert await finish(desk, job_id) == "COMPLETED"


async def test_a_task_that_surely_never_ran_goes_back_to_the_queue(desk: Desk, driver: FakeDriver) -> None:
    """Path step 4: `find` is authoritative, so None proves that nothing runs; the next attempt has a new token."""
    job_id = await lost_after_intent(desk, driver, "submit")
    token = (await desk.row(job_id))["token"]
    await (await desk.attempt(driver, "w2")).advance()
    row = await desk.row(job_id)
    assert (row["state"], row["token"], driver.submissions) == ("QUEUED", None, 0)
    desk.lose_lease()
    await (await desk.attempt(driver, "w2")).advance()
    row = await desk.row(job_id)
    assert row["token"] != token
    assert (row["attempt"], driver.submissions) == (2, 1)
    assert await finish(desk, job_id) == "COMPLETED"


@pytest.mark.parametrize("call", ["submit", "submitted"])
async def test_a_task_that_nobody_can_find_is_uncertain_and_its_hold_parked(
    desk: Desk, driver: FakeDriver, call: str
) -> None:
    """I3, path step 6: never resubmitted by itself; the money stays held, and the job has evidence."""
    driver.capabilities = replace(driver.capabilities, find_authoritative=False)
    driver.remembers = False
    job_id = await lost_after_intent(desk, driver, call)
    held = await desk.money()
    await (await desk.attempt(driver, "w2")).advance()
    assert await finish(desk, job_id) == "UNCERTAIN"
    row = await desk.row(job_id)
    assert row["error"]["code"] == "outcome_unknown"
    assert row["bundle_id"] is not None
    assert await desk.money() == held
    assert desk.sql("SELECT state FROM finops.hold") == [("parked",)]
    desk.lose_lease()
    assert await desk.claim("w3") == []


@pytest.mark.parametrize("call", ["poll", "result"])
async def test_a_backend_that_is_away_while_it_holds_the_task_is_waited_for(
    desk: Desk, driver: FakeDriver, call: str
) -> None:
    """I3: what was handed over may run, so it is neither failed nor submitted again: it is found again later."""
    job_id = await desk.admitted()
    driver.breaks[call] = BackendUnavailable("no answer")
    await (await desk.attempt(driver)).advance()
    assert (await desk.row(job_id))["state"] == "EXECUTING"
    for away in (True, False):
        driver.breaks = {"find": BackendUnavailable("no answer")} if away else {}
        desk.lose_lease()
        await (await desk.attempt(driver, "w2")).advance()
    assert driver.submissions == 1
    assert await finish(desk, job_id) == "COMPLETED"


async def test_a_worker_without_the_driver_leaves_the_task_to_others(desk: Desk, driver: FakeDriver) -> None:
    """I3: it can't ask, so it must not put the job back and have it submitted twice."""
    job_id = await lost_after_intent(desk, driver, "submitted")
    (claimed,) = await desk.claim("w2")
    await Run(desk.plane, {}, claimed).advance()
    assert (await desk.row(job_id))["state"] == "EXECUTING"
    desk.lose_lease()
    await (await desk.attempt(driver, "w3")).advance()
    assert driver.submissions == 1
    assert await finish(desk, job_id) == "COMPLETED"


@pytest.mark.parametrize("scope", ["process", "anywhere"])
async def test_a_worker_that_lost_its_lease_stops_its_own_work_and_no_one_elses(
    desk: Desk, driver: FakeDriver, scope: Literal["process", "anywhere"]
) -> None:
    """I3: a task in its own process is wasted work; at a vendor it belongs to the worker that has the job now."""
    driver.capabilities = replace(driver.capabilities, handle_scope=scope)
    await desk.admitted()
    run = await desk.attempt(driver)
    driver.gate.clear()
    going = asyncio.create_task(run.advance())
    await soon(lambda: driver.tasks)
    run.lose()
    with pytest.raises(MovedOn):
        await going
    assert len(driver.stopped) == (scope == "process")


async def test_a_heartbeat_renews_only_what_is_worked_on(desk: Desk, driver: FakeDriver) -> None:
    """N10: an attempt that broke loses its lease while its worker lives on with other jobs."""
    first, second = [await desk.admitted() for _ in range(2)]
    assert len(await desk.claim("w1")) == 2
    desk.lose_lease()
    async with desk.plane.transaction(None) as conn:
        held = await leases.heartbeat(conn, "w1", 10, [("demo", first)])
    assert held == {("demo", first): False}
    over = desk.sql("SELECT job_id FROM jobs.job WHERE lease_until < now()")
    assert over == [(second,)]


async def test_a_worker_takes_jobs_as_they_come_and_survives_one_that_breaks_it(
    desk: Desk, driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    """N9, N10: the loop itself: an attempt that raises what nobody foresaw is told in the log, the others end."""
    desk.plane = dataclasses.replace(desk.plane, settings=replace(desk.plane.settings, lease_s=0.5))
    driver.breaks["compile"] = RuntimeError("unforeseen")
    worker = Worker(desk.plane, {"fake": driver}, "w1", Bell(desk.database.app, lambda _: True), 2)
    stop = asyncio.Event()
    job_ids = [await desk.admitted() for _ in range(3)]
    serving = asyncio.create_task(worker.serve(stop))
    await soon(lambda: "unforeseen" in caplog.text)
    driver.breaks.clear()
    await soon(lambda: desk.sql("SELECT count(*) FROM jobs.job WHERE final = 'COMPLETED'") == [(3,)])
    stop.set()
    await serving
    for job_id in job_ids:
        assert await finish(desk, job_id) == "COMPLETED"


async def test_a_worker_that_starts_while_the_database_is_away_waits_for_it(
    desk: Desk, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N10: PostgreSQL recovers from a crash for a while; a worker that died of it would start ever later."""
    worker = Worker(desk.plane, {"fake": driver}, "w1", Bell(desk.database.app, lambda _: True), 2)
    away = [psycopg.OperationalError("starting up"), ConnectionRefusedError()]
    report = worker.report

    async def reported() -> None:
        if away:
            raise away.pop()
        await report()

    monkeypatch.setattr(worker, "report", reported)
    desk.sql("DELETE FROM jobs.backend")
    await worker.begin()
    assert not away
    assert desk.sql("SELECT id FROM jobs.backend") == [("fake",)]


STEPS: dict[str, tuple[Any, str]] = {
    "intended": (store, "advance"),
    "handle kept": (store, "keep_handle"),
    "settled: evidence": (evidence, "predicate"),
    "settled: written": (settle, "settle"),
}
DRIVER_STEPS = ("compile", "submit", "submitted", "poll", "result")


@pytest.mark.parametrize("step", [*STEPS, *DRIVER_STEPS])
async def test_a_worker_killed_at_any_step_leaves_a_job_that_ends_once(
    desk: Desk, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """I3, N10: whatever step it died at, another ends the job; one charge, no open hold, rows as the ledger folds."""
    job_id = await desk.admitted()
    run = await desk.attempt(driver)
    with monkeypatch.context() as patched:
        if step in STEPS:
            module, name = STEPS[step]

            def dies(*_: Any, **__: Any) -> Any:
                raise Dead

            patched.setattr(module, name, dies)
        else:
            driver.breaks[step] = Dead()
        with pytest.raises(Dead):
            await run.advance()
    driver.breaks.clear()
    for turn in range(4):
        desk.lose_lease()
        await desk.seal()
        for claimed in await desk.claim(f"w{turn}"):
            await Run(desk.plane, {"fake": driver}, claimed).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    row = await desk.row(job_id)
    assert await desk.money() == (Decimal(0), row["cost_amount"])
    assert desk.kinds().count("job:outcome:completed") == 1


@pytest.mark.parametrize("write", ["intended", "settled"])
async def test_a_worker_killed_before_it_hears_of_its_write_leaves_a_job_that_ends_once(
    desk: Desk, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """I3: the write is durable, its answer is lost."""
    job_id = await desk.admitted()
    run = await desk.attempt(driver)
    real, left = store.advance, iter(range(("intended", "settled").index(write)))

    async def unheard(*given: Any) -> Any:
        moved = await real(*given)
        if next(left, None) is None:
            raise Dead
        return moved

    with monkeypatch.context() as patched:
        patched.setattr(store, "advance", unheard)
        with pytest.raises(Dead):
            await run.advance()
    for turn in range(4):
        desk.lose_lease()
        await desk.seal()
        for claimed in await desk.claim(f"w{turn}"):
            await Run(desk.plane, {"fake": driver}, claimed).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    assert desk.kinds().count("job:outcome:completed") == 1


async def test_a_write_sent_again_answers_as_it_did_and_writes_once(desk: Desk, driver: FakeDriver) -> None:
    """N10: a connection that broke in the middle is no reason to lose or double a move."""
    await desk.admitted()
    change = (await desk.attempt(driver)).claimed.begun
    assert change is not None
    assert await store.advance(desk.plane.engine, "demo", change) == "moved"
    before = desk.counts()
    assert await store.advance(desk.plane.engine, "demo", change) == "moved"
    assert desk.counts() == before


async def test_a_worker_that_dies_once_the_outcome_is_durable_loses_nothing(desk: Desk, driver: FakeDriver) -> None:
    job_id = await desk.admitted()
    driver.breaks["forget"] = Dead()
    with pytest.raises(Dead):
        await (await desk.attempt(driver)).advance()
    desk.lose_lease()
    assert await desk.claim("w2") == []
    assert await finish(desk, job_id) == "COMPLETED"


async def test_one_unreadable_job_does_not_stop_the_others(
    desk: Desk, driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    """N10: a spec whose content is gone is told and passed over; the queue goes on."""
    broken = await desk.admitted()
    sound = await desk.admitted()
    blob = (await desk.row(broken))["spec_blob"]
    desk.sql("DELETE FROM ledger.blob WHERE commitment = %s", blob)
    assert [claimed.row["job_id"] for claimed in await desk.claim()] == [sound]
    assert broken in caplog.text
    assert await desk.claim() == []


async def test_two_claimers_never_share_a_job(desk: Desk) -> None:
    """N9: a job is claimed once."""
    for _ in range(6):
        await desk.submit(bell())
    await desk.seal()
    found = await asyncio.gather(*(desk.claim(f"w{n}", 3) for n in range(4)))
    claimed = [one.row["job_id"] for batch in found for one in batch]
    assert len(claimed) == len(set(claimed)) == 6
