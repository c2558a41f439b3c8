# SPDX-License-Identifier: Apache-2.0
"""A clock set back: sealing stops and says so, times in the log never run backwards (I2, I4, G8)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ledger.chain import parse_leaf
from tests.faults.clocks import Clocks
from tests.faults.plane import ask, await_end, bell, faulty_plane, kinds, ready, sound, submit
from tests.own_plane import OwnPlane, until

pytestmark = pytest.mark.faults
HOUR_S = 3600.0
TOLERANCE_S = 5.0
SLOW_S = 60.0  # a busy machine's order, not its clock: far below the hour by which clocks are wrong here


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    return Clocks(tmp_path / "clocks", "sealer", "api-1", "worker-1")


@pytest.fixture
def plane(clocks: Clocks) -> Iterator[OwnPlane]:
    with faulty_plane("workers = 1\n", **clocks.environment) as own:
        yield own


def test_sealing_stops_while_its_clock_is_behind_and_goes_on_when_it_has_caught_up(
    plane: OwnPlane, clocks: Clocks
) -> None:
    """Readiness, status, log and metric name it; nothing is admitted; a small step is let pass."""
    assert await_end(plane, submit(plane, bell(), "before"))["state"] == "COMPLETED"
    clocks.shift("sealer", -TOLERANCE_S / 2)
    assert await_end(plane, submit(plane, bell(), "small-step"))["state"] == "COMPLETED"
    clocks.shift("sealer", -HOUR_S)
    until(lambda: ready(plane)[0] == 503, "readiness says so")
    assert ready(plane)[1]["sealer"]["code"] == "clock_stepped_back"
    status = plane.status()
    assert (status["ready"], status["alarm"]["code"]) == (False, "clock_stepped_back")
    ((jobs, size),) = plane.query("SELECT (SELECT count(*) FROM jobs.job), max(size) FROM ledger.checkpoint")
    refused = until(lambda: _refused(plane), "nothing is admitted")
    assert refused["code"] == "clock_stepped_back"
    assert plane.query("SELECT count(*) FROM jobs.job") == [(jobs,)]
    assert ask(plane, "GET", "/api/v1/jobs")[0] == 200
    assert "nothing is sealed: clock_stepped_back" in (plane.home / "log" / "sealer.log").read_text()
    assert plane.query("SELECT max(size) FROM ledger.checkpoint") == [(size,)]
    clocks.shift("sealer", 0)
    assert await_end(plane, submit(plane, bell(), "after"))["state"] == "COMPLETED"
    until(lambda: ready(plane)[0] == 200, "ready again")
    assert plane.status()["alarm"] is None
    assert kinds(plane).count("ledger:sealing:stopped") == 1
    _in_order(plane)
    sound(plane)


def test_an_operator_may_accept_a_clock_that_was_wrong(plane: OwnPlane, clocks: Clocks) -> None:
    """A clock that was an hour ahead is mended: the log would stand still so long; an entry says why it doesn't."""
    clocks.shift("sealer", HOUR_S)
    assert await_end(plane, submit(plane, bell(), "ahead"))["state"] == "COMPLETED"
    clocks.shift("sealer", 0)
    until(lambda: ready(plane)[0] == 503, "readiness says so")
    plane.down()
    refused = plane.run("up", "--detach")
    assert refused.returncode == 3
    assert refused.stderr.strip().startswith("clock_stepped_back: ")
    plane.ask("up", "--detach", "--accept-clock", "the time server was wrong")
    plane.ask("login", "--as", "engineer")
    assert await_end(plane, submit(plane, bell(), "after"))["state"] == "COMPLETED"
    assert kinds(plane).count("ledger:clock:accepted") == 1
    assert not (plane.home / "run" / "clock-accepted").exists()
    sound(plane)


def test_a_process_whose_clock_is_wrong_admits_and_starts_nothing(plane: OwnPlane, clocks: Clocks) -> None:
    """Its own clock or the database's is wrong: it can't know which, so it writes no time."""
    clocks.shift("worker-1", -HOUR_S)
    until(lambda: "clock_skewed" in (plane.home / "log" / "worker-1.log").read_text(), "the worker knows")
    job_id = submit(plane, bell(), "waits")
    clocks.shift("api-1", HOUR_S)
    refused = until(lambda: _refused(plane), "nothing is admitted")
    assert refused["code"] == "clock_skewed"
    status, checks = ready(plane)
    assert (status, checks["clock"]["code"]) == (503, "clock_skewed")
    assert plane.query(f"SELECT attempt FROM jobs.job WHERE job_id = '{job_id}'") == [(0,)]
    clocks.shift("api-1", 0)
    clocks.shift("worker-1", 0)
    assert await_end(plane, job_id)["state"] == "COMPLETED"
    until(lambda: ready(plane)[0] == 200, "ready again")
    _in_order(plane)
    sound(plane)


def _refused(plane: OwnPlane) -> dict[str, str] | None:
    """The problem, once a submission is refused as long as the fault lasts."""
    status, document = ask(plane, "POST", "/api/v1/jobs", bell())
    return dict(document) if status == 503 else None


def _in_order(plane: OwnPlane) -> None:
    """No checkpoint lies before the last by more than the tolerance; no entry has the time of a wrong clock.

    An entry's time is its writer's, taken before it waits for its seal: on a busy machine later ones may overtake it.
    """
    sealed = [at for (at,) in plane.query("SELECT sealed_at FROM ledger.checkpoint ORDER BY size")]
    assert all((before - after).total_seconds() <= TOLERANCE_S for before, after in pairwise(sealed))
    newest = None
    for (leaf,) in plane.query('SELECT leaf FROM ledger.entry WHERE entry_id IS NOT NULL ORDER BY "index"'):
        time = parse_leaf(bytes(leaf)).time
        assert newest is None or (newest - time).total_seconds() <= SLOW_S
        newest = max(newest or time, time)
