# SPDX-License-Identifier: Apache-2.0
"""Jobs priced by a tariff of several cards: what has no price is refused with a reason, never free (G6, G7, I6)."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from control_plane.costs import rates
from control_plane.errors import Refused
from finops.errors import UnknownPrice
from hal_drivers.base import Failed
from tests.control_plane.jobs.desk import Desk, bell, person
from tests.control_plane.jobs.ends import evidence_of, finish, soon
from tests.fakes import FakeDriver

OWN: dict[str, Any] = json.loads(files("finops").joinpath("cards", "own.json").read_bytes())
DISPUTED = {
    "about": "what a task is",
    "readings": [
        {"says": "each circuit", "source": "a page", "source_date": "2026-11-01"},
        {"says": "each job", "source": "another", "source_date": "2026-11-01"},
    ],
    "chosen": 0,
}


async def push(desk: Desk, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """A revision of the plane's own card, changed."""
    card = copy.deepcopy(OWN) | {"revision": 2}
    change(card)
    return await rates.push(desk.plane, person("ada", "demo", "quantum-admin"), json.dumps(card).encode())


async def test_a_job_has_the_card_of_the_backend_that_ran_it_and_what_is_pushed_later_changes_nothing(
    desk: Desk, driver: FakeDriver
) -> None:
    """G7, I6: the card of its admission prices it; the entries tell it, and the replay agrees."""
    job_id = await desk.admitted()
    before = (await desk.row(job_id))["rate_cards"]
    await push(desk, lambda card: card["prices"][0]["lines"][0].update(rate="0.90"))
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    row = await desk.row(job_id)
    assert row["rate_card"] == before[row["backend"]]
    assert row["cost_amount"] < 1
    await desk.seal()
    assert (await desk.replayed()).differences == []


async def test_a_disputed_reading_takes_no_job_until_it_is_accepted(desk: Desk) -> None:
    """G6: the refusal names the card; who accepts it stands in the ledger."""
    card = await push(desk, lambda card: card["prices"][0].update(disputed=DISPUTED))
    with pytest.raises(UnknownPrice, match="disputed reading") as caught:
        await desk.submit()
    assert card["rate_card"] in str(caught.value)
    admin = person("ada", "demo", "quantum-admin")
    accepted = await rates.accept(desk.plane, admin, card["rate_card"], "the contract says so")
    assert accepted["accepted"]
    again = await rates.accept(desk.plane, admin, card["rate_card"], "again")
    assert (again["accepted"], again["in_force"]) == (True, True)
    assert (await desk.submit()).state == "QUEUED"
    await desk.seal()
    assert (await desk.replayed()).differences == []
    await push(desk, lambda card: card.update(revision=99))
    told = await rates.accept(desk.plane, admin, card["rate_card"], "a newer one prices now")
    assert not told["in_force"]
    desk.sql("UPDATE finops.rate_card SET accepted_at = NULL")
    assert any("accepted" in line for line in (await desk.replayed()).differences)


@pytest.mark.parametrize(
    ("revision", "change", "said"),
    [
        (1, "pushed_at = clock_timestamp()", "the order in which"),
        (2, "effective_until = '2026-02-01'", "was changed"),
        (2, "ends = true", "was changed"),
    ],
)
async def test_a_card_whose_place_was_changed_in_the_database_is_found(
    desk: Desk, revision: int, change: str, said: str
) -> None:
    """I6: which card prices is told by entries too; nobody puts an earlier one in force unseen."""
    await push(desk, lambda card: card["prices"][0]["lines"][0].update(rate="0.90"))
    await desk.seal()
    assert (await desk.replayed()).differences == []
    which = f"""position('"revision":{revision},' in convert_from(document, 'UTF8')) > 0"""
    desk.sql(f"UPDATE finops.rate_card SET {change} WHERE {which} AND name = 'own' AND tenant = 'demo'")
    (found,) = (await desk.replayed()).differences
    assert said in found


