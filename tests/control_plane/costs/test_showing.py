# SPDX-License-Identifier: Apache-2.0
"""Spend by every dimension comes to what was charged, within the walls of tenant and project (G7, I7)."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import uuid
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.costs import showing
from finops import charge_store, money
from finops.charges import Category, Line, Section
from finops.dimensions import DIMENSIONS
from finops.spending import Period, before
from tests.control_plane.jobs.desk import Desk, person
from tests.fakes import FakeDriver

ADMIN = person("fin", "demo", "finops")
NOVEMBER = Period("2026-11", "2026-11")


def day(number: int, month: int = 11) -> dt.datetime:
    return dt.datetime(2026, month, number, 12, tzinfo=dt.UTC)


async def charge(desk: Desk, at: dt.datetime, *amounts: str, tenant: str = "demo", **of: Any) -> None:
    """One entry's lines; usage has an end."""
    category: Category = of.pop("category", "usage")
    ended = "2026-11-01T00:00:01.000Z" if category == "usage" and of.pop("ended", True) else None
    lines = tuple(
        Line(meter=meter, quantity="2", unit=meter.title(), rate="1", amount=amount)
        for meter, amount in zip(("tasks", "shots", "other"), amounts, strict=False)
    )
    told = Section(lines=lines, **({"currency": "USD", "category": category, "ended_at": ended} | of))
    async with desk.plane.transaction(tenant) as conn:
        await charge_store.insert(conn, tenant, str(uuid.uuid4()), at, (told,))


async def by(desk: Desk, *names: str, who: Any = ADMIN, period: Period = NOVEMBER, **only: Any) -> list[dict[str, Any]]:
    return await showing.spend(desk.plane, who, period, names, only, limit=1000)


async def test_every_way_of_grouping_comes_to_the_same_sum(desk: Desk) -> None:
    """To the last decimal, whatever is asked for, alone or together; each job counts once."""
    chance = random.Random(7)
    spent: list[Decimal] = []
    for number in range(40):
        amounts = [str(Decimal(chance.randrange(10**9)).scaleb(-9)) for _ in range(chance.randrange(1, 4))]
        spent += map(Decimal, amounts)
        of = {name: f"{name}-{chance.randrange(3)}" for name in ("project", "team", "backend", "purpose")}
        if chance.random() < 0.2:
            del of["team"]
        await charge(desk, day(chance.randrange(1, 30)), *amounts, job_id=f"j{number}", **of)
    groupings: list[tuple[str, ...]] = [(name,) for name in DIMENSIONS]
    for names in (*groupings, *list(itertools.combinations(DIMENSIONS, 2))[::7]):
        rows = await by(desk, *names)
        assert money.total(Decimal(row["spend"]) for row in rows) == money.total(spent), names
        assert [row["share"] is not None for row in rows] == [True] * len(rows)
        if "meter" not in names:
            assert sum(row["jobs"] for row in rows) == sum(row["completed"] for row in rows) == 40, names
        assert list(rows[0])[: len(names)] == list(names)


async def test_the_dearest_come_first_and_days_in_their_order(desk: Desk) -> None:
    for number, amount in enumerate(("1", "3", "2"), 1):
        await charge(desk, day(number), amount, job_id=f"j{number}", project=f"p{number}")
    assert [row["project"] for row in await by(desk, "project")] == ["p2", "p3", "p1"]
    assert [row["day"] for row in await by(desk, "day")] == ["2026-11-01", "2026-11-02", "2026-11-03"]
    pages = [await showing.spend(desk.plane, ADMIN, NOVEMBER, ["project"], {}, limit=1, offset=n) for n in range(4)]
    assert [[row["project"] for row in page] for page in pages] == [["p2"], ["p3"], ["p1"], []]


async def test_credits_stand_apart_and_a_job_is_no_cheaper_by_counting_twice(desk: Desk) -> None:
    await charge(desk, day(1), "10", job_id="a", project="p")
    await charge(desk, day(2), "6", job_id="b", project="p", ended=False)
    await charge(desk, day(3), "-4", job_id="a", project="p", category="credit")
    await charge(desk, day(3), "1", job_id="a", project="p", category="correction")
    await charge(desk, day(4), "2", project="p", category="shared")
    (row,) = await by(desk, "project")
    assert (row["gross"], row["credits"], row["spend"]) == ("18", "-3", "15")
    assert (row["jobs"], row["completed"], row["cost_per_completed_job"]) == (2, 1, "15")


