# SPDX-License-Identifier: Apache-2.0
"""What a remote fragment costs beside its node's own arithmetic, and how soon another node takes over (N6, N7, N18).

A plane of its own with nodes of its own, real processes over libp2p; plans are given to the fabric over its socket, as
a worker gives them. The overhead is from the submission to the answer that the run is over, less what the nodes say
that they computed for (one after the other where fragments wait for one another): windows, commits, signatures,
verdicts and what is made durable. A node is killed while it computes; measured is when its fallback was asked, and how
long after the kill the run was over, less the fallback's arithmetic.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import datetime
from pathlib import Path

import msgspec

from bench.plane import Plane
from bench.record import Figures, Run, table
from bench.spread import in_ms, quantile
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.ir import Operation, Program
from hal_drivers.p2p.office import (
    AskResult,
    AskSnapshot,
    ForgetRun,
    Poll,
    RunIs,
    RunResult,
    SnapshotIs,
    Submit,
)
from hal_drivers.p2p.office import Done as Forgotten
from hal_drivers.p2p.plan import Plan, PlanConfig, Snapshot
from hal_drivers.p2p.planner import plan
from hal_drivers.p2p.wire import Executed

NODES = 3
SHOTS = 1_000
LONG_SHOTS = 60_000
BEFORE_KILL_S = 0.3
BACK_S = 60.0


def measure(run: Run) -> None:
    """Overheads first, then kills."""
    with Plane(nodes=str(NODES), network_probe_s="3600") as plane:
        socket = plane.home / "run" / "fabric" / "fabric.sock"
        asyncio.run(_measured(run, plane, socket))


async def _measured(run: Run, plane: Plane, socket: Path) -> None:
    office = Office(socket)
    try:
        times = 20 if run.quick else 300
        found = [await _overhead(office, what, program, times) for what, program in _programs()]
        run.keep(fragments=found)
        run.say("overheads are measured")
        kills = [await _killed(office, plane, number) for number in range(2 if run.quick else 10)]
        run.keep(fallback={"after_ms": in_ms([a for a, _ in kills]), "over_ms": in_ms([o for _, o in kills])})
    finally:
        await office.close()


def _pair(first: int) -> list[Operation]:
    return [
        Operation(0, "bell_pair", (first, first + 1)),
        Operation(0, "measurement_feedforward", (first,), (first,)),
        Operation(0, "measurement_feedforward", (first + 1,), (first + 1,)),
    ]


def _program(operations: list[Operation], qubits: int) -> Program:
    numbered = tuple(msgspec.structs.replace(one, id=place) for place, one in enumerate(operations))
    return Program("QASM3", qubits, qubits, numbered, (("c", qubits),), tuple(f"q[{n}]" for n in range(qubits)))


def _programs() -> list[tuple[str, Program]]:
    fed = [*_pair(0), Operation(0, "x", (2,), condition=((0, 1),)), Operation(0, "measurement_feedforward", (2,), (2,))]
    return [
        ("one fragment", _program(_pair(0), 2)),
        ("three that know nothing of one another", _program([*_pair(0), *_pair(2), *_pair(4)], 6)),
        ("two, the second on the first's bits", _program(fed, 3)),
    ]


async def _submit(office: Office, program: Program, snapshot: Snapshot, shots: int, token: str) -> Plan:
    config = PlanConfig()
    drawn = plan(program, snapshot, config, 1, None, shots=shots)
    if not isinstance(drawn, Plan):
        raise RuntimeError(drawn.detail)  # noqa: TRY004 - no plan is a fault of the bench's network
    await office.ask(Submit(token, program, drawn, config, shots, 1, 60_000), RunIs)
    return drawn


async def _ended(office: Office, token: str) -> RunResult:
    while (await office.ask(Poll(token, 10_000), RunIs)).state not in ("finished", "failed", "canceled"):
        pass
    result = await office.ask(AskResult(token), RunResult)
    await office.ask(ForgetRun(token), Forgotten)
    if result.run.state != "finished":
        raise RuntimeError(f"{result.run.code}: {result.run.detail}")
    return result


def _computed_s(result: RunResult) -> list[float]:
    last = [one.attempts[-1].answers[-1].body for one in result.run.fragments]
    return [msgspec.json.decode(body, type=Executed).duration_us / 1e6 for body in last]


async def _overhead(office: Office, what: str, program: Program, times: int) -> Figures:
    snapshot = (await office.ask(AskSnapshot(), SnapshotIs)).snapshot
    whole, beside = [], []
    for number in range(times + 3):
        token = f"{what} {number}"
        begun = time.perf_counter()
        drawn = await _submit(office, program, snapshot, SHOTS, token)
        await office.ask(Poll(token, 10_000), RunIs)
        took = time.perf_counter() - begun
        computed = _computed_s(await _ended(office, token))
        chained = any(fragment.depends_on for fragment in drawn.fragments)
        whole.append(took)
        beside.append(took - (sum(computed) if chained else max(computed)))
    kept, own = whole[3:], beside[3:]
    return {
        "what": what,
        "fragments": len(drawn.fragments),
        "whole_ms": in_ms(kept) | {"p95": 1_000 * quantile(kept, 0.95)},
        "beside_ms": in_ms(own) | {"p95": 1_000 * quantile(own, 0.95)},
    }


async def _killed(office: Office, plane: Plane, number: int) -> tuple[float, float]:
    """Seconds from the kill until another node was asked, and until the run was over less that node's arithmetic."""
    snapshot = await _all_online(office)
    long = _program([*_pair(0), Operation(0, "t", (0,)), *_pair(0)], 2)
    token = f"killed {number}"
    drawn = await _submit(office, long, snapshot, LONG_SHOTS, token)
    victim = drawn.assignments[0].primary
    pids = {one["node_id"]: one["pid"] for one in await asyncio.to_thread(plane.cli, "node", "list")}
    await asyncio.sleep(BEFORE_KILL_S)
    os.kill(pids[victim], signal.SIGKILL)
    killed_s = time.time()
    result = await _ended(office, token)
    over_s = time.time() - killed_s
    second = result.run.fragments[0].attempts[1]
    asked_s = datetime.fromisoformat(second.started_at).timestamp() - killed_s
    return asked_s, over_s - _computed_s(result)[0]


