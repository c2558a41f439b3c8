# SPDX-License-Identifier: Apache-2.0
"""Forecasts and anomalies are of the spend that who asks may see (G7, G13, I7)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

import finops.store
from control_plane.costs import forecasting
from control_plane.errors import Refused
from control_plane.sealing import PlaneClock
from finops import charge_store
from finops.charges import Line, Section
from tests.control_plane.jobs.desk import Desk, person
from tests.fakes import FakeDriver

FIN = person("fin", "demo", "finops")


async def spent(desk: Desk, days: int, amount: str = "10", last: str | None = None, project: str = "demo") -> None:
    """So much a day, for so many complete days; `last` is yesterday's."""
    midnight = desk.plane.now().astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    async with desk.plane.transaction("demo") as conn:
        for ago in range(days, 0, -1):
            line = Line(
                amount=last if last and ago == 1 else amount, meter="tasks", quantity="1", unit="Tasks", rate="1"
            )
            told = Section(lines=(line,), currency="USD", job_id=f"j{project}{ago}", project=project)
            at = midnight - dt.timedelta(days=ago) + dt.timedelta(hours=3)
            await charge_store.insert(conn, "demo", str(uuid.uuid4()), at, (told,))


async def forecast(desk: Desk, who: Any = FIN, by: str | None = None) -> dict[str, Any]:
    return await forecasting.spend(desk.plane, who, by, {}, None)


async def test_a_steady_month_ends_where_it_goes(desk: Desk) -> None:
    await spent(desk, 40)
    (group,) = (await forecast(desk))["groups"]
    now = desk.plane.now().astimezone(dt.UTC)
    days = ((now.replace(day=1) + dt.timedelta(days=32)).replace(day=1) - now.replace(day=1)).days
    begun = (now - now.replace(hour=0, minute=0, second=0, microsecond=0)) / dt.timedelta(days=1)
    assert float(group["forecast"]["month_end"]) == pytest.approx(10 * (days - begun), abs=0.1), "today's share alone"
    assert (group["forecast"]["a_day"], group["days"]) == ("10", 40)


async def test_too_few_days_are_an_answer(desk: Desk) -> None:
    await spent(desk, 9)
    (group,) = (await forecast(desk))["groups"]
    assert (group["forecast"], group["reason"]) == (None, "not enough data: 9 complete days, and 14 are needed")
    said = await forecasting.unusual(desk.plane, FIN, "project", {}, 7, 0.05)
    assert (said["anomalies"], said["reason"]) == ([], "not enough data: 9 complete days, and 26 are needed")


async def test_a_budget_is_told_when_it_is_spent(desk: Desk) -> None:
    await spent(desk, 40)
    await desk.limit("0.5")
    budgets = {one["scope"]: one for one in (await forecast(desk))["budgets"]}
    assert budgets["project:demo"]["expected"] == desk.plane.now().astimezone(dt.UTC).date().isoformat()


async def budget(desk: Desk, scope: str, period: str, amount: str, unit: str = "USD") -> str:
    async with desk.plane.transaction("demo") as conn:
        made = await finops.store.set_budget(conn, "demo", scope, period, Decimal(amount), unit)
    return made.budget_id


async def lasting(desk: Desk, scope: str) -> dict[str, Any]:
    """What is said of the one budget of a scope, which is all that the scope's own forecast tells of."""
    kind, _, name = scope.partition(":")
    (one,) = (await forecasting.spend(desk.plane, FIN, None, {kind: name}, None))["budgets"]
    return {place: one[place] for place in ("earliest", "expected", "latest", "reason")}


async def test_a_rolling_budget_gets_back_what_counts_no_more(desk: Desk) -> None:
    """Ten a day: within seven days' 85 what is left lasts for ever; 65 are spent today, and ten come back each day.

    As of six in the morning: of a day that is nearly over ten don't come any more.
    """
    morning = desk.plane.now().astimezone(dt.UTC).replace(hour=6)
    desk.plane = dataclasses.replace(desk.plane, now=PlaneClock(lambda: morning))
    today = morning.date()
    for project, limit, quota in (("wide", "85", "USD"), ("tight", "65", "USD"), ("quota", "65", "shots")):
        name = await budget(desk, f"project:{project}", "rolling:7", limit, quota)
        for ago in range(1, 31):
            desk.sql(
                "INSERT INTO finops.budget_window VALUES ('demo', %s, %s, 0, 10)", name, str(today - dt.timedelta(ago))
            )
    said = await lasting(desk, "project:wide")
    assert said == {"earliest": None, "expected": None, "latest": None, "reason": "not before its period is over"}
    assert (await lasting(desk, "project:tight"))["expected"] == today.isoformat()
    assert (await lasting(desk, "project:quota"))["expected"] == today.isoformat(), "counted in its own unit"


