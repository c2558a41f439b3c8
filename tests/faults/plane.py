# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: a plane in a short folder, jobs that are safe to submit twice, and what must hold after.

`sound` is the check of I1 to I3 and I6 on a plane at rest: no hold but parked ones, captures equal costs, nothing
waits, the log verifies from its own leaves, and rows and balances are what it folds to.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.conformance.driver import LONG
from tests.own_plane import OwnPlane, until

BELL = json.loads((Path(__file__).parents[2] / "examples" / "bell.json").read_bytes())
LASTING = 500  # shots of the long circuit: seconds
ENDED = ("COMPLETED", "FAILED", "CANCELED", "UNCERTAIN")
AWAY = (0, 500, 503)


@contextlib.contextmanager
def faulty_plane(config: str = "", **environment: str) -> Iterator[OwnPlane]:
    """A plane, signed in as engineer; its folder is short, for the sake of sockets, and goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="qcos-f-", dir="/tmp"))
    own = OwnPlane(folder / "home", config=config, **environment)
    try:
        own.up()
        own.ask("login", "--as", "engineer")
        yield own
    finally:
        own.down()
        shutil.rmtree(folder, ignore_errors=True)


def bell(shots: int = 100, **more: Any) -> dict[str, Any]:
    """A job of milliseconds."""
    return {**BELL, "execution": {"shots": shots, "seed": 7, **more}}


def long(shots: int = LASTING) -> dict[str, Any]:
    """A circuit whose shots take long: each is measured in its middle."""
    circuit = {"format": "QASM3", "source": base64.b64encode(LONG).decode()}
    return {**BELL, "circuit": circuit, "execution": {"shots": shots, "seed": 7}}


def ask(plane: OwnPlane, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """(status, document), 0 where nobody answers."""
    try:
        return plane.http(method, path, body, **headers)
    except OSError:
        return 0, {}


def submit(plane: OwnPlane, spec: dict[str, Any], key: str) -> str:
    """Submit until a plane with a fault has acknowledged it; the key makes that safe. The job's id."""
    while True:
        status, document = ask(plane, "POST", "/api/v1/jobs", spec, **{"Idempotency-Key": key})
        if status in (200, 202):
            return str(document["job_id"])
        assert status in AWAY, document
        time.sleep(0.05)


def ended(plane: OwnPlane, job_id: str) -> dict[str, Any] | None:
    """The job, once it has ended."""
    status, document = ask(plane, "GET", f"/api/v1/jobs/{job_id}")
    assert status in (200, *AWAY), document
    return dict(document) if status == 200 and document["state"] in ENDED else None


def await_end(plane: OwnPlane, job_id: str) -> dict[str, Any]:
    """The job when it has ended."""
    return dict(until(lambda: ended(plane, job_id), f"{job_id} has ended"))


def ready(plane: OwnPlane) -> tuple[int, dict[str, Any]]:
    """(status, checks by name) of `GET /ready`."""
    status, document = ask(plane, "GET", "/api/v1/ready")
    return status, dict(document.get("checks", {}))


def kinds(plane: OwnPlane) -> list[str]:
    """The kinds of all sealed entries, in order."""
    return [kind for (kind,) in plane.query('SELECT kind FROM ledger.entry ORDER BY "index"')]


def sound(plane: OwnPlane, *, parked: int = 0) -> None:
    """See the module's docstring; `parked` holds are of jobs whose outcome nobody knows."""
    until(lambda: plane.query("SELECT count(*) FROM ledger.inbox") == [(0,)], "all sealed")
    assert plane.query("SELECT count(*) FROM finops.hold WHERE state = 'held'") == [(0,)]
    assert plane.query("SELECT count(*) FROM finops.hold WHERE state = 'parked'") == [(parked,)]
    ((held, captured),) = plane.query("SELECT sum(held), sum(captured) FROM finops.budget_window")
    ((kept,),) = plane.query("SELECT coalesce(sum(amount), 0) FROM finops.hold WHERE state = 'parked'")
    ((cost,),) = plane.query("SELECT coalesce(sum(cost_amount), 0) FROM jobs.job")
    assert (held or Decimal(0), captured or Decimal(0)) == (kept, cost)
    assert plane.ask("ledger", "verify")["ok"] is True
    assert plane.ask("ledger", "replay", "--compare")["differences"] == []
