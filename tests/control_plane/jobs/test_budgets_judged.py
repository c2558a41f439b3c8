# SPDX-License-Identifier: Apache-2.0
"""What policy is told of budgets, and which budgets a job's hold has to do with (G2, G7, I3)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

import finops.store
from control_plane import seed
from control_plane.jobs import quote
from control_plane.jobs.admit import Admission
from control_plane.policy.document import Document
from control_plane.sealing import utc_now
from finops.budget import BudgetView
from tests.control_plane.jobs.desk import Desk, person

D = Decimal


async def budget(desk: Desk, scope: str, amount: str, unit: str = "USD", period: str = "monthly", **more: Any) -> None:
    async with desk.plane.transaction("demo") as conn:
        changed = await finops.store.set_budget(conn, "demo", scope, period, D(amount), unit, **more)
        await seed._tell(conn, "demo", "budget:set", changed.body())


def judged(admission: Admission) -> Document:
    """The input that was decided on."""
    assert admission.decision is not None
    return msgspec.json.decode(admission.decision.input, type=Document)


async def held(desk: Desk) -> dict[str, Decimal]:
    async with desk.plane.transaction("demo") as conn:
        return {view.scope: view.held for view in await finops.store.show(conn, "demo", utc_now())}


async def test_policy_sees_quotas_and_budgets_that_stop_nothing(desk: Desk) -> None:
    """A rule may warn of a soft budget or a quota; what it says stands beside the hard ones, which decide."""
    await budget(desk, "tenant:demo", "0.1", mode="soft")
    await budget(desk, "user:ann", "5000", "shots", "rolling:7")
    await budget(desk, "tenant:demo", "20", "jobs", "concurrent", mode="advisory")
    await desk.admitted()
    seen = judged(await desk.submit())
    assert [one.scope for one in seen.budgets] == ["project:demo"]
    (soft,) = seen.lenient_budgets
    assert (soft.scope, soft.mode, soft.limit_micros) == ("tenant:demo", "soft", 100_000)
    assert soft.available_micros < 0
    counted = {one.unit: (one.scope, one.period, one.mode, one.limit, one.held, one.available) for one in seen.quotas}
    assert counted == {
        "shots": ("user:ann", "rolling:7", "hard", 5000, 1000, 4000),
        "jobs": ("tenant:demo", "concurrent", "advisory", 20, 1, 19),
    }


async def test_a_person_is_bound_by_the_name_that_evidence_and_costs_have(desk: Desk) -> None:
    """I3: `user:ann@demo` as `costs show --by user` writes it is no budget that nobody ever touches."""
    await budget(desk, person().actor, "0.5")
    admission = await desk.submit()
    assert (admission.state, admission.problem) == ("DENIED", "budget_exceeded")
    await budget(desk, "user:ann@corp.example", "0.5")
    await budget(desk, person().actor, "5")
    await desk.admitted()
    assert {scope: amount > 0 for scope, amount in (await held(desk)).items()} == {
        "project:demo": True,
        person().actor: True,
        "user:ann@corp.example": False,
    }


@pytest.mark.parametrize("spent", ["0", "1", "250000000000000", "999999999999999"])
def test_the_largest_budget_is_judged_by_the_share_of_it_that_is_spent(spent: str) -> None:
    """Policy compares integers up to 2^53 - 1 micro-units, some 9 thousand million: more is told in proportion."""
    limit = D("999999999999999")
    view = BudgetView("b", "project:demo", "monthly", "2026-11", limit, D(0), D(spent), "KRW")
    (told,) = quote.budgets_judged([view])["budgets"]
    assert (told["limit"], told["available"]) == (str(limit), str(limit - D(spent)))
    assert told["limit_micros"] <= 2**53 - 1
    share = D(told["limit_micros"] - told["available_micros"]) / told["limit_micros"]
    assert 0 <= share - D(spent) / limit < D("1e-12")


async def test_jobs_run_on_the_largest_budget(desk: Desk) -> None:
    await budget(desk, "project:demo", "999999999999999.999999999999")
    admission = await desk.submit()
    assert admission.state == "QUEUED", admission.problem
    assert (await held(desk))["project:demo"] == D("0.52")
    assert (await desk.replayed()).differences == []


async def test_a_soft_budget_in_another_currency_stops_no_job_and_counts_none(desk: Desk) -> None:
    """Nothing is converted: it can't count the job, and what is soft stops nothing."""
    await budget(desk, "tenant:demo", "5", "EUR", mode="soft")
    await budget(desk, "project:demo", "7", "EUR", "total", mode="advisory")
    admission = await desk.submit()
    assert (admission.state, admission.currency) == ("QUEUED", "USD")
    assert (await held(desk))["tenant:demo"] == 0
    assert (await desk.replayed()).differences == []


async def test_a_hard_budget_in_another_currency_refuses_the_job_by_its_name(desk: Desk) -> None:
    await budget(desk, "tenant:demo", "500", "EUR")
    admission = await desk.submit()
    assert (admission.state, admission.problem) == ("DENIED", "budget_exceeded")
    error = (await desk.row(admission.job_id))["error"]
    assert "tenant:demo (monthly)" in error["detail"], error
    assert "EUR" in error["detail"]


async def test_show_says_whom_a_budget_alerts(desk: Desk) -> None:
    await budget(desk, "project:demo", "10", notify=("finance", "mail"), thresholds=(50, 90))
    await budget(desk, "user:ann", "10", notify=())
    async with desk.plane.transaction("demo") as conn:
        shown = {
            view.scope: (view.notify, view.thresholds) for view in await finops.store.show(conn, "demo", utc_now())
        }
    assert shown == {"project:demo": (("finance", "mail"), (50, 90)), "user:ann": ((), (80, 100))}
