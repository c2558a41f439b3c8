# SPDX-License-Identifier: Apache-2.0
"""Figures of backends: from the tenant's own jobs, of what was measured, beside the period before (G14, I7)."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from control_plane.jobs.run import Run
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import load
from control_plane.registry import store
from control_plane.registry.figures import document
from hal_drivers.errors import CircuitInvalid
from tests.control_plane.jobs.desk import Desk, desk, report
from tests.fakes import Broken, FakeDriver
from tests.postgres import TestDatabase


def row(period: int, backend: str = "a", **facts: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "provider": "aer",
        "currency": "USD",
        "jobs": 10,
        "completed": 10,
        "queue_s": [1.0, 4.0],
        "run_s": [0.5, 0.9],
        "run_s_1000": 0.5,
        "cost": Decimal("3.8"),
        "executions": 10_000,
    }
    return {"period": period, "backend": backend, **plain, **facts}


def failure(code: str, times: int, *, moved: bool = False, period: int = 0, backend: str = "a") -> dict[str, Any]:
    return {"period": period, "backend": backend, "code": code, "moved": moved, "times": times}


def test_drift_is_the_part_by_which_it_is_more_than_before() -> None:
    (found,) = document([row(0), row(1, run_s_1000=0.4, cost=Decimal("1.9"), queue_s=[2.0, 2.0], jobs=7)], [])
    assert (found["price_per_1000"], found["run_s"], found["queue_s"]["p95"]) == ("0.38", {"p50": 0.5, "p95": 0.9}, 4.0)
    assert found["drift"] == {"price": 1.0, "run_time": 0.25, "queue": -0.5, "success_rate": 0.0, "jobs_before": 7}


def test_only_the_backends_own_faults_count_against_it() -> None:
    """A circuit that is no circuit, and an owner who cancels, say nothing of the backend."""
    failures = [failure("backend_failed", 5, moved=True), failure("circuit_invalid", 9), failure("canceled", 3)]
    (found,) = document([row(0, jobs=27, completed=15)], failures)
    assert (found["success_rate"], found["failed_over"]) == (0.75, 5)
    assert found["success_interval"] == pytest.approx([0.531299, 0.888138])
    assert found["failures"] == {"backend_failed": 5, "canceled": 3, "circuit_invalid": 9}


def test_what_was_not_measured_is_null() -> None:
    bare = row(0, completed=0, queue_s=None, run_s=None, run_s_1000=None, cost=None, executions=None)
    (found,) = document([bare], [])
    assert {found[name] for name in ("success_rate", "queue_s", "run_s", "price_per_1000")} == {None}
    assert set(found["drift"].values()) == {None, 0}


def test_a_price_in_another_currency_is_no_drift() -> None:
    (found,) = document([row(0), row(1, currency="EUR")], [])
    assert found["drift"]["price"] is None


def test_a_backend_of_the_period_before_alone_is_left_out_and_a_provider_may_be_named() -> None:
    rows = [row(0), row(0, "b", provider="ibm-quantum"), row(1, "c")]
    assert [one["backend"] for one in document(rows, [])] == ["a", "b"]
    assert [one["backend"] for one in document(rows, [], "ibm-quantum")] == ["b"]
    assert [one["backend"] for one in document([], [failure("backend_failed", 1, moved=True, backend="d")])] == ["d"]


@pytest.fixture
async def plane(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(database, tmp_path, Pdp(EmbeddedEngine(), Held(load()))) as opened:
        yield opened


async def figures(plane: Desk, tenant: str, projects: list[str] | None = None) -> dict[str, dict[str, Any]]:
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    rows, failures = await plane.plane.read(tenant, *store.figured(ends - dt.timedelta(days=30), ends, projects))
    return {one["backend"]: one for one in document(rows, failures)}


async def test_a_tenants_figures_are_of_its_own_jobs(plane: Desk) -> None:
    """I7: nothing of another tenant, nothing of a project that isn't seen; failed attempts stand where they failed."""
    fleet = {name: FakeDriver(name) for name in ("first", "second")}
    for driver in fleet.values():
        await report(plane, driver)
    ends = (None, Broken("it broke"), CircuitInvalid("line 3"))
    for error in ends:
        await plane.admitted()
        for name, driver in fleet.items():
            hit = name == "first" or isinstance(error, CircuitInvalid)
            driver.breaks = {"compile": error} if error is not None and hit else {}
        while claimed := await plane.claim():
            await Run(plane.plane, fleet, claimed[0]).advance()
        plane.sql("UPDATE jobs.job SET wait_s = 0")  # the fakes' tasks begin at one fixed moment
        plane.plane.known.forget()
    found = await figures(plane, "demo")
    assert found["first"]["failures"]["backend_failed"] == 1
    assert (found["first"]["completed"], found["first"]["success_rate"], found["first"]["failed_over"]) == (1, 0.5, 1)
    assert (found["second"]["completed"], found["second"]["price_per_1000"]) == (1, "0.3801")
    assert await figures(plane, "other") == {}
    assert await figures(plane, "demo", []) == {}
    assert (await figures(plane, "demo", ["demo"])).keys() == found.keys()
