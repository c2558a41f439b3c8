# SPDX-License-Identifier: Apache-2.0
"""From claim to settled outcome: who may run, what each end costs, and what becomes of a lost worker's job (I1, I3)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import psycopg
import pytest
from msgspec.structs import replace

from control_plane.errors import QcosError, Refused
from control_plane.jobs import control, evidence, leases, settle, store, transition
from control_plane.jobs.claim import MAX_ATTEMPTS
from control_plane.jobs.live import Bell
from control_plane.jobs.run import Run
from control_plane.jobs.transition import MovedOn
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.pdp import Pdp
from control_plane.worker import Worker
from finops.errors import FinopsError
from hal_drivers.base import Failed
from hal_drivers.errors import BackendUnavailable, CircuitInvalid
from tests.control_plane.jobs.desk import Desk, bell, person
from tests.fakes import Broken, Dead, FakeDriver

NOTHING = (Decimal(0), Decimal(0))


async def soon(true: Callable[[], Any]) -> None:
    """Let other tasks go on until it is true; the test's own limit bounds it."""
    while not true():  # noqa: ASYNC110 - the other side knows of no event
        await asyncio.sleep(0.005)


async def finish(desk: Desk, job_id: str) -> str:
    """Seal what the job left; its state then, after the books and rows were held against the ledger (I6)."""
    await desk.seal()
    assert (await desk.replayed()).differences == []
    return await desk.state(job_id)


async def test_nothing_is_handed_over_before_the_admission_is_sealed(desk: Desk, driver: FakeDriver) -> None:
    """I1: durable is not enough: the job is compiled, and waits with what it would hand over."""
    admission = await desk.submit()
    running = asyncio.create_task((await desk.attempt(driver)).advance())
    await soon(lambda: driver.compilations)
    await asyncio.sleep(0.05)
    assert (driver.submissions, await desk.state(admission.job_id)) == (0, "QUEUED")
    assert "job:dispatch:intended" not in desk.kinds()
    await desk.seal()
    await running
    assert driver.submissions == 1
    assert await finish(desk, admission.job_id) == "COMPLETED"


async def test_a_compilation_that_takes_long_is_told_while_it_does(desk: Desk, driver: FakeDriver) -> None:
    """N9: COMPILING is seen, by an entry of its own; the intent then tells the rest."""
    job_id = await desk.admitted()
    driver.compiling.clear()
    running = asyncio.create_task((await desk.attempt(driver)).advance())
    await soon(lambda: desk.kinds()[-1] == "job:attempt:started")
    assert await desk.state(job_id) == "COMPILING"
    driver.compiling.set()
    await running
    assert desk.kinds()[-3:] == ["job:attempt:started", "job:dispatch:intended", "job:outcome:completed"]
    assert await finish(desk, job_id) == "COMPLETED"


async def test_a_job_whose_workers_are_lost_before_anything_is_told_ends(desk: Desk, driver: FakeDriver) -> None:
    """N10: what breaks each worker that takes it doesn't go round for ever."""
    job_id = await desk.admitted()
    for turn in range(MAX_ATTEMPTS):
        assert len(await desk.claim(f"w{turn}")) == 1
        desk.lose_lease()
    assert await desk.claim() == []
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["error"]["code"] == "job_lost"


async def test_a_job_runs_once_and_pays_what_it_used(desk: Desk, driver: FakeDriver) -> None:
    """G9, I3: one task, the charge captured, the rest of the hold released."""
    job_id = await desk.admitted()
    held, _ = await desk.money()
    await (await desk.attempt(driver)).advance()
    row = await desk.row(job_id)
    assert (row["state"], row["final"], row["attempt"], driver.submissions) == ("SEALING", "COMPLETED", 1, 1)
    assert await desk.money() == (Decimal(0), row["cost_amount"])
    assert Decimal(0) < row["cost_amount"] < held
    assert desk.kinds()[-2:] == ["job:dispatch:intended", "job:outcome:completed"]
    assert [event["state"] for event in row["history"]] == ["QUEUED", "COMPILING", "RESERVING", "EXECUTING", "SEALING"]
    assert await finish(desk, job_id) == "COMPLETED"


