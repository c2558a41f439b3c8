# SPDX-License-Identifier: Apache-2.0
"""At the dispatch gate a hold is made right for the backend that was chosen: its provider's budgets join (I3, G7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import finops.store
from control_plane import crash, seed
from control_plane.jobs import transition, view
from control_plane.jobs.live import Bell
from control_plane.jobs.run import Run
from control_plane.policy.pdp import Pdp
from control_plane.sealing import utc_now
from control_plane.worker import Worker
from hal_drivers.base import Compiled, CompileRequest
from tests.control_plane.jobs.desk import Desk, bell, report
from tests.control_plane.jobs.desk import desk as open_desk
from tests.control_plane.jobs.ends import NOTHING, finish
from tests.fakes import Broken, FakeDriver
from tests.postgres import TestDatabase

ONE, TWO = "provider:aer", "provider:remote"
D = Decimal
ANY = {"execution__backend_constraints": {"allowed_providers": ["aer", "remote"]}}


@pytest.fixture
def fleet() -> dict[str, FakeDriver]:
    """Two backends of two providers; the first is chosen first, for it is cheaper."""
    return {"first": FakeDriver("first", provider="aer"), "second": FakeDriver("second", provider="remote")}


@pytest.fixture
async def plane(database: TestDatabase, tmp_path: Path, pdp: Pdp, fleet: dict[str, FakeDriver]) -> AsyncIterator[Desk]:
    async with open_desk(database, tmp_path, pdp) as opened:
        for driver in fleet.values():
            await report(opened, driver)
        yield opened


async def attempt(plane: Desk, fleet: dict[str, FakeDriver]) -> Run:
    (claimed,) = await plane.claim()
    return Run(plane.plane, fleet, claimed)


async def limit(plane: Desk, scope: str, amount: str, unit: str = "USD", mode: str = "hard") -> None:
    async with plane.plane.transaction("demo") as conn:
        changed = await finops.store.set_budget(conn, "demo", scope, "monthly", D(amount), unit, mode=mode)
        await seed._tell(conn, "demo", "budget:set", changed.body())


async def held(plane: Desk) -> dict[str, tuple[Decimal, Decimal]]:
    """(held, captured) by scope."""
    async with plane.plane.transaction("demo") as conn:
        views = await finops.store.show(conn, "demo", utc_now())
    return {one.scope: (one.held, one.captured) for one in views}


async def agrees(plane: Desk) -> None:
    replayed = await plane.replayed()
    assert replayed.differences == []


async def test_the_providers_budget_joins_at_the_gate(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    """I3: two providers could run it, so neither is charged at admission; the one that runs it is."""
    await limit(plane, ONE, "10")
    await limit(plane, TWO, "10")
    job_id = await plane.admitted(**ANY)
    assert (await held(plane))[ONE] == (await held(plane))[TWO] == NOTHING
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    cost = (await plane.row(job_id))["cost_amount"]
    assert await held(plane) == {"project:demo": (D(0), cost), ONE: (D(0), cost), TWO: NOTHING}
    await agrees(plane)


async def test_a_provider_without_room_is_left_out_and_another_tried(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    await limit(plane, ONE, "0.10")
    job_id = await plane.admitted(**ANY)
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    job = view.shown(await plane.row(job_id))
    assert job["backend"] == "second"
    why = next(line["reason"] for line in job["route"] if line["backend"] == "first")
    assert why == "provider:aer (monthly) has 0.1 USD left of 0.1, 0.52 asked"
    await agrees(plane)


async def test_where_no_provider_has_room_the_job_waits_and_says_for_what(
    plane: Desk, fleet: dict[str, FakeDriver]
) -> None:
    """It runs once a limit is raised: what others hold may come back."""
    await limit(plane, ONE, "0.10")
    await limit(plane, TWO, "0.20")
    job_id = await plane.admitted(**ANY)
    assert await plane.claim() == []
    waiting = view.shown(await plane.row(job_id))["waiting"]
    assert waiting["code"] == "budget_exceeded"
    assert [(one["scope"], one["available"]) for one in waiting["budgets"]] == [(ONE, "0.1"), (TWO, "0.2")]
    await limit(plane, TWO, "5")
    plane.lose_lease()
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    assert view.shown(await plane.row(job_id))["waiting"] is None
    await agrees(plane)


async def test_what_waits_long_is_looked_at_ever_less_often(plane: Desk) -> None:
    """Else a few hundred that wait take every look, and what could run never gets one."""
    await limit(plane, ONE, "0.10")
    await limit(plane, TWO, "0.10")
    await plane.admitted(**ANY)
    for waited, seconds in (("0", 1), ("8 seconds", 1), ("80 seconds", 10), ("1 day", 30)):
        moment = f"to_char((now() - interval '{waited}') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        plane.sql(f"UPDATE jobs.job SET waiting = waiting || jsonb_build_object('since', {moment})")
        plane.lose_lease()
        assert await plane.claim() == []
        ((left,),) = plane.sql("SELECT extract(epoch FROM lease_until - clock_timestamp())::float FROM jobs.job")
        assert seconds - 1 < left <= seconds + 1, waited


async def test_a_worker_looks_at_all_that_is_due_before_it_rests(
    plane: Desk, fleet: dict[str, FakeDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few it may run at once: what only waits takes no place."""
    await limit(plane, ONE, "0.10")
    await limit(plane, TWO, "0.10")
    for _ in range(9):
        await plane.submit(bell(**ANY))
    await plane.seal()
    worker = Worker(plane.plane, fleet, "w1", Bell(plane.database.app, lambda _: True), 2)
    looked: list[int] = []

    async def rest(stop: asyncio.Event) -> None:
        looked.append(len(plane.sql("SELECT 1 FROM jobs.job WHERE waiting IS NOT NULL")))
        stop.set()

    monkeypatch.setattr(worker, "_rest", rest)
    await asyncio.wait_for(worker.serve(asyncio.Event()), 30)
    assert looked == [9]


