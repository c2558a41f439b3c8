# SPDX-License-Identifier: Apache-2.0
"""A vendor's invoice meets the jobs that were at that vendor, by its own names of them; the ledger tells of it (G7)."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.costs import invoice_store, reconciling
from control_plane.costs.reconciling import Reconciling
from control_plane.errors import Refused
from finops.errors import InvoiceInvalid
from hal_drivers.base import Compiled, Failed, Handle, Task
from tests.control_plane.jobs.desk import Desk, person
from tests.control_plane.jobs.ends import soon
from tests.fakes import FakeDriver

FIN = person("fin", "demo", "finops")
HEADER = "task,job,device,meter,quantity,unit,amount,currency,start,kind,user\n"


class Vendor(FakeDriver):
    """A backend that calls its tasks by names of its own."""

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        return await super().submit(compiled, task) | {"task": f"arn:task/{len(self.tasks)}"}


@pytest.fixture
def driver() -> Vendor:
    return Vendor()


def invoice(*lines: str, **changes: Any) -> Reconciling:
    day = dt.datetime.now(dt.UTC).date().isoformat()
    text = HEADER + "".join(line.replace("DAY", day) + "\n" for line in lines)
    return replace(Reconciling(text.encode(), provider="aer"), **changes)


async def ran(desk: Desk, driver: FakeDriver) -> str:
    job = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    await desk.seal()
    return job


def kinds(found: dict[str, Any]) -> list[str]:
    return [one["class"] for one in found["found"]]


async def test_the_sample_invoice_is_explained_and_the_bypass_found(desk: Desk, driver: Vendor) -> None:
    """G7, I6: each kind of variance from real jobs, told by one entry that replay holds against the rows."""
    first, second = await ran(desk, driver), await ran(desk, driver)
    lines = {row[0]: row[1:] for row in desk.sql("SELECT meter, quantity, amount FROM finops.charge")}
    shots, amount = lines["shots"]
    task = lines["tasks"][1]
    found = await reconciling.compare(
        desk.plane,
        FIN,
        invoice(
            f"arn:task/1,,fake,shots,{shots},Shots,{amount},USD,DAY,usage,",
            f"arn:task/1,,fake,tasks,1,Tasks,{task + 1},USD,DAY,usage,",
            f"arn:task/2,,fake,shots,{shots + 5},Shots,{amount},USD,DAY,usage,",
            f"arn:task/2,,fake,shots,{shots + 5},Shots,{amount},USD,DAY,usage,",
            "arn:task/9,,fake,shots,100,Shots,3.00,USD,DAY,usage,=cmd()",
            ",,,,,,-0.25,USD,DAY,credit,",
        ),
    )
    told = {one["class"]: one for one in found["found"]}
    assert told["matched"]["job_id"] == first
    assert (told["price"]["job_id"], told["price"]["difference"]) == (first, "1")
    assert (told["quantity"]["job_id"], told["duplicate"]["job_id"]) == (second, second)
    assert (told["unknown_job"]["device"], told["unknown_job"]["user"]) == ("fake", "=cmd()")
    assert told["credit"]["difference"] == "-0.25"
    missing = [one["job_id"] for one in found["found"] if one["class"] == "missing_on_invoice"]
    assert sorted(missing) == sorted([first, second, second]), "seconds of both, and the task of one"
    await desk.seal()
    assert desk.kinds()[-1] == "costs:reconciled"
    replayed = await desk.replayed()
    assert replayed.agrees, replayed.differences
    async with desk.plane.transaction("demo") as conn:
        assert [one["reconciliation_id"] for one in await invoice_store.newest(conn, "demo", 5)] == [
            found["reconciliation_id"]
        ]
    async with desk.plane.transaction("other") as conn:
        assert await invoice_store.newest(conn, "demo", 5) == [], "another tenant's"


async def test_a_job_that_failed_at_a_vendor_and_is_billed_there_is_found(desk: Desk, driver: Vendor) -> None:
    job = await desk.admitted()
    run = await desk.attempt(driver)
    driver.failed = _All(Failed("device_fault", "it broke"))
    await run.advance()
    await desk.seal()
    found = await reconciling.compare(desk.plane, FIN, invoice("arn:task/1,,fake,shots,5,Shots,1,USD,DAY,usage,"))
    assert (kinds(found), found["found"][0]["job_id"]) == (["failed_job"], job)
    replayed = await desk.replayed()
    assert replayed.agrees, replayed.differences


async def test_a_job_that_still_runs_and_is_billed_already_is_no_bypass(desk: Desk, driver: Vendor) -> None:
    """Its task's name is kept from the moment in which the vendor told it."""
    job = await desk.admitted()
    driver.gate.clear()
    going = asyncio.create_task((await desk.attempt(driver)).advance())
    await soon(lambda: desk.sql("SELECT vendor_tasks FROM jobs.job")[0][0])
    found = await reconciling.compare(desk.plane, FIN, invoice("arn:task/1,,fake,shots,5,Shots,1,USD,DAY,usage,"))
    assert (kinds(found), found["found"][0]["job_id"]) == (["open_job"], job)
    driver.gate.set()
    await going


async def test_findings_and_names_that_somebody_changed_in_the_database_are_found(desk: Desk, driver: Vendor) -> None:
    """I6: a bypass can't be made a job by writing its name into a row."""
    await ran(desk, driver)
    await reconciling.compare(desk.plane, FIN, invoice("arn:task/9,,fake,shots,5,Shots,1,USD,DAY,usage,"))
    await desk.seal()
    desk.sql("UPDATE finops.reconciliation SET findings = '[]'")
    desk.sql("""UPDATE jobs.job SET vendor_tasks = '[{"attempt": 1, "backend": "fake", "task": "arn:task/9"}]'""")
    differences = " ".join((await desk.replayed()).differences)
    assert "its findings are not those that the ledger tells of" in differences
    assert "vendor_tasks is not what the ledger tells" in differences


async def test_what_says_too_little_is_refused(desk: Desk) -> None:
    for asked, field in (
        (invoice("a,,,,,,1,USD,DAY,,", provider=None), "provider"),
        (invoice("a,,,,,,1,USD,,,"), "month"),
    ):
        with pytest.raises(Refused) as refused:
            await reconciling.compare(desk.plane, FIN, asked)
        assert refused.value.code == "request_invalid"
        assert refused.value.errors[0]["field"] == field
    with pytest.raises(InvoiceInvalid, match="line 2, amount: want a decimal number"):
        await reconciling.compare(desk.plane, FIN, invoice("a,,,,,,NaN,USD,DAY,,"))
    assert desk.sql("SELECT count(*) FROM finops.reconciliation") == [(0,)]


async def test_a_mapping_of_ones_own_reads_columns_by_any_name(desk: Desk) -> None:
    mapping = {"version": 1, "name": "mine", "columns": {"amount": "Betrag", "start": "Tag"}, "currency": "EUR"}
    text = json.dumps([{"Betrag": 12.5, "Tag": "2026-11-03"}]).encode()
    asked = Reconciling(text, format="json", map=mapping, provider="aer")
    found = await reconciling.compare(desk.plane, FIN, asked)
    assert (found["invoiced"], found["currency"], kinds(found)) == ("12.5", "EUR", ["unknown_job"])


class _All(dict[str, Failed]):
    """One answer for every task."""

    def __init__(self, said: Failed) -> None:
        self._said = said

    def get(self, _key: object, _default: object = None) -> Failed:
        return self._said
