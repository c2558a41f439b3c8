# SPDX-License-Identifier: Apache-2.0
"""Overrides: a soft denial waits for a second person, and runs once as what they approved (G2, I3, I6)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import approving
from control_plane.jobs.approving import Approving, Rejecting
from control_plane.jobs.claim import claim
from control_plane.jobs.control import signal
from control_plane.jobs.giveback import give_back
from control_plane.jobs.run import Run
from control_plane.jobs.transition import MovedOn
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet, load
from control_plane.retention import acts
from control_plane.sealing import PlaneClock, utc_now
from hal_drivers.errors import BackendUnavailable, CircuitInvalid
from ledger.bundle import Bundle
from ledger.predicate import Approval
from tests.control_plane.jobs.desk import Desk, bell, person, report
from tests.control_plane.jobs.desk import desk as open_desk
from tests.control_plane.jobs.ends import evidence_of, finish
from tests.fakes import Dead, FakeDriver
from tests.postgres import TestDatabase

BOSS = person("boss", "demo", "quantum-admin")
YES, NO = Approving("the cooling is paid for", 3_600), Rejecting("not this week")
ENDED = {"COMPLETED", "FAILED", "CANCELED", "DENIED"}


def softened(policies: PolicySet, revision: str = "sha256:" + "5" * 64, **levels: str) -> PolicySet:
    """The same rules with few shots a job, and other levels of reasons."""
    data: dict[str, Any] = json.loads(json.dumps(policies.data))
    data["limits"]["default"]["max_shots"] = 500
    data["reasons"] |= levels
    return replace(policies, data=data, revision=revision)


@pytest.fixture(scope="session")
def soft() -> Pdp:
    """Too many shots may be overridden."""
    return Pdp(EmbeddedEngine(), Held(softened(load(), limit_exceeded="soft")))


@pytest.fixture
async def desk(database: TestDatabase, tmp_path: Path, soft: Pdp, driver: FakeDriver) -> AsyncIterator[Desk]:
    async with open_desk(database, tmp_path, soft) as opened:
        await report(opened, driver)
        yield opened


async def asked(desk: Desk, driver: FakeDriver, **changes: Any) -> str:
    """A job whose approval is requested."""
    admission = await desk.submit(bell(**changes))
    assert (admission.state, admission.problem) == ("AWAITING_APPROVAL", None)
    assert admission.decision is not None
    assert not admission.decision.allow
    await desk.seal()
    await (await desk.attempt(driver)).advance()
    assert (await given(desk, admission.job_id))["state"] == "requested"
    return admission.job_id


async def given(desk: Desk, job_id: str) -> dict[str, Any]:
    told: dict[str, Any] = (await desk.row(job_id))["approval"]
    return told


async def over(desk: Desk, job_id: str) -> Bundle:
    """The job's evidence once its end is sealed; rows and ledger agree, and nothing is held any more."""
    assert await finish(desk, job_id) in ENDED
    assert (await desk.money())[0] == 0
    return await evidence_of(desk, job_id)


def later(desk: Desk, **ahead: float) -> Plane:
    """The same plane when so much time has passed."""
    moved = dt.timedelta(**ahead)
    return dataclasses.replace(desk.plane, now=PlaneClock(lambda: utc_now() + moved))


def pushed(desk: Desk, **levels: str) -> Plane:
    """The same plane with other levels in force."""
    policies = softened(load(), "sha256:" + "7" * 64, **levels)
    return dataclasses.replace(desk.plane, pdp=Pdp(EmbeddedEngine(), Held(policies)))


async def claimed(plane: Plane, driver: FakeDriver) -> Run:
    """The one job there is, by a worker of this plane."""
    (found,) = await claim(plane, "w2", 8)
    return Run(plane, {"fake": driver}, found)


