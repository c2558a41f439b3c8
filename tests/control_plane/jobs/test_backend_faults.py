# SPDX-License-Identifier: Apache-2.0
"""Each fault of a backend ends as docs/drivers/faults.md says: no hang, no second bill, no second run (I3, G14)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from msgspec.structs import replace

from control_plane.jobs import run as runs
from control_plane.jobs.run import Run
from control_plane.policy.pdp import Pdp
from control_plane.seed import _tell
from finops import card_store
from hal_drivers.base import Failed, Unsupported
from hal_drivers.config import DriversConfig
from hal_drivers.errors import ProgramUnsupported
from hal_drivers.remote.driver import RemoteDriver
from tests.control_plane.jobs.desk import Desk, report
from tests.control_plane.jobs.desk import desk as open_desk
from tests.control_plane.jobs.ends import finish
from tests.docs.played import rows
from tests.hal_drivers import hostile
from tests.hal_drivers.hostile import BACKEND, TOKEN, Hostile, changed, says
from tests.postgres import TestDatabase

PAGE = Path(__file__).parents[3] / "docs" / "drivers" / "faults.md"
DEADLINE_S = 1.0
PATIENT_S = 60.0  # where no deadline is part of the fault, a busy machine shall not make it one
ROUNDS = 40


class Stage:
    """One plane, one far side, one job."""

    def __init__(self, desk: Desk, far: Hostile) -> None:
        self.desk, self.far, self.token = desk, far, TOKEN
        self.patience = hostile.SHORT
        self.job_id = ""

    @contextlib.asynccontextmanager
    async def driver(self) -> AsyncIterator[RemoteDriver]:
        """As a worker has it."""
        config = DriversConfig(credential=lambda name: self.token)
        async with RemoteDriver(self.far.settings(), config, self.patience) as driver:
            await report(self.desk, driver)
            yield driver

    async def submit(self, deadline_s: float) -> None:
        """A job that only this backend may have."""
        settings = replace(self.desk.plane.settings, job_deadline_s=deadline_s)
        self.desk.plane = dataclasses.replace(self.desk.plane, settings=settings)
        async with self.driver():
            self.desk.plane.known.forget()
            pinned = {"execution__backend_constraints": {"backend": BACKEND}}
            self.job_id = await self.desk.admitted(**pinned, execution__shots=10, execution__seed=7)

    async def attempt(self) -> dict[str, Any]:
        """One worker's go at it, after whatever lease; the row then."""
        self.desk.lose_lease()
        async with self.driver() as driver:
            for claimed in await self.desk.claim():
                await Run(self.desk.plane, {BACKEND: driver}, claimed).advance()
        return dict(await self.desk.row(self.job_id))

    async def end(self) -> dict[str, Any]:
        """Attempt until it has ended."""
        for _ in range(ROUNDS):
            row = await self.attempt()
            if row["final"] is not None:
                assert await finish(self.desk, self.job_id) == row["final"]
                return dict(await self.desk.row(self.job_id))
            await asyncio.sleep(0.05)
        raise AssertionError("it goes on for ever")

    @property
    def ran(self) -> int:
        """How many tasks the far side began."""
        return self.far.engine.submissions


Play: TypeAlias = Callable[[Stage], Awaitable[dict[str, Any]]]


def at(place: str, *tricks: hostile.Trick) -> Play:
    """Tampered with there, all the time."""

    async def play(stage: Stage) -> dict[str, Any]:
        stage.far.at(place, *tricks)
        return await stage.end()

    return play


def outcome(change: Callable[[dict[str, Any]], None]) -> Play:
    """An outcome that is changed on its way."""
    return at("result", changed(lambda document: change(document["outcome"])))


async def refused(stage: Stage) -> dict[str, Any]:
    right, stage.far.url = stage.far.url, "https://127.0.0.1:9"
    row = await stage.attempt()
    assert (row["state"], row["token"], stage.ran) == ("QUEUED", None, 0)
    stage.far.url = right
    return await stage.end()


async def expired(stage: Stage) -> dict[str, Any]:
    stage.token = "a-token-of-last-month"
    row = await stage.attempt()
    assert (row["state"], stage.ran) == ("QUEUED", 0)
    stage.token = TOKEN
    return await stage.end()


async def expires(stage: Stage) -> dict[str, Any]:
    stage.far.at("show", says(401, "token_invalid"))
    row = await stage.attempt()
    assert (row["state"], stage.ran) == ("EXECUTING", 1)
    stage.far.heal()
    return await stage.end()


