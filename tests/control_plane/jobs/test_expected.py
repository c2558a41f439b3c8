# SPDX-License-Identifier: Apache-2.0
"""A submission says what it will probably cost, and by which jobs; the job keeps it (G7, I6, I7)."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

import finops
from control_plane.db import read
from control_plane.jobs import expected, store, view
from control_plane.jobs.expected import Learned
from control_plane.policy.document import Document
from finops.estimate import FEW, LEAST, Prior, Run, Work, learned
from finops.rates import RateCard, parse_card
from tests.control_plane.jobs.desk import Desk, bell, person
from tests.fakes import FakeDriver

D = Decimal
BELL = Work(1000, 1, 2)
CARDS = Path(finops.__file__).parent / "cards"
OWN = parse_card((CARDS / "own.json").read_bytes())
SOLD = ("aer", "fake", None)
SECONDS = expected.form(OWN, SOLD)


def _teach(desk: Desk, seconds: str = "0.01", jobs: int = FEW, tenant: str = "demo") -> None:
    """The tenant has so many jobs behind it that took so long."""
    past = [Run(BELL, D(seconds) / 20)] * jobs
    prior: Prior = learned(past, "backend")
    desk.plane.known._learned[tenant] = float("inf"), Learned({("fake", SECONDS): prior}, {})


async def test_without_a_past_the_interval_is_all_that_is_possible(desk: Desk) -> None:
    """Honest below few jobs: task and shots are certain, the hold is the most."""
    told = view.submitted(await desk.submit(dry_run=True))["cost"]
    estimate = told["estimate"]
    assert (estimate["low"], estimate["amount"], estimate["high"]) == ("0.38", told["amount"], told["amount"])
    assert estimate["basis"] == {"jobs": 0, "of": "none", "drift": False}
    assert (estimate["backend"], estimate["coverage"], estimate["currency"]) == ("fake", "0.9", "USD")


async def test_with_a_past_it_is_narrow_and_kept_with_the_job(desk: Desk) -> None:
    """The entry of the admission tells it and the row is its cache; the policy judged the same."""
    _teach(desk)
    admission = await desk.submit()
    told = view.submitted(admission)["cost"]["estimate"]
    assert told["basis"] == {"jobs": FEW, "of": "backend", "drift": False}
    assert D("0.38") <= D(told["low"]) <= D(told["amount"]) <= D(told["high"]) < D("0.381")
    assert (await desk.row(admission.job_id))["estimate"] == told
    assert view.shown(await desk.row(admission.job_id))["cost"]["estimate"] == told
    pending = desk.sql("SELECT pending FROM ledger.inbox ORDER BY id DESC LIMIT 1")[0][0]
    assert json.loads(pending)["body"]["estimate"] == told
    assert admission.decision is not None
    judged = msgspec.json.decode(admission.decision.input, type=Document).estimate
    assert judged is not None
    assert (judged.amount, judged.high, judged.jobs) == (told["amount"], told["high"], FEW)
    assert judged.micros == int(D(told["amount"]) * 1_000_000)
    assert (await desk.replayed()).differences == []


async def test_a_changed_estimate_is_found(desk: Desk) -> None:
    """I6: the row is held against the entry."""
    admission = await desk.submit()
    desk.sql("UPDATE jobs.job SET estimate = jsonb_set(estimate, '{high}', '\"9\"')")
    assert (await desk.replayed()).differences == [
        f"job {admission.job_id} of demo: estimate is not what the ledger tells"
    ]


async def test_another_tenants_jobs_teach_nothing(desk: Desk) -> None:
    """I7: what others paid shows in nobody's estimate."""
    _teach(desk, tenant="other")
    told = view.submitted(await desk.submit(dry_run=True))["cost"]["estimate"]
    assert told["basis"]["jobs"] == 0


async def test_a_denial_has_none(desk: Desk) -> None:
    admission = await desk.submit(who=person("eve", "demo", "auditor"))
    assert admission.estimate is None
    assert (await desk.row(admission.job_id))["estimate"] is None


async def test_completed_jobs_teach_the_next(desk: Desk, driver: FakeDriver) -> None:
    """From the rows alone: what was charged, between what was certain and what was held, of jobs of like work."""
    driver.wall_s = 2.0
    desk.sql("UPDATE jobs.backend SET simulator = true")
    for _ in range(LEAST):
        await desk.admitted()
        await (await desk.attempt(driver)).advance()
    desk.plane.known.forget()
    told: dict[str, Any] = view.submitted(await desk.submit(dry_run=True))["cost"]["estimate"]
    assert told["basis"] == {"jobs": LEAST, "of": "backend", "drift": False}
    # 2 s of 20 at 0.007 a second: nine times the same, so the upper end is that, and the lower what is certain.
    assert (told["low"], told["amount"], told["high"]) == ("0.38", "0.394", "0.394")
    smaller = view.submitted(await desk.submit(bell(execution__shots=10), dry_run=True))["cost"]["estimate"]
    assert D(smaller["high"]) < D(told["high"])


