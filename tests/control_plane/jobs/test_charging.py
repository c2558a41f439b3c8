# SPDX-License-Identifier: Apache-2.0
"""What a job was charged is rows, written with its capture and told by its entry (G6, G7, I3, I6)."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from control_plane import crash
from control_plane.jobs import store
from control_plane.jobs.run import Run
from finops import charge_store
from finops.charges import Line, Section
from hal_drivers.errors import CircuitInvalid
from ledger.chain import parse_leaf
from tests.control_plane.jobs.desk import Desk, bell
from tests.control_plane.jobs.ends import finish
from tests.control_plane.jobs.test_uncertain import ADMIN, parked
from tests.control_plane.jobs.test_uncertain import settle as by_hand
from tests.fakes import FakeDriver

ROWS = "SELECT {} FROM finops.charge ORDER BY charged_at, entry_id, line"

COPY = "INSERT INTO finops.charge SELECT (jsonb_populate_record(c, '{}')).* FROM finops.charge c WHERE line = 0"


def rows(desk: Desk, columns: str) -> list[tuple[Any, ...]]:
    return desk.sql(ROWS.format(columns))


def sums(desk: Desk) -> tuple[Decimal, ...]:
    """Σ charges, Σ captures of holds, Σ captures of the project's windows, Σ costs of jobs."""
    ((charged, captured, counted, cost),) = desk.sql("""
        SELECT (SELECT coalesce(sum(amount), 0) FROM finops.charge),
               (SELECT coalesce(sum(captured), 0) FROM finops.hold),
               (SELECT coalesce(sum(w.captured), 0) FROM finops.budget_window w JOIN finops.budget b USING (budget_id)
                WHERE b.scope = 'project:demo'),
               (SELECT coalesce(sum(cost_amount), 0) FROM jobs.job)
    """)
    return charged, captured, counted, cost


async def completed(desk: Desk, driver: FakeDriver, **changes: Any) -> str:
    job_id = await desk.admitted(**changes)
    await (await desk.attempt(driver)).advance()
    await desk.seal()
    return job_id


async def test_a_result_is_charged_line_by_line(desk: Desk, driver: FakeDriver) -> None:
    """Rows, entry and evidence say the same; who pays and why stand in each row."""
    job_id = await completed(desk, driver, governance__cost_center="cc-1")
    row = await desk.row(job_id)
    found = rows(desk, "line, job_id, project, cost_center, team, pseudonym, backend, category, currency, rate_card")
    assert [line for line, *_ in found] == list(range(len(found)))
    assert {tuple(rest) for _, *rest in found} == {
        (job_id, "demo", "cc-1", "blue", row["pseudonym"], "fake", "usage", "USD", row["rate_card"])
    }
    ((purpose, classification, entry_id, month, ran),) = desk.sql(
        "SELECT DISTINCT purpose, classification, entry_id::text, month, started_at <= ended_at FROM finops.charge"
    )
    governance = bell()["governance"]
    assert (purpose, classification) == (governance["purpose"], governance["classification"])
    assert (entry_id, ran) == (row["outcome_entry"], True)
    assert month == f"{dt.datetime.now(dt.UTC):%Y-%m}"
    ((leaf,),) = desk.sql("SELECT leaf FROM ledger.entry WHERE entry_id = %s", row["outcome_entry"])
    body = parse_leaf(bytes(leaf)).body
    assert [line["meter"] for line in body["charge"]["lines"]] == [meter for (meter,) in rows(desk, "meter")]
    assert {(line["meter"], line["source"], line["by"]) for line in body["charge"]["lines"]} <= {
        (fact["meter"], fact["source"], fact["by"]) for fact in body["facts"]
    }
    assert len(set(sums(desk))) == 1
    assert sums(desk)[0] == row["cost_amount"] > 0


async def test_what_delivered_nothing_is_charged_nothing(desk: Desk, driver: FakeDriver) -> None:
    driver.breaks["compile"] = CircuitInvalid("no such gate")
    job_id = await completed(desk, driver)
    assert (await desk.row(job_id))["final"] != "COMPLETED"
    assert rows(desk, "line") == []


