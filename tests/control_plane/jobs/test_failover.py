# SPDX-License-Identifier: Apache-2.0
"""A job whose backend fails goes to another where owner, policy, price and limit allow it; paid once (G9, I3)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.jobs import view
from control_plane.jobs.run import Run
from control_plane.jobs.weights import Weights
from control_plane.policy.pdp import Pdp
from hal_drivers.base import Failed
from hal_drivers.errors import BackendUnavailable, DriverError, ProgramUnsupported
from ledger.predicate import parse_statement
from tests.control_plane.jobs.desk import Desk, report
from tests.control_plane.jobs.desk import desk as open_desk
from tests.control_plane.jobs.ends import NOTHING, finish, soon
from tests.fakes import Broken, Dead, FakeDriver
from tests.postgres import TestDatabase

NAMES = ("first", "second", "third")


@pytest.fixture
def fleet() -> dict[str, FakeDriver]:
    """Backends alike: the first by id is chosen first."""
    return {name: FakeDriver(name) for name in NAMES}


@pytest.fixture
async def plane(database: TestDatabase, tmp_path: Path, pdp: Pdp, fleet: dict[str, FakeDriver]) -> AsyncIterator[Desk]:
    async with open_desk(database, tmp_path, pdp) as opened:
        for driver in fleet.values():
            await report(opened, driver)
        yield opened


async def attempt(plane: Desk, fleet: dict[str, FakeDriver]) -> Run:
    (claimed,) = await plane.claim()
    return Run(plane.plane, fleet, claimed)


def bounded(plane: Desk, failovers: int) -> None:
    settings = msgspec.structs.replace(plane.plane.settings, routing=Weights(failovers=failovers))
    plane.plane = dataclasses.replace(plane.plane, settings=settings)


async def shown(plane: Desk, job_id: str) -> dict[str, Any]:
    return view.shown(await plane.row(job_id))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("compile", BackendUnavailable("rebooting")),
        ("compile", ProgramUnsupported("control flow on a backend that has none")),
        ("submit", BackendUnavailable("rebooting")),
        ("submit", Broken("it broke")),
        ("result", Broken("it broke")),
    ],
)
async def test_a_backend_that_fails_is_followed_by_another(
    plane: Desk, fleet: dict[str, FakeDriver], call: str, error: DriverError
) -> None:
    """The second attempt's route is told, evidence has both, and one hold pays one run."""
    job_id = await plane.admitted()
    held, _ = await plane.money()
    fleet["first"].breaks[call] = error
    await (await attempt(plane, fleet)).advance()
    assert (await plane.row(job_id))["state"] == "QUEUED"
    assert await plane.money() == (held, Decimal(0))
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    job = await shown(plane, job_id)
    assert (job["backend"], job["attempt"], fleet["second"].submissions) == ("second", 2, 1)
    chosen = [(line["attempt"], line["backend"]) for line in job["route"] if line["verdict"] == "chosen"]
    assert chosen == [(1, "first"), (2, "second")]
    why = next(line["reason"] for line in job["route"] if line["attempt"] == 2 and line["backend"] == "first")
    assert why == f"attempt 1 failed there: {error.code}: {error.detail}"
    assert await plane.money() == (Decimal(0), (await plane.row(job_id))["cost_amount"])
    assert plane.kinds().count("job:attempt:rerouted") == 1
    async with plane.plane.transaction("demo") as conn:
        opened = await plane.plane.vault.read(conn, "demo", (await plane.row(job_id))["statement_blob"])
    record = parse_statement(opened.content)
    assert record.execution_metadata.attempt == 2
    assert any(f"it failed there: {error.code}: {error.detail}" in line.reason for line in record.route)
    assert record.environment["routing"] == Weights().shown