async def other_certificate(stage: Stage) -> dict[str, Any]:
    right = stage.far.ca
    other = stage.far.folder / "wrong.pem"
    from hal_drivers.simulator import certificate

    certificate.prepare(other, stage.far.folder / "wrong.key", ["127.0.0.1"])
    stage.far.ca = str(other)
    stage.far.seen.clear()
    row = await stage.attempt()
    assert (row["state"], stage.far.seen) == ("QUEUED", [])
    stage.far.ca = right
    return await stage.end()


async def overdue(stage: Stage) -> dict[str, Any]:
    stage.far.engine.gate.clear()
    return await stage.end()


async def unstoppable(stage: Stage) -> dict[str, Any]:
    async def cannot(handle: object) -> Unsupported:
        return Unsupported()

    stage.far.engine.cancel = cannot  # type: ignore[method-assign]
    stage.far.engine.gate.clear()
    stage.far.at("cancel", changed(lambda d: d.update(cancellation={"type": "unsupported"})))
    return await stage.end()


def forgetting(*, authoritative: bool) -> Play:
    async def play(stage: Stage) -> dict[str, Any]:
        stage.far.keep.authoritative = authoritative
        stage.far.at("show", says(503))
        row = await stage.attempt()
        assert (row["state"], stage.ran) == ("EXECUTING", 1)
        stage.far.forget()
        stage.far.heal()
        return await stage.end()

    return play


async def cannot_run(stage: Stage) -> dict[str, Any]:
    stage.far.engine.breaks["compile"] = ProgramUnsupported("no such gate")
    return await stage.end()


async def fails(stage: Stage) -> dict[str, Any]:
    class Failing(dict[str, Failed]):
        def get(self, key: object, default: object = None) -> Any:
            return Failed("backend_failed", "cold")

    stage.far.engine.failed = Failing()
    return await stage.end()


def fewer(said: dict[str, Any]) -> None:
    counts = {"00": 2, "11": 1}
    said |= {"counts": counts, "shots_executed": 3}
    said["blocks"] = [said["blocks"][0] | {"counts": counts, "shots": 3}]


def wider(said: dict[str, Any]) -> None:
    for one in (said, *said["blocks"]):
        one["counts"] = {"000": 10}


def doubled(said: dict[str, Any]) -> None:
    said["counts"] = {bits: 2 * n for bits, n in said["counts"].items()}
    said["blocks"] *= 2
    said["shots_executed"] *= 2


def billing(said: dict[str, Any]) -> None:
    said["usage"]["wall_s"] = 10_000.0


def early(said: dict[str, Any]) -> None:
    said["started_at"] = said["blocks"][0]["start"] = "2026-01-01T00:00:00Z"


async def slow(stage: Stage) -> dict[str, Any]:
    """Within the deadline by the far side's status, beyond it by its own account."""

    def longer(said: dict[str, Any]) -> None:
        said["usage"]["wall_s"] += DEADLINE_S + 0.5

    stage.far.at("result", changed(lambda document: longer(document["outcome"])))
    return await stage.end()


