# SPDX-License-Identifier: Apache-2.0
"""What estimates covered is counted from what jobs were told, and says so where the promise wasn't kept (G7, I7)."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from control_plane.costs import estimating, store
from tests.control_plane.jobs.conftest import desk, driver, pdp
from tests.control_plane.jobs.desk import Desk
from tests.fakes import FakeDriver

__all__ = ["desk", "driver", "pdp"]

EVER = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def _row(**counted: Any) -> dict[str, Any]:
    return {"backend": "b", "jobs": 100, "judged": 100, "below": 0, "above": 0, "without": 0, "certain": 0} | counted


def test_coverage_is_told_with_its_interval_and_drift_where_chance_does_not_explain_it() -> None:
    (kept,) = estimating.document([_row(below=4, above=7, width=0.125)])
    assert (kept["inside"], kept["coverage"], kept["stated"], kept["drift"]) == (89, 0.89, "0.9", False)
    assert kept["coverage_interval"][0] < 0.89 < kept["coverage_interval"][1]
    (broken,) = estimating.document([_row(above=40, width=0.1)])
    assert (broken["coverage"], broken["drift"]) == (0.6, True)


def test_where_nothing_was_promised_there_is_no_coverage() -> None:
    (nothing,) = estimating.document([_row(judged=0, without=100, width=None)])
    assert (nothing["coverage"], nothing["coverage_interval"], nothing["drift"]) == (None, None, False)


async def test_completed_jobs_are_judged_by_the_interval_that_they_were_given(desk: Desk, driver: FakeDriver) -> None:
    """By backend, project and time; another tenant sees none (I7)."""
    told = {"low": "0.38", "high": "0.39", "basis": {"of": "backend"}}
    for of, low, high in (
        ("backend", "0.38", "0.39"),
        ("provider", "0.381", "0.39"),
        ("backend", "0.37", "0.379"),
        ("none", "0", "9"),
        ("card", "0.38", "0.38"),
    ):
        job = await desk.admitted()
        await (await desk.attempt(driver)).advance()
        given = told | {"low": low, "high": high, "basis": {"of": of}}
        desk.sql("UPDATE jobs.job SET estimate = %s::jsonb WHERE job_id = %s", json.dumps(given), job)
    await desk.admitted()  # has not ended
    (cost,) = desk.sql("SELECT DISTINCT trim_scale(cost_amount)::text FROM jobs.job WHERE cost_amount IS NOT NULL")
    assert cost == ("0.3801",)
    (rows,) = await desk.plane.read("demo", store.judged(EVER, ["demo"]))
    (one,) = estimating.document(rows)
    assert (one["backend"], one["jobs"], one["judged"], one["inside"]) == ("fake", 5, 3, 1)
    assert (one["below"], one["above"], one["without"], one["certain"]) == (1, 1, 1, 1)
    for tenant, since, projects in (
        ("demo", EVER, ["x"]),
        ("demo", dt.datetime.now(dt.UTC), None),
        ("other", EVER, None),
    ):
        (rows,) = await desk.plane.read(tenant, store.judged(since, projects))
        assert estimating.document(rows) == []
