# SPDX-License-Identifier: Apache-2.0
"""Children: started, waited for, started again with back-off, ended with their parent (N10; contracts, Supervision)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane import supervisor
from control_plane.errors import DatabaseUnusable, StartFailed
from control_plane.home import is_alive, started_at
from control_plane.supervisor import Child
from tests.own_plane import until

READY = 'import os, time; os.write(int(os.environ["QCOS_READY_FD"]), b"ready"); '
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "time.sleep(600)"
DELAYS = (0.0, 0.001, 0.002)
LIMIT_S = 60.0


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def child(tmp_path: Path, code: str, **rest: object) -> Child:
    return Child("part", python(code), log=tmp_path / "part.log", says_ready=True, **rest)  # type: ignore[arg-type]


async def become(true: Callable[[], bool]) -> None:
    """Wait for something to become true; the suite's limit is the limit."""
    while not true():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.005)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the supervisor says, with delays too short to wait for."""
    said: list[str] = []
    monkeypatch.setattr(supervisor, "note", said.append)
    monkeypatch.setattr(supervisor, "_BACKOFF_S", DELAYS)
    return said


def lives(part: Child) -> bool:
    record = part.record()
    return record.ready and is_alive(record.pid, record.started)


async def test_a_killed_child_comes_back_and_the_restart_is_counted(tmp_path: Path, notes: list[str]) -> None:
    part = child(tmp_path, READY + "time.sleep(600)")
    await part.start(LIMIT_S)
    first = part.record()
    assert (first.ready, first.restarts) == (True, 0)
    os.kill(first.pid, signal.SIGKILL)
    await become(lambda: lives(part) and part.restarts == 1)
    second = part.record()
    assert second.pid != first.pid
    assert len(notes) == 1
    await part.stop()
    assert not is_alive(second.pid, second.started)


async def test_a_child_that_keeps_dying_is_started_ever_later(tmp_path: Path, notes: list[str]) -> None:
    """No busy loop: each death soon after a start makes the next wait longer, up to the longest."""
    part = child(tmp_path, READY + "time.sleep(0.2); raise SystemExit(9)")
    with_delay = [f"part ended with 9; started again in {delay:g} s" for delay in (*DELAYS, DELAYS[-1])]
    await part.start(LIMIT_S)
    await become(lambda: sum("ended with 9; started" in note for note in notes) >= len(with_delay))
    await part.stop()
    assert [note for note in notes if "; started again" in note][: len(with_delay)] == with_delay


async def test_a_child_that_served_for_a_while_starts_again_at_once(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_STEADY_S", 0.0)
    part = child(tmp_path, READY + "time.sleep(0.05); raise SystemExit(9)")
    await part.start(LIMIT_S)
    await become(lambda: part.restarts >= 3)
    await part.stop()
    assert {note for note in notes if "; started again" in note} == {
        f"part ended with 9; started again in {DELAYS[0]:g} s"
    }


async def test_a_child_that_can_no_longer_start_is_tried_again_ever_later(tmp_path: Path, notes: list[str]) -> None:
    once = tmp_path / "once"
    once.touch()
    code = f"import os; os.unlink({str(once)!r}); " + READY + "time.sleep(600)"
    part = child(tmp_path, code)
    await part.start(LIMIT_S)
    os.kill(part.record().pid, signal.SIGKILL)
    await become(lambda: part.restarts >= 4)
    assert not part.record().ready
    assert any("did not come back" in note and "FileNotFoundError" in note for note in notes)
    waited = [float(note.split()[-2]) for note in notes if "; started again" in note]
    assert waited == sorted(waited)
    once.touch()
    await become(lambda: lives(part))
    await part.stop()


async def test_nothing_that_a_start_raises_ends_the_keeping(tmp_path: Path, notes: list[str]) -> None:
    """A step before the start, or a probe, may fail in any way; the child is tried again all the same."""
    faults: list[Exception] = []

    def before() -> None:
        if faults:
            raise faults.pop()

    async def probe() -> bool:
        if faults:
            raise faults.pop()
        return True

    part = child(tmp_path, READY + "time.sleep(600)", before=before, probe=probe)
    await part.start(LIMIT_S)
    for fault in (DatabaseUnusable("strays"), RuntimeError("probe"), OSError("no more descriptors")):
        faults.extend((fault, fault))
        os.kill(part.record().pid, signal.SIGKILL)
        await become(lambda: not faults and lives(part))
    assert sum("did not come back" in note for note in notes) == 6
    await part.stop()


async def test_a_command_that_cannot_run_is_named(tmp_path: Path) -> None:
    """An executable file that is no program: a start that failed, and no descriptor is lost."""
    nonsense = tmp_path / "opa"
    nonsense.write_text("nonsense")
    nonsense.chmod(0o700)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    for command, why in ((str(nonsense), "Exec format"), (str(tmp_path / "gone"), "No such file")):
        with pytest.raises(StartFailed, match=why) as caught:
            await Child("opa", [command], log=tmp_path / "opa.log", says_ready=True).start(LIMIT_S)
        assert command in caught.value.detail
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


async def test_a_child_that_ends_before_it_is_ready_tells_its_last_words(tmp_path: Path) -> None:
    part = child(tmp_path, "raise SystemExit('no key here')")
    with pytest.raises(StartFailed, match="no key here") as caught:
        await part.start(LIMIT_S)
    assert str(tmp_path / "part.log") in caught.value.detail


async def test_a_child_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    part = child(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(StartFailed, match=r"within 0\.05 s"):
        await part.start(0.05)
    assert started_at(part.record().pid) == 0


async def test_a_child_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    part = child(tmp_path, STUBBORN, stop_limit_s=0.05)
    await part.start(LIMIT_S)
    await part.stop()
    assert started_at(part.record().pid) == 0
    await part.stop()


def test_children_end_with_their_parent_however_it_ends(tmp_path: Path) -> None:
    """`up` killed outright: the kernel ends its children."""
    code = f"""
import asyncio, pathlib, sys
from control_plane.supervisor import Child
async def main():
    code = {STUBBORN!r}
    part = Child("part", [sys.executable, "-c", code], log=pathlib.Path({str(tmp_path / "log")!r}), says_ready=True)
    await part.start({LIMIT_S})
    print(part.record().pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert started_at(pid) != 0
        parent.kill()
    until(lambda: started_at(pid) == 0, "the child ends")
