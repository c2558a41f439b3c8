# SPDX-License-Identifier: Apache-2.0
"""Parts of a plane killed at random moments under load: `python -m tests.faults.kills --kills 1000` (`make kills`).

Clients keep jobs flowing (`traffic`) while SIGKILL hits API, workers, sealer, OPA, authority of time, PostgreSQL and
single backends of it; the supervisor restarts them. Now and then, and at the end, the kills pause, the plane comes to
rest and is judged (`judge`). The seed is printed; it gives the same targets and pauses, though not the same moments of
the plane. With `--report` the figures are written to `docs/faults.md` and `docs/faults.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from control_plane.home import is_alive, started_at
from tests.faults.judge import Figures, Judge
from tests.faults.traffic import Traffic
from tests.own_plane import OwnPlane

ROOT = Path(__file__).parents[2]
CONFIG = "lease_s = 2\nworkers = 2\n"
BACKEND = "postgres backend"
TARGETS = {"api-1": 6, "worker-1": 5, "worker-2": 5, "sealer": 6, "opa": 5, "tsa": 4, "postgres": 2, BACKEND: 3}
BURST = 6  # at the most that die at one moment
STARTING = 0.1  # the share of kills that may hit a process before it serves


class Run(Struct, frozen=True):
    """A finished run, as the report has it."""

    command: str
    seed: int
    kills: dict[str, int]
    restarts: dict[str, int]
    judged: int
    seconds: float
    figures: Figures
    answers: dict[str, int]
    policy_engine: str
    machine: str


class Killer:
    """Kills parts of one plane; only what lived until then is counted."""

    def __init__(self, plane: OwnPlane, chance: random.Random) -> None:
        self.plane, self.chance = plane, chance
        self.counts: Counter[str] = Counter()

    async def kill(self, number: int, mean_s: float) -> None:
        """So many kills, in bursts of a few at random moments that are `mean_s` apart on average."""
        while number:
            await asyncio.sleep(self.chance.expovariate(1 / mean_s))
            for _ in range(min(number, self.chance.randint(1, BURST))):
                number -= await self._killed()

    async def _killed(self) -> bool:
        """Kill one process of those that serve, seldom one that is just starting."""
        starting_too = self.chance.random() < STARTING
        found = {
            process.name: process.pid
            for process in self.plane.record.processes
            if is_alive(process.pid, process.started) and (process.ready or starting_too)
        }
        if (backend := self._backend(found.get("postgres"))) is not None:
            found[BACKEND] = backend
        names = [name for name in TARGETS if name in found]
        if not names:
            return False
        name = self.chance.choices(names, [TARGETS[name] for name in names])[0]
        started = started_at(found[name])
        with suppress(ProcessLookupError):
            os.kill(found[name], signal.SIGKILL)
        while is_alive(found[name], started):  # noqa: ASYNC110 - so that the next of this burst is another's
            await asyncio.sleep(0)
        self.counts[name] += started != 0
        return started != 0

    def _backend(self, postmaster: int | None) -> int | None:
        """Any child of the postmaster: a session's, the checkpointer's, the WAL writer's."""
        with suppress(OSError):
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii").split()
            living = [int(child) for child in children if started_at(int(child))]  # the dead ones aren't counted twice
            if living:
                return self.chance.choice(living)
        return None


@contextmanager
def short_home(more: str = "", **environment: str) -> Iterator[OwnPlane]:
    """A plane with short leases in a folder whose path is short too, for the sake of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="qcos-f-", dir="/tmp"))
    plane = OwnPlane(folder / "home", config=CONFIG + more, **environment)
    try:
        with plane.running():
            plane.ask("login", "--as", "engineer")
            yield plane
    except BaseException:
        log = plane.home / "log"
        sys.stderr.write(f"kept for looking: {log}\n")
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)


async def under_fire(plane: OwnPlane, traffic: Traffic, killer: Killer, kills: int, mean_s: float) -> None:
    """Some kills, with jobs flowing from before the first until after the last."""
    stop = asyncio.Event()
    flowing = asyncio.create_task(traffic.flow(stop))
    await killer.kill(kills, mean_s)
    stop.set()
    await flowing


def run(kills: int, seed: int, *, every: int, mean_s: float, say: Any = lambda _: None) -> Run:
    """Kill so often, judge after each `every`; a broken promise is an AssertionError."""
    begun = time.monotonic()
    with short_home() as plane:
        say(f"seed {seed}, policy {plane.record.policy_engine}, {plane.home}")
        traffic, judge = Traffic(plane, seed), Judge(plane)
        killer = Killer(plane, random.Random(seed))
        asyncio.run(traffic.prepare())
        judged, left = 0, kills
        while left:
            some = min(every, left)
            asyncio.run(under_fire(plane, traffic, killer, some, mean_s))
            left -= some
            at_rest = time.monotonic()
            figures = judge.judge(traffic.heard)
            judged += 1
            now = time.monotonic()
            say(f"{kills - left} kills, {now - begun:.0f} s, judged in {now - at_rest:.1f} s: {figures}")
        restarts = {process.name: process.restarts for process in plane.record.processes}
        return Run(
            command=f"make kills KILLS={kills} SEED={seed}",
            seed=seed,
            kills=dict(killer.counts),
            restarts=restarts,
            judged=judged,
            seconds=round(time.monotonic() - begun, 1),
            figures=figures,
            answers=dict(traffic.answers.most_common()),
            policy_engine=plane.record.policy_engine,
            machine=f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}",
        )


def page(done: dict[str, Any]) -> str:
    """The report's tables, from its figures as JSON."""
    figures = done["figures"]
    total = sum(done["kills"].values())
    rows = [
        ("command", f"`{done['command']}`"),
        ("machine", done["machine"]),
        ("policy engine", done["policy_engine"]),
        ("kills", f"{total} in {done['seconds']:.0f} s, judged {done['judged']} times"),
        ("jobs", ", ".join(f"{number} {state}" for state, number in sorted(figures["jobs"].items()))),
        ("ended in attempt", ", ".join(f"{n}: {jobs}" for n, jobs in sorted(figures["attempts"].items(), key=_first))),
        ("log", f"{figures['entries']} entries; {figures['heads']} checkpoints seen on the way, each a prefix of it"),
        ("evidence", f"{figures['bundles']} bundles, each `valid` offline"),
        ("money", f"{figures['captured']} USD captured, the sum of the jobs' costs; {figures['held']} USD still held"),
    ]
    killed = [(name, str(done["kills"][name]), str(done["restarts"].get(name, "")) or "—") for name in done["kills"]]
    lines = ["| what | found |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows), ""]
    lines += [
        "| killed | times | started again |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in sorted(killed)),
    ]
    lines += ["", "| answer to a client | times |", "|---|---|"]
    lines += [f"| `{answer}` | {number} |" for answer, number in done["answers"].items()]
    return "\n".join(lines) + "\n"


def _first(pair: tuple[str, int]) -> int:
    return int(pair[0])


def main() -> int:
    """Run; 0 where every promise was kept."""
    parser = argparse.ArgumentParser(prog="kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20260109)
    parser.add_argument("--every", type=int, default=200, help="kills between two judgements")
    parser.add_argument("--mean", type=float, default=1.2, help="seconds between two bursts of kills, on average")
    parser.add_argument("--report", action="store_true", help="keep the figures in docs/")
    given = parser.parse_args()

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    done = run(given.kills, given.seed, every=given.every, mean_s=given.mean, say=say)
    document = msgspec.to_builtins(done, str_keys=True)
    say(page(document))
    if given.report:
        (ROOT / "docs" / "faults.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