async def test_a_persons_budget_is_told_by_the_jobs_that_hold_in_it(desk: Desk) -> None:
    """In a charge a person stands by pseudonym, and a session not at all: the holds say whose they are."""
    await spent(desk, 30, project="demo")
    for scope in ("user:ann", "session:vqe", "workflow:w1"):
        await budget(desk, scope, "total", "25")
    mine = await budget(desk, "user:bob", "total", "25")
    for ago in range(1, 31):
        desk.sql(
            "INSERT INTO finops.hold (tenant, job_id, amount, currency, budgets, windows) "
            "VALUES ('demo', %s, 10, 'USD', %s, '{all}')",
            f"jdemo{ago}",
            [mine],
        )
    today = desk.plane.now().astimezone(dt.UTC).date()
    assert (await lasting(desk, "user:bob"))["expected"] in [str(today + dt.timedelta(days)) for days in (2, 3)]
    assert (await lasting(desk, "user:ann"))["reason"] == "not enough data: 0 complete days, and 14 are needed"
    scopes = {one["scope"] for one in (await forecast(desk))["budgets"]}
    assert {"user:ann", "session:vqe", "workflow:w1", "user:bob", "project:demo"} <= scopes


async def test_a_quota_is_told_by_what_its_jobs_counted_in_it(desk: Desk) -> None:
    """A thousand shots and one job a day, however many lines a job's charge has; a failed one counts nothing."""
    await spent(desk, 30, project="demo")
    desk.sql(
        "INSERT INTO finops.charge (tenant, entry_id, line, category, month, charged_at, job_id, amount, currency) "
        "SELECT tenant, entry_id, 1, category, month, charged_at, job_id, 1, currency FROM finops.charge"
    )
    shots = await budget(desk, "project:demo", "total", "2500", "shots")
    jobs = await budget(desk, "tenant:demo", "quarterly", "1", "jobs")
    at_once = await budget(desk, "user:ann", "concurrent", "1", "jobs")
    today = desk.plane.now().astimezone(dt.UTC).date()
    for ago in range(1, 31):
        desk.sql(
            "INSERT INTO finops.hold (tenant, job_id, budgets, amount, currency, windows, shots, used_shots, used_jobs)"
            " VALUES ('demo', %s, %s, 10, 'USD', %s, 1000, 1000, 1)",
            f"jdemo{ago}",
            [shots, jobs, at_once],
            ["all", f"{today:%Y}-Q{(today.month + 2) // 3}", "now"],
        )
    told = {one["scope"]: one for one in (await forecast(desk))["budgets"] if one["currency"] != "USD"}
    assert told["project:demo"]["expected"] in [str(today + dt.timedelta(days)) for days in (2, 3)]
    assert told["tenant:demo"]["expected"] in [str(today + dt.timedelta(days)) for days in (0, 1)]
    assert told["user:ann"]["reason"] == "it counts what runs at one moment"


async def test_a_person_is_named_as_elsewhere_and_nothing_charged_is_said(desk: Desk) -> None:
    said = await forecast(desk)
    assert (said["groups"], said["reason"]) == ([], "not enough data: 0 complete days, and 14 are needed")
    await desk.admitted()
    await (await desk.attempt(FakeDriver())).advance()
    (group,) = (await forecast(desk, by="user"))["groups"]
    assert group["user"] == person().actor


async def test_who_sees_one_project_is_told_of_that_one_alone(desk: Desk) -> None:
    """G13, I7: neither another project's spend nor its shape shows."""
    await spent(desk, 30, "10", project="demo")
    await spent(desk, 30, "1000", project="secret")
    lead = replace(person("lead", "demo", "finops"), roles=(), project_roles={"demo": ("finops",)})
    assert [one["project"] for one in (await forecast(desk, by="project"))["groups"]] == ["demo", "secret"]
    assert [one["project"] for one in (await forecast(desk, lead, "project"))["groups"]] == ["demo"]
    assert (await forecast(desk, lead))["groups"][0]["forecast"]["a_day"] == "10"


async def test_a_day_out_of_line_is_named(desk: Desk) -> None:
    await spent(desk, 40, last="300")
    await spent(desk, 40, project="quiet")
    said = await forecasting.unusual(desk.plane, FIN, "project", {}, 1, 0.05)
    (one,) = said["anomalies"]
    assert (one["project"], one["spend"], one["usual"], one["direction"]) == ("demo", "300", "10", "above")
    assert (said["looks"], said["expected_false_alarms"]) == (2, 0.05)


async def test_people_are_named_as_they_submitted(desk: Desk, driver: FakeDriver) -> None:
    """As `costs show` names them: a pseudonym says nothing to who reads a forecast."""
    job_id = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    (group,) = (await forecast(desk, by="user"))["groups"]
    assert group["user"] == (await desk.row(job_id))["actor"]


async def test_a_month_that_is_over_is_refused(desk: Desk) -> None:
    for month in ("2020-01", "2099-01", "2026-13", "9999-12"):
        with pytest.raises(Refused) as refused:
            await forecasting.spend(desk.plane, FIN, None, {}, month)
        assert refused.value.code == "period_invalid"
