# SPDX-License-Identifier: Apache-2.0
"""The home folder: who may hold it, what its running plane says of itself, what a dead plane left behind.

Enters: settings. Leaves: a `Hold` for as long as this `up` lives (a lock that the kernel frees with the process, so no
stale pid file can fool it; it finishes a restore that was cut off as it switched), and `run/plane.json`, rewritten
whole at each change, which `status`, `down` and the client read. Modes are set on folders made here, and on nothing
outside the home.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from control_plane.backup import switch
from control_plane.errors import AlreadyRunning, Unreachable, Unusable
from control_plane.settings import Settings

_LEFTOVER_S = 10.0
_ASKED_S = 0.5


class ProcessRecord(Struct, frozen=True):
    """One process of the plane; `started` tells it from a later process of the same pid."""

    name: str
    pid: int
    ready: bool
    restarts: int
    started: int = 0


class PlaneRecord(Struct, frozen=True):
    """What a running plane says of itself. Holds no secret."""

    pid: int
    started: int
    profile: str
    url: str
    socket: str
    policy_engine: str
    database: str
    database_admin: dict[str, str] | None
    processes: tuple[ProcessRecord, ...]
    ready: bool


class Hold:
    """The exclusive right to run a plane in a home; freed by `release` or by the end of this process."""

    def __init__(self, settings: Settings) -> None:
        make_folder(settings.home)
        make_folder(settings.home / "run")
        path = settings.home / "run" / "lock"
        try:
            self._file = path.open("a+")
        except OSError as error:
            raise Unusable(f"QCOS_HOME: {path} can't be opened: {error.strerror}") from error
        if not _locked(self._file.fileno()):
            self._file.close()
            raise AlreadyRunning(_who_holds(settings.home))
        self._outside = None if settings.runtime.is_relative_to(settings.home) else settings.runtime
        make_runtime(settings.runtime)
        switch.finish(settings.home)

    def release(self) -> None:
        """Remove the folder that isn't the home's, and let another `up` in."""
        if self._outside is not None:
            shutil.rmtree(self._outside, ignore_errors=True)
        self._file.close()


def _locked(descriptor: int) -> bool:
    # Whoever asks `is_held` holds the lock for an instant; a plane holds it for its life.
    until = time.monotonic() + _ASKED_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


def is_held(home: Path) -> bool:
    """Whether an `up` runs in this home."""
    try:
        with (home / "run" / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def make_folder(path: Path) -> None:
    """A folder of this user alone, made with its missing parents; one that is there keeps its mode."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"QCOS_HOME: {path} can't be made: {error.strerror}") from error


def accept_clock(settings: Settings, reason: str | None) -> None:
    """Leave the operator's reason for the sealer of the next start, or none."""
    path = settings.clock_accepted
    if reason is None:
        path.unlink(missing_ok=True)
        return
    make_folder(settings.home)
    make_folder(path.parent)
    path.write_text(reason, encoding="utf-8")


def make_runtime(path: Path) -> None:
    """The folder for sockets. In a shared temporary folder its name can be foreseen, so its owner is looked at."""
    make_folder(path)
    found = path.lstat()
    if not path.is_dir() or path.is_symlink() or found.st_uid != os.geteuid():
        raise Unusable(f"{path} belongs to another user; choose a shorter QCOS_HOME")
    if found.st_mode & 0o022:
        path.chmod(0o700)


def write_record(home: Path, record: PlaneRecord) -> None:
    """Replace plane.json as a whole."""
    path = home / "run" / "plane.json"
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(record))
    partial.replace(path)


def read_record(home: Path) -> PlaneRecord | None:
    """What plane.json says, whether or not that plane still lives; None if there is none or it can't be read."""
    try:
        return msgspec.json.decode((home / "run" / "plane.json").read_bytes(), type=PlaneRecord)
    except (OSError, msgspec.DecodeError):
        return None


def running_record(home: Path) -> PlaneRecord:
    """The record of the plane that runs in this home; raises Unreachable when none does."""
    record = read_record(home)
    if record is None or not is_held(home) or not is_alive(record.pid, record.started):
        raise Unreachable(f"no plane runs in {home}; start it with qcos up")
    return record


def started_at(pid: int) -> int:
    """The kernel's start time of a process in clock ticks, 0 if there is none: with the pid it names one process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether exactly that process still runs."""
    return started != 0 and started_at(pid) == started


def is_stopped(pid: int) -> bool:
    """Whether the process stands still by a signal (SIGSTOP): it lives and does nothing."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


def end_leftovers(home: Path) -> None:
    """End what a killed `up` may have left; its children were told by the kernel, so mostly this only waits."""
    record = read_record(home)
    if record is None:
        return
    left = [process for process in record.processes if is_alive(process.pid, process.started)]
    until = time.monotonic() + _LEFTOVER_S
    while left and time.monotonic() < until:
        time.sleep(0.02)
        left = [process for process in left if is_alive(process.pid, process.started)]
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            # PostgreSQL must not be killed outright: its backends would outlive it for a moment.
            os.kill(process.pid, signal.SIGQUIT if process.name == "postgres" else signal.SIGKILL)
    while any(is_alive(process.pid, process.started) for process in left):
        if time.monotonic() > until + _LEFTOVER_S:
            raise Unusable(f"processes of an earlier plane don't end: {[process.pid for process in left]}")
        time.sleep(0.02)


def _who_holds(home: Path) -> str:
    record = read_record(home)
    known = f" (pid {record.pid}, {record.url})" if record and is_alive(record.pid, record.started) else ""
    return f"a plane already runs in {home}{known}; qcos status shows it, qcos down stops it"