async def test_a_task_that_the_backend_fails_goes_to_another(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    job_id = await plane.admitted()
    first = fleet["first"]
    first.gate.clear()
    going = asyncio.create_task((await attempt(plane, fleet)).advance())
    await soon(lambda: first.tasks)
    first.failed[next(iter(first.tasks))] = Failed("backend_failed", "a fuse blew")
    first.gate.set()
    await going
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    assert (await plane.row(job_id))["backend"] == "second"


@pytest.mark.parametrize("code", ["deadline_exceeded", "circuit_invalid", "circuit_too_complex"])
async def test_what_another_backend_would_not_mend_goes_nowhere(
    plane: Desk, fleet: dict[str, FakeDriver], code: str
) -> None:
    """The circuit's or the owner's own fault fails everywhere."""
    job_id = await plane.admitted()
    error = DriverError("no")
    error.code = code
    fleet["first"].breaks["poll"] = error
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "FAILED"
    assert (await plane.row(job_id))["error"]["code"] == code


async def test_a_circuit_too_deep_on_one_backend_goes_to_another(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    """G1: max_depth judges what was compiled, and a backend with other couplings compiles to less."""
    job_id = await plane.admitted(execution__backend_constraints={"max_depth": 3})
    fleet["first"].depth = 4
    for _ in range(2):
        await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    assert (await plane.row(job_id))["backend"] == "second"


async def test_a_pinned_job_is_never_sent_elsewhere(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    job_id = await plane.admitted(execution__backend_constraints={"backend": "first"})
    fleet["first"].breaks["submit"] = Broken("it broke")
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "FAILED"
    assert await plane.money() == NOTHING


async def test_failovers_are_bounded_by_the_setting(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    """At most so many; the last cause is the job's."""
    bounded(plane, 1)
    job_id = await plane.admitted()
    for driver in fleet.values():
        driver.breaks["submit"] = Broken(f"{driver.backend} broke")
    await (await attempt(plane, fleet)).advance()
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "FAILED"
    row = await plane.row(job_id)
    assert (row["error"]["detail"], fleet["third"].submissions, row["attempt"]) == ("second broke", 0, 2)
    assert await plane.money() == NOTHING


async def test_no_failover_is_a_setting_too(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    bounded(plane, 0)
    job_id = await plane.admitted()
    fleet["first"].breaks["submit"] = Broken("it broke")
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "FAILED"


async def test_a_job_goes_only_where_its_decision_let_it(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    """I5, I8: what policy left out at admission stays out."""
    job_id = await plane.admitted()
    plane.sql("UPDATE jobs.job SET allowed = '{first}'")
    fleet["first"].breaks["submit"] = Broken("it broke")
    await (await attempt(plane, fleet)).advance()
    assert await plane.state(job_id) == "SEALING"
    assert (await plane.row(job_id))["final"] == "FAILED"
    assert fleet["second"].submissions == 0


async def test_a_backend_above_the_hold_makes_it_larger_where_its_budgets_have_room(
    plane: Desk, fleet: dict[str, FakeDriver]
) -> None:
    """I3, path step 5: what may cost more than is held runs once more is held."""
    job_id = await plane.admitted()
    plane.sql("UPDATE finops.hold SET amount = amount - 0.5")
    plane.sql("UPDATE finops.budget_window SET held = held - 0.5")
    plane.sql("UPDATE finops.budget SET limit_amount = 0.1")
    assert await plane.claim() == []
    plane.sql("UPDATE finops.budget SET limit_amount = 0.52")
    plane.lose_lease()
    run = await attempt(plane, fleet)
    fleet["first"].gate.clear()
    going = asyncio.create_task(run.advance())
    await soon(lambda: fleet["first"].tasks)
    assert await plane.money() == (Decimal("0.52"), Decimal(0))
    fleet["first"].gate.set()
    await going
    assert await plane.state(job_id) == "SEALING"


async def test_a_job_of_unknown_outcome_is_not_sent_elsewhere(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    """Never after UNCERTAIN: it may run there."""
    job_id = await plane.admitted()
    first = fleet["first"]
    first.capabilities = msgspec.structs.replace(first.capabilities, find_authoritative=False)
    first.breaks["submitted"] = Dead()
    with pytest.raises(Dead):
        await (await attempt(plane, fleet)).advance()
    first.breaks.clear()
    first.remembers = False
    plane.lose_lease()
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "UNCERTAIN"
    assert fleet["second"].submissions == 0


async def test_a_task_found_again_and_failed_goes_to_another(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    """After a crash the backend says that the task failed: it never gave a result, so another may."""
    job_id = await plane.admitted()
    first = fleet["first"]
    first.breaks["submitted"] = Dead()
    with pytest.raises(Dead):
        await (await attempt(plane, fleet)).advance()
    first.breaks.clear()
    first.failed[next(iter(first.tasks))] = Failed("backend_failed", "a fuse blew")
    plane.lose_lease()
    await (await attempt(plane, fleet)).advance()
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"
    assert (first.submissions, fleet["second"].submissions) == (1, 1)


async def test_backends_that_were_only_away_are_waited_for_when_nothing_else_is_left(
    plane: Desk, fleet: dict[str, FakeDriver]
) -> None:
    """N10: a job outlives a power cut that hits every backend."""
    job_id = await plane.admitted()
    for driver in fleet.values():
        driver.breaks["compile"] = BackendUnavailable("rebooting")
    for _ in fleet:
        await (await attempt(plane, fleet)).advance()
        plane.lose_lease()
    assert await plane.state(job_id) == "QUEUED"
    for driver in fleet.values():
        driver.breaks.clear()
    await (await attempt(plane, fleet)).advance()
    assert await finish(plane, job_id) == "COMPLETED"


async def test_a_failure_elsewhere_counts_against_that_backend(plane: Desk, fleet: dict[str, FakeDriver]) -> None:
    """History: the tenant's next job begins elsewhere; another tenant doesn't know (I7)."""
    await plane.admitted()
    fleet["first"].breaks["submit"] = Broken("it broke")
    for _ in range(2):
        await (await attempt(plane, fleet)).advance()
    await plane.seal()
    plane.sql("UPDATE jobs.job SET wait_s = 0")  # the fakes' tasks begin at one fixed moment
    plane.plane.known.forget()
    past = await plane.plane.known.past(plane.plane.engine, "demo", 30)
    assert {name: (one.succeeded, one.ended) for name, one in past.items()} == {"first": (0, 1), "second": (1, 1)}
    assert await plane.plane.known.past(plane.plane.engine, "other", 30) == {}
    admission = await plane.submit(dry_run=True)
    assert [line.backend for line in admission.route if line.verdict == "chosen"] == ["second"]
    assert "0 of 1 succeeded" in next(line.reason for line in admission.route if line.backend == "first")
