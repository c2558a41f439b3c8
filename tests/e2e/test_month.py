# SPDX-License-Identifier: Apache-2.0
"""The sample month of `qcos demo-data month`: real jobs at times that have passed, on a whole plane (G7)."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from typing import Any

from control_plane import demo_month
from tests.e2e.plane import Plane

NOW = dt.datetime(2024, 3, 3, 12, tzinfo=dt.UTC)  # the month before has a leap day


def test_the_same_month_asks_for_the_same() -> None:
    """Every day from the first of the month before to now, in order; a larger scale asks for more of it."""
    month = list(demo_month.drawn(NOW))
    assert month == list(demo_month.drawn(NOW))
    times = [one.at for one in month]
    assert times == sorted(times)
    assert times[0] >= dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
    assert times[-1] < NOW
    assert dt.date(2024, 2, 29) in {at.date() for at in times}
    by_month = Counter(at.month for at in times)
    assert by_month[2] > 100
    assert len(list(demo_month.drawn(NOW, 2.0))) > 1.8 * len(month)


def test_a_sample_month_is_run_charged_and_proven_at_its_own_times(stranger: Plane, sampled: Any) -> None:
    """I3, I6: its money counts in the windows of its own months, and its evidence verifies as any other's."""
    made, invoice = sampled, (stranger.folder / "braket.csv").read_text()
    assert made["planted"]["bypass_jobs"] == invoice.count("tasks,1,Tasks,0.32,") - _billed(stranger)
    assert made["jobs"] == made["ended"]["COMPLETED"] > 3
    assert made["denied"] == {}
    jobs = [
        job
        for job in stranger.cli("jobs", "list", "--json", user="admin").json
        if job["submitted_at"] < f"{dt.datetime.now(dt.UTC) - dt.timedelta(hours=1):%Y-%m-%dT%H:%M:%S}"
    ]
    assert len(jobs) == made["jobs"]
    oldest = stranger.cli("jobs", "show", jobs[-1]["job_id"], "--json", user="admin").json
    assert oldest["submitted_at"] == jobs[-1]["submitted_at"]
    assert Decimal(oldest["cost"]["amount"]) > 0
    assert oldest["history"][-1]["at"][:10] == oldest["submitted_at"][:10]
    bundle, trust = stranger.folder / "oldest.json", stranger.folder / "oldest-trust.json"
    assert stranger.cli("evidence", "get", oldest["job_id"], "-o", str(bundle), user="auditor").code == 0
    assert stranger.cli("trust", "export", "-o", str(trust), user="admin").code == 0
    assert stranger.cli("verify", str(bundle), "--trust", str(trust), "--json").json["verdict"] == "valid"
    assert stranger.cli("ledger", "replay", "--compare", "--json", user="auditor").json["agrees"]


def _billed(stranger: Plane) -> int:
    """Braket's tasks of the whole month, as they stand at their price in the invoice: one is left out, one dearer."""
    first = dt.datetime.now(dt.UTC).replace(day=1) - dt.timedelta(days=1)
    rows = stranger.cli(
        "costs", "show", "--by", "provider,meter", "--month", f"{first:%Y-%m}", "--json", user="admin"
    ).json
    (tasks,) = [row["jobs"] for row in rows if (row["provider"], row["meter"]) == ("aws-braket", "tasks")]
    return int(tasks) - 1 - 1 + 1


def test_a_scale_that_is_no_number_is_refused(stranger: Plane) -> None:
    assert stranger.cli("demo-data", "month", "--scale", "nan").code == 2
    assert stranger.cli("demo-data", "month", "--scale", "0").code == 2
