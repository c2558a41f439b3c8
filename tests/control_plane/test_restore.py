# SPDX-License-Identifier: Apache-2.0
"""`qcos backup` of a plane that works, `qcos restore` into an empty home and over a plane that went on (N10, I2).

What is refused, and why, is in jobs/test_backup.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.home import is_alive
from ledger import checkpoint
from tests.control_plane.observed import attached, family, judged
from tests.control_plane.test_shutdown import end_of, submit
from tests.own_plane import OwnPlane, until

BELL = json.loads((Path(__file__).parents[2] / "examples" / "bell.json").read_bytes())
CONFIG = "workers = 1\n"

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]  # up and down several times


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short folder, for the sake of sockets."""
    made = Path(tempfile.mkdtemp(prefix="qcos-b-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def sound(own: OwnPlane) -> dict[str, Any]:
    """The ledger verifies and the rows are what it tells; `ledger verify`'s answer."""
    assert own.ask("ledger", "replay", "--compare")["differences"] == []
    verified: dict[str, Any] = own.ask("ledger", "verify")
    assert verified["ok"], verified
    return verified


def refused(own: OwnPlane, *words: str) -> str:
    """The code of a command that must fail with one line."""
    answer = own.run(*words)
    assert answer.returncode in (1, 3), answer
    (line,) = answer.stderr.splitlines()
    return line.split(":")[0]


def test_a_backup_taken_while_jobs_flow_is_a_whole_plane_on_a_new_machine(folder: Path) -> None:
    """Online and consistent: each job that it knows ends, once; the first machine isn't needed."""
    own, new = OwnPlane(folder / "home", config=CONFIG), OwnPlane(folder / "new")
    (new.home / "qcos.toml").unlink()
    new.environment.pop("QCOS_CONFIG")
    file = folder / "kept.zip"
    with own.running():
        own.ask("login", "--as", "engineer")
        judged(own)
        jobs = [submit(own, {**BELL, "execution": {"shots": 100, "seed": n}}) for n in range(8)]
        done = own.ask("backup", "-o", str(file))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert done["rows"]["jobs.job"] == 9
        assert refused(own, "restore", str(file)) == "already_running"
        processes = family(own.record.pid)
        os.kill(own.record.pid, signal.SIGKILL)
        until(lambda: not any(is_alive(*one) for one in processes.items()), "the machine is gone")
    assert new.ask("restore", str(file), "--check")["restored"] is False
    assert not (new.home / "db").exists()
    done = new.ask("restore", str(file))
    assert (done["restored"], done["previous"], done["held"]) == (True, None, [])
    assert (new.home / "qcos.toml").read_text() == CONFIG
    with new.running():
        new.ask("login", "--as", "engineer")
        assert {end_of(new, job) for job in jobs} == {"COMPLETED"}
        judged(new)
        sound(new)
    assert attached(new.home) == []


def test_a_plane_that_went_on_is_not_set_back_unseen(folder: Path) -> None:
    """`ledger_rollback`, then a new log on request; evidence of before, the lost one's too, stays valid."""
    own = OwnPlane(folder / "home", config=CONFIG)
    file, late, note = folder / "kept.zip", folder / "late.json", folder / "note"
    with own.running():
        own.ask("login", "--as", "engineer")
        early = judged(own)["job_id"]
        own.ask("backup", "-o", str(file))
        lost = own.ask("submit", str(Path(__file__).parents[2] / "examples" / "bell.json"), "--wait")["job_id"]
        own.ask("evidence", "get", lost, "-o", str(late))
        own.ask("down")
        note.write_bytes((own.home / "head").read_bytes())
        assert refused(own, "restore", str(file)) == "ledger_rollback"
        new = OwnPlane(folder / "new", config=CONFIG)
        assert refused(new, "restore", str(file), "--checkpoint", str(note)) == "ledger_rollback"
        own.up()
        own.ask("login", "--as", "engineer")
        assert own.ask("jobs", "show", lost)["state"] == "COMPLETED"
        own.ask("down")
        done = own.ask("restore", str(file), "--new-log", "the disk died")
        head = checkpoint.parse(note.read_bytes())
        assert done["previous"]["size"] == head.size
        own.up()
        own.ask("login", "--as", "engineer")
        verified = sound(own)
        trust = folder / "trust.json"
        own.ask("trust", "export", "-o", str(trust))
        assert own.ask("verify", str(late), "--trust", str(trust))["verdict"] == "valid"
        own.ask("evidence", "get", early, "-o", str(folder / "early.json"))
        assert own.ask("verify", str(folder / "early.json"), "--trust", str(trust))["verdict"] == "valid"
        assert own.run("jobs", "show", lost).returncode == 1
        judged(own)
        assert sound(own)["size"] > verified["size"]
        assert checkpoint.parse((own.home / "head").read_bytes()).origin == done["log"]["origin"] != head.origin
        (aside,) = own.home.glob("replaced-*")
        assert (aside / "head").read_bytes() == note.read_bytes()


def test_a_stopped_plane_can_be_backed_up_and_a_home_without_one_can_not(folder: Path) -> None:
    own = OwnPlane(folder / "home", config=CONFIG)
    assert refused(own, "backup", "-o", str(folder)) == "database_unusable"
    with own.running():
        pass
    done = own.ask("backup", "-o", str(folder))
    assert Path(done["file"]).parent == folder
    assert Path(done["file"]).name.startswith("qcos-dev-")
    assert attached(own.home) == []
    with own.running():
        sound(own)
