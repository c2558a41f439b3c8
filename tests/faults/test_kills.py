# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each part of a running plane, with jobs under way (I1, I2, I3, I6, N10)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from control_plane.home import is_alive
from tests.conformance.driver import LONG
from tests.own_plane import OwnPlane, until

pytestmark = pytest.mark.faults

BELL = json.loads((Path(__file__).parents[2] / "examples" / "bell.json").read_bytes())
LASTING = 500  # shots of the long circuit: seconds
CONFIG = "lease_s = 1.5\nworkers = 2\n"


@pytest.fixture
def plane() -> Iterator[OwnPlane]:
    """A plane with short leases; its folder is short too, for the sake of sockets."""
    home = Path(tempfile.mkdtemp(prefix="qcos-f-", dir="/tmp"))
    own = OwnPlane(home / "home", config=CONFIG)
    with own.running():
        own.ask("login", "--as", "engineer")
        yield own
    shutil.rmtree(home, ignore_errors=True)


def bell(shots: int = 100) -> dict[str, Any]:
    return {**BELL, "execution": {"shots": shots, "seed": 7}}


def long(shots: int) -> dict[str, Any]:
    """A circuit whose shots take long: each is measured in its middle."""
    circuit = {"format": "QASM3", "source": base64.b64encode(LONG).decode()}
    return {**BELL, "circuit": circuit, "execution": {"shots": shots, "seed": 7}}


def submit(plane: OwnPlane, spec: dict[str, Any], key: str) -> dict[str, Any]:
    """Submit until a plane that is being killed has acknowledged it; the key makes that safe."""
    while True:
        try:
            status, document = plane.http("POST", "/api/v1/jobs", spec, **{"Idempotency-Key": key})
        except OSError:
            status, document = 0, {}
        if status in (200, 202):
            return dict(document)
        assert status in (0, 500, 503), document
        time.sleep(0.05)


def ended(plane: OwnPlane, job_id: str) -> dict[str, Any] | None:
    """The job, once it has ended; a plane that is being killed may not answer."""
    try:
        status, document = plane.http("GET", f"/api/v1/jobs/{job_id}")
    except OSError:
        return None
    assert status in (200, 500, 503), document
    return dict(document) if status == 200 and document["state"] in ("COMPLETED", "FAILED", "CANCELED") else None


def await_end(plane: OwnPlane, job_id: str) -> dict[str, Any]:
    """The job when it has ended."""
    return dict(until(lambda: ended(plane, job_id), f"{job_id} has ended"))


def sound(plane: OwnPlane) -> None:
    """No hold is left open; captures are what the jobs cost; the log verifies; rows and balances are as it folds."""
    assert plane.query("SELECT job_id FROM finops.hold WHERE state <> 'settled'") == []
    ((held, captured),) = plane.query("SELECT sum(held), sum(captured) FROM finops.budget_window")
    ((cost,),) = plane.query("SELECT coalesce(sum(cost_amount), 0) FROM jobs.job")
    assert (held, captured) == (Decimal(0), cost)
    until(lambda: plane.query("SELECT count(*) FROM ledger.inbox") == [(0,)], "all sealed")
    assert plane.ask("ledger", "verify")["ok"] is True
    replayed = plane.ask("ledger", "replay", "--compare")
    assert replayed["differences"] == []


def test_a_killed_workers_job_is_ended_by_another(plane: OwnPlane) -> None:
    """I3, N10: the worker dies while the circuit runs; the job ends COMPLETED in a second attempt, paid once."""
    job_id = submit(plane, long(LASTING), "long")["job_id"]
    ((worker,),) = until(
        lambda: plane.query(f"SELECT worker FROM jobs.job WHERE job_id = '{job_id}' AND state = 'EXECUTING'"),
        "the job runs",
    )
    name = worker.rpartition("-")[0]
    assert plane.kill(name) == int(worker.rpartition("-")[2])
    job = await_end(plane, job_id)
    assert (job["state"], job["attempt"]) == ("COMPLETED", 2)
    assert [event["state"] for event in job["history"]].count("EXECUTING") == 2
    until(lambda: plane.record.ready and name in plane.alive(), "the worker is back")
    sound(plane)


def test_every_acknowledged_job_survives_the_sealer_and_postgresql(plane: OwnPlane) -> None:
    """I2: under load both are killed; what was answered 202 is there, once a key, ended and proven."""
    jobs: dict[str, str] = {}

    def client(number: int) -> None:
        for turn in range(8):
            key = f"k-{number}-{turn}"
            jobs[key] = submit(plane, bell(), key)["job_id"]

    clients = [threading.Thread(target=client, args=(number,)) for number in range(3)]
    for thread in clients:
        thread.start()
    until(lambda: len(jobs) >= 4, "a few jobs are in")
    plane.kill("sealer")
    until(lambda: len(jobs) >= 10, "more jobs are in")
    plane.kill("postgres")
    for thread in clients:
        thread.join()
    assert len(set(jobs.values())) == len(jobs) == 24
    for job_id in jobs.values():
        job = await_end(plane, job_id)
        assert job["state"] == "COMPLETED", job["error"]
    assert plane.query("SELECT count(*) FROM jobs.job") == [(24,)]
    bundle = plane.home / "bundle.json"
    plane.ask("evidence", "get", job_id, "-o", str(bundle))
    plane.ask("trust", "export", "-o", str(plane.home / "trust.json"))
    assert plane.ask("verify", str(bundle), "--trust", str(plane.home / "trust.json"))["verdict"] == "valid"
    sound(plane)


def test_a_killed_up_leaves_no_process_and_the_next_goes_on(plane: OwnPlane) -> None:
    """N10: the kernel ends the children; the next start recovers what was under way."""
    job_ids = [submit(plane, long(LASTING), "long")["job_id"], submit(plane, bell(), "short")["job_id"]]
    until(lambda: plane.query("SELECT 1 FROM jobs.job WHERE state = 'EXECUTING'"), "one runs")
    record = plane.record
    pids = {process.name: (process.pid, process.started) for process in record.processes}
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not any(is_alive(*pid) for pid in pids.values()), "the children end")
    plane.up()
    plane.ask("login", "--as", "engineer")  # the port is another, and so is the issuer's address
    for job_id in job_ids:
        job = await_end(plane, job_id)
        assert job["state"] == "COMPLETED"
    sound(plane)