@pytest.mark.parametrize("point", ["settle.charged", "settle.proven"])
async def test_a_worker_that_dies_while_it_settles_charges_once(
    desk: Desk, driver: FakeDriver, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is charged without its entry; the next worker finds the result and charges it once."""

    class Died(BaseException):
        pass

    def die(name: str) -> None:
        if name == point:
            raise Died

    job_id = await desk.admitted()
    run = await desk.attempt(driver)
    with monkeypatch.context() as patch:
        patch.setattr(crash, "point", die)
        with pytest.raises(Died):
            await run.advance()
    assert rows(desk, "line") == []
    desk.lose_lease()
    await (await desk.attempt(driver, "w2")).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    assert len(set(sums(desk))) == 1
    assert sums(desk)[0] > 0


async def test_the_same_write_sent_again_charges_once(
    desk: Desk, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost answer: the write is repeated, and answers as it did."""
    written: list[store.Change] = []
    advance = store.advance

    async def twice(engine: Any, tenant: str, change: store.Change) -> store.Moved:
        written.append(change)
        await advance(engine, tenant, change)
        return await advance(engine, tenant, change)

    monkeypatch.setattr(store, "advance", twice)
    job_id = await completed(desk, driver)
    assert [change.charges is not None for change in written][-1]
    assert await finish(desk, job_id) == "COMPLETED"
    assert len(set(sums(desk))) == 1


async def test_charges_that_are_not_the_capture_are_not_written(
    desk: Desk, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: the database itself holds the sum of the lines against what the hold captures."""
    writing = charge_store.writing

    def short(*given: Any) -> list[dict[str, Any]]:
        return writing(*given)[:-1]

    await desk.admitted()
    run = await desk.attempt(driver)
    monkeypatch.setattr(charge_store, "writing", short)
    with pytest.raises(Exception, match="not what it captures"):
        await run.advance()
    assert rows(desk, "line") == []
    assert desk.sql("SELECT state FROM finops.hold") == [("held",)]


async def test_what_is_settled_by_hand_is_a_line_by_that_persons_word(desk: Desk, driver: FakeDriver) -> None:
    job_id = await parked(desk, driver)
    assert rows(desk, "line") == []
    await by_hand(desk, job_id, outcome="charged", amount="0.30")
    found = rows(desk, "meter, quantity, rate, amount, source, reporter, project, job_id, ended_at")
    assert found == [
        ("settlement", Decimal(1), Decimal("0.3"), Decimal("0.3"), "vendor", ADMIN.pseudonym, "demo", job_id, None)
    ]
    ((purpose,),) = desk.sql("SELECT purpose FROM finops.charge")
    assert purpose is not None
    assert len(set(sums(desk))) == 1
    await desk.seal()
    assert (await desk.replayed()).differences == []


async def test_what_is_released_by_hand_is_charged_nothing(desk: Desk, driver: FakeDriver) -> None:
    job_id = await parked(desk, driver)
    await by_hand(desk, job_id, outcome="released")
    assert rows(desk, "line") == []
    await desk.seal()
    assert (await desk.replayed()).differences == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE finops.charge SET amount = amount + 0.000001 WHERE line = 0", "line 0: amount"),
        ("UPDATE finops.charge SET project = 'other' WHERE line = 0", "line 0: project other, ledger demo"),
        ("UPDATE finops.charge SET month = '2020-01' WHERE line = 0", "line 0: month 2020-01"),
        ("DELETE FROM finops.charge WHERE line = 0", "line 0: told by the entry, no row"),
        (COPY.format('{"line": 9}'), "line 9: a row that no entry tells of"),
        (COPY.format('{"tenant": "other"}'), "other: charge "),
    ],
)
async def test_replaying_finds_a_changed_a_missing_and_an_added_row(
    desk: Desk, driver: FakeDriver, change: str, said: str
) -> None:
    """I6: by `ledger replay --compare`."""
    await completed(desk, driver)
    assert (await desk.replayed()).differences == []
    desk.sql("ALTER TABLE finops.charge DISABLE TRIGGER charges_stay")  # as who owns the table could
    desk.sql(change)
    (found,) = (await desk.replayed()).differences
    assert said in found


async def test_the_plane_itself_changes_no_charge(desk: Desk, driver: FakeDriver) -> None:
    """I7: the app's role may add lines of its tenant, and neither change nor see another's."""
    await completed(desk, driver)
    engine = desk.plane
    for statement in ("UPDATE finops.charge SET amount = 0", "DELETE FROM finops.charge"):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with engine.transaction("demo") as conn:
                await conn.exec_driver_sql(statement)
    async with engine.transaction("other") as conn:
        assert [row async for row in charge_store.lines(conn, "demo")] == []


async def test_charges_come_in_the_order_of_their_moments_by_month_time_and_job(desk: Desk) -> None:
    """And a usage below zero is refused by the database too."""
    start = dt.datetime(2026, 10, 31, 23, 59, 59, 999000, tzinfo=dt.UTC)
    async with desk.plane.transaction("demo") as conn:
        for number in range(4):
            at = start + dt.timedelta(milliseconds=number)
            told = Section(lines=(Line(amount=f"0.{number}"),), currency="USD", job_id=f"j{number % 2}")
            await charge_store.insert(conn, "demo", f"00000000-0000-0000-0000-00000000000{number}", at, (told,))
    async with desk.plane.transaction("demo") as conn:

        async def found(**wanted: Any) -> list[Decimal]:
            return [row.amount async for row in charge_store.lines(conn, "demo", **wanted)]

        assert await found(month="2026-10") == [Decimal(0)]
        assert await found(month="2026-11") == [Decimal("0.1"), Decimal("0.2"), Decimal("0.3")]
        until = start + dt.timedelta(milliseconds=2)
        assert await found(since=start, until=until) == [Decimal(0), Decimal("0.1")]
        assert await found(job_id="j1") == [Decimal("0.1"), Decimal("0.3")]


async def test_many_jobs_at_once_come_to_the_same_sum(desk: Desk, driver: FakeDriver) -> None:
    """I3: to the last decimal, whoever settles when."""
    for executions in (1, 7, 999, 1000):
        assert (await desk.submit(bell(execution__shots=executions))).state == "QUEUED"
    await desk.seal()
    claimed = await desk.claim()
    await asyncio.gather(*(Run(desk.plane, {"fake": driver}, one).advance() for one in claimed))
    await desk.seal()
    assert len(set(sums(desk))) == 1
    assert desk.sql("SELECT count(DISTINCT job_id) FROM finops.charge") == [(4,)]
    assert (await desk.replayed()).differences == []