@pytest.mark.parametrize("column", ["result_blob", "spec_blob", "statement_blob", "pseudonym", "history", "executions"])
async def test_a_row_that_tells_another_jobs_facts_is_named(desk: Desk, driver: FakeDriver, column: str) -> None:
    """I6: a row that points to another's result would be served as this job's; the fold tells."""
    other = await desk.admitted(execution__shots=10)
    await (await desk.attempt(driver)).advance()
    job_id = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    assert (await desk.replayed()).differences == []
    wrong = {"pseudonym": "'a-nobody'", "history": "'[]'", "executions": "7"}
    taken = wrong.get(column, f"(SELECT {column} FROM jobs.job WHERE job_id = '{other}')")
    desk.sql(f"UPDATE jobs.job SET {column} = {taken} WHERE job_id = %s", job_id)
    replayed = await desk.replayed()
    assert replayed.differences == [f"job {job_id} of demo: {column} is not what the ledger tells"]


async def test_no_result_is_given_before_its_evidence_is_sealed(desk: Desk, driver: FakeDriver) -> None:
    """I1: the outcome is durable, the state still says SEALING and the evidence 409."""
    job_id = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    row = await desk.row(job_id)
    assert (await desk.state(job_id), row["ready"]) == ("SEALING", False)
    async with desk.plane.transaction("demo") as conn:
        with pytest.raises(Refused) as caught:
            await evidence.bundle(desk.plane, conn, row)
    assert caught.value.code == "evidence_pending"


@pytest.mark.parametrize("call", ["compile", "submit", "poll", "result"])
async def test_a_driver_that_fails_fails_the_job_with_its_cause_and_costs_nothing(
    desk: Desk, driver: FakeDriver, call: str
) -> None:
    """N9, I3: FAILED from COMPILING and from EXECUTING; the whole hold is released."""
    job_id = await desk.admitted()
    driver.breaks[call] = Broken("it broke")
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "FAILED"
    row = await desk.row(job_id)
    assert row["error"] == {"code": "backend_failed", "detail": "it broke"}
    assert await desk.money() == NOTHING


async def test_a_task_that_fails_at_the_backend_fails_the_job(desk: Desk, driver: FakeDriver) -> None:
    job_id = await desk.admitted()
    run = await desk.attempt(driver)
    driver.gate.clear()
    going = asyncio.create_task(run.advance())
    await soon(lambda: driver.tasks)
    driver.failed[next(iter(driver.tasks))] = Failed("deadline_exceeded", "too long")
    driver.gate.set()
    await going
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["error"]["code"] == "deadline_exceeded"
    assert await desk.money() == NOTHING


async def test_a_bad_circuit_fails_before_anything_is_handed_over(desk: Desk, driver: FakeDriver) -> None:
    job_id = await desk.admitted()
    driver.breaks["compile"] = CircuitInvalid("line 3")
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["token"] is None
    assert driver.submissions == 0


async def test_a_circuit_deeper_than_asked_is_stopped_at_the_gate(desk: Desk, driver: FakeDriver) -> None:
    """G1: max_depth judges the compiled circuit."""
    job_id = await desk.admitted(execution__backend_constraints={"max_depth": 3})
    driver.depth = 4
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["error"]["code"] == "depth_exceeded"
    assert driver.submissions == 0


async def test_a_backend_that_is_away_before_the_intent_puts_the_job_back(desk: Desk, driver: FakeDriver) -> None:
    """N10: nothing was handed over, so the job waits for the backend and runs then."""
    job_id = await desk.admitted()
    driver.breaks["compile"] = BackendUnavailable("rebooting")
    await (await desk.attempt(driver)).advance()
    assert (await desk.row(job_id))["state"] == "QUEUED"
    driver.breaks.clear()
    desk.lose_lease()
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    assert "job:attempt:abandoned" not in desk.kinds()  # nothing was told that had to be taken back


async def test_a_job_that_was_put_back_takes_a_breath(desk: Desk, driver: FakeDriver) -> None:
    await desk.admitted()
    driver.breaks["compile"] = BackendUnavailable("rebooting")
    await (await desk.attempt(driver)).advance()
    assert await desk.claim() == []


async def test_settling_twice_is_refused_and_charges_once(desk: Desk, driver: FakeDriver) -> None:
    """I3: capture and release are unique by job, and the second transaction leaves nothing."""
    job_id = await desk.admitted()
    run = await desk.attempt(driver)
    stale = dict(run.job)
    await run.advance()
    paid, before = await desk.money(), desk.counts()
    for job in (stale, dict(await desk.row(job_id))):
        with pytest.raises((MovedOn, QcosError, FinopsError)):
            change = await settle.settle(
                desk.plane, job, run.spec, run.claimed.submitted, settle.Failure("backend_failed", "again")
            )
            await transition.write(desk.plane, dict(job), change)
    assert await desk.money() == paid
    assert desk.counts() == before
    assert await finish(desk, job_id) == "COMPLETED"


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


