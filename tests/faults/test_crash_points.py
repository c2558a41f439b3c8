# SPDX-License-Identifier: Apache-2.0
"""A walk over all crash points of a running plane: a process dies at each, and the promises hold (I1, I2, I3, I6, N10).

One plane serves the whole walk. Each point is armed, reached by what a client does, and must fire; the supervisor
starts the process again; then every job ends, a submission whose answer was lost is sent again under its key, and the
plane is judged as after random kills.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from control_plane import crash
from control_plane.jobs import known
from tests.e2e.test_control import the_busy_one
from tests.faults.judge import Judge
from tests.faults.kills import short_home
from tests.faults.traffic import Heard, spec
from tests.own_plane import OwnPlane, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

# So that a job whose backend fails has another to go to.
TWO = "".join(
    f'[[backend]]\nid = "{name}"\nprovider = "aer"\nregion = "local"\ncompliance_zone = "onprem"\nsovereign = true\n'
    for name in ("aer", "aer-2")
)
SOFT = "soft"
# What must have happened before a point can be reached: an earlier crash.
BEFORE = dict.fromkeys(("run.found", "run.requeuing", "run.requeued"), "run.intended")


class Walk:
    """The plane that is walked, and all that its clients were told."""

    def __init__(self, plane: OwnPlane) -> None:
        self.plane, self.heard, self.judge = plane, Heard(), Judge(plane)
        self._tokens = {user: plane.ask("login", "--as", user)["access_token"] for user in ("admin", "engineer")}
        self._armed = plane.home / "crash" / crash.ARMED
        self._fired = plane.home / "crash" / "fired"

    def arm(self, point: str) -> None:
        partial = self._armed.with_suffix(".partial")
        partial.write_text(point)
        partial.rename(self._armed)

    def fired(self, point: str) -> None:
        until(lambda: not self._armed.exists(), f"{point} is reached")
        assert self._fired.read_text() == point

    def ask(
        self, method: str, path: str, *wanted: int, body: Any = None, user: str = "engineer", **headers: str
    ) -> Any:
        """Ask until it is answered; a plane whose parts die may be away, and says nothing but 503 then."""
        headers["Authorization"] = f"Bearer {self._tokens[user]}"
        while True:
            try:
                status, document = self.plane.http(method, f"/api/v1{path}", body, **headers)
            except OSError:
                continue
            if status in wanted:
                return document
            assert status == 503, document
            time.sleep(0.05)

    def submit(self, kind: str = "run", *, key: str | None = None, project: str | None = None) -> str:
        key = key or uuid.uuid4().hex
        asked = spec(kind)
        if project is not None:
            asked["governance"] = {**asked["governance"], "project": project}
        for _ in range(2):  # the second time as a client that never saw the answer
            named = {"Idempotency-Key": key}
            self.heard.job(key, self.ask("POST", "/jobs", 200, 202, 403, body=asked, **named))
        return next(iter(self.heard.jobs[key]))

    def ended(self, job_id: str, *states: str) -> None:
        def look() -> Any:
            document = self.ask("GET", f"/jobs/{job_id}?wait=10", 200)
            return document["state"] in ("COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN") and document

        document = until(look, f"{job_id} has ended")
        assert document["state"] in states, document

    def state(self, job_id: str) -> str:
        return str(self.plane.query(f"SELECT state FROM jobs.job WHERE job_id = '{job_id}'")[0][0])

    @contextlib.contextmanager
    def idle_workers(self) -> Iterator[None]:
        """Nobody claims: what is submitted stays QUEUED."""
        pids = [process.pid for process in self.plane.record.processes if process.name.startswith("worker")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def judged_anew(self) -> str:
        """A held job whose backend's facts have changed since it was admitted: its dispatch takes a new decision."""
        before = self._region()
        with self.idle_workers():
            self._region("elsewhere")
            time.sleep(known.FRESH_S)
            job_id = self.submit()
            self.ask("POST", f"/jobs/{job_id}/hold", 202)
        until(lambda: self._region() == before, "a worker reports what its backend is")
        return job_id

    def _region(self, to: str | None = None) -> str:
        admin = self.plane.record.database_admin
        assert admin is not None
        password = Path(admin["password_file"]).read_text().strip()
        with psycopg.connect(
            host=admin["socket_folder"], user="postgres", password=password, dbname="qcos", autocommit=True
        ) as conn:
            if to is not None:
                conn.execute("UPDATE jobs.backend SET region = %s", (to,))
            row = conn.execute("SELECT region FROM jobs.backend").fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture(scope="module")
