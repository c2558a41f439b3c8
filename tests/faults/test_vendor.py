# SPDX-License-Identifier: Apache-2.0
"""A worker killed between a vendor's taking a task and the plane's keeping its handle (I3, N10)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import vendor
from tests.faults.plane import await_end, bell, faulty_plane, kinds, sound, submit
from tests.own_plane import OwnPlane, until

pytestmark = pytest.mark.faults


@pytest.fixture
def plane() -> Iterator[OwnPlane]:
    """A plane whose own worker stands still, so that the vendor's workers have the jobs."""
    with faulty_plane("lease_s = 1.5\nworkers = 1\n") as own:
        pid = own.pid("worker-1")
        os.kill(pid, signal.SIGSTOP)
        yield own
        os.kill(pid, signal.SIGCONT)  # it ends with the others then, and not after a limit


@contextlib.contextmanager
def running(plane: OwnPlane, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.faults.vendor", *words]
    given = Path(f"/proc/{plane.pid('worker-1')}/environ").read_bytes().split(b"\0")
    settings = next(line for line in given if line.startswith(b"QCOS_SETTINGS=")).partition(b"=")[2]
    process = subprocess.Popen(command, env=plane.environment | {"QCOS_SETTINGS": settings.decode()})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lost_between(plane: OwnPlane, kind: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Kill the worker while the vendor holds the task and nobody its handle; (the ended job, runs by token)."""
    folder = plane.home.parent / "vendor"
    folder.mkdir()
    (folder / "hold").touch()
    with running(plane, "serve", str(folder)):
        until((folder / vendor.SOCKET).exists, "the vendor answers")
        with running(plane, "work", str(folder), "one", kind) as first:
            until((folder / "one.ready").exists, "the first worker works")
            job_id = submit(plane, bell(backend_constraints={"backend": vendor.BACKEND}), "vendor-job")
            until((folder / vendor.RAN).exists, "the vendor has the task")
            first.kill()
            first.wait()
        assert plane.query(f"SELECT state, handle FROM jobs.job WHERE job_id = '{job_id}'") == [("EXECUTING", None)]
        (folder / "hold").unlink()
        with running(plane, "work", str(folder), "two", kind):
            job = await_end(plane, job_id)
        return job, json.loads((folder / vendor.RAN).read_text())


def proven(plane: OwnPlane, job_id: str, folder: Path) -> dict[str, Any]:
    """The job's bundle, verified offline."""
    plane.ask("evidence", "get", job_id, "-o", str(folder / "bundle.json"))
    plane.ask("trust", "export", "-o", str(folder / "trust.json"))
    verdict = plane.ask("verify", str(folder / "bundle.json"), "--trust", str(folder / "trust.json"))
    assert verdict["verdict"] == "valid", verdict
    return dict(json.loads((folder / "bundle.json").read_bytes()))


def test_a_task_that_the_vendor_can_find_goes_on_and_runs_once(plane: OwnPlane, tmp_path: Path) -> None:
    """The next worker asks for the token: COMPLETED in the same attempt, one execution, paid once."""
    job, ran = lost_between(plane, "findable")
    assert (job["state"], job["attempt"], job["backend"]) == ("COMPLETED", 1, vendor.BACKEND)
    assert list(ran.values()) == [1]
    assert kinds(plane).count("job:dispatch:intended") == 1
    assert proven(plane, job["job_id"], tmp_path)["state"] == "COMPLETED"
    sound(plane)


def test_a_task_that_nobody_can_find_is_uncertain_and_never_sent_again(plane: OwnPlane, tmp_path: Path) -> None:
    """UNCERTAIN, its hold parked, with evidence that says so."""
    job, ran = lost_between(plane, "forgetful")
    assert (job["state"], job["error"]["code"]) == ("UNCERTAIN", "outcome_unknown")
    assert list(ran.values()) == [1]
    assert kinds(plane).count("job:dispatch:intended") == 1
    assert proven(plane, job["job_id"], tmp_path)["state"] == "UNCERTAIN"
    sound(plane, parked=1)
