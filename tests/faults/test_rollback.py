# SPDX-License-Identifier: Apache-2.0
"""A database set back behind the head kept outside it, and a head that can't be kept (I2, I4)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.plane import ask, await_end, bell, faulty_plane, kinds, ready, sound, submit
from tests.own_plane import OwnPlane, until

pytestmark = pytest.mark.faults


@pytest.fixture
def plane() -> Iterator[OwnPlane]:
    with faulty_plane("workers = 1\n") as own:
        yield own


def test_a_database_restored_from_an_older_copy_is_refused_and_named(plane: OwnPlane) -> None:
    """`ledger_rollback` from `up`, which stops; the newer copy put back goes on as if nothing had been."""
    assert await_end(plane, submit(plane, bell(), "old"))["state"] == "COMPLETED"
    plane.down()
    data, older, newer = (plane.home / "db" / name for name in ("data", "older", "newer"))
    _copy(data, older)
    plane.up()
    plane.ask("login", "--as", "engineer")
    job_id = submit(plane, bell(), "new")
    assert await_end(plane, job_id)["state"] == "COMPLETED"
    plane.down()
    data.rename(newer)
    older.rename(data)
    refused = plane.run("up", "--detach")
    assert refused.returncode == 3
    assert refused.stderr.strip().startswith("ledger_rollback: head kept outside has ")
    shutil.rmtree(data)
    newer.rename(data)
    plane.up()
    plane.ask("login", "--as", "engineer")
    assert await_end(plane, job_id)["state"] == "COMPLETED"
    assert await_end(plane, submit(plane, bell(), "newer"))["state"] == "COMPLETED"
    sound(plane)


def test_a_database_set_back_under_a_running_plane_admits_nothing_more(plane: OwnPlane) -> None:
    """What can't be sealed for ever isn't taken: 503 `ledger_rollback`, named by readiness, status and the sealer."""
    assert await_end(plane, submit(plane, bell(), "before"))["state"] == "COMPLETED"
    until(lambda: plane.query("SELECT count(*) FROM ledger.inbox") == [(0,)], "all sealed")
    with plane.superuser() as session:
        size = session.execute("SELECT max(size) FROM ledger.checkpoint").fetchone()
        assert size is not None
        session.execute("DELETE FROM ledger.checkpoint WHERE size = %s", size)
    refused = until(lambda: _refused(plane), "nothing is admitted")
    assert refused["code"] == "ledger_rollback"
    jobs = plane.query("SELECT count(*) FROM jobs.job")
    assert ask(plane, "POST", "/api/v1/jobs", bell())[0] == 503
    assert plane.query("SELECT count(*) FROM jobs.job") == jobs
    status, checks = ready(plane)
    assert (status, checks["sealer"]["code"]) == (503, "ledger_rollback")
    assert plane.status()["alarm"]["code"] == "ledger_rollback"
    assert ask(plane, "GET", "/api/v1/jobs")[0] == 200
    assert ask(plane, "GET", "/api/v1/health")[0] == 200


def test_nothing_is_sealed_while_the_head_outside_can_not_be_kept(plane: OwnPlane) -> None:
    """`head_unwritable`: a rollback of what is sealed meanwhile would go unseen. It goes on by itself."""
    assert await_end(plane, submit(plane, bell(), "before"))["state"] == "COMPLETED"
    head = plane.home / "head"
    until(lambda: _kept(plane) == plane.query("SELECT max(size) FROM ledger.checkpoint")[0][0], "the head is kept")
    kept = head.read_bytes()
    head.unlink()
    head.mkdir()  # no mode stops root
    job_id = submit(plane, bell(), "meanwhile")
    refused = until(lambda: _refused(plane), "nothing is admitted")
    assert refused["code"] == "head_unwritable"
    assert ready(plane)[1]["sealer"]["code"] == "head_unwritable"
    size = plane.query("SELECT max(size) FROM ledger.checkpoint")
    until(lambda: plane.status()["alarm"] is not None, "status says so")
    assert plane.query("SELECT max(size) FROM ledger.checkpoint") == size
    head.rmdir()
    head.write_bytes(kept)
    assert await_end(plane, job_id)["state"] == "COMPLETED"
    assert await_end(plane, submit(plane, bell(), "after"))["state"] == "COMPLETED"
    until(lambda: _kept(plane) == plane.query("SELECT max(size) FROM ledger.checkpoint")[0][0], "the head is kept")
    assert kinds(plane).count("ledger:sealing:stopped") == 1
    sound(plane)


def _copy(source: Path, target: Path) -> None:
    """A file copy of a data folder whose server is stopped, owners and modes with it."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def _kept(plane: OwnPlane) -> int:
    return int((plane.home / "head").read_text().split("\n")[1])


def _refused(plane: OwnPlane) -> dict[str, str] | None:
    status, document = ask(plane, "POST", "/api/v1/jobs", bell())
    return dict(document) if status == 503 else None