# fault → (what happens, state, code of the error, runs at the far side)
CASES: dict[str, tuple[Play, str, str | None, int]] = {
    "the connection is refused before the task is sent": (refused, "COMPLETED", None, 1),
    "429 with Retry-After, then 503": (
        at("put", says(429, **{"Retry-After": "0"}), says(503), hostile.honest), "COMPLETED", None, 1,
    ),
    "the answer to the submission is lost": (at("put", hostile.lost, hostile.honest), "COMPLETED", None, 1),
    "the answer to the submission comes too late": (at("put", hostile.late), "COMPLETED", None, 1),
    "the submission is answered with garbage": (at("put", hostile.mumbled), "COMPLETED", None, 1),
    "it never answers for a task": (at("show", hostile.silent), "UNCERTAIN", "outcome_unknown", 1),
    "its status is garbage": (at("show", hostile.garbage), "UNCERTAIN", "outcome_unknown", 1),
    "it answers for another task": (
        at("show", changed(lambda d: d.update(token="other"))), "UNCERTAIN", "outcome_unknown", 1,
    ),
    "the token has expired before submission": (expired, "COMPLETED", None, 1),
    "the token expires while the task runs": (expires, "COMPLETED", None, 1),
    "the certificate has changed": (other_certificate, "COMPLETED", None, 1),
    "it runs beyond the deadline and can be stopped": (overdue, "FAILED", "deadline_exceeded", 1),
    "it runs beyond the deadline and can't be stopped": (unstoppable, "UNCERTAIN", "outcome_unknown", 1),
    "it forgets the task and says that this proves nothing": (
        forgetting(authoritative=False), "UNCERTAIN", "outcome_unknown", 1,
    ),
    "it forgets the task and says that nothing ran": (forgetting(authoritative=True), "COMPLETED", None, 2),
    "it can't run the circuit": (cannot_run, "FAILED", "program_unsupported", 0),
    "compiling gives garbage": (at("compile", hostile.garbage), "FAILED", "backend_failed", 0),
    "it fails with the task": (fails, "FAILED", "backend_failed", 1),
    "fewer shots": (outcome(fewer), "COMPLETED", None, 1),
    "more shots than asked for, as when a result comes twice": (outcome(doubled), "FAILED", "backend_failed", 1),
    "counts that don't add up": (outcome(lambda o: o["counts"].update({"01": 1})), "FAILED", "backend_failed", 1),
    "bits of another width": (
        outcome(wider), "FAILED", "backend_failed", 1,
    ),
    "another seed than asked for": (outcome(lambda o: o.update(seed=8)), "FAILED", "backend_failed", 1),
    "a result that can't be read": (at("result", hostile.garbage), "FAILED", "backend_failed", 1),
    "times before it had the task": (outcome(early), "FAILED", "backend_failed", 1),
    "it bills more seconds than it had the task": (outcome(billing), "FAILED", "backend_failed", 1),
    "it took longer than was quoted, and bills that": (slow, "COMPLETED", None, 1),
}  # fmt: skip


@pytest.fixture
async def stage(
    database: TestDatabase, tmp_path: Path, pdp: Pdp, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    monkeypatch.setattr(runs, "OVERDUE_S", 0.0)
    monkeypatch.setattr(runs, "POLL_S", 0.05)
    async with open_desk(database, tmp_path, pdp) as desk:
        await _price(desk)
        far = Hostile(tmp_path)
        async with far.serving():
            yield Stage(desk, far)
            await far.close()


async def _price(desk: Desk) -> None:
    """A tariff of remote simulators."""
    card = json.loads(files("finops").joinpath("cards", "own.json").read_bytes()) | {"revision": 2}
    (remote,) = (price for price in card["prices"] if price["provider"] == "remote")
    seconds = {"meter": "simulator_seconds", "unit": "Seconds", "rate": "0.5"}
    remote["lines"] = [*card["prices"][0]["lines"][:2], seconds]
    async with desk.plane.transaction("demo") as conn:
        pushed = await card_store.push(conn, "demo", json.dumps(card).encode(), desk.plane.now())
        await _tell(conn, "demo", "rates:pushed", {"rate_card": pushed.hash, "name": pushed.name})
    desk.plane.known.forget()


def test_the_page_and_the_cases_are_the_same() -> None:
    assert [fault for fault, _, _ in rows(PAGE, 3)] == list(CASES)
    for fault, _, ends in rows(PAGE, 3):
        _, state, code, ran = CASES[fault]
        assert state in ends, fault
        assert code in (None, "outcome_unknown") or f"`{code}`" in ends, fault
        assert "one run" not in ends or ran == 1, fault


@pytest.mark.parametrize("fault", CASES)
async def test_a_fault_ends_as_the_page_says(stage: Stage, fault: str) -> None:
    play, state, code, ran = CASES[fault]
    timed = state == "UNCERTAIN" or code == "deadline_exceeded" or fault.startswith("it took longer")
    await stage.submit(DEADLINE_S if timed else PATIENT_S)
    row = await play(stage)
    assert (row["final"], row["error"] and row["error"]["code"], stage.ran) == (state, code, ran), row["error"]
    held, captured = await stage.desk.money()
    ((money,),) = stage.desk.sql("SELECT state FROM finops.hold")
    assert money == ("parked" if state == "UNCERTAIN" else "settled")
    assert (held > 0) == (state == "UNCERTAIN")
    assert captured == (row["cost_amount"] or Decimal(0)), "charged once, and only what is told"
    assert (captured > 0) == (state == "COMPLETED")
    assert stage.desk.kinds().count("job:dispatch:intended") == ran
    if fault == "fewer shots":
        assert row["partial"] == "the backend ran 3 of 10 shots and does not say why"
    if fault.startswith("it took longer"):
        assert captured > row["hold_amount"]
        (overrun,) = stage.desk.sql("SELECT overrun FROM finops.hold")[0]
        assert overrun == captured - row["hold_amount"]