async def _all_online(office: Office) -> Snapshot:
    """A killed node is started again by the plane, and back-off grows."""
    async with asyncio.timeout(BACK_S):
        while True:
            snapshot = (await office.ask(AskSnapshot(), SnapshotIs)).snapshot
            if sum(node.state == "online" for node in snapshot.nodes) >= NODES - 1:
                return snapshot
            await asyncio.sleep(0.1)


def tables(figures: Figures) -> dict[str, str]:
    """Overheads with their goal, and the kill's."""
    made = {}
    if "fragments" in figures:
        lines = [
            f"| {row['what']} | {row['whole_ms']['p50']:.1f}, {row['whole_ms']['p95']:.1f} | "
            f"{row['beside_ms']['p50']:.1f}, {row['beside_ms']['p95']:.1f} | {'10' if row['fragments'] == 1 else ''} |"
            for row in figures["fragments"]
        ]
        head = "| a run of | whole, ms: p50, p95 | beside the nodes' arithmetic | goal, p95 |"
        made["network-fragments"] = table(head, lines)
    if "fallback" in figures:
        row = figures["fallback"]
        lines = [
            f"| until the fallback was asked | {row['after_ms']['p50']:.0f}, {row['after_ms']['max']:.0f} | 1000 |",
            (
                f"| until the run was over, without its arithmetic | {row['over_ms']['p50']:.0f}, "
                f"{row['over_ms']['max']:.0f} | |"
            ),
        ]
        made["network-fallback"] = table("| after a node is killed at work | ms: p50, most | goal |", lines)
    return made