async def test_who_waits_for_room_too_long_fails_by_the_budgets_name(plane: Desk) -> None:
    await limit(plane, ONE, "0.10")
    await limit(plane, TWO, "0.10")
    job_id = await plane.admitted(**ANY)
    plane.sql("UPDATE jobs.job SET submitted_at = submitted_at - interval '30 days'")
    assert await plane.claim() == []
    row = await plane.row(job_id)
    assert (row["final"], row["error"]["code"]) == ("FAILED", "budget_exceeded")
    assert "provider:aer (monthly) has 0.1 USD left" in row["error"]["detail"]


async def test_a_budget_that_was_spent_meanwhile_sends_the_job_elsewhere(
    plane: Desk, fleet: dict[str, FakeDriver]
) -> None:
    """I3: the move that hands it on is the authority; looked at before it, there was room."""
    await limit(plane, ONE, "10")
    job_id = await plane.admitted(**ANY)
    run = await attempt(plane, fleet)
    await limit(plane, ONE, "0.5")
    await run.advance()
    row = await plane.row(job_id)
    assert (row["state"], fleet["first"].submissions) == ("QUEUED", 0)
    assert (await held(plane))[ONE] == NOTHING
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    assert (await plane.row(job_id))["backend"] == "second"


async def test_a_providers_budget_that_is_set_while_the_job_is_compiled_binds_it(
    plane: Desk, fleet: dict[str, FakeDriver]
) -> None:
    """I3: who stops a provider stops what isn't handed over yet."""
    job_id = await plane.admitted(**ANY)
    run, first = await attempt(plane, fleet), fleet["first"]
    first.compiling.clear()
    running = asyncio.create_task(run.advance())
    async with asyncio.timeout(20):
        while not plane.sql("SELECT 1 FROM jobs.job WHERE state = 'COMPILING'"):  # noqa: ASYNC110 - told when it is slow
            await asyncio.sleep(0.01)
    await limit(plane, ONE, "0")
    first.compiling.set()
    await running
    assert (first.submissions, (await held(plane))[ONE]) == (0, NOTHING)
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    assert (await plane.row(job_id))["backend"] == "second"
    await agrees(plane)


