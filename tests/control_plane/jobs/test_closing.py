# SPDX-License-Identifier: Apache-2.0
"""Closing a month, and what is given back, on a plane without its processes (G7, I3, I6)."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from decimal import Decimal

import msgspec
import pytest

from control_plane.costs import allocating, closing, crediting, statements
from control_plane.costs.crediting import Correcting, Crediting, Refunding, Sharing
from control_plane.errors import Refused
from finops.errors import AmountInvalid, CorrectionInvalid, FinopsError, MonthInvalid
from finops.month_store import Stored
from finops.statement import Month, read_line, sums_agree
from ledger import cost_statement
from ledger.canonical import sha256
from tests.control_plane.jobs.desk import Desk, person
from tests.control_plane.jobs.test_charging import completed
from tests.fakes import FakeDriver

WHO = person("fin", "demo", "finops")
METHOD = {
    "version": 1,
    "name": "rules",
    "revision": 1,
    "rules": [{"pool": "*", "by": "fixed", "ratios": {"cc-1": "0.333333333333", "cc-2": "0.666666666667"}}],
    "defaults": {"demo": "cc-9"},
}


def later(desk: Desk) -> str:
    """The month of now, which is over for this plane from here on."""
    now = dt.datetime.now(dt.UTC)
    over = (now.replace(day=1) + dt.timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    desk.plane.now.system = lambda: over
    return f"{now:%Y-%m}"


async def closed(desk: Desk, month: str) -> Stored:
    """Close it while the sealer is at work."""
    closing_it = asyncio.create_task(closing.close(desk.plane, WHO, month, "month end"))
    while not closing_it.done():
        await desk.seal()
        await asyncio.sleep(0.005)
    found = await closing_it
    await desk.seal()
    return found


async def line_bytes(desk: Desk, month: str) -> bytes:
    """The lines file."""
    return b"".join([chunk async for chunk in statements.lines(desk.plane, "demo", month)])


async def agreed(desk: Desk) -> None:
    """The fold is the rows (I6)."""
    assert (await desk.replayed()).differences == []


async def share(desk: Desk, amount: str, pool: str = "platform") -> None:
    """Enter a shared cost."""
    await crediting.share(desk.plane, WHO, Sharing(pool=pool, amount=amount, currency="USD", reason="r"))


async def test_a_month_closes_once_with_all_of_its_lines(desk: Desk, driver: FakeDriver) -> None:
    """Its statement sums the lines to the last decimal, rests on a checkpoint, and the sealer signs it."""
    await completed(desk, driver, governance__cost_center="cc-1")
    await completed(desk, driver)
    await share(desk, "10.01")
    await allocating.put(desk.plane, WHO, json.dumps(METHOD).encode())
    await crediting.credit(desk.plane, WHO, Crediting(project="demo", amount="0.5", currency="USD", reason="r"))
    month = later(desk)
    before = await statements.sums(desk.plane, "demo", month)
    first = await closed(desk, month)
    again = await closed(desk, month)
    assert first.state == "closed"
    assert again == first
    assert first.statement is not None
    record = cost_statement.parse_statement(first.statement)
    content = msgspec.json.decode(msgspec.json.encode(record))
    sums_agree(content)
    assert {name: content[name] for name in statements.SUMS} == {name: before[name] for name in statements.SUMS}
    assert (await statements.sums(desk.plane, "demo", month))["state"] == "closed"
    borne = {one["cost_center"]: one for one in content["cost_centers"]}
    assert [borne[name]["shared"] for name in ("cc-1", "cc-2")] == ["3.34", "6.67"]
    assert borne["cc-9"]["credit"] == "-0.5"
    lines = await line_bytes(desk, month)
    assert sha256(lines) == record.lines.sha256
    summed = Month(await allocating.current(desk.plane, "demo"))
    for line in lines.splitlines(keepends=True):
        summed.add(read_line(line))
    assert summed.content() == {name: content[name] for name in summed.content()}
    signed = desk.sql("SELECT level, mldsa65 IS NOT NULL FROM ledger.signature WHERE bundle_id = %s", first.bundle_id)
    assert signed == [("full", True)]
    assert desk.kinds().count("costs:month_closed") == desk.kinds().count("costs:month_frozen") == 1
    assert "evidence:refused" not in desk.kinds()
    await agreed(desk)


async def test_what_comes_after_the_close_counts_in_the_month_that_is_open(desk: Desk, driver: FakeDriver) -> None:
    """A refund of a closed month's job is a line of the next one, which says what it is about."""
    job = await completed(desk, driver)
    month = later(desk)
    first = await closed(desk, month)
    (cost,) = desk.sql("SELECT cost_amount FROM jobs.job WHERE job_id = %s", job)
    held = await desk.money()
    written = await crediting.refund(desk.plane, WHO, Refunding(job_id=job, reason="it was wrong"))
    assert written.month > month
    assert written.corrects is not None
    assert written.corrects.month == month
    assert Decimal(written.amount) == -cost[0] < 0
    assert held[1] == cost[0]
    assert (await desk.money())[1] == 0
    assert desk.sql("SELECT max(captured) FROM finops.budget_window") == [(Decimal(0),)]
    for _ in range(2):
        with pytest.raises(FinopsError):
            await crediting.refund(desk.plane, WHO, Refunding(job_id=job, reason="again", amount="0.000001"))
    with pytest.raises(CorrectionInvalid, match="nothing is left of what was charged"):
        await crediting.refund(desk.plane, WHO, Refunding(job_id=job, reason="again"))
    over = desk.plane.now() + dt.timedelta(days=32)
    desk.plane.now.system = lambda: over
    second = await closed(desk, written.month)
    assert first.statement is not None
    assert second.statement is not None
    previous = cost_statement.parse_statement(second.statement).previous
    assert previous == cost_statement.Previous(month=month, sha256=sha256(first.statement))
    await desk.seal()
    await agreed(desk)


