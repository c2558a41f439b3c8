# SPDX-License-Identifier: Apache-2.0
"""What tests of `up` look at from outside: processes by the kernel's word, modes, refusals, a job that is proven."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from control_plane import home as homes
from control_plane.home import started_at
from tests.own_plane import OwnPlane

BELL = str(Path(__file__).parents[2] / "examples" / "bell.json")


def family(pid: int) -> dict[int, int]:
    """A process and all that descend from it: pid → start time."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, new = {pid}, {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return {member: started_at(member) for member in found}


def attached(home: Path) -> list[int]:
    """The processes that name the home in their command, environment or working folder, this one aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if os.fsencode(home) in said or (entry / "cwd").readlink().is_relative_to(home):
                    found.append(int(entry.name))
    return found


def modes(path: Path) -> dict[str, tuple[int, int, int]]:
    """Mode and owners of each folder above a path."""
    return {str(p): (p.stat().st_mode, p.stat().st_uid, p.stat().st_gid) for p in path.parents}


def refused(own: OwnPlane, code: str, *, exit_code: int, words: tuple[str, ...] = ()) -> str:
    """`up` must refuse with one line on standard error, leave no process, and keep no claim on the home."""
    done = own.run("up", "--detach")
    assert done.returncode == exit_code, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"{code}: "), line
    for word in words:
        assert word in line
    assert attached(own.home) == []
    assert not homes.is_held(own.home)
    return line


def judged(own: OwnPlane) -> Any:
    """A job submitted now completes and its evidence verifies."""
    job = own.ask("submit", BELL, "--wait")
    assert job["state"] == "COMPLETED"
    bundle, trust = str(own.home / "bundle.json"), str(own.home / "trust.json")
    own.ask("evidence", "get", job["job_id"], "-o", bundle)
    own.ask("trust", "export", "-o", trust)
    assert own.ask("verify", bundle, "--trust", trust)["verdict"] == "valid"
    return job
