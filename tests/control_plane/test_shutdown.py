# SPDX-License-Identifier: Apache-2.0
"""`qcos down` with work in flight: nothing acknowledged is lost or left unsealed, and the next `up` goes on at once.

Leases last ten minutes here, so a job that waited for one to end would fail its test.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from control_plane.db import conninfo
from control_plane.home import is_alive
from control_plane.offline import serving
from control_plane.postgres import DATABASE, cluster
from control_plane.settings import load
from tests.conformance.driver import LONG
from tests.control_plane.observed import attached, family
from tests.own_plane import OwnPlane, until

BELL = json.loads((Path(__file__).parents[2] / "examples" / "bell.json").read_bytes())
SECONDS, LASTING = 400, 100_000  # shots of the long circuit that take seconds, and far longer than a stop may
AT_ONCE_S = 60.0
ENDED = {"COMPLETED", "FAILED"}


@pytest.fixture
def home() -> Iterator[Path]:
    """A short folder, for the sake of sockets."""
    made = Path(tempfile.mkdtemp(prefix="qcos-d-"))
    yield made / "home"
    shutil.rmtree(made, ignore_errors=True)


def plane(home: Path, *, stop_limit_s: float) -> OwnPlane:
    return OwnPlane(home, config=f"workers = 1\nlease_s = 600\nstop_limit_s = {stop_limit_s}\n")


def long(shots: int) -> dict[str, Any]:
    """A circuit whose shots take long: each is measured in its middle."""
    circuit = {"format": "QASM3", "source": base64.b64encode(LONG).decode()}
    return {**BELL, "circuit": circuit, "execution": {"shots": shots, "seed": 7}}


def submit(own: OwnPlane, spec: dict[str, Any]) -> str:
    status, document = own.http("POST", "/api/v1/jobs", spec)
    assert status == 202, document
    return str(document["job_id"])


def state(own: OwnPlane, job_id: str) -> str:
    return str(own.http("GET", f"/api/v1/jobs/{job_id}")[1]["state"])


def end_of(own: OwnPlane, job_id: str) -> str:
    until(lambda: state(own, job_id) in ENDED, f"{job_id} has ended", AT_ONCE_S)
    return state(own, job_id)


def stored(own: OwnPlane, statement: str) -> list[tuple[Any, ...]]:
    """Rows of a plane that is down, read from its folder."""
    settings = load({}, own.environment)
    settings.postgres_sockets.mkdir(mode=0o700, exist_ok=True)
    found = cluster(own.home / "db", settings.postgres_sockets)
    with serving(found, own.home / "log" / "test.log"), psycopg.connect(conninfo(found.url(DATABASE))) as conn:
        return conn.execute(statement.encode()).fetchall()


def test_jobs_in_flight_are_given_back_and_go_on_at_once(home: Path) -> None:
    """N10, I2: one runs, others wait; all is sealed at the stop; after the next start each ends, once."""
    own = plane(home, stop_limit_s=0)
    with own.running():
        own.ask("login", "--as", "engineer")
        running = submit(own, long(SECONDS))
        until(lambda: state(own, running) == "EXECUTING", "it runs")
        waiting = [submit(own, {**BELL, "execution": {"shots": 10, "seed": n}}) for n in range(3)]
        own.ask("down")
        assert stored(own, "SELECT count(*) FROM ledger.inbox") == [(0,)]
        given = "SELECT count(*) FROM ledger.entry WHERE kind = 'job:attempt:abandoned' AND encode(leaf, 'escape') LIKE"
        given += f" '%{running}%'"
        row = f"SELECT state, lease_until < now(), ({given}) FROM jobs.job WHERE job_id = '{running}'"
        assert stored(own, row) == [("QUEUED", True, 1)]
        own.up()
        own.ask("login", "--as", "engineer")
        for job_id in (running, *waiting):
            assert end_of(own, job_id) == "COMPLETED"
        assert own.ask("ledger", "verify")["ok"]
        assert own.ask("ledger", "replay", "--compare")["differences"] == []


async def told(own: OwnPlane, job_id: str, opened: threading.Event) -> int | None:
    """The code with which the server closes a WebSocket that waits for a job."""
    url = own.record.url.replace("http", "ws", 1) + f"/api/v1/jobs/{job_id}/events"
    token = json.loads((own.home / "credentials.json").read_bytes())["access_token"]
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        await socket.recv()
        opened.set()
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


def test_who_waits_is_answered_before_the_api_ends(home: Path) -> None:
    """A request with `wait` gets the job as it is, a WebSocket the code 1012 (service restart), both at once."""
    own = plane(home, stop_limit_s=30)
    with own.running():
        own.ask("login", "--as", "engineer")
        job_id = submit(own, long(LASTING))
        until(lambda: state(own, job_id) == "EXECUTING", "it runs")
        answers: list[Any] = []
        opened = threading.Event()
        threads = [
            threading.Thread(target=lambda: answers.append(own.http("GET", f"/api/v1/jobs/{job_id}?wait=60"))),
            threading.Thread(target=lambda: answers.append(asyncio.run(told(own, job_id, opened)))),
        ]
        for thread in threads:
            thread.start()
        assert opened.wait(AT_ONCE_S)
        api = own.pid("api-1")
        os.kill(own.record.pid, signal.SIGTERM)
        for thread in threads:
            thread.join(AT_ONCE_S)
        assert 1012 in answers
        (status, document) = next(answer for answer in answers if answer != 1012)
        assert (status, document["state"]) == (200, "EXECUTING")
        until(lambda: not Path(f"/proc/{api}").exists(), "the API has ended while the worker may still finish")
        assert is_alive(own.record.pid, own.record.started)
        processes = family(own.record.pid)
        os.kill(own.record.pid, signal.SIGTERM)
        begun = time.monotonic()
        until(lambda: not any(is_alive(*one) for one in processes.items()), "a second signal ends all of it")
        assert time.monotonic() - begun < 30
        assert attached(own.home) == []
        own.up()
        assert own.ask("ledger", "verify")["ok"]