async def test_one_that_is_set_while_it_is_compiled_at_once_binds_it_too(
    plane: Desk, fleet: dict[str, FakeDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.admitted(**ANY)
    task, first = await attempt(plane, fleet), fleet["first"]
    compiles = first.compile

    async def compiled(request: CompileRequest) -> Compiled:
        await limit(plane, ONE, "0")
        return await compiles(request)

    monkeypatch.setattr(first, "compile", compiled)
    monkeypatch.setattr("control_plane.jobs.run.QUICK_S", 60.0)
    await task.advance()
    assert (first.submissions, (await held(plane))[ONE]) == (0, NOTHING)


async def test_one_that_is_set_while_its_admission_is_not_sealed_binds_it_too(
    plane: Desk, fleet: dict[str, FakeDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.submit(bell(**ANY))
    task, first, looked = await attempt(plane, fleet), fleet["first"], asyncio.Event()
    writes = transition.write

    async def written(*asked: Any, **more: Any) -> None:
        try:
            await writes(*asked, **more)
        except transition.NotSealed:
            looked.set()
            raise

    monkeypatch.setattr(transition, "write", written)
    running = asyncio.create_task(task.advance())
    async with asyncio.timeout(20):
        await looked.wait()
        await limit(plane, ONE, "0")
        await plane.seal()
        await running
    assert (first.submissions, (await held(plane))[ONE]) == (0, NOTHING)


async def test_failover_takes_the_share_along(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    await limit(plane, ONE, "10")
    await limit(plane, TWO, "10")
    job_id = await plane.admitted(**ANY)
    fleet["first"].breaks["submit"] = Broken("it broke")
    await (await attempt(plane, fleet)).advance()
    before = await held(plane)
    assert (before[ONE][0] > 0, before[TWO]) == (True, NOTHING)
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    cost = (await plane.row(job_id))["cost_amount"]
    after = await held(plane)
    assert (after[ONE], after[TWO]) == (NOTHING, (D(0), cost))
    await agrees(plane)


async def test_a_providers_quota_counts_what_ran_there(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    await limit(plane, ONE, "1500", "shots")
    for expected in ("first", "second"):
        job_id = await plane.admitted(**ANY)
        await (await attempt(plane, fleet)).advance()
        assert await finish(plane, job_id) == "COMPLETED"
        assert (await plane.row(job_id))["backend"] == expected
    assert (await held(plane))[ONE] == (D(0), D(1000))
    await agrees(plane)


@pytest.mark.parametrize("mode", ["soft", "advisory"])
async def test_a_providers_soft_budget_counts_and_stops_nothing(
    plane: Desk, fleet: dict[str, FakeDriver], mode: str
) -> None:
    await limit(plane, ONE, "0.10", mode=mode)
    job_id = await plane.admitted(**ANY)
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    assert (await held(plane))[ONE] == (D(0), (await plane.row(job_id))["cost_amount"])
    await agrees(plane)


async def test_a_budget_in_another_currency_ends_the_job_that_only_it_could_pay(plane: Desk) -> None:
    await limit(plane, ONE, "10", "EUR")
    await limit(plane, TWO, "10", "EUR")
    job_id = await plane.admitted(**ANY)
    assert await plane.claim() == []
    assert (await plane.row(job_id))["error"]["code"] == "currency_mismatch"


@pytest.mark.parametrize("point", ["run.judged", "run.intending", "run.intended", "run.submitted", "run.settling"])
async def test_a_crash_leaves_the_hold_whole(
    plane: Desk, fleet: dict[str, FakeDriver], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """I3: wherever a worker ends, the next one finds one hold, in the right budgets, once."""
    await limit(plane, ONE, "10")
    job_id = await plane.admitted(**ANY)
    run = await attempt(plane, fleet)

    class Killed(BaseException):
        pass

    def end(name: str) -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(crash, "point", end)
        with pytest.raises(Killed):
            await run.advance()
    await agrees(plane)
    for _ in range(3):
        plane.lose_lease()
        for claimed in await plane.claim():
            await Run(plane.plane, fleet, claimed).advance()
        if (await plane.row(job_id))["final"]:
            break
    assert await finish(plane, job_id) == "COMPLETED"
    cost = (await plane.row(job_id))["cost_amount"]
    assert (await held(plane))[ONE] == (D(0), cost)
    await agrees(plane)


def quota(plane: Desk, scope: str, most: int, unit: str, period: str) -> Any:
    async def change() -> None:
        async with plane.plane.transaction("demo") as conn:
            changed = await finops.store.set_budget(conn, "demo", scope, period, D(most), unit)
            await seed._tell(conn, "demo", "budget:set", changed.body())

    return change()


async def test_jobs_at_once_are_bounded_by_a_quota_and_the_refusal_names_it(
    plane: Desk, fleet: dict[str, FakeDriver]
) -> None:
    """G7: `quota_exceeded` beside a decision that allowed; the next is admitted once the first has ended."""
    await quota(plane, "project:demo", 1, "jobs", "concurrent")
    job_id = await plane.admitted(**ANY)
    refused = await plane.submit()
    assert (refused.state, refused.problem) == ("DENIED", "quota_exceeded")
    advised = view.submitted(await plane.submit(dry_run=True))
    error = (await plane.row(refused.job_id))["error"]
    assert (advised["state"], advised["error"]) == ("DENIED", error)
    assert error["detail"] == "project:demo (concurrent) has 0 jobs left of 1, 1 asked"
    assert error["budgets"] == [
        {
            "scope": "project:demo",
            "period": "concurrent",
            "limit": "1",
            "held": "1",
            "captured": "0",
            "available": "0",
            "currency": "jobs",
            "asked": "1",
        }
    ]
    await plane.seal()
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    assert (await plane.submit()).state == "QUEUED"
    await agrees(plane)


@pytest.mark.parametrize("scope", ["workflow:loop", "session:spsa"])
async def test_a_batch_and_a_session_have_budgets(plane: Desk, scope: str) -> None:
    """G7: the jobs of one workflow, or of one part of it, share what its budget leaves."""
    await limit(plane, scope, "0.80")
    spec = bell(workflow={"id": "loop", "session": "spsa"})
    assert (await plane.submit(spec)).state == "QUEUED"
    refused = await plane.submit(spec)
    assert (refused.state, refused.problem) == ("DENIED", "budget_exceeded")
    assert (await plane.submit(bell(workflow={"id": "other"}))).state == "QUEUED"
    await agrees(plane)
