# SPDX-License-Identifier: Apache-2.0
"""`make bench-policy`: what one policy decision costs, in time and in CPU of OPA and of its caller.

OPA is started with the plane's own command line; the caller is the plane's own decision point with its own client. The
document is that of an ordinary job that is allowed, so every rule is evaluated.
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

from bench.machine import ROOT
from bench.processes import TICKS
from bench.record import Figures, Run, main, table
from bench.spread import in_ms
from control_plane.policy import bundle
from control_plane.policy.choice import find_opa
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.opa import OPA_ENVIRONMENT, OpaEngine, opa_command
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet, load

INPUT = Path(__file__).parent / "policy_input.json"
NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
IN_FLIGHT = (1, 16)
WARM = 300
LIMIT_S = 30.0


def measure(run: Run) -> None:
    """One client alone, then many at once, against one OPA of its own."""
    found = find_opa(os.environ.get("QCOS_OPA_BIN") or _built())
    if found is None:
        raise PolicyUnavailable("no opa found; `make tools` gets it")
    decisions = 300 if run.quick else 3000
    policies = load()
    with _serving(found, policies) as (address, pid):
        run.keep(decisions=decisions, revision=policies.revision)
        run.keep(rows=asyncio.run(_rows(Pdp(OpaEngine(address, limit_s=LIMIT_S), Held(policies)), pid, decisions)))


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


async def _rows(pdp: Pdp, opa_pid: int, decisions: int) -> list[Figures]:
    document = json.loads(INPUT.read_bytes())
    try:
        await _ready(pdp)
        await _decide(pdp, document, WARM, max(IN_FLIGHT))
        return [await _row(pdp, document, decisions, clients, opa_pid) for clients in IN_FLIGHT]
    finally:
        await pdp.close()


async def _ready(pdp: Pdp) -> None:
    begun = time.monotonic()
    while True:
        try:
            return await pdp.ready()
        except PolicyUnavailable:
            if time.monotonic() - begun > LIMIT_S:
                raise
            await asyncio.sleep(0.02)


async def _row(pdp: Pdp, document: dict[str, Any], decisions: int, clients: int, opa_pid: int) -> Figures:
    opa_cpu, own_cpu, begun = _cpu_s(opa_pid), time.process_time(), time.perf_counter()
    took = await _decide(pdp, document, decisions, clients)
    lasted = time.perf_counter() - begun
    return {
        "in_flight": clients,
        "ms": in_ms(took),
        "decisions_per_s": decisions / lasted,
        "opa_cpu_ms": (_cpu_s(opa_pid) - opa_cpu) / decisions * 1e3,
        "caller_cpu_ms": (time.process_time() - own_cpu) / decisions * 1e3,
    }


async def _decide(pdp: Pdp, document: dict[str, Any], decisions: int, clients: int) -> list[float]:
    took: list[float] = []
    left = iter(range(decisions))

    async def client() -> None:
        for number in left:
            begun = time.perf_counter()
            decision = await pdp.decide(document, str(number), NOW)
            took.append(time.perf_counter() - begun)
            if not decision.allow:
                raise PolicyUnavailable(f"the bench's document is not allowed: {decision.reasons}")

    await asyncio.gather(*(client() for _ in range(clients)))
    return took


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def tables(figures: Figures) -> dict[str, str]:
    """One line a load."""
    rows = [
        f"| {row['in_flight']} | {row['ms']['p50']:.2f} ms | {row['ms']['p99']:.2f} ms | {row['decisions_per_s']:.0f} "
        f"| {row['opa_cpu_ms']:.2f} ms | {row['caller_cpu_ms']:.2f} ms |"
        for row in figures.get("rows", ())
    ]
    head = "| in flight | p50 | p99 | decisions/s | CPU in OPA | CPU in the caller |"
    return {"policy": table(head, rows)} if rows else {}


if __name__ == "__main__":
    main("policy", measure, tables)
