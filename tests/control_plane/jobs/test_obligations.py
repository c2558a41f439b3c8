# SPDX-License-Identifier: Apache-2.0
"""What policy obliges a job to is fulfilled by the pipeline, or the pipeline refuses to go on (G2, I5)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.jobs import view
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import load
from tests.control_plane.jobs.desk import Desk, bell
from tests.control_plane.jobs.ends import evidence_of
from tests.fakes import FakeDriver

POLICIES = load()
CLASSES = {"ours": {"backends": ["fake"]}, "nowhere": {"zones": ["moon"]}}


class Obliging:
    """A desk's policies with other obligations; each has another revision, as it would on a plane."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.made = desk, list[Pdp]()

    def __call__(self, **rules: Any) -> None:
        data = {**POLICIES.data, "obligations": {"rules": rules, "backend_classes": CLASSES}}
        policies = replace(POLICIES, data=data, revision=f"sha256:{len(self.made):064x}")
        self.made.append(Pdp(EmbeddedEngine(), Held(policies)))
        self.desk.plane = dataclasses.replace(self.desk.plane, pdp=self.made[-1])


@pytest.fixture
async def oblige(desk: Desk) -> AsyncIterator[Obliging]:
    """Puts rules of obligations in force."""
    made = Obliging(desk)
    yield made
    for pdp in made.made:
        await pdp.close()


def rule(kind: str, value: str, **when: Any) -> dict[str, Any]:
    return {"kind": kind, "value": value, "because": "it must be", "when": when}


async def test_an_obliged_level_is_the_jobs_from_admission_to_bundle(
    desk: Desk, driver: FakeDriver, oblige: Obliging
) -> None:
    """G2, G3: the spec asked for less; row, entries, evidence and the shown decision say what was obliged and why."""
    oblige(signed=rule("evidence_level", "full", projects=["demo"]), home=rule("backend_class", "ours"))
    job_id = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    row = await desk.row(job_id)
    assert row["level"] == "full"
    told = {"kind": "evidence_level", "value": "full", "because": "signed: it must be"}
    shown = view.shown(row)["decision"]["obligations"]
    assert [one["kind"] for one in shown] == ["backend_class", "evidence_level"]
    assert told.items() <= shown[1].items()
    bundle = await evidence_of(desk, job_id)
    assert bundle.evidence_level == "full"
    assert json.loads(bundle.contents["obligations"])["obligations"] == shown
    entry = next(e for e in entries(desk) if e["kind"] == "policy:decision:allow")
    assert entry["body"]["obligations"] == shown
    assert (await desk.replayed()).differences == []


@pytest.mark.faults
async def test_a_job_that_nothing_is_demanded_of_has_no_word_of_it(
    desk: Desk, driver: FakeDriver, oblige: Obliging
) -> None:
    oblige(signed=rule("evidence_level", "full", projects=["other"]))
    job_id = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    row = await desk.row(job_id)
    assert row["level"] == "standard"
    assert "obligations" not in view.shown(row)["decision"]
    assert "obligations" not in (await evidence_of(desk, job_id)).contents


@pytest.mark.faults
async def test_what_the_spec_asks_is_never_lowered(desk: Desk, oblige: Obliging) -> None:
    oblige(signed=rule("evidence_level", "standard"))
    admission = await desk.submit(bell(evidence_requirements__level="full"))
    assert (await desk.row(admission.job_id))["level"] == "full"


async def test_a_class_without_a_backend_here_denies(desk: Desk, oblige: Obliging) -> None:
    oblige(away=rule("backend_class", "nowhere"))
    admission = await desk.submit()
    assert (admission.state, admission.problem) == ("DENIED", "policy_denied")
    assert admission.decision is not None
    assert [reason.code for reason in admission.decision.reasons] == ["backend_class_unmet"]


async def test_an_obliged_approval_lets_the_job_wait_for_a_second_person(desk: Desk, oblige: Obliging) -> None:
    """G2: as a soft denial does, and whoever is to be told is told of a job that waits."""
    oblige(dear=rule("approval", "second-person"), signed=rule("evidence_level", "full"))
    admission = await desk.submit()
    assert (admission.state, admission.problem) == ("AWAITING_APPROVAL", None)
    assert admission.decision is not None
    assert not admission.decision.allow
    assert [(one.code, one.level) for one in admission.decision.reasons] == [("approval_required", "soft")]
    row = await desk.row(admission.job_id)
    assert (row["level"], row["approval"]["reasons"]) == ("full", ["approval_required"])


@pytest.mark.faults
async def test_a_hard_denial_asks_nobody_to_approve(desk: Desk, oblige: Obliging) -> None:
    oblige(dear=rule("approval", "second-person"), away=rule("backend_class", "nowhere"))
    admission = await desk.submit()
    assert (admission.state, admission.decision and len(admission.decision.reasons)) == ("DENIED", 1)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_an_unknown_obligation_stores_nothing(desk: Desk, oblige: Obliging, *, dry_run: bool) -> None:
    """I5: the pipeline refuses to go on, names it, and keeps nothing."""
    oblige(odd=rule("dance", "tango"))
    before, kinds = desk.counts(), desk.kinds()
    with pytest.raises(PolicyUnavailable, match="dance tango"):
        await desk.submit(dry_run=dry_run)
    assert (desk.counts(), desk.kinds()) == (before, kinds)


async def test_a_job_that_waited_is_not_run_below_a_level_demanded_since(
    desk: Desk, driver: FakeDriver, oblige: Obliging
) -> None:
    """The dispatch gate decides anew under a new revision; what it demands more can't be had any more."""
    job_id = await desk.admitted()
    oblige(signed=rule("evidence_level", "full"))
    await (await desk.attempt(driver)).advance()
    row = await desk.row(job_id)
    assert row["final"] == "FAILED"
    assert row["error"]["code"] == "policy_denied"
    assert "obliges to evidence level full" in row["error"]["detail"]
    assert not driver.tasks


async def test_a_job_that_waited_waits_on_under_an_obligation_that_nobody_knows(
    desk: Desk, driver: FakeDriver, oblige: Obliging
) -> None:
    """I5: nothing runs; once the rule is mended the job does."""
    job_id = await desk.admitted()
    oblige(odd=rule("dance", "tango"))
    await (await desk.attempt(driver)).advance()
    assert await desk.state(job_id) == "QUEUED"
    oblige()
    desk.lose_lease()
    await (await desk.attempt(driver)).advance()
    assert (await desk.row(job_id))["final"] == "COMPLETED"


def entries(desk: Desk) -> list[dict[str, Any]]:
    """What was written for tenant demo, sealed or waiting, header and body."""
    sealed = desk.sql("SELECT leaf FROM ledger.entry WHERE tenant = 'demo' ORDER BY \"index\"")
    return [json.loads(bytes(leaf)) for (leaf,) in sealed]
