# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each part of a running plane, with jobs under way (I1, I2, I3, I6, N10)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from control_plane.home import is_alive
from tests.faults import kills
from tests.faults.judge import Judge
from tests.faults.traffic import Heard, spec
from tests.own_plane import OwnPlane, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LASTING = 500  # shots of the long circuit: seconds
SAMPLE = 25
SEED = 7


@pytest.fixture
def plane() -> Iterator[OwnPlane]:
    with kills.short_home() as own:
        yield own


def lasting() -> dict[str, Any]:
    return spec("long") | {"execution": {"shots": LASTING, "seed": 7}}


def submit(plane: OwnPlane, asked: dict[str, Any], key: str, heard: Heard) -> str:
    """Submit until a plane that is being killed has acknowledged it; the key makes that safe."""
    while True:
        try:
            status, document = plane.http("POST", "/api/v1/jobs", asked, **{"Idempotency-Key": key})
        except OSError:
            status, document = 0, {}
        if status in (200, 202):
            heard.job(key, document)
            return str(document["job_id"])
        assert status in (0, 503), document
        time.sleep(0.05)


def shown(plane: OwnPlane, job_id: str) -> dict[str, Any]:
    status, document = plane.http("GET", f"/api/v1/jobs/{job_id}")
    assert status == 200, document
    return dict(document)


def test_a_killed_workers_job_is_ended_by_another(plane: OwnPlane) -> None:
    """I3, N10: the worker dies while the circuit runs; the job ends COMPLETED in a second attempt, paid once."""
    heard = Heard()
    job_id = submit(plane, lasting(), "long", heard)
    ((worker,),) = until(
        lambda: plane.query(f"SELECT worker FROM jobs.job WHERE job_id = '{job_id}' AND state = 'EXECUTING'"),
        "the job runs",
    )
    name = worker.rpartition("-")[0]
    assert plane.kill(name) == int(worker.rpartition("-")[2])
    Judge(plane).judge(heard)
    job = shown(plane, job_id)
    assert (job["state"], job["attempt"]) == ("COMPLETED", 2)
    assert [event["state"] for event in job["history"]].count("EXECUTING") == 2
    assert name in plane.alive()


def test_random_kills_under_load_break_no_promise() -> None:
    """I1, I2, I3, I6: a sample of what `make kills` does a thousand times; its report is in docs/faults.md."""
    done = kills.run(SAMPLE, SEED, every=SAMPLE, mean_s=3.0)
    assert sum(done.kills.values()) == SAMPLE
    assert done.figures.jobs["COMPLETED"] > 0
    assert not [answer for answer in done.answers if answer.startswith("5") and not answer.startswith("503 ")]


def test_a_killed_up_leaves_no_process_and_the_next_goes_on(plane: OwnPlane) -> None:
    """N10: the kernel ends the children; the next start recovers what was under way."""
    heard = Heard()
    job_ids = [submit(plane, lasting(), "long", heard), submit(plane, spec("run"), "short", heard)]
    until(lambda: plane.query("SELECT 1 FROM jobs.job WHERE state = 'EXECUTING'"), "one runs")
    record = plane.record
    pids = {process.name: (process.pid, process.started) for process in record.processes}
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not any(is_alive(*pid) for pid in pids.values()), "the children end")
    plane.up()
    plane.ask("login", "--as", "engineer")  # the port is another, and so is the issuer's address
    Judge(plane).judge(heard)
    assert [shown(plane, job_id)["state"] for job_id in job_ids] == ["COMPLETED", "COMPLETED"]
