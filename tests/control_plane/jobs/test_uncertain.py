# SPDX-License-Identifier: Apache-2.0
"""An UNCERTAIN job's parked hold is settled once, by somebody, for at most what was held (I3, G5)."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.errors import Refused
from control_plane.jobs import uncertain, view
from control_plane.jobs.uncertain import Settling
from finops.errors import AmountInvalid, HoldClosed
from tests.control_plane.jobs.desk import Desk, person, report
from tests.control_plane.jobs.ends import finish, lost_after_intent
from tests.fakes import FakeDriver

ADMIN = person("boss", "demo", "quantum-admin")


async def parked(desk: Desk, driver: FakeDriver) -> str:
    """A job that ended UNCERTAIN."""
    driver.capabilities = replace(driver.capabilities, find_authoritative=False)
    driver.remembers = False
    job_id = await lost_after_intent(desk, driver, "submitted")
    await (await desk.attempt(driver, "w2")).advance()
    assert await finish(desk, job_id) == "UNCERTAIN"
    return job_id


async def settle(desk: Desk, job_id: str, **asked: Any) -> None:
    settling = Settling(**({"reason": "the vendor's invoice says so"} | asked))
    await uncertain.settle(desk.plane, ADMIN, await desk.row(job_id), settling)


@pytest.mark.parametrize(
    ("asked", "cost"), [({"outcome": "released"}, "0"), ({"outcome": "charged", "amount": "0.30"}, "0.3")]
)
async def test_its_hold_ends_and_rows_and_ledger_agree(
    desk: Desk, driver: FakeDriver, asked: dict[str, str], cost: str
) -> None:
    job_id = await parked(desk, driver)
    before = await desk.row(job_id)
    await settle(desk, job_id, **asked)
    await desk.seal()
    row = await desk.row(job_id)
    assert desk.sql("SELECT state, captured FROM finops.hold") == [("settled", Decimal(cost))]
    assert desk.sql("SELECT sum(held), sum(captured) FROM finops.budget_window") == [(0, Decimal(cost))]
    shown = view.shown(row)
    assert (shown["state"], shown["cost"]["amount"]) == ("UNCERTAIN", cost)
    assert shown["settlement"]["reason"] == "the vendor's invoice says so"
    assert shown["settlement"]["by"] == ADMIN.actor
    assert [row[name] for name in ("bundle_id", "statement_blob", "outcome_entry")] == [
        before[name] for name in ("bundle_id", "statement_blob", "outcome_entry")
    ], "its evidence stays as it was"
    assert (await desk.replayed()).differences == []


async def test_it_is_settled_once_however_many_try(desk: Desk, driver: FakeDriver) -> None:
    job_id = await parked(desk, driver)
    row = await desk.row(job_id)
    asked = [Settling("charged", f"try {n}", f"0.{n}") for n in range(1, 6)]
    tried = await asyncio.gather(
        *(uncertain.settle(desk.plane, ADMIN, row, one) for one in asked), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in tried) == ["HoldClosed"] * 4 + ["NoneType"]
    with pytest.raises(HoldClosed):
        await settle(desk, job_id, outcome="released")
    await desk.seal()
    assert desk.sql("SELECT count(*) FROM ledger.entry WHERE kind = 'job:uncertain:settled'") == [(1,)]
    assert (await desk.replayed()).differences == []


@pytest.mark.parametrize("amount", ["0.53", "0", "-1", "NaN", "1e-3", ""])
async def test_no_more_is_charged_than_was_held(desk: Desk, driver: FakeDriver, amount: str) -> None:
    job_id = await parked(desk, driver)
    with pytest.raises(AmountInvalid):
        await settle(desk, job_id, outcome="charged", amount=amount)
    assert desk.sql("SELECT state FROM finops.hold") == [("parked",)]


async def test_only_what_is_uncertain_is_settled_by_hand(desk: Desk, driver: FakeDriver) -> None:
    job_id = await desk.admitted()
    with pytest.raises(Refused, match="QUEUED"):
        await settle(desk, job_id, outcome="released")
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    with pytest.raises(Refused, match="COMPLETED"):
        await settle(desk, job_id, outcome="released")


async def test_that_all_backends_are_away_is_no_denial(desk: Desk, driver: FakeDriver) -> None:
    """Nothing is stored, and the same submission is admitted once one is back."""
    desk.sql("UPDATE jobs.backend SET seen_at = seen_at - interval '1 hour'")
    desk.plane.known.forget()
    jobs, entries = (desk.sql(f"SELECT count(*) FROM {table}") for table in ("jobs.job", "ledger.inbox"))
    with pytest.raises(Refused) as refused:
        await desk.submit()
    assert refused.value.code == "backends_unavailable"
    assert [jobs, entries] == [desk.sql(f"SELECT count(*) FROM {table}") for table in ("jobs.job", "ledger.inbox")]
    await report(desk, driver)
    desk.plane.known.forget()
    assert (await desk.submit()).state == "QUEUED"
