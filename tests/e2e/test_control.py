# SPDX-License-Identifier: Apache-2.0
"""Cancel, hold, resume: what they do to a job, its money, its evidence and the work itself (S1)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ledger.verify import verify
from tests.e2e.plane import Answer, Plane, bell, long_running


def send(plane: Plane, job_id: str, what: str, user: str = "engineer") -> Answer:
    return plane.http("POST", f"/api/v1/jobs/{job_id}/{what}", b"", user=user)


@contextlib.contextmanager
def stopped_workers(plane: Plane) -> Iterator[None]:
    """Nothing is claimed while this lasts; it must be short, or the plane calls the workers lost."""
    pids = plane.workers()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child} | descendants(child)
    return found


def cpu_ticks(pid: int) -> int:
    """CPU time that a process has used, 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[11]) + int(fields[12])


def test_cancel_stops_the_work_and_the_evidence_says_so(plane: Plane) -> None:
    """The child that simulates is gone within a second or so; nothing is charged; the bundle is valid."""
    project = plane.project("100")
    job = plane.submit(long_running() | {"governance": bell(governance__project=project)["governance"]}).json["job_id"]
    plane.until(job, "EXECUTING")
    (worker,) = plane.workers()
    busy = the_busy_one(worker)
    asked = time.monotonic()
    assert send(plane, job, "cancel").status == 202
    while cpu_ticks(busy):
        assert time.monotonic() - asked < 5, "the simulation goes on"
        time.sleep(0.02)
    ended = plane.end_of(job)
    assert ended["state"] == "CANCELED"
    assert ended["error"]["code"] == "canceled"
    assert ended["cost"]["amount"] == "0"
    (budget,) = [one for one in plane.get("/budgets", "admin") if one["scope"] == f"project:{project}"]
    assert (budget["held"], budget["captured"]) == ("0", "0")
    report = verify(plane.bundle(job), plane.trust(), datetime.now(UTC))
    assert report.verdict == "valid", report.reason
    assert plane.http("GET", f"/api/v1/jobs/{job}/result").code == "no_result"
    assert send(plane, job, "cancel").status == 202, "asking again changes nothing"
    assert plane.run(bell())["state"] == "COMPLETED"


def the_busy_one(worker: int) -> int:
    """The process below the worker that uses CPU."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        before = {pid: cpu_ticks(pid) for pid in descendants(worker)}
        time.sleep(0.2)
        used = {pid: cpu_ticks(pid) - ticks for pid, ticks in before.items()}
        if used and max(used.values()) >= 5:
            return max(used, key=lambda pid: used[pid])
    raise AssertionError("nothing simulates")


def test_an_ended_job_takes_no_signal(plane: Plane) -> None:
    job = plane.run(bell())["job_id"]
    assert (send(plane, job, "cancel").status, send(plane, job, "cancel").code) == (409, "too_late")
    assert send(plane, job, "hold").code == "transition_refused"
    assert send(plane, job, "resume").code == "transition_refused"
    assert send(plane, job, "destroy").code == "not_found"


def test_a_held_job_waits_and_goes_on_when_resumed(plane: Plane) -> None:
    with stopped_workers(plane):
        job = plane.submit(bell()).json["job_id"]
        held = send(plane, job, "hold")
        assert (held.status, held.json["state"]) == (202, "HELD")
        assert send(plane, job, "hold").json["state"] == "HELD", "holding again changes nothing"
        pending = plane.http("GET", f"/api/v1/jobs/{job}/result")
        assert (pending.status, pending.code) == (409, "evidence_pending")
        assert plane.http("GET", f"/api/v1/jobs/{job}/evidence").code == "evidence_pending"
    assert plane.run(bell())["state"] == "COMPLETED", "others go on"
    assert plane.get(f"/jobs/{job}")["state"] == "HELD"
    assert send(plane, job, "resume").json["state"] == "QUEUED"
    ended = plane.end_of(job)
    assert ended["state"] == "COMPLETED"
    assert [event["state"] for event in ended["history"]][:3] == ["QUEUED", "HELD", "QUEUED"]
    assert verify(plane.bundle(job), plane.trust(), datetime.now(UTC)).verdict == "valid"


def test_a_queued_or_held_job_is_cancelled_at_once_and_its_hold_released(plane: Plane) -> None:
    project = plane.project("10")

    def budget() -> Any:
        return next(one for one in plane.get("/budgets", "admin") if one["scope"] == f"project:{project}")

    with stopped_workers(plane):
        jobs = [plane.submit(bell(governance__project=project)).json["job_id"] for _ in range(2)]
        assert budget()["held"] == "1.04"
        send(plane, jobs[1], "hold")
        for job in jobs:
            assert send(plane, job, "cancel").status == 202
            assert plane.end_of(job)["state"] == "CANCELED"
        assert (budget()["held"], budget()["captured"]) == ("0", "0")
    for job in jobs:
        assert verify(plane.bundle(job), plane.trust(), datetime.now(UTC)).verdict == "valid"


def test_another_users_role_decides_not_the_jobs_owner(plane: Plane) -> None:
    with stopped_workers(plane):
        job = plane.submit(bell()).json["job_id"]
        assert send(plane, job, "cancel", "auditor").code == "forbidden"
        assert send(plane, job, "cancel", "outsider").code == "not_found"
        assert send(plane, job, "cancel", "admin").status == 202
