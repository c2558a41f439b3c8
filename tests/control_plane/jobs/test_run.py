# SPDX-License-Identifier: Apache-2.0
"""From claim to settled outcome: who may run, and what each end costs (I1, I3)."""

from __future__ import annotations

import asyncio
import dataclasses
from decimal import Decimal

import pytest
from msgspec.structs import replace

from control_plane.errors import QcosError, Refused
from control_plane.jobs import evidence, settle, transition
from control_plane.jobs.run import Run
from control_plane.jobs.transition import MovedOn
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet
from finops.errors import FinopsError
from hal_drivers.base import Failed
from hal_drivers.errors import BackendUnavailable, CircuitInvalid
from tests.control_plane.jobs.desk import Desk, bell
from tests.control_plane.jobs.ends import NOTHING, finish, soon
from tests.fakes import Broken, FakeDriver


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


async def test_a_decision_that_can_not_be_had_at_the_gate_is_waited_for(desk: Desk, driver: FakeDriver) -> None:
    """I5, path step 5: the policies changed and the engine is away: the job goes back, and nothing runs."""

    class Away:
        name = "away"

        async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
            raise PolicyUnavailable("gone")

        async def ready(self, policies: PolicySet) -> None: ...

        async def close(self) -> None: ...

    job_id = await desk.admitted()
    (claimed,) = await desk.claim("w1")
    pushed = Held(replace(desk.plane.pdp.held.current, revision="sha256:new"))
    await Run(dataclasses.replace(desk.plane, pdp=Pdp(Away(), pushed)), {"fake": driver}, claimed).advance()
    assert (await desk.row(job_id))["state"] == "QUEUED"
    assert driver.submissions == 0
    desk.lose_lease()
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"


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


async def test_a_program_of_one_circuit_runs_as_the_circuit_would(desk: Desk, driver: FakeDriver) -> None:
    """G1: the long form, with a set of parameters and without."""
    for sets in ([], [{"theta": 0.5}]):
        spec = bell()
        spec["program"] = {"kind": "sampler", "circuits": [spec.pop("circuit")], "parameters": sets}
        admission = await desk.submit(spec)
        await desk.seal()
        await (await desk.attempt(driver)).advance()
        assert await finish(desk, admission.job_id) == "COMPLETED"