async def test_currencies_are_never_added(desk: Desk) -> None:
    await charge(desk, day(1), "3", project="p", job_id="a")
    await charge(desk, day(1), "4", project="p", job_id="b", currency="EUR")
    await charge(desk, day(1), "1", project="q", job_id="c")
    rows = await by(desk, "project")
    assert [(row["project"], row["currency"], row["spend"], row["share"]) for row in rows] == [
        ("p", "EUR", "4", 1.0),
        ("p", "USD", "3", 0.75),
        ("q", "USD", "1", 0.25),
    ]


async def test_who_may_see_costs_of_a_project_sees_that_projects(desk: Desk) -> None:
    """I7: another project's, what is of none, and another tenant's don't exist."""
    await charge(desk, day(1), "1", project="p", job_id="a")
    await charge(desk, day(1), "2", project="q", job_id="b")
    await charge(desk, day(1), "4", category="shared", cost_center="c")
    await charge(desk, day(1), "8", project="p", job_id="c", tenant="other")
    narrow = replace(person("eve", "demo", "auditor"), roles=(), project_roles={"p": ("finops",)})
    for names in DIMENSIONS:
        assert [row["spend"] for row in await by(desk, names, who=narrow)] == ["1"], names
    assert await by(desk, "project", who=narrow, project="q") == []
    assert [row["spend"] for row in await by(desk, "project")] == ["4", "2", "1"]
    assert [row["project"] for row in await by(desk, "project")] == [None, "q", "p"]
    nobody = replace(narrow, project_roles={})
    assert await by(desk, "project", who=nobody) == []
    moves = await showing.moves(desk.plane, narrow, (NOVEMBER, Period("2026-10", "2026-10")), ["project"], {}, limit=9)
    assert [row["spend"] for row in moves] == ["1"]


async def test_people_are_named_as_they_submitted(desk: Desk, driver: FakeDriver) -> None:
    """And a person whose name was erased by what their jobs are named by then."""
    job_id = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    actor = (await desk.row(job_id))["actor"]
    running = Period(f"{dt.datetime.now(dt.UTC):%Y-%m}")
    (row,) = await by(desk, "user", period=running)
    assert (row["user"], row["jobs"], row["completed"]) == (actor, 1, 1)
    assert row["spend"] == money.text((await desk.row(job_id))["cost_amount"])
    desk.sql("UPDATE jobs.job SET actor = 'erased:' || pseudonym")
    assert (await by(desk, "user", period=running))[0]["user"].startswith("erased:")


async def test_what_changed_most_comes_first(desk: Desk) -> None:
    """Falls and rises alike, new ones without a per cent; a month that runs against as much of the one before."""
    for project, earlier, now in (("up", "1", "4"), ("down", "9", "1"), ("new", None, "2"), ("same", "5", "5")):
        if earlier:
            await charge(desk, day(3, 10), earlier, project=project, job_id=f"{project}-1")
        await charge(desk, day(3), now, project=project, job_id=f"{project}-2")
    await charge(desk, day(30, 10), "100", project="same", job_id="late")
    periods = (NOVEMBER, before(NOVEMBER, day(20)))
    rows = await showing.moves(desk.plane, ADMIN, periods, ["project"], {}, limit=3)
    assert [(row["project"], row["before"], row["change"], row["change_percent"]) for row in rows] == [
        ("down", "9", "-8", -88.8889),
        ("up", "1", "3", 300.0),
        ("new", "0", "2", None),
    ]


@pytest.mark.parametrize("name", ["project", "team", "cost_center", "backend", "provider", "purpose", "classification"])
async def test_one_value_of_a_dimension_alone(desk: Desk, name: str) -> None:
    await charge(desk, day(1), "1", job_id="a", **{name: "x"})
    await charge(desk, day(1), "2", job_id="b", **{name: "y"})
    await charge(desk, day(1), "4", job_id="c")
    assert [
        row["spend"] for row in await showing.spend(desk.plane, ADMIN, NOVEMBER, ["month"], {name: "y"}, limit=9)
    ] == ["2"]


async def test_a_meter_has_its_quantity(desk: Desk) -> None:
    await charge(desk, day(1), "1", "2", job_id="a")
    await charge(desk, day(2), "1", "2", job_id="b")
    rows = await by(desk, "meter")
    assert [(row["meter"], row["spend"], row["quantity"], row["unit"], row["jobs"]) for row in rows] == [
        ("shots", "4", "4", "Shots", 2),
        ("tasks", "2", "4", "Tasks", 2),
    ]