async def test_a_soft_denial_runs_once_a_second_person_approves(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    assert driver.submissions == 0
    assert (await desk.money())[0] > 0
    assert await desk.claim() == []
    await approving.answer(desk.plane, BOSS, job_id, YES)
    assert await desk.state(job_id) == "QUEUED"
    await (await desk.attempt(driver)).advance()
    bundle = await over(desk, job_id)
    assert (bundle.state, driver.submissions, driver.compilations) == ("COMPLETED", 1, 1)
    assert bundle.governance_record.policy_decisions == ("deny",)
    told = bundle.approval
    assert isinstance(told, Approval)
    assert told.answer is not None
    assert (told.state, told.answer.by, told.answer.reason) == ("used", "user:boss@demo", "the cooling is paid for")
    assert (told.reasons, told.backend) == (("limit_exceeded",), "fake")
    steps = [kind.removeprefix("job:approval:") for kind in desk.kinds() if kind.startswith("job:approval:")]
    assert steps == ["requested", "granted", "used"]
    assert desk.kinds().count("policy:decision:allow") == 1  # the approver's; the job's own is a denial


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (person("ann", "demo", "quantum-admin"), "own_override"),
        (person("peer"), "role_required"),
        (replace(BOSS, kind="service"), "person_required"),
    ],
)
async def test_who_may_not_approve_is_denied_with_an_entry(
    desk: Desk, driver: FakeDriver, who: Principal, code: str
) -> None:
    """Separation of duties: not who asked, nobody without the role, no service."""
    job_id = await asked(desk, driver)
    denials = desk.kinds().count("policy:decision:deny")
    for word in (YES, NO):
        with pytest.raises(Refused) as refused:
            await approving.answer(desk.plane, who, job_id, word)
        assert refused.value.code == "policy_denied"
        assert code in {reason["code"] for reason in refused.value.extras["reasons"]}
    assert desk.kinds().count("policy:decision:deny") == denials + 2
    assert await desk.state(job_id) == "AWAITING_APPROVAL"
    with pytest.raises(Refused, match="no job"):
        await approving.answer(desk.plane, person("boss", "other", "quantum-admin"), job_id, YES)


