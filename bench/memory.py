# SPDX-License-Identifier: Apache-2.0
"""`make bench-memory`: what each process of a plane holds, at rest and at work.

Fresh: some seconds after `up`. Idle: after work, once it has rested. Under load: the most of several looks while
clients keep it busy with the reference circuits in turn. PSS of a part counts what it shares with others by shares,
so that the column's sum is what the plane takes from the machine; PostgreSQL's shared buffers are in it as far as
they have been touched.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench import processes
from bench.governed import CHILDREN, CLIENTS, SHOTS, circuits
from bench.plane import Plane, postgresql
from bench.record import Figures, Run, main, table

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_S = 0.5


def measure(run: Run) -> None:
    """Fresh, under load, idle."""
    rest_s, load_s = (1.0, 2.0) if run.quick else (5.0, 8.0)
    with Plane(workers=str(CHILDREN)) as plane:
        run.figures["versions"]["postgresql"] = postgresql(plane)
        time.sleep(rest_s)
        run.keep(clients=CLIENTS, workers=CHILDREN, fresh=_looked(plane))
        most: dict[str, dict[str, float]] = {}
        with _looking(plane, most):
            for source in circuits().values():
                plane.flow(source, SHOTS, level="full", clients=CLIENTS, ramp_s=0.2, window_s=load_s)
        run.keep(load=most)
        time.sleep(rest_s)
        run.keep(idle=_looked(plane), refused=len(plane.refused))
        run.say(f"{_sum(run.figures['fresh']):.0f} MB fresh, {_sum(most):.0f} MB at most under load")


def _looked(plane: Plane) -> dict[str, dict[str, float]]:
    used = processes.use(plane.status, memory=True)
    return {name: {"processes": u.processes, "pss_mb": u.pss_mb, "rss_mb": u.rss_mb} for name, u in used.items()}


@contextmanager
def _looking(plane: Plane, most: dict[str, dict[str, float]]) -> Iterator[None]:
    """Look every `LOOK_S` until the block ends; `most` keeps the greatest of each part."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_S):
            for name, seen in _looked(plane).items():
                kept = most.setdefault(name, seen)
                most[name] = {key: max(kept[key], value) for key, value in seen.items()}

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield
    finally:
        done.set()
        looker.join()


def _sum(found: dict[str, dict[str, float]]) -> float:
    return sum(float(one["pss_mb"]) for one in found.values())


def tables(figures: Figures) -> dict[str, str]:
    """A part a row."""
    stages = [stage for stage in ("fresh", "idle", "load") if figures.get(stage)]
    if not stages:
        return {}
    titles = {"fresh": "fresh", "idle": "idle after work", "load": f"under load, {figures['clients']} in flight"}
    head = "| part | processes | " + " | ".join(f"{titles[stage]}: PSS / RSS MB" for stage in stages) + " |"
    parts = sorted({part for stage in stages for part in figures[stage]})
    rows = []
    for part in parts:
        count = max(figures[stage].get(part, {}).get("processes", 0) for stage in stages)
        rows.append(f"| {part} | {count} | {' | '.join(_cell(figures[stage].get(part)) for stage in stages)} |")
    sums = " | ".join(f"**{_sum(figures[stage]):.0f}**" for stage in stages)
    return {"memory": table(head, [*rows, f"| **all, PSS** | | {sums} |"])}


def _cell(found: Figures | None) -> str:
    return f"{found['pss_mb']:.0f} / {found['rss_mb']:.0f}" if found else ""


if __name__ == "__main__":
    main("memory", measure, tables)