async def test_a_price_in_another_currency_is_no_price(desk: Desk) -> None:
    """G7: nothing is converted; the reason names both currencies."""
    await push(desk, lambda card: card.update(currency="EUR"))
    with pytest.raises(UnknownPrice, match="priced in EUR, the budgets are in USD"):
        await desk.submit()


async def test_a_device_priced_by_gates_is_admitted_by_what_its_scan_bounds(desk: Desk) -> None:
    """I3: as many gate-shots as operations times shots are held; what compiling counts is held at the gate."""
    gates: dict[str, Any] = {"meter": "one_qubit_gate_shots", "unit": "Gate-Shots", "rate": "0.0001"}
    await push(desk, lambda card: card["prices"][0].update(lines=[gates]))
    admission = await desk.submit()
    assert admission.state == "QUEUED"
    assert admission.amount == "0.4000"  # h, cx and two measurements, a thousand times each


async def test_a_bad_card_changes_nothing_and_each_fault_has_its_line(desk: Desk) -> None:
    """G6: also one that is good alone and overlaps with another in force."""
    before = desk.sql("SELECT count(*) FROM finops.rate_card")

    def change(card: dict[str, Any]) -> None:
        card["currency"] = "usd"
        card["prices"][0]["lines"][0]["rate"] = "-1"

    with pytest.raises(Refused) as caught:
        await push(desk, change)
    assert caught.value.code == "rate_card_invalid"
    assert [fault["field"] for fault in caught.value.errors] == ["$.currency", "$.prices[0].lines[0].rate"]
    with pytest.raises(Refused, match="cards own and mine both price aer"):
        await push(desk, lambda card: card.update(name="mine"))
    assert desk.sql("SELECT count(*) FROM finops.rate_card") == before


async def test_a_line_by_task_bills_what_each_item_used_and_evidence_tells_it(desk: Desk, driver: FakeDriver) -> None:
    """G6: three items of 0.01 s, every started second whole: three seconds, by a stranger too; what failed is free."""
    seconds: dict[str, Any] = {"meter": "simulator_seconds", "unit": "Seconds", "rate": "1", "by": "task"}
    seconds |= {"increment": {"size": "1", "rounding": "up"}, "cap": [{"each": "20", "of": "tasks"}]}
    gates: dict[str, Any] = {"meter": "two_qubit_gate_shots", "unit": "Gate-Shots", "rate": "1", "by": "task"}
    gates |= {"minimum": [{"each": "150", "of": "tasks"}]}
    await desk.limit("10000")
    await push(desk, lambda card: card["prices"][0].update(lines=[seconds, gates]))
    document = bell(execution__shots=100)
    circuit = document.pop("circuit")
    document["program"] = {"kind": "sampler", "circuits": [circuit] * 4}
    admission = await desk.submit(document)
    await desk.seal()
    held, _ = await desk.money()
    run = await desk.attempt(driver)
    driver.gate.clear()
    running = asyncio.create_task(run.advance())
    await soon(lambda: driver.submissions == 1)
    (first,) = driver.tasks
    driver.failed[first[:-1] + "1"] = Failed("backend_failed", "it broke")
    driver.gate.set()
    await running
    assert await finish(desk, admission.job_id) == "COMPLETED"
    bundle = await evidence_of(desk, admission.job_id)
    assert bundle.cost is not None
    lines = {line.meter: (line.quantity, line.amount) for line in bundle.cost.lines}
    assert lines == {"simulator_seconds": ("3", "3"), "two_qubit_gate_shots": ("450", "450")}
    assert held >= 453
    told = json.loads(bundle.contents["execution"])
    ran = [item for item in told["items"] if "facts" in item]
    assert [item["item"] for item in ran] == [0, 2, 3]
    alone = [{one["meter"]: one["quantity"] for one in item["facts"]} for item in ran]
    assert alone == [{"simulator_seconds": "0.01", "tasks": "1", "two_qubit_gate_shots": "100"}] * 3
    facts = {one["meter"]: one["quantity"] for one in told["facts"]}
    assert (facts["simulator_seconds"], facts["two_qubit_gate_shots"]) == ("0.03", "300")
