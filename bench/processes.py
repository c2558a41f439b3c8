# SPDX-License-Identifier: Apache-2.0
"""What each part of a plane uses, from /proc: CPU seconds and memory, by the names that `qcos status` lists.

A part is its process with all that it started; what PostgreSQL's children do is told apart by the role that they
serve. CPU time includes that of ended children that were waited for. PSS shares a page among those who map it, so
that a sum over processes counts each page once; RSS counts it each time.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
BENCH = "this bench"
SELF = os.getpid()


class Use(NamedTuple):
    """Of one part, summed over its processes."""

    processes: int
    cpu_s: float
    pss_mb: float
    rss_mb: float


def parts(status: dict[str, Any]) -> dict[str, str]:
    """Pid → part of each process of a plane, its supervisor included."""
    parents = _parents()
    named = {str(process["pid"]): str(process["name"]) for process in status["processes"] if process["pid"]}
    supervisors = {parents[pid] for pid in named if pid in parents} - set(named) - {"1"}
    named |= dict.fromkeys(supervisors, "up")
    return {pid: _part(pid, named[root]) for pid in parents if (root := _root(pid, parents, named)) is not None}


def use(status: dict[str, Any], *, memory: bool = False) -> dict[str, Use]:
    """What each part of a plane has used so far; `memory` costs a walk over its page tables."""
    return _sums(((part, pid) for pid, part in parts(status).items()), memory=memory)


def own(*, memory: bool = False) -> Use:
    """What this process and what it started have used, planes excepted: they are nobody's children."""
    return _sums([(BENCH, str(os.getpid()))], memory=memory)[BENCH]


def cpu_ms(before: dict[str, Use], after: dict[str, Use], jobs: int) -> dict[str, float]:
    """CPU milliseconds a job by part."""
    return {name: (after[name].cpu_s - before[name].cpu_s) * 1e3 / jobs for name in sorted(after.keys() & before)}


def resident_mb(pid: int) -> float:
    """What a process has in memory, shared pages among it."""
    pages = int((PROC / str(pid) / "statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def spent_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes have used so far."""
    return sum(_cpu_s(str(pid)) for pid in pids)


def below(pid: int) -> list[int]:
    """The processes that it started, and theirs."""
    parents = _parents()
    return [int(one) for one in parents if str(pid) in [*_ancestors(one, parents)][1:]]


def _sums(found: Iterable[tuple[str, str]], *, memory: bool) -> dict[str, Use]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])
    for name, pid in found:
        try:
            one = (1, _cpu_s(pid), *(_memory_mb(pid) if memory else (0.0, 0.0)))
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        sums[name] = [a + b for a, b in zip(sums[name], one, strict=True)]
    return {name: Use(int(n), cpu, pss, rss) for name, (n, cpu, pss, rss) in sorted(sums.items())}


def _parents() -> dict[str, str]:
    found = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                found[folder.name] = _stat(folder.name)[1]
            except (OSError, IndexError):
                continue
    return found


def _root(pid: str, parents: dict[str, str], named: dict[str, str]) -> str | None:
    """The nearest of the named processes that this one descends from."""
    return next((one for one in _ancestors(pid, parents) if one in named), None)


def _ancestors(pid: str, parents: dict[str, str]) -> Iterator[str]:
    while pid in parents:
        yield pid
        pid = parents[pid]


def _part(pid: str, name: str) -> str:
    """`worker-1` and apart from it its guarded children; PostgreSQL's sessions by role, the rest of it as its own."""
    try:
        words = (PROC / pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return name
    if name == "postgres":
        role = re.match(r"postgres: qcos_([a-z]+)_", words)
        return f"postgres: {role[1]}" if role else "postgres: own"
    return f"{name}: circuits" if "hal_drivers.child" in words else name


def _stat(pid: str) -> list[str]:
    """Fields of /proc/PID/stat from the third on: the second, in parentheses, may hold spaces."""
    return (PROC / pid / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _cpu_s(pid: str) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / TICKS  # utime, stime, and both of children that were waited for


def _memory_mb(pid: str) -> tuple[float, float]:
    text = (PROC / pid / "smaps_rollup").read_text(encoding="ascii")
    found = {name: int(size) / 1024 for name, size in re.findall(r"^(Pss|Rss):\s+(\d+) kB", text, re.MULTILINE)}
    return found.get("Pss", 0.0), found.get("Rss", 0.0)
