# SPDX-License-Identifier: Apache-2.0
"""A child becomes its identity whatever the process that starts it has in it, and ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from control_plane.enter import FAILED
from control_plane.privilege import Identity, identity, own
from tests.own_plane import until

SHOW = [sys.executable, "-c", "import os; print(os.geteuid(), os.getppid())"]


def command_line(pid: str) -> bytes:
    """Of a running process; empty once it has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def test_threads_that_begin_in_a_forked_child_change_no_identity() -> None:
    """Telemetry's exporter starts a thread in each forked child; two threads are granted no user namespace."""
    code = """
        import os, threading, time
        from control_plane.privilege import identity
        before = identity()
        os.register_at_fork(after_in_child=lambda: threading.Thread(target=time.sleep, args=(9,), daemon=True).start())
        assert [identity() for _ in range(3)] == [before] * 3
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_the_command_runs_as_the_identity_and_is_a_child_of_the_caller() -> None:
    who = identity()
    done = subprocess.run(who.command(SHOW, signal.SIGKILL), capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(who.uid), str(os.getpid())]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Identity("plain", 0, 0).command(["/no/such/programme"], signal.SIGKILL), "/no/such/programme: "),
        (own().command(["/"], signal.SIGKILL), "/: "),
    ],
)
def test_what_cannot_be_run_is_one_line_and_126(command: list[str], said: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (FAILED, 1)
    assert done.stderr.startswith(said)


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """Killed outright, a parent leaves nothing behind: not after the start, and not in the middle of it."""
    noted = tmp_path / "pid"
    code = f"""
        import pathlib, signal, subprocess, sys, time
        from control_plane.privilege import own
        child = subprocess.Popen(own().command([sys.executable, "-c", "import time; time.sleep(600)"], signal.SIGKILL))
        pathlib.Path({str(noted)!r}).write_text(str(child.pid))
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    pid = until(lambda: noted.exists() and noted.read_text(), "the child is started")
    parent.kill()
    parent.wait()
    until(lambda: not command_line(pid), "the child has ended")


def test_a_parent_that_has_gone_starts_nothing() -> None:
    stale = own().command(["echo", "begun"], signal.SIGKILL)
    stale[stale.index(str(os.getpid()))] = "2147483647"
    done = subprocess.run(stale, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (FAILED, b"")