async def lost_after_intent(desk: Desk, driver: FakeDriver, call: str) -> str:
    """A job whose worker died at `call`, after the intent was committed; its lease is over."""
    job_id = await desk.admitted()
    driver.breaks[call] = Dead()
    with pytest.raises(Dead):
        await (await desk.attempt(driver)).advance()
    driver.breaks.clear()
    row = await desk.row(job_id)
    assert row["state"] == "EXECUTING"
    assert row["token"] is not None
    desk.lose_lease()
    return job_id


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


async def test_a_decision_that_can_not_be_had_at_the_gate_is_waited_for(desk: Desk, driver: FakeDriver) -> None:
    """I5, path step 5: the policies changed and the engine is away: the job goes back, and nothing runs."""

    class Away:
        name = "away"
        policies = replace(desk.plane.pdp.engine.policies, revision="sha256:new")

        async def evaluate(self, input_json: bytes) -> object:
            raise PolicyUnavailable("gone")

        async def ready(self) -> None: ...

        async def close(self) -> None: ...

    job_id = await desk.admitted()
    (claimed,) = await desk.claim("w1")
    await Run(dataclasses.replace(desk.plane, pdp=Pdp(Away())), {"fake": driver}, claimed).advance()
    assert (await desk.row(job_id))["state"] == "QUEUED"
    assert driver.submissions == 0
    desk.lose_lease()
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"


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


async def test_a_decision_of_another_revision_is_made_anew_at_the_gate(desk: Desk, driver: FakeDriver) -> None:
    """Path step 5: the job was admitted under other policies: a new decision, recorded, before anything runs."""
    job_id = await desk.admitted()
    desk.sql("UPDATE jobs.job SET decision = jsonb_set(decision, '{policy_revision}', '\"sha256:old\"')")
    await (await desk.attempt(driver)).advance()
    assert desk.kinds().count("policy:decision:allow") == 2
    assert await finish(desk, job_id) == "COMPLETED"


async def test_a_backend_whose_facts_changed_is_judged_anew_at_the_gate(desk: Desk, driver: FakeDriver) -> None:
    """Path step 5: it was moved out of the zone that the job's classification needs, while the job waited."""
    job_id = (await desk.submit(bell(governance__classification="internal-restricted"))).job_id
    await desk.seal()
    desk.sql("UPDATE jobs.backend SET compliance_zone = 'cloud', sovereign = false")
    desk.plane.known.forget()
    await (await desk.attempt(driver)).advance()
    assert driver.submissions == 0
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["error"]["code"] == "policy_denied"


async def test_a_rate_card_changed_in_the_database_prices_nothing(desk: Desk, driver: FakeDriver) -> None:
    """G6, I6: the job that named it fails with the cause, the next is refused, and the replay names the card."""
    job_id = await desk.admitted()
    cheaper = "convert_to(replace(convert_from(document, 'UTF8'), '0.30', '0.01'), 'UTF8')"
    desk.sql(f"UPDATE finops.rate_card SET document = {cheaper}")
    desk.plane.known.forget()
    assert await desk.claim() == []
    with pytest.raises(FinopsError, match="was changed"):
        await desk.submit()
    assert (await desk.row(job_id))["error"]["code"] == "unknown_price"
    await desk.seal()
    assert any("rate card" in line and "was changed" in line for line in (await desk.replayed()).differences)


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


async def test_a_program_of_one_circuit_runs_as_the_circuit_would(desk: Desk, driver: FakeDriver) -> None:
    """G1: the long form, with a set of parameters and without."""
    for sets in ([], [{"theta": 0.5}]):
        spec = bell()
        spec["program"] = {"kind": "sampler", "circuits": [spec.pop("circuit")], "parameters": sets}
        admission = await desk.submit(spec)
        await desk.seal()
        await (await desk.attempt(driver)).advance()
        assert await finish(desk, admission.job_id) == "COMPLETED"


async def test_two_claimers_never_share_a_job(desk: Desk) -> None:
    """N9: a job is claimed once."""
    for _ in range(6):
        await desk.submit(bell())
    await desk.seal()
    found = await asyncio.gather(*(desk.claim(f"w{n}", 3) for n in range(4)))
    claimed = [one.row["job_id"] for batch in found for one in batch]
    assert len(claimed) == len(set(claimed)) == 6