async def test_a_rejected_job_is_denied_and_its_hold_released(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    await approving.answer(desk.plane, BOSS, job_id, NO)
    bundle = await over(desk, job_id)
    assert (bundle.state, bundle.error and bundle.error.code) == ("DENIED", "approval_rejected")
    assert isinstance(bundle.approval, Approval)
    assert bundle.approval.answer is not None
    assert (bundle.approval.state, bundle.approval.answer.expires_at) == ("rejected", None)
    for late in (YES, NO):
        with pytest.raises(Refused) as refused:
            await approving.answer(desk.plane, BOSS, job_id, late)
        assert refused.value.code == "transition_refused"
    assert driver.submissions == 0


async def test_a_request_that_nobody_answers_ends(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    desk.lose_lease()
    assert await desk.claim() == []  # by this worker's clock there is time left
    plane = later(desk, days=8)
    with pytest.raises(Refused, match="nobody approved"):
        await approving.answer(plane, BOSS, job_id, YES)
    desk.lose_lease()
    assert await claim(plane, "w2", 8) == []
    bundle = await over(desk, job_id)
    assert (bundle.state, bundle.error and bundle.error.code) == ("DENIED", "approval_unanswered")
    assert "job:approval:expired" in desk.kinds()


async def test_an_approval_expires(desk: Desk, driver: FakeDriver) -> None:
    """Found by the claim; and by the gate where it ends while the job is on its way."""
    for found_by in ("claim", "gate"):
        job_id = await asked(desk, driver)
        await approving.answer(desk.plane, BOSS, job_id, YES)
        if found_by == "claim":
            assert await claim(later(desk, hours=2), "w2", 8) == []
        else:
            run = await desk.attempt(driver)
            await Run(later(desk, hours=2), run.drivers, run.claimed).advance()
        bundle = await over(desk, job_id)
        assert (bundle.state, bundle.error and bundle.error.code) == ("FAILED", "approval_expired")
    assert driver.submissions == 0


async def test_a_target_whose_facts_changed_is_not_what_was_approved(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    await approving.answer(desk.plane, BOSS, job_id, YES)
    desk.sql("UPDATE jobs.backend SET region = 'elsewhere'")
    desk.plane.known.forget()
    await (await desk.attempt(driver)).advance()
    bundle = await over(desk, job_id)
    assert (bundle.state, bundle.error and bundle.error.code) == ("FAILED", "approval_mismatch")
    assert "job:approval:refused" in desk.kinds()
    assert driver.submissions == 0


async def test_another_artefact_or_circuit_is_not_what_was_approved(desk: Desk, driver: FakeDriver) -> None:
    """Whoever can write rows and no entries gets nothing run: what is bound is compared with what would run."""
    for member in ("compiled", "sources"):
        job_id = await asked(desk, driver)
        await approving.answer(desk.plane, BOSS, job_id, YES)
        (before,) = desk.sql("SELECT approval FROM jobs.job WHERE job_id = %s", job_id)
        other = {"compiled": "sha256:" + "0" * 64, "sources": ["sha256:" + "0" * 64]}[member]
        forged = before[0] | {"bound": before[0]["bound"] | {member: other}}
        desk.sql("UPDATE jobs.job SET approval = %s WHERE job_id = %s", json.dumps(forged), job_id)
        await (await desk.attempt(driver)).advance()
        await desk.seal()
        assert ((await desk.row(job_id))["error"] or {})["code"] == "approval_mismatch"
    assert driver.submissions == 0


async def test_an_approval_forged_in_the_row_is_named_by_the_replay(desk: Desk, driver: FakeDriver) -> None:
    """I6: the ledger tells what was approved, and by whom."""
    job_id = await asked(desk, driver)
    desk.sql('UPDATE jobs.job SET approval = approval || \'{"state": "granted"}\'')
    replayed = await desk.replayed()
    assert replayed.differences == [f"job {job_id} of demo: approval is not what the ledger tells"]


async def test_a_worker_lost_before_the_intent_uses_nothing_up(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    await approving.answer(desk.plane, BOSS, job_id, YES)
    await desk.attempt(driver)
    desk.lose_lease()
    await (await desk.attempt(driver, "w3")).advance()
    assert (await over(desk, job_id)).state == "COMPLETED"
    assert desk.kinds().count("job:approval:used") == 1


async def test_a_worker_lost_while_the_request_is_made_leaves_it_to_another(desk: Desk, driver: FakeDriver) -> None:
    job_id = (await desk.submit()).job_id
    await desk.seal()
    slow = await desk.attempt(driver)
    desk.lose_lease()
    await (await desk.attempt(driver, "w3")).advance()
    with pytest.raises(MovedOn):
        await slow.advance()
    assert desk.kinds().count("job:approval:requested") == 1
    await approving.answer(desk.plane, BOSS, job_id, YES)
    await (await desk.attempt(driver)).advance()
    assert (await over(desk, job_id)).state == "COMPLETED"


async def test_an_approval_lets_one_attempt_through(desk: Desk, driver: FakeDriver) -> None:
    """A worker lost after the intent: what ran is found; what surely never ran isn't sent again by the same yes."""
    job_id = await asked(desk, driver)
    await approving.answer(desk.plane, BOSS, job_id, YES)
    driver.breaks["submit"] = Dead()
    with pytest.raises(Dead):
        await (await desk.attempt(driver)).advance()
    driver.breaks.clear()
    desk.lose_lease()
    await (await desk.attempt(driver, "w3")).advance()
    desk.lose_lease()
    assert await desk.claim() == []
    bundle = await over(desk, job_id)
    assert (bundle.state, bundle.error and bundle.error.code) == ("FAILED", "approval_used")
    assert driver.submissions == 0


async def test_what_ran_after_a_lost_worker_is_found_and_is_what_was_approved(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    await approving.answer(desk.plane, BOSS, job_id, YES)
    driver.breaks["submitted"] = Dead()
    with pytest.raises(Dead):
        await (await desk.attempt(driver)).advance()
    driver.breaks.clear()
    desk.lose_lease()
    await (await desk.attempt(driver, "w3")).advance()
    assert (await over(desk, job_id)).state == "COMPLETED"
    assert (driver.submissions, driver.compilations) == (1, 1)


@pytest.mark.parametrize("when", ["preparing", "requested", "granted"])
async def test_a_waiting_job_can_be_canceled(desk: Desk, driver: FakeDriver, when: str) -> None:
    job_id = (await desk.submit()).job_id if when == "preparing" else await asked(desk, driver)
    if when == "granted":
        await approving.answer(desk.plane, BOSS, job_id, YES)
    else:
        with pytest.raises(Refused, match="not QUEUED"):
            await signal(desk.plane, person(), "hold", job_id)
    await signal(desk.plane, person(), "cancel", job_id)
    assert await desk.claim() == []
    bundle = await over(desk, job_id)
    assert bundle.state == "CANCELED"
    assert isinstance(bundle.approval, Approval)
    assert bundle.approval.state == when


async def test_a_cancel_that_comes_while_the_request_is_made_stands(desk: Desk, driver: FakeDriver) -> None:
    job_id = (await desk.submit()).job_id
    await desk.seal()
    run = await desk.attempt(driver)
    await signal(desk.plane, person(), "cancel", job_id)
    with pytest.raises(MovedOn):
        await run.advance()
    assert (await over(desk, job_id)).state == "CANCELED"


async def test_policy_that_got_harder_since_stops_an_approved_job(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    await approving.answer(desk.plane, BOSS, job_id, YES)
    await (await claimed(pushed(desk, limit_exceeded="hard"), driver)).advance()
    bundle = await over(desk, job_id)
    assert (bundle.state, bundle.error and bundle.error.code) == ("FAILED", "policy_denied")
    assert driver.submissions == 0


async def test_an_approved_job_passes_policies_that_still_deny_it_softly(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    await approving.answer(desk.plane, BOSS, job_id, YES)
    await (await claimed(pushed(desk, limit_exceeded="soft"), driver)).advance()
    assert (await over(desk, job_id)).state == "COMPLETED"


async def test_a_hard_reason_beside_a_soft_one_denies_and_advice_does_not(desk: Desk) -> None:
    hard = await desk.submit(bell(governance__classification="no-such"))
    assert (hard.state, hard.problem) == ("DENIED", "policy_denied")
    advised = await desk.submit(plane=pushed(desk, limit_exceeded="advisory"))
    assert advised.state == "QUEUED"
    assert advised.decision is not None
    assert [(reason.code, reason.level) for reason in advised.decision.reasons] == [("limit_exceeded", "advisory")]


async def test_a_waiting_job_counts_in_quotas_and_budgets(desk: Desk, driver: FakeDriver) -> None:
    await asked(desk, driver)
    held = (await desk.money())[0]
    admission = await desk.submit(dry_run=True)
    assert admission.state == "AWAITING_APPROVAL"
    assert admission.decision is not None
    usage = json.loads(admission.decision.input)["usage"]
    assert (usage["running_jobs"], usage["project_shots_today"]) == (1, 1000)
    await desk.limit(str(held))
    assert (await desk.submit()).state == "DENIED"  # no approval makes room that isn't there (I3)


async def test_a_circuit_that_does_not_compile_fails_before_anybody_is_asked(desk: Desk, driver: FakeDriver) -> None:
    driver.breaks["compile"] = CircuitInvalid("no such gate")
    job_id = (await desk.submit()).job_id
    await desk.seal()
    await (await desk.attempt(driver)).advance()
    bundle = await over(desk, job_id)
    assert (bundle.state, bundle.error and bundle.error.code) == ("FAILED", "circuit_invalid")


async def test_a_backend_that_is_away_puts_the_request_off(desk: Desk, driver: FakeDriver) -> None:
    driver.breaks["compile"] = BackendUnavailable("gone")
    job_id = (await desk.submit()).job_id
    await desk.seal()
    await (await desk.attempt(driver)).advance()
    assert await desk.state(job_id) == "AWAITING_APPROVAL"
    driver.breaks.clear()
    desk.lose_lease()
    await (await desk.attempt(driver)).advance()
    assert (await given(desk, job_id))["state"] == "requested"


async def test_a_program_is_approved_as_a_whole_and_runs_as_it_was_compiled(desk: Desk, driver: FakeDriver) -> None:
    document = bell(execution__shots=300)
    document["program"] = {"kind": "sampler", "circuits": [document.pop("circuit")] * 2}
    admission = await desk.submit(document)
    assert admission.state == "AWAITING_APPROVAL"
    await desk.seal()
    await (await desk.attempt(driver)).advance()
    before = driver.compilations
    await approving.answer(desk.plane, BOSS, admission.job_id, YES)
    await (await desk.attempt(driver)).advance()
    bundle = await over(desk, admission.job_id)
    assert (bundle.state, driver.compilations, driver.submissions) == ("COMPLETED", before, 2)
    assert isinstance(bundle.approval, Approval)
    assert len(bundle.approval.sources) == 2


async def test_a_stopped_worker_gives_a_request_back(desk: Desk, driver: FakeDriver) -> None:
    job_id = (await desk.submit()).job_id
    await desk.seal()
    await desk.attempt(driver)
    await give_back(desk.plane, {"fake": driver}, ("demo", job_id), "w1")
    await (await desk.attempt(driver, "w3")).advance()
    assert (await given(desk, job_id))["state"] == "requested"


async def test_what_was_kept_for_an_approval_is_erased_with_the_job(desk: Desk, driver: FakeDriver) -> None:
    job_id = await asked(desk, driver)
    kept = (await given(desk, job_id))["kept"]
    await approving.answer(desk.plane, BOSS, job_id, NO)
    await over(desk, job_id)
    told = await acts.erase(desk.plane, BOSS, job_id, acts.Erasing("done", early=True))
    assert kept in told["commitments"]
    assert desk.sql("SELECT ciphertext FROM ledger.blob WHERE commitment = %s", kept) == [(b"",)]