def walk() -> Iterator[Walk]:
    with short_home(TWO, QCOS_CRASH_AT=crash.ARMED) as plane:
        yield Walk(plane)


def a_job(walk: Walk, point: str) -> None:
    walk.arm(point)
    job_id = walk.submit()
    walk.fired(point)
    walk.ended(job_id, "COMPLETED")


def a_program(walk: Walk, point: str) -> None:
    """In its middle: two items have been there before."""
    walk.arm(f"{point}:3")
    job_id = walk.submit("program")
    walk.fired(f"{point}:3")
    walk.ended(job_id, "COMPLETED")
    shots, partial = walk.plane.query(
        f"SELECT executions, coalesce(partial, '') FROM jobs.job WHERE job_id = '{job_id}'"
    )[0]
    assert (shots, partial) == (500, "")


def a_lost_job(walk: Walk, point: str) -> None:
    """The point lies on the way back from another crash."""
    walk.arm(BEFORE[point])
    job_id = walk.submit()
    walk.fired(BEFORE[point])
    walk.arm(point)
    walk.fired(point)
    walk.ended(job_id, "COMPLETED")


def a_job_whose_backend_fails(walk: Walk, point: str) -> None:
    """The child that simulates is killed: the job goes to the other backend, and dies there by its owner's word."""
    job_id = walk.submit("long")
    until(lambda: walk.state(job_id) == "EXECUTING", "it runs")
    ((worker,),) = walk.plane.query(f"SELECT worker FROM jobs.job WHERE job_id = '{job_id}'")
    busy = the_busy_one(int(worker.rpartition("-")[2]))
    walk.arm(point)
    os.kill(busy, signal.SIGKILL)
    walk.fired(point)
    until(lambda: walk.state(job_id) == "EXECUTING", "it runs elsewhere, or again")
    walk.ask("POST", f"/jobs/{job_id}/cancel", 202, 409)
    walk.ended(job_id, "CANCELED", "COMPLETED")


