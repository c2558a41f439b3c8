# SPDX-License-Identifier: Apache-2.0
"""I5 through the whole of admission and dispatch, against a real OPA that is broken in every way we know (G2).

Each fault is one row of `docs/policy-faults.md`, made from what was observed; with `QCOS_WRITE_TABLES=1` the rows are
written, else they are held against the page.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from pathlib import Path

import pytest

from control_plane.codes import CODES
from control_plane.jobs import control
from control_plane.jobs.run import Run
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.opa import OpaEngine
from control_plane.policy.pdp import Pdp
from tests.control_plane.jobs.desk import Desk, person
from tests.control_plane.policy.opa_faults import FAULTS, POLICIES, Opa, opa
from tests.control_plane.policy.opa_server import needs_opa
from tests.control_plane.policy.sample import document
from tests.fakes import FakeDriver

PAGE = Path(__file__).parents[3] / "docs" / "policy-faults.md"
LIMIT_S = 0.5
ENOUGH_S = 30.0  # a fault that answers must be known by its answer, however busy the machine is
KEY = "asked-again"


@needs_opa
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_opa_lets_nothing_through_and_stops_nothing_else(
    desk: Desk, driver: FakeDriver, name: str
) -> None:
    """I5, N10: 503 and nothing stored; who waits for a decision waits; the rest goes on; and then all of it does."""
    done = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    await desk.seal()
    unwanted = await desk.admitted()
    await control.signal(desk.plane, person(), "hold", unwanted)
    waiting = await desk.admitted()
    desk.sql("UPDATE jobs.job SET decision = jsonb_set(decision, '{policy_revision}', '\"sha256:old\"')")
    async with opa() as broken:
        engine = OpaEngine(broken.url, LIMIT_S if FAULTS[name].silent else ENOUGH_S)
        desk.plane = dataclasses.replace(desk.plane, pdp=Pdp(engine, Held(POLICIES)))
        try:
            await _decides(desk)
            broken.breaks(FAULTS[name])
            row = f"| {name} | " + " | ".join(
                [
                    *await _refused(desk, FAULTS[name].said),
                    await _waits(desk, driver, waiting),
                    await _go_on(desk, unwanted, done),
                    await _mended(desk, driver, broken, waiting),
                ]
            )
        finally:
            await engine.close()
    _hold(f"{row} |", name)


async def _refused(desk: Desk, said: str) -> tuple[str, str, str]:
    """What a submission is answered, what it left, and what bounded its time."""
    before, kinds = desk.counts(), desk.kinds()
    with pytest.raises(PolicyUnavailable) as caught:
        await desk.submit(key=KEY)
    with pytest.raises(PolicyUnavailable):  # nor did asking once more, for another job, by another person
        await desk.submit(who=person("bea"))
    assert desk.counts() == before
    assert desk.kinds() == kinds
    assert said in str(caught.value)
    meaning = CODES[caught.value.code]
    bound = "`policy_limit_s`" if "took longer" in str(caught.value) else "at once"
    return f"{meaning.status} `{caught.value.code}`", "nothing", bound


async def _decides(desk: Desk) -> None:
    """Wait for a decision; the test's own limit bounds it."""
    while True:
        with contextlib.suppress(PolicyUnavailable):
            assert (await desk.plane.pdp.decide(document(), "sound", desk.plane.now())).allow
            return


async def _waits(desk: Desk, driver: FakeDriver, job_id: str) -> str:
    """A job whose decision has to be made anew, under the fault: back in the queue, nothing handed over or told."""
    submitted, decided = driver.submissions, desk.kinds().count("policy:decision:allow")
    await (await desk.attempt(driver)).advance()
    assert (driver.submissions, desk.kinds().count("policy:decision:allow")) == (submitted, decided)
    assert (await desk.row(job_id))["state"] == "QUEUED"
    return "waits in the queue"


async def _go_on(desk: Desk, unwanted: str, done: str) -> str:
    """What needs no decision: resume, cancel, sealing, status, result."""
    await control.signal(desk.plane, person(), "resume", unwanted)
    await control.signal(desk.plane, person(), "cancel", unwanted)
    await desk.seal()
    assert await desk.state(unwanted) == "CANCELED"
    assert await desk.state(done) == "COMPLETED"
    row = await desk.row(done)
    async with desk.plane.transaction("demo") as conn:
        opened = await desk.plane.vault.read(conn, "demo", row["result_blob"])
    assert json.loads(opened.content)["counts"]
    return "go on"


async def _mended(desk: Desk, driver: FakeDriver, broken: Opa, waiting: str) -> str:
    """OPA is sound again: the same request with the same key is taken, and who waited goes on. No plane restarts."""
    broken.fault = None
    broken.start()
    await _decides(desk)
    admission = await desk.submit(key=KEY)
    assert admission.state == "QUEUED"
    desk.lose_lease()
    await desk.seal()
    for claimed in await desk.claim():
        await Run(desk.plane, {"fake": driver}, claimed).advance()
    await desk.seal()
    assert [await desk.state(job_id) for job_id in (waiting, admission.job_id)] == ["COMPLETED", "COMPLETED"]
    assert (await desk.replayed()).differences == []
    return "both go on"


def _hold(row: str, name: str) -> None:
    """One row against the page; or into it."""
    text = PAGE.read_text(encoding="utf-8")
    rows = {line.split(" | ")[0][2:]: line for line in text.splitlines() if line.startswith("| ")}
    if os.environ.get("QCOS_WRITE_TABLES") == "1":
        kept = [(rows | {name: row}).get(fault) for fault in FAULTS]
        table = "\n".join(line for line in kept if line)
        made = re.sub(r"(?s)(<!-- faults -->\n.*?\|---[^\n]*\n).*?(<!-- /faults -->)", rf"\g<1>{table}\n\g<2>", text)
        PAGE.write_text(made, encoding="utf-8")
    else:
        assert rows.get(name) == row, "run this file with QCOS_WRITE_TABLES=1"


def test_the_page_has_a_row_for_each_fault() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| ([^|]+) \| 503", text)
    assert rows == list(FAULTS)