def _row(high: str, cost: str, seconds: int = 1) -> dict[str, Any]:
    told = {"low": "0.38", "high": high, "work": {"executions": 1000, "tasks": 1, "qubits": 2}}
    return {
        "estimate": told,
        "backend": "fake",
        "cost": D(cost),
        "bound": "0.52",
        "rate_card": "card",
        "executions": 1000,
        "seconds": seconds,
    }


async def test_charges_outside_their_intervals_show_as_drift(desk: Desk) -> None:
    """When the promise isn't kept the answer says so, and the newest jobs alone are heard."""
    card: RateCard = (await desk.plane.known.tariff(desk.plane.engine, "demo", desk.plane.now())).card_for(
        "aer", "fake"
    )
    sold = {"fake": ("aer", "fake", None)}
    kept = [_row("0.40", "0.39")] * 90 + [_row("0.40", "0.41")] * 10
    assert not expected.learn(kept, sold, {"card": card}).backends["fake", SECONDS].drift
    broken = [_row("0.40", "0.41")] * 40 + [_row("0.40", "0.39")] * 60
    found = expected.learn(broken, sold, {"card": card}).backends["fake", SECONDS]
    assert found.drift
    assert len(set(found.scores)) == 1


async def test_what_tells_too_little_teaches_nothing(desk: Desk) -> None:
    """A job without an estimate, a charge, a route or a known card is left aside, not guessed."""
    card = (await desk.plane.known.tariff(desk.plane.engine, "demo", desk.plane.now())).card_for("aer", "fake")
    sold = {"fake": ("aer", "fake", None)}
    poor = [_row("0.4", "0.39") | {name: None} for name in ("estimate", "cost", "bound", "backend")]
    assert expected.learn(poor, sold, {"card": card}) == Learned()
    assert expected.learn([_row("0.4", "0.39")], sold, {}) == Learned()
    await desk.admitted()
    (rows,) = await read(desk.plane.engine, "demo", store.past(30))
    assert expected.learn(rows, sold, {}) == Learned()


def _card(**lines: list[dict[str, Any]]) -> RateCard:
    document = json.loads((CARDS / "own.json").read_bytes()) | {"name": "another"}
    document["prices"][0] |= lines
    return parse_card(json.dumps(document).encode())


def test_what_another_card_billed_by_other_meters_teaches_nothing() -> None:
    """A share of seconds says nothing of gates; a dearer second is the same share of a dearer room."""
    seconds = {"meter": "simulator_seconds", "unit": "Seconds", "rate": "0.5", "cap": [{"each": "20", "of": "tasks"}]}
    dearer = _card(lines=[{"meter": "tasks", "unit": "Tasks", "rate": "9"}, seconds])
    gates = _card(lines=[{"meter": "two_qubit_gate_shots", "unit": "Gate-Shots", "rate": "0.1"}])
    both = _card(lines=[seconds, {"meter": "two_qubit_gate_shots", "unit": "Gate-Shots", "rate": "0.1"}])
    assert expected.form(dearer, SOLD) == SECONDS
    assert len({SECONDS, expected.form(gates, SOLD), expected.form(both, SOLD)}) == 3
    past = expected.learn([_row("0.40", "0.39")] * FEW, {"fake": SOLD}, {"card": OWN})
    asked = [
        expected.look_ahead({"fake": D(20)}, {"fake": SOLD}, {"fake": card}, BELL, past, "fake")
        for card in (dearer, gates)
    ]
    assert [one.told["basis"]["of"] for one in asked if one is not None] == ["backend", "none"]


def test_what_each_task_pays_is_certain_though_its_gates_are_not() -> None:
    """A fee and a minimum beside gates; where a cap bounds them nobody may count them, and nothing is certain."""
    gates: dict[str, Any] = {"meter": "two_qubit_gate_shots", "unit": "Gate-Shots", "rate": "0.1", "by": "task"}
    gates |= {"minimum": [{"each": "150", "of": "tasks"}]}
    capped = gates | {"cap": [{"each": "1000", "of": "tasks"}]}
    assert [expected.certain(_card(lines=[line]), SOLD, 300, 3) for line in (gates, capped)] == [D(45), D(0)]
    one = expected.look_ahead({"fake": D(60)}, {"fake": SOLD}, {"fake": _card(lines=[gates])}, BELL, Learned(), "fake")
    assert one is not None
    assert (one.told["low"], one.told["high"]) == ("15", "60")
