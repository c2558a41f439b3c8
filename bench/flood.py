# SPDX-License-Identifier: Apache-2.0
"""`make bench-flood`: what a flood of denials by one person costs the jobs of another tenant.

The same clients ask for the bell circuit in turns, calm and flooded; the flood comes from a process of its own, with
the connections of `FLOODERS` at once, each denied as soon as it asks again. The flood's client runs on the same cores
as the plane, and its cost is in the figures. Rate limits are those of a new plane.
"""

from __future__ import annotations

import http.client
import multiprocessing
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bench.governed import SHOTS, circuits, mirrored
from bench.plane import Plane, postgresql, spec
from bench.record import Figures, Run, main, table
from bench.spread import in_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOODERS = 32
CLIENTS = 2
GOAL = 1.5


def measure(run: Run) -> None:
    """Calm and flooded in turns, so that each meets the machine early and late alike."""
    turns, count = (1, 40) if run.quick else (3, 150)
    with Plane(workers="2", rate_requests_per_s="500", rate_burst="2000") as plane:
        run.figures["versions"]["postgresql"] = postgresql(plane)
        plane.latencies(circuits()["bell"], SHOTS, 20, level="full")
        found: dict[str, list[float]] = {"calm": [], "flooded": []}
        answered: Counter[int] = Counter()
        before, flood_s = _sizes(plane), 0.0
        for turn in mirrored(["calm", "flooded"], turns):
            begun = time.perf_counter()
            if turn == "calm":
                found[turn] += _asked(plane, count)
                continue
            with _flood(plane, answered):
                found[turn] += _asked(plane, count)
            flood_s += time.perf_counter() - begun
        after = _sizes(plane)
        calm, flooded = in_ms(found["calm"]), in_ms(found["flooded"])
        run.keep(
            calm_ms=calm,
            flooded_ms=flooded,
            ratio_p99=flooded["p99"] / calm["p99"],
            goal=GOAL,
            flooders=FLOODERS,
            denied=answered[403],
            limited=answered[429],
            denied_a_second=answered[403] / flood_s,
            jobs=len(found["calm"]) + len(found["flooded"]),
            folded=after["folded"] - before["folded"],
            folds=after["folds"] - before["folds"],
            refused=len(plane.refused),
        )
        run.say(f"p99 {flooded['p99'] / calm['p99']:.2f} × with {answered[403] / flood_s:.0f} denials/s")


def _asked(plane: Plane, count: int) -> list[float]:
    """Seconds of jobs of several clients at once."""
    found: list[float] = []

    def ask() -> None:
        found.extend(plane.latencies(circuits()["bell"], SHOTS, count // CLIENTS, level="full"))

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@contextmanager
def _flood(plane: Plane, answered: Counter[int]) -> Iterator[None]:
    """A person of another tenant asks for what policy denies, until the block ends."""
    token = plane.cli("login", "--as", "outsider")["access_token"]
    context = multiprocessing.get_context("spawn")
    stop, told = context.Event(), context.Queue()
    child = context.Process(target=_flooding, args=(urlsplit(plane.status["url"]).netloc, token, stop, told))
    child.start()
    try:
        time.sleep(2.0)  # a flood that goes on, not its first moment
        yield
    finally:
        stop.set()
        answered.update(told.get(timeout=120))
        child.join()


def _flooding(place: str, token: str, stop: Any, told: Any) -> None:
    """The flood's own process: connections that ask again as soon as they are denied."""
    body = spec(circuits()["bell"], SHOTS, "full")  # of project demo, which isn't this tenant's: it has no budget
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answered: Counter[int] = Counter()

    def one() -> None:
        connection = http.client.HTTPConnection(place, timeout=120)
        while not stop.is_set():
            connection.request("POST", "/api/v1/jobs", body, headers)
            answer = connection.getresponse()
            answer.read()
            answered[answer.status] += 1

    threads = [threading.Thread(target=one) for _ in range(FLOODERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.put(answered)


def _sizes(plane: Plane) -> dict[str, int]:
    with plane.superuser() as conn:
        row = conn.execute(
            """SELECT (SELECT count(*) FROM ledger.folded) + (SELECT count(*) FROM ledger.unfolded),
                      (SELECT count(DISTINCT fold) FROM ledger.folded)"""
        ).fetchone()
    assert row is not None
    return {"folded": int(row[0]), "folds": int(row[1])}


def tables(figures: Figures) -> dict[str, str]:
    """One table: calm beside flooded."""
    if "ratio_p99" not in figures:
        return {}
    rows = [
        f"| {name} | {figures[f'{name}_ms']['p50']:.1f} | {figures[f'{name}_ms']['p99']:.1f} |"
        for name in ("calm", "flooded")
    ]
    rows.append(
        f"| flooded ÷ calm | {figures['flooded_ms']['p50'] / figures['calm_ms']['p50']:.2f} |"
        f" {figures['ratio_p99']:.2f} (goal ≤ {figures['goal']}) |"
    )
    told = (
        f"{figures['flooders']} connections of one person, {figures['denied_a_second']:.0f} denials/s "
        f"({figures['denied']} denied, {figures['limited']} answered 429); {figures['folded']} records under "
        f"{figures['folds']} entries.\n"
    )
    return {"flood": table("| another tenant's job, bell, `full` | p50 ms | p99 ms |", rows) + "\n" + told}


if __name__ == "__main__":
    main("flood", measure, tables)
