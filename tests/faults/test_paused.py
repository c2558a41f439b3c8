# SPDX-License-Identifier: Apache-2.0
"""Paused, not dead: processes that stand still with all they hold, and wake up later (I1, I2, I3, N10)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from control_plane.home import is_stopped
from tests.faults.plane import await_end, bell, faulty_plane, kinds, long, ready, sound, submit
from tests.own_plane import OwnPlane, until

pytestmark = pytest.mark.faults


@pytest.fixture
def plane() -> Iterator[OwnPlane]:
    """Two workers with short leases, and a sealer that stands by."""
    with faulty_plane("lease_s = 1.5\nworkers = 2\nsealers = 2\n") as own:
        yield own


def stopped(plane: OwnPlane, name: str, pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_stopped(pid), f"{name} stands still")


def test_a_worker_stopped_past_its_lease_changes_nothing_when_it_wakes(plane: OwnPlane) -> None:
    """I3, N10: its job is ended by another in a second attempt; awake again it writes nothing, and works on."""
    job_id = submit(plane, long(), "long")
    ((worker,),) = until(
        lambda: plane.query(f"SELECT worker FROM jobs.job WHERE job_id = '{job_id}' AND state = 'EXECUTING'"),
        "the job runs",
    )
    pid = int(worker.rpartition("-")[2])
    stopped(plane, worker, pid)
    job = await_end(plane, job_id)
    assert (job["state"], job["attempt"]) == ("COMPLETED", 2)
    before = kinds(plane)
    os.kill(pid, signal.SIGCONT)
    others = [submit(plane, bell(), f"after-{n}") for n in range(4)]
    for other in others:
        assert await_end(plane, other)["state"] == "COMPLETED"
    until(lambda: plane.status()["ready"], "all of it is ready")
    log = plane.home / "log" / f"{worker.rpartition('-')[0]}.log"
    until(lambda: f"{job_id} moved on without this worker" in log.read_text(), "the woken worker has let go")
    outcomes = [kind for kind in kinds(plane) if kind.startswith("job:outcome:")]
    assert before.count("job:outcome:completed") == 1
    assert outcomes == ["job:outcome:completed"] * 5
    assert plane.query(f"SELECT count(*) FROM finops.hold WHERE job_id = '{job_id}'") == [(1,)]
    sound(plane)


def test_a_sealer_stopped_while_it_holds_the_lock_is_replaced_and_forks_nothing(plane: OwnPlane) -> None:
    """I2, I4, decision 1: the one that stands by ends its session after 3 s; awake again it stands by itself."""
    leader = _leader(plane)
    with plane.superuser() as held, held.transaction():
        held.execute("LOCK TABLE ledger.entry IN SHARE MODE")
        jobs = [submit(plane, bell(), f"before-{n}") for n in range(3)]
        until(_inside_its_transaction(plane), "it is in the middle of a batch")
        stopped(plane, "the leader", leader)
    assert not plane.status()["ready"]
    jobs += [submit(plane, bell(), f"meanwhile-{n}") for n in range(3)]
    for job_id in jobs:
        assert await_end(plane, job_id)["state"] == "COMPLETED"
    assert _leader(plane) != leader
    os.kill(leader, signal.SIGCONT)
    jobs = [submit(plane, bell(), f"after-{n}") for n in range(3)]
    for job_id in jobs:
        assert await_end(plane, job_id)["state"] == "COMPLETED"
    until(lambda: plane.status()["ready"], "all of it is ready")
    sound(plane)
    size = plane.query("SELECT max(size) FROM ledger.checkpoint")[0][0]
    head = (plane.home / "head").read_text().split("\n")
    assert int(head[1]) == size, "the head outside never goes back"


def test_a_plane_with_one_sealer_says_that_it_is_stopped_and_goes_on_with_it() -> None:
    """G8, I1: nothing runs unsealed; readiness and status name it; what was acknowledged is sealed afterwards."""
    with faulty_plane("workers = 1\n") as plane:
        pid = plane.pid("sealer")
        stopped(plane, "sealer", pid)
        job_id = submit(plane, bell(), "waits")
        status = plane.status()
        assert not status["ready"]
        assert {p["name"]: p["ready"] for p in status["processes"]}["sealer"] is False
        until(lambda: ready(plane)[0] == 503, "readiness says so")
        check = ready(plane)[1]["sealer"]
        assert (check["ok"], check["code"]) == (False, "sealing_stalled")
        assert plane.status()["sealed_age_ms"] >= 10_000
        assert plane.query(f"SELECT state FROM jobs.job WHERE job_id = '{job_id}'") == [("QUEUED",)]
        assert f"sealer (pid {pid}) is stopped" in (plane.home / "log" / "up.log").read_text()
        os.kill(pid, signal.SIGCONT)
        assert await_end(plane, job_id)["state"] == "COMPLETED"
        until(lambda: ready(plane)[0] == 200, "ready again")
        sound(plane)


def _leader(plane: OwnPlane) -> int:
    """The pid of the sealer whose session leads: its connection's name tells."""
    ((name,),) = until(
        lambda: plane.query(
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.objid = 1",
            role="sealer",
        ),
        "somebody leads",
    )
    return int(name.rpartition("-")[2])


def _inside_its_transaction(plane: OwnPlane) -> Callable[[], object]:
    """Whether a sealer holds the lock of a batch and waits for the table that `held` keeps from it."""
    return lambda: plane.query(
        "SELECT 1 FROM pg_locks l JOIN pg_locks w USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.objid = 2 AND NOT w.granted",
    )