def a_refused_hold(walk: Walk, point: str) -> None:
    """Submissions at the same moment, a budget for one: those that policy let pass and the hold refuses."""
    walk.arm(point)
    price = Decimal(walk.ask("GET", f"/jobs/{walk.submit()}", 200)["cost"]["amount"])
    while walk._armed.exists():
        project = f"p-{uuid.uuid4().hex[:12]}"
        budget = {"scope": f"project:{project}", "amount": f"{price * 3 / 2:.4f}", "currency": "USD"}
        walk.ask("PUT", "/budgets", 200, body=budget, user="admin")
        clients = [threading.Thread(target=walk.submit, kwargs={"project": project}) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    walk.fired(point)


def a_new_decision(walk: Walk, point: str) -> None:
    job_id = walk.judged_anew()
    walk.arm(point)
    walk.ask("POST", f"/jobs/{job_id}/resume", 202)
    walk.fired(point)
    walk.ended(job_id, "COMPLETED")


def a_running_job_is_canceled(walk: Walk, point: str) -> None:
    job_id = walk.submit("long")
    until(lambda: walk.state(job_id) == "EXECUTING", "it runs")
    walk.arm(point)
    walk.ask("POST", f"/jobs/{job_id}/cancel", 202, 409)
    walk.fired(point)
    walk.ended(job_id, "CANCELED", "COMPLETED")


def a_waiting_job_is_canceled(walk: Walk, point: str) -> None:
    with walk.idle_workers():
        job_id = walk.submit()
        walk.arm(point)
        walk.ask("POST", f"/jobs/{job_id}/cancel", 202)
        walk.fired(point)
    walk.ended(job_id, "CANCELED")


def a_waiting_job_is_held(walk: Walk, point: str) -> None:
    with walk.idle_workers():
        job_id = walk.submit()
        walk.arm(point)
        walk.ask("POST", f"/jobs/{job_id}/hold", 202)
        walk.fired(point)
    assert walk.state(job_id) == "HELD"
    walk.ask("POST", f"/jobs/{job_id}/resume", 202)
    walk.ended(job_id, "COMPLETED")


def an_approval(walk: Walk, point: str) -> None:
    """A soft denial, its request and its answer: one approval and one run, whoever dies."""
    soften(walk)
    job_id = walk.submit(project=SOFT)
    until(lambda: _asked(walk, job_id) == "requested", "it is asked for")
    walk.arm(point)
    yes = {"reason": "agreed", "expires_s": 3600}
    walk.ask("POST", f"/jobs/{job_id}/approve", 202, 409, body=yes, user="admin")  # 409: it was before the answer
    walk.fired(point)
    walk.ended(job_id, "COMPLETED")
    assert _asked(walk, job_id) == "used"


def a_request(walk: Walk, point: str) -> None:
    """Its worker dies: another makes it, or finds it made."""
    soften(walk)
    walk.arm(point)
    job_id = walk.submit(project=SOFT)
    walk.fired(point)
    until(lambda: _asked(walk, job_id) == "requested", "it is asked for")
    walk.ask("POST", f"/jobs/{job_id}/reject", 202, 409, body={"reason": "not now"}, user="admin")
    walk.ended(job_id, "DENIED")


def _asked(walk: Walk, job_id: str) -> str:
    return str(walk.plane.query(f"SELECT approval ->> 'state' FROM jobs.job WHERE job_id = '{job_id}'")[0][0])


def soften(walk: Walk) -> None:
    """Have one project's limit be overridable, and nobody else's policies changed."""
    folder = walk.plane.home / SOFT
    if folder.exists():
        return
    budget = {"scope": f"project:{SOFT}", "amount": "1000", "currency": "USD"}
    walk.ask("PUT", "/budgets", 200, body=budget, user="admin")
    walk.plane.ask("login", "--as", "admin")
    walk.plane.ask("policy", "init", str(folder))
    reasons, limits = folder / "data" / "reasons.json", folder / "data" / "limits.json"
    reasons.write_text(reasons.read_text().replace('"limit_exceeded": "hard"', '"limit_exceeded": "soft"'))
    limits.write_text(limits.read_text().replace('"projects": {', f'"projects": {{"{SOFT}": {{"max_shots": 1}}', 1))
    walk.plane.ask("policy", "push", str(folder))


def a_job_is_erased(walk: Walk, point: str) -> None:
    """Contents are gone and told of, or neither."""
    job_id = walk.submit()
    walk.ended(job_id, "COMPLETED")
    walk.heard.erased.add(job_id)
    walk.arm(point)
    asked = {"reason": "asked for", "early": True}
    walk.ask("POST", f"/jobs/{job_id}/erase", 200, 409, body=asked, user="admin")  # 409: it went before the answer
    walk.fired(point)
    walk.ask("GET", f"/jobs/{job_id}/evidence", 410)


def a_budget_is_set(walk: Walk, point: str) -> None:
    walk.arm(point)
    amount = f"{9_000 + len(walk.heard.jobs)}"
    budget = {"scope": "project:demo", "amount": amount, "currency": "USD"}
    walk.ask("PUT", "/budgets", 200, body=budget, user="admin")
    walk.fired(point)
    shown = walk.ask("GET", "/budgets", 200, user="admin")
    assert [one["limit"] for one in shown if one["scope"] == "project:demo"] == [amount]


SCENES: dict[str, Callable[[Walk, str], None]] = {
    "admit.refused": a_refused_hold,
    "items": a_program,
    "gate": a_new_decision,
    "control.requested": a_running_job_is_canceled,
    "control.canceling": a_waiting_job_is_canceled,
    "control.shifting": a_waiting_job_is_held,
    "control.done": a_waiting_job_is_held,
    "approval": an_approval,
    "run.asking": a_request,
    "run.asked": a_request,
    "budget": a_budget_is_set,
    "erase": a_job_is_erased,
    "run.rerouting": a_job_whose_backend_fails,
    "run.rerouted": a_job_whose_backend_fails,
    **dict.fromkeys(BEFORE, a_lost_job),
}


@pytest.mark.parametrize("point", crash.POINTS)
def test_a_process_that_dies_there_breaks_no_promise(point: str, walk: Walk) -> None:
    scene = SCENES.get(point) or SCENES.get(point.partition(".")[0]) or a_job
    scene(walk, point)
    until(lambda: all(process.ready for process in walk.plane.record.processes), "what died is started again")
    walk.judge.judge(walk.heard)
    walk.heard.head(_checkpoint(walk))


def _checkpoint(walk: Walk) -> bytes:
    note: bytes = walk.plane.query("SELECT note FROM ledger.checkpoint ORDER BY size DESC LIMIT 1")[0][0]
    return note
