# SPDX-License-Identifier: Apache-2.0
"""What workers report is kept, bounded, and never waits for one backend that says nothing (G14, N9)."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import worker
from control_plane.jobs.live import Bell
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import load
from control_plane.registry import report, store
from control_plane.registry.report import Reporter
from hal_drivers.base import Calibration, DeviceStatus
from hal_drivers.errors import BackendUnavailable
from tests.control_plane.jobs.desk import Desk, desk
from tests.fakes import BEGAN, FakeDriver
from tests.postgres import TestDatabase


class Told(FakeDriver):
    """A backend whose words are the test's."""

    depth_told = 0
    said: BaseException | None = None
    silent = False
    data = b'{"noise_model": "none"}'

    async def status(self, backend: str) -> DeviceStatus:
        if self.silent:
            await asyncio.Event().wait()
        if self.said is not None:
            raise self.said
        return DeviceStatus(online=True, queue_depth=self.depth_told)

    async def calibration(self, backend: str) -> Calibration:
        return Calibration("c1", BEGAN, self.data)


@pytest.fixture
async def plane(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(database, tmp_path, Pdp(EmbeddedEngine(), Held(load()))) as opened:
        yield opened


async def row(plane: Desk, name: str = "fake") -> dict[str, Any]:
    async with plane.plane.transaction(None) as conn:
        rows = await store.backends(conn, store.BACKEND_STALE_S)
    return dict(next(row for row in rows if row["id"] == name))


async def test_a_report_tells_capability_queue_and_calibration(plane: Desk) -> None:
    driver = Told()
    driver.depth_told = 4
    reporter = Reporter(plane.plane, {"fake": driver})
    reporter.ran("fake", 2.5)
    await reporter.report()
    found = await row(plane)
    assert (found["state"], found["queue_depth"], found["queue_s"], found["max_shots"]) == (
        "online",
        4,
        10.0,
        1_000_000,
    )
    assert found["calibration"]["errors"] == {"one_qubit": 0.0, "two_qubit": 0.0, "readout": 0.0}
    assert found["calibration"]["survival"] == 1


async def test_a_backend_that_says_nothing_is_offline_and_keeps_no_other_waiting(
    plane: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "ANSWER_LIMIT_S", 0.2)
    silent, well, away = Told("silent"), Told("well"), Told("away")
    silent.silent, away.said = True, BackendUnavailable("401: the token has expired")
    await Reporter(plane.plane, {"silent": silent, "well": well, "away": away}).report()
    assert ((await row(plane, "silent"))["state"], (await row(plane, "silent"))["reason"]) == (
        "offline",
        "no answer in 0.2 s",
    )
    assert (await row(plane, "well"))["state"] == "online"
    assert (await row(plane, "away"))["reason"] == "backend_unavailable: 401: the token has expired"


async def test_what_a_backend_says_is_made_safe_and_its_drivers_faults_are_its_own(plane: Desk) -> None:
    """No NUL breaks the registry, no escape reaches a terminal, no exception ends the reports of others."""
    rude, broken, well = Told("rude"), Told("broken"), Told("well")
    rude.said, rude.depth_told = BackendUnavailable("a\0b\x1b[31m" + "x" * 1000), -5
    broken.said = KeyError("nothing that a driver may raise")
    await Reporter(plane.plane, {"rude": rude, "broken": broken, "well": well}).report()
    reason = (await row(plane, "rude"))["reason"]
    assert reason.startswith("backend_unavailable: a b [31mx")
    assert len(reason) == report.REASON
    assert (await row(plane, "broken"))["reason"] == "its driver failed: KeyError"
    assert (await row(plane, "well"))["state"] == "online"


async def test_since_when_a_backend_is_down_is_kept_while_it_stays_so(plane: Desk) -> None:
    driver = Told()
    reporter = Reporter(plane.plane, {"fake": driver})
    await reporter.report()
    up = (await row(plane))["changed_at"]
    await reporter.report()
    assert (await row(plane))["changed_at"] == up
    driver.said = BackendUnavailable("rebooting")
    await reporter.report()
    down = (await row(plane))["changed_at"]
    assert down > up
    await reporter.report()
    assert (await row(plane))["changed_at"] == down


async def test_a_backend_that_came_or_went_is_news(plane: Desk) -> None:
    driver = Told()
    reporter = Reporter(plane.plane, {"fake": driver})
    assert await reporter.has_news()
    await reporter.report()
    assert not await reporter.has_news()
    driver.said = BackendUnavailable("rebooting")
    assert await reporter.has_news()
    await reporter.report()
    assert not await reporter.has_news()


async def test_a_backend_that_says_nothing_delays_no_report(plane: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others would be stale by then."""
    driver = Told()
    driver.silent = True
    monkeypatch.setattr(worker, "NEWS_S", 0.01)
    monkeypatch.setattr(worker, "REPORT_S", 0.1)
    made = worker.Worker(plane.plane, {"fake": driver}, "w1", Bell(plane.database.app, lambda _: True), 1)
    async with asyncio.timeout(6):  # the backend is given 8 s
        await made._until_due()


async def test_a_calibration_is_kept_once_and_a_new_one_beside_it(plane: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes stay as they were found, each version once."""
    monkeypatch.setattr(report, "CALIBRATED_S", 0.0)
    driver = Told()
    reporter = Reporter(plane.plane, {"fake": driver})
    await reporter.report()
    await reporter.report()
    driver.data = b'{"errors": {"two_qubit": 0.25}}'
    await reporter.report()
    found = plane.sql("SELECT data FROM jobs.backend_calibration ORDER BY found_at")
    assert [bytes(data) for (data,) in found] == [b'{"noise_model": "none"}', driver.data]
    assert (await row(plane))["calibration"]["survival"] == 0.75


async def test_what_is_kept_is_bounded_by_age_and_number(plane: Desk) -> None:
    """N18: the registry doesn't grow with the plane's age."""
    old = dt.datetime.now(dt.UTC) - dt.timedelta(days=store.QUEUE_DAYS + 1)
    plane.sql("INSERT INTO jobs.backend_queue VALUES ('fake', %s, true, NULL, 1, 1)", old)
    plane.sql(
        "INSERT INTO jobs.backend_calibration (backend, hash, calibration_id, valid_from, data, facts, found_at)"
        " SELECT 'fake', n::text, 'c', now(), '', '{}', now() - make_interval(secs => n) FROM generate_series(1, %s) n",
        store.CALIBRATIONS + 5,
    )
    async with plane.plane.transaction(None) as conn:
        await store.note_queue(conn, "fake", online=True, reason=None, depth=1, queue_s=1.0)
        await store.note_queue(conn, "fake", online=False, reason="away", depth=0, queue_s=0.0)
        await store.prune(conn)
    assert plane.sql("SELECT online, reason, depth FROM jobs.backend_queue") == [(False, "away", 1)]
    assert plane.sql("SELECT count(*) FROM jobs.backend_calibration") == [(store.CALIBRATIONS,)]
