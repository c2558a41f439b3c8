# SPDX-License-Identifier: Apache-2.0
"""`make bench-policy`: what one policy decision costs, in time and in CPU of OPA and of its caller.

OPA is started with the plane's own command line; the caller is the plane's own decision point with its own client, one
session, keep-alive. The limits hold as many projects as the row says, and each decision is of the next of them. The
document is that of an ordinary job that is allowed. The embedded engine is asked the same beside it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import replayed
from bench.machine import ROOT
from bench.processes import TICKS
from bench.record import Figures, Run, main, table
from bench.spread import in_ms
from control_plane.policy import bundle
from control_plane.policy.choice import find_opa
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.opa import OPA_ENVIRONMENT, OpaEngine, opa_command
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet, default_folder, load, read

INPUT = Path(__file__).parent / "policy_input.json"
NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
IN_FLIGHT = (1, 10, 100)
PROJECTS = (10, 1_000, 10_000)
WARM = 300
LIMIT_S = 30.0


def measure(run: Run) -> None:
    """Every number of projects and of clients, by OPA and then embedded, each engine its own and new."""
    found = find_opa(os.environ.get("QCOS_OPA_BIN") or _built())
    if found is None:
        raise PolicyUnavailable("no opa found; `make tools` gets it")
    decisions = 300 if run.quick else 3000
    run.keep(decisions=decisions, revision=load().revision, rows=[])
    rows: list[Figures] = []
    for projects in PROJECTS:
        policies = _with_projects(projects)
        with _serving(found, policies) as (address, pid):
            pdp = Pdp(OpaEngine(address, limit_s=LIMIT_S), Held(policies))
            rows += asyncio.run(_rows(pdp, pid, decisions, projects))
        rows += asyncio.run(_rows(Pdp(EmbeddedEngine(LIMIT_S), Held(policies)), None, decisions // 5, projects))
        run.keep(rows=rows)
        run.say(f"{projects} projects")
    run.keep(replayed=replayed.rows(found, 2_000 if run.quick else 100_000))
    run.say("replayed")
    run.keep(pushes=replayed.pushes())


def _with_projects(number: int) -> PolicySet:
    """The shipped policies, with limits of their own for so many projects."""
    files = read(default_folder())
    limits = json.loads(files["data/limits.json"])
    limits["limits"]["projects"] = {
        f"p{n}": {"max_qubits": 64, "project_shots_per_day": 10**6 + n} for n in range(number)
    }
    return PolicySet.of(files | {"data/limits.json": json.dumps(limits).encode()})


def _built() -> str | None:
    built = ROOT / ".tools/bin/opa"
    return str(built) if built.is_file() else None


@contextmanager
def _serving(opa_bin: Path, policies: PolicySet) -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory(prefix="qb") as folder:
        address = f"unix://{folder}/opa"
        command = opa_command(opa_bin, address, bundle.write(policies, Path(folder) / "bundle"))
        opa = subprocess.Popen(command, env=OPA_ENVIRONMENT, stderr=subprocess.DEVNULL)
        try:
            yield address, opa.pid
        finally:
            opa.terminate()
            opa.wait()


async def _rows(pdp: Pdp, opa_pid: int | None, decisions: int, projects: int) -> list[Figures]:
    document = json.loads(INPUT.read_bytes())
    documents = [_of(document, f"p{number}") for number in range(projects)]
    try:
        await _ready(pdp)
        await _decide(pdp, documents, WARM, 16)
        return [await _row(pdp, documents, decisions, clients, opa_pid) for clients in IN_FLIGHT]
    finally:
        await pdp.close()


def _of(document: dict[str, Any], project: str) -> dict[str, Any]:
    budget = document["budgets"][0] | {"scope": f"project:{project}"}
    return document | {"job": document["job"] | {"project": project}, "budgets": [budget]}


async def _ready(pdp: Pdp) -> None:
    begun = time.monotonic()
    while True:
        try:
            return await pdp.ready()
        except PolicyUnavailable:
            if time.monotonic() - begun > LIMIT_S:
                raise
            await asyncio.sleep(0.02)


async def _row(pdp: Pdp, documents: list[Any], decisions: int, clients: int, opa_pid: int | None) -> Figures:
    opa_cpu, own_cpu, begun = _cpu_s(opa_pid), time.process_time(), time.perf_counter()
    took = await _decide(pdp, documents, decisions, clients)
    lasted = time.perf_counter() - begun
    return {
        "engine": pdp.engine.name,
        "projects": len(documents),
        "in_flight": clients,
        "ms": in_ms(took),
        "decisions_per_s": decisions / lasted,
        "opa_cpu_ms": (_cpu_s(opa_pid) - opa_cpu) / decisions * 1e3,
        "caller_cpu_ms": (time.process_time() - own_cpu) / decisions * 1e3,
    }


async def _decide(pdp: Pdp, documents: list[Any], decisions: int, clients: int) -> list[float]:
    took: list[float] = []
    left = iter(range(decisions))

    async def client() -> None:
        for number in left:
            begun = time.perf_counter()
            decision = await pdp.decide(documents[number % len(documents)], str(number), NOW)
            took.append(time.perf_counter() - begun)
            if not decision.allow:
                raise PolicyUnavailable(f"the bench's document is not allowed: {decision.reasons}")

    await asyncio.gather(*(client() for _ in range(clients)))
    return took


def _cpu_s(pid: int | None) -> float:
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def tables(figures: Figures) -> dict[str, str]:
    """One line a load."""
    taken = [row for row in figures.get("rows", ()) if "projects" in row]
    rows = [
        f"| {row['engine']} | {row['projects']:,} | {row['in_flight']} | {row['ms']['p50']:.2f} ms "
        f"| {row['ms']['p99']:.2f} ms | {row['decisions_per_s']:.0f} | {_told(row['opa_cpu_ms'])} "
        f"| {row['caller_cpu_ms']:.2f} ms |"
        for row in sorted(taken, key=lambda row: str(row["engine"]) != "opa")
    ]
    head = "| engine | projects | in flight | p50 | p99 | decisions/s | CPU in OPA | CPU in the caller |"
    return ({"policy": table(head, rows)} if rows else {}) | replayed.tables(figures)


def _told(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms" if milliseconds else ""


if __name__ == "__main__":
    main("policy", measure, tables)
