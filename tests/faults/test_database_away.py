# SPDX-License-Identifier: Apache-2.0
"""An API cut from its database, and a disk that is full: 503 with a code, nothing half stored, back by itself (N10)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.faults.plane import ask, await_end, bell, faulty_plane, ready, sound, submit
from tests.faults.proxy import Cable, cable
from tests.own_plane import OwnPlane, until

pytestmark = pytest.mark.faults
KEY = {"Idempotency-Key": "cut"}


@pytest.fixture
def plane() -> Iterator[OwnPlane]:
    """A short limit: the test waits it out."""
    with faulty_plane("database_limit_s = 2\nworkers = 1\n") as own:
        yield own


@pytest.fixture
def cut(plane: OwnPlane) -> Iterator[Cable]:
    """The API's way to the database, and only its, goes over a cable from here on."""
    admin = plane.record.database_admin
    assert admin is not None
    sockets = Path(admin["socket_folder"])
    with cable(plane.home.parent / "cable", sockets) as made:
        place = plane.home / "db" / "place"
        right = place.read_text()
        place.write_text(right.replace(quote(str(sockets), safe=""), quote(str(plane.home.parent / "cable"), safe="")))
        assert place.read_text() != right
        before = plane.kill("api-1")
        until(lambda: plane.pid("api-1") != before and ready(plane)[0] == 200, "the API is back")
        place.write_text(right)
        yield made


@pytest.mark.parametrize("mode", ["swallow", "refuse"])
def test_an_api_cut_from_its_database_says_so_and_comes_back(plane: OwnPlane, cut: Cable, mode: str) -> None:
    """A network that swallows is as bounded as one that refuses; alive all the while, ready never."""
    first = submit(plane, bell(), "before")
    assert await_end(plane, first)["state"] == "COMPLETED"
    cut.mode = "swallow" if mode == "swallow" else "refuse"
    status, document = ask(plane, "POST", "/api/v1/jobs", bell(), **KEY)
    assert (status, document["code"]) == (503, "database_unusable")
    assert ask(plane, "GET", f"/api/v1/jobs/{first}")[1]["code"] == "database_unusable"
    assert ask(plane, "GET", "/api/v1/health")[0] == 200
    status, checks = ready(plane)
    assert (status, checks["database"]["ok"], checks["policy"]["ok"]) == (503, False, True)
    assert plane.query("SELECT count(*) FROM jobs.job") == [(1,)]
    cut.mode = "forward"
    until(lambda: ready(plane)[0] == 200, "ready again")
    job_id = submit(plane, bell(), KEY["Idempotency-Key"])
    assert await_end(plane, job_id)["state"] == "COMPLETED"
    assert plane.query("SELECT count(*) FROM jobs.job") == [(2,)]
    sound(plane)


def test_sessions_that_the_database_ended_are_replaced_unseen(plane: OwnPlane) -> None:
    """A restart or a failover of the server ends every kept connection; the next request doesn't show it."""
    assert await_end(plane, submit(plane, bell(), "before"))["state"] == "COMPLETED"
    with plane.superuser() as session:
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'qcos%'")
    status, document = ask(plane, "POST", "/api/v1/jobs", bell(), **KEY)
    assert status == 202, document
    assert await_end(plane, document["job_id"])["state"] == "COMPLETED"
    sound(plane)


def test_a_postgresql_that_stands_still_is_away_until_it_goes_on(plane: OwnPlane) -> None:
    """Server and backends stopped: 503 within the limit, `status` answers, everything goes on afterwards."""
    first = submit(plane, bell(), "before")
    assert await_end(plane, first)["state"] == "COMPLETED"
    server = plane.pid("postgres")
    pids = [server, *_children(server)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        status, document = ask(plane, "POST", "/api/v1/jobs", bell(), **KEY)
        assert (status, document["code"]) == (503, "database_unusable")
        assert ask(plane, "GET", "/api/v1/health")[0] == 200
        assert ready(plane)[0] == 503
        told = plane.status()
        assert (told["ready"], told["sealed_age_ms"]) == (False, None)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    until(lambda: ready(plane)[0] == 200, "ready again")
    job_id = submit(plane, bell(), KEY["Idempotency-Key"])
    assert await_end(plane, job_id)["state"] == "COMPLETED"
    assert plane.query("SELECT count(*) FROM jobs.job") == [(2,)]
    sound(plane)


def test_a_full_disk_refuses_what_it_can_not_keep_and_goes_on_when_there_is_space() -> None:
    """I2: what was acknowledged is there, once; the data lie on a small file system of their own."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("mount namespace: only root may make a small file system")
    with faulty_plane("database_limit_s = 5\nworkers = 1\n") as plane:
        acknowledged = [submit(plane, bell(), "before")]
        assert await_end(plane, acknowledged[0])["state"] == "COMPLETED"
        plane.down()
        data = plane.home / "db" / "data"
        moved = (
            f"cp -a {data} {data}.kept && mount -t tmpfs -o size=160m,mode=0700 tmpfs {data}"
            f' && cp -a {data}.kept/. {data}/ && chown --reference={data}.kept {data} && exec "$@"'
        )
        plane.prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", moved, "sh"]
        plane.up()
        plane.prefix = []
        plane.ask("login", "--as", "engineer")
        inside = Path(f"/proc/{plane.record.pid}/root{data}")
        room = shutil.disk_usage(inside).free
        with (inside / "filler").open("wb") as filler:
            filler.write(bytes(room - (room % 4096)))
        codes = set()
        for number in range(400):
            status, document = ask(plane, "POST", "/api/v1/jobs", bell(), **{"Idempotency-Key": f"full-{number}"})
            if status in (200, 202):
                acknowledged.append(document["job_id"])
            else:
                codes.add((status, document.get("code")))
                break
        assert codes <= {(503, "storage_full"), (503, "database_unusable")}
        assert codes, "the disk was full"
        assert ask(plane, "GET", "/api/v1/health")[0] == 200
        (inside / "filler").unlink()
        until(lambda: ready(plane)[0] == 200, "ready again", 100)
        acknowledged.append(submit(plane, bell(), "after"))
        for job_id in acknowledged:
            assert await_end(plane, job_id)["state"] == "COMPLETED"
        sound(plane)


def _children(server: int) -> list[int]:
    """PostgreSQL's backends, each of which leads a session of its own."""
    told = Path(f"/proc/{server}/task/{server}/children").read_text()
    return [int(pid) for pid in told.split()]
