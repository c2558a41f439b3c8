# SPDX-License-Identifier: Apache-2.0
"""A real remote simulator killed, stopped and started again in the middle of a job (docs/drivers/faults.md, I3)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.plane import LASTING, ask, await_end, bell, faulty_plane, kinds, long, sound, submit
from tests.own_plane import OwnPlane, until
from tests.simulator import BACKEND, Simulator, sign_in, simulating

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@contextlib.contextmanager
def staged(folder: Path, *options: str, more: str = "") -> Iterator[tuple[OwnPlane, Simulator]]:
    """A plane whose one backend is a simulator in another process."""
    with simulating(folder / "simulator", *options) as simulator:
        config = simulator.table().replace("{more}", f"workers = 1\nlease_s = 1.5\n{more}")
        with faulty_plane(config) as plane:
            sign_in(plane, simulator)
            yield plane, simulator


def running(plane: OwnPlane) -> str:
    """A job that the simulator runs now, for seconds."""
    job_id = submit(plane, long(2_000), "long")
    until(lambda: state(plane, job_id) == ("EXECUTING", True), "the simulator has the job")
    return job_id


def state(plane: OwnPlane, job_id: str) -> tuple[Any, ...]:
    """(state, whether a handle is kept)."""
    return plane.query(f"SELECT state, handle IS NOT NULL FROM jobs.job WHERE job_id = '{job_id}'")[0]


def test_killed_and_back_with_what_it_keeps_the_job_runs_anew(tmp_path: Path) -> None:
    with staged(tmp_path, "--keep", str(tmp_path / "keep")) as (plane, simulator):
        job_id = running(plane)
        simulator.kill()
        simulator.start()
        job = await_end(plane, job_id)
        assert (job["state"], job["attempt"], job["backend"]) == ("COMPLETED", 2, BACKEND)
        assert kinds(plane).count("job:outcome:completed") == 1
        sound(plane)


def test_killed_and_back_without_memory_the_job_is_uncertain_until_somebody_settles_it(tmp_path: Path) -> None:
    with staged(tmp_path) as (plane, simulator):
        job_id = running(plane)
        simulator.kill()
        simulator.start()
        job = await_end(plane, job_id)
        assert (job["state"], job["attempt"]) == ("UNCERTAIN", 1)
        sound(plane, parked=1)
        refused = plane.run("jobs", "settle", job_id, "--released", "--reason", "nothing ran")
        assert (refused.returncode, refused.stderr.partition(":")[0]) == (1, "forbidden")
        plane.ask("login", "--as", "admin")
        settled = plane.ask("jobs", "settle", job_id, "--charged", "0.10", "--reason", "the operator looked")
        assert (settled["state"], settled["cost"]["amount"]) == ("UNCERTAIN", "0.1")
        assert settled["settlement"] == plane.ask("jobs", "show", job_id)["settlement"]
        again = plane.run("jobs", "settle", job_id, "--released", "--reason", "no")
        assert (again.returncode, again.stderr.partition(":")[0]) == (1, "hold_closed")
        sound(plane)


def test_killed_for_good_the_job_is_uncertain_after_its_deadline(tmp_path: Path) -> None:
    with staged(tmp_path, more="job_deadline_s = 20\n") as (plane, simulator):
        job_id = running(plane)
        simulator.kill()
        job = await_end(plane, job_id)
        assert (job["state"], job["error"]["code"]) == ("UNCERTAIN", "outcome_unknown")
        sound(plane, parked=1)
        status, refusal = ask(plane, "POST", "/api/v1/jobs", bell())
        assert (status, refusal["code"]) == (503, "backends_unavailable")
        assert "nobody can be reached there" in refusal["detail"]


def test_stopped_and_let_go_on_the_job_completes_and_ran_once(tmp_path: Path) -> None:
    with staged(tmp_path) as (plane, simulator):
        job_id = running(plane)
        simulator.signal(signal.SIGSTOP)
        until(lambda: plane.ask("backends", "list")[0]["state"] == "offline", "its silence is seen")
        simulator.signal(signal.SIGCONT)
        job = await_end(plane, job_id)
        assert (job["state"], job["attempt"]) == ("COMPLETED", 1)
        assert kinds(plane).count("job:dispatch:intended") == 1
        sound(plane)


def test_a_killed_workers_task_is_found_again_and_ran_once(tmp_path: Path) -> None:
    with staged(tmp_path) as (plane, _):
        job_id = running(plane)
        os.kill(plane.pid("worker-1"), signal.SIGKILL)
        job = await_end(plane, job_id)
        assert (job["state"], job["attempt"]) == ("COMPLETED", 1)
        assert kinds(plane).count("job:dispatch:intended") == 1
        plane.ask("evidence", "get", job_id, "-o", str(tmp_path / "bundle.json"))
        plane.ask("trust", "export", "-o", str(tmp_path / "trust.json"))
        verdict = plane.ask("verify", str(tmp_path / "bundle.json"), "--trust", str(tmp_path / "trust.json"))
        assert verdict["verdict"] == "valid"
        sound(plane)


def test_jobs_of_a_silent_backend_hold_no_place_of_others(tmp_path: Path) -> None:
    aer = '[[backend]]\nid = "aer"\nprovider = "aer"\nregion = "local"\ncompliance_zone = "onprem"\nsovereign = true\n'
    with simulating(tmp_path / "simulator") as simulator:
        config = simulator.table().replace("{more}", "workers = 1\nlease_s = 5\n" + aer)
        with faulty_plane(config) as plane:
            sign_in(plane, simulator)
            pinned = long() | {"execution": {"shots": LASTING, "backend_constraints": {"backend": BACKEND}}}
            there = [submit(plane, pinned, f"there-{n}") for n in range(4)]
            until(lambda: all(state(plane, job) == ("EXECUTING", True) for job in there), "the simulator has all")
            simulator.signal(signal.SIGSTOP)
            here = submit(plane, bell(backend_constraints={"backend": "aer"}), "here")
            assert await_end(plane, here)["state"] == "COMPLETED"
            assert {state(plane, job)[0] for job in there} == {"EXECUTING"}
            simulator.signal(signal.SIGCONT)
            assert {await_end(plane, job)["state"] for job in there} == {"COMPLETED"}
            sound(plane)