async def test_refunds_at_once_never_give_back_more_than_was_charged(desk: Desk, driver: FakeDriver) -> None:
    """Real concurrent transactions: what they take together is the charge, to the last decimal (I3)."""
    job = await completed(desk, driver)
    ((cost,),) = desk.sql("SELECT cost_amount FROM jobs.job WHERE job_id = %s", job)
    part = format(cost * 3 / 10, "f")[:8]

    async def one() -> Decimal:
        asked = Refunding(job_id=job, reason="r", amount=part)
        try:
            return -Decimal((await crediting.refund(desk.plane, WHO, asked)).amount)
        except FinopsError:
            return Decimal(0)

    given = await asyncio.gather(*(one() for _ in range(8)))
    assert sum(given) == 3 * Decimal(part) <= cost
    rest = await crediting.refund(desk.plane, WHO, Refunding(job_id=job, reason="r"))
    assert sum(given) - Decimal(rest.amount) == cost
    assert desk.sql("SELECT sum(amount) FROM finops.charge WHERE job_id = %s", job) == [(Decimal(0),)]
    too_much = Correcting(amount="-0.01", currency="USD", reason="r", job_id=job)
    with pytest.raises(CorrectionInvalid):
        await crediting.correct(desk.plane, WHO, too_much)
    await desk.seal()
    await agreed(desk)


