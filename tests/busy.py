# SPDX-License-Identifier: Apache-2.0
"""Which process computes: what a cancel must end, seen from outside by `/proc`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

BUSY_TICKS = 30
QUIET_LOOKS = 25


class Watch:
    """Children of some processes; `settled` until all of them only wait, then `computing`."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._seen: dict[int, tuple[int, int]] = {}
        self._quiet = 0

    def settled(self) -> bool:
        """Whether none of them has done anything for a while: a child that is started computes until it is warm."""
        now = {child: (pid, ticks(child)) for pid in self._pids for child in children(pid)}
        self._quiet = self._quiet + 1 if now == self._seen and all(map(_sleeps, now)) else 0
        self._seen = now
        return self._quiet >= QUIET_LOOKS

    def computing(self) -> tuple[int, int] | None:
        """The process whose child works, and the child: one that was there, and has computed 0.3 s since."""
        for child, (pid, before) in self._seen.items():
            if ticks(child) - before > BUSY_TICKS:
                return pid, child
        return None


def _sleeps(pid: int) -> bool:
    return _fields(pid)[:1] == ["S"]


def _fields(pid: int) -> list[str]:
    """Behind a process's name in its `stat`; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def ticks(pid: int) -> int:
    """What a process has computed, in hundredths of a second; 0 where it is gone."""
    fields = _fields(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def children(pid: int) -> set[int]:
    """Processes below this one, at any depth."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        for task in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            try:
                below = {int(word) for word in task.read_text().split()}
            except OSError:
                continue
            found |= below
            todo += below
    return found


def gone(pid: int) -> bool:
    """Whether there is no such process any more."""
    return not Path(f"/proc/{pid}").exists()