async def test_corrections_move_no_budget_and_are_of_one_thing(desk: Desk, driver: FakeDriver) -> None:
    """A job's correction counts where the job does."""
    job = await completed(desk, driver, governance__cost_center="cc-1")
    before = await desk.money()
    made = await crediting.correct(desk.plane, WHO, Correcting(amount="1.25", currency="USD", reason="r", job_id=job))
    assert (made.cost_center, made.amount, made.category) == ("cc-1", "1.25", "correction")
    assert await desk.money() == before
    for bad in (
        Correcting(amount="1", currency="USD", reason="r"),
        Correcting(amount="1", currency="USD", reason="r", job_id=job, project="demo"),
        Correcting(amount="1", currency="EUR", reason="r", job_id=job),
        Correcting(amount="0", currency="USD", reason="r", job_id=job),
        Correcting(amount="NaN", currency="USD", reason="r", job_id=job),
        Correcting(amount="1", currency="USD", reason="r", job_id="no-such-job"),
    ):
        with pytest.raises(FinopsError):
            await crediting.correct(desk.plane, WHO, bad)
    with pytest.raises(Refused):
        await crediting.credit(desk.plane, WHO, Crediting(project="nobody", amount="1", currency="USD", reason="r"))
    for given in (
        crediting.credit(desk.plane, WHO, Crediting(project="demo", amount="1", currency="ZZZ", reason="r")),
        crediting.correct(desk.plane, WHO, Correcting(project="demo", amount="1", currency="ZZZ", reason="r")),
        crediting.share(desk.plane, WHO, Sharing(pool="fee", amount="1", currency="ZZZ", reason="r")),
    ):
        with pytest.raises(AmountInvalid, match="ISO 4217 has no currency ZZZ"):
            await given
    await desk.seal()
    await agreed(desk)


async def test_months_close_in_their_order_once_they_are_over(desk: Desk) -> None:
    """Neither the month that runs, nor one before which another is open, nor what is no month."""
    now = f"{dt.datetime.now(dt.UTC):%Y-%m}"
    for month in (now, "9998-12", "2026-13", "2026-1", "", "0000-01", "2026-02-29"):
        with pytest.raises(MonthInvalid):
            await closing.close(desk.plane, WHO, month, "r")
    await share(desk, "1")
    month = later(desk)
    over = desk.plane.now() + dt.timedelta(days=32)
    desk.plane.now.system = lambda: over
    following = (over.replace(day=1) - dt.timedelta(days=1)).strftime("%Y-%m")
    with pytest.raises(MonthInvalid, match=f"{month} has charges and is open"):
        await closing.close(desk.plane, WHO, following, "r")
    assert (await closed(desk, month)).state == "closed"
    assert (await closed(desk, following)).state == "closed"
    with pytest.raises(MonthInvalid, match="months close in their order"):
        await closing.close(desk.plane, WHO, "2024-02", "r")
    await agreed(desk)


@pytest.mark.parametrize("step", ["administrative.append", "costs.closing._position", "costs.closing._keep"])
async def test_a_close_that_dies_is_gone_on_with(desk: Desk, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it ended: the second close ends with one statement, and a late charge is in the next month."""

    class Died(BaseException):
        pass

    async def die(*_: object) -> None:
        raise Died

    await share(desk, "2")
    month = later(desk)
    with monkeypatch.context() as patch:
        patch.setattr(f"control_plane.{step}", die)
        with pytest.raises(Died):
            await closed(desk, month)
    await share(desk, "3")
    found = await closed(desk, month)
    assert found.statement is not None
    assert [one.net for one in cost_statement.parse_statement(found.statement).totals] == ["2"]
    assert desk.kinds().count("costs:month_closed") == 1
    await agreed(desk)


@pytest.mark.parametrize("act", ["share", "method"])
async def test_what_dies_before_its_entry_never_was(desk: Desk, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row and entry are one transaction."""

    class Died(BaseException):
        pass

    async def die(*_: object) -> None:
        raise Died

    monkeypatch.setattr("control_plane.administrative.append", die)
    with pytest.raises(Died):
        if act == "share":
            await share(desk, "1")
        else:
            await allocating.put(desk.plane, WHO, json.dumps(METHOD).encode())
    assert desk.sql("SELECT 1 FROM finops.charge UNION ALL SELECT 1 FROM finops.allocation") == []
    await agreed(desk)


async def test_while_the_sealer_is_away_the_month_is_frozen_and_goes_on_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing says so, and no statement is handed out."""
    monkeypatch.setattr(closing, "SEAL_S", 0.05)
    month = later(desk)
    assert (await closing.close(desk.plane, WHO, month, "r")).state == "closing"
    with pytest.raises(Refused, match="is closing"):
        await statements.file(desk.plane, "demo", month)
    monkeypatch.undo()
    assert (await closed(desk, month)).state == "closed"
