# SPDX-License-Identifier: Apache-2.0
"""From a program to a plan, reading apart: how long, and how that grows with operations and nodes (N4, N18).

Circuits are made here from a fixed seed: layers of rotations and CNOTs on groups of qubits that share none. A network
has nodes that offer every service, each a little different. Reading is what a guarded child does with a source of 50
operations, warm and alone in a process; its walls cost nothing more.
"""

from __future__ import annotations

import multiprocessing
import random
import time

from bench.record import Figures, Run, table
from bench.spread import in_ms, quantile
from hal_drivers.p2p.ir import SERVICES, Operation, Program
from hal_drivers.p2p.plan import NodeFacts, Offer, Plan, PlanConfig, Snapshot
from hal_drivers.p2p.planner import plan

SEED = 7
USUAL = ((50, 12, 1, 10), (50, 12, 3, 10), (50, 40, 20, 10))
"""Operations, qubits, groups, nodes: the goal's size, as one group and as several."""
CURVE = (
    *((500, 12, 3, nodes) for nodes in (10, 100, 1000)),
    *((5000, 12, 3, nodes) for nodes in (10, 100, 1000)),
    (5000, 1000, 250, 1000),
)


def measure(run: Run) -> None:
    """Reading, the usual size, the curve."""
    times = 50 if run.quick else 1000
    run.keep(reading=_reading(20 if run.quick else 200))
    run.keep(plan=[_planned(*size, times) for size in USUAL])
    run.keep(curve=[_planned(*size, 3 if run.quick else 20) for size in CURVE])


def program(operations: int, qubits: int, groups: int, seed: int = SEED) -> Program:
    """So many operations, spread over groups of equal width; the last one of each group measures."""
    chance = random.Random(seed)  # noqa: S311 - a circuit, no secret
    width = qubits // groups
    made: list[Operation] = []
    for place in range(operations - groups):
        first, link = place % groups * width, place // groups
        if link < width - 1:  # a chain first, so that the group is one
            made.append(Operation(place, "cnot", (first + link, first + link + 1)))
        elif width < 2 or chance.random() < 0.5:
            made.append(Operation(place, "ry", (first + chance.randrange(width),), (), (0.1 * (place % 31),)))
        else:
            a, b = chance.sample(range(width), 2)
            made.append(Operation(place, "cnot", (first + a, first + b)))
    for group in range(groups):
        made.append(Operation(len(made), "measurement_feedforward", (group * width,), (group,)))
    names = tuple(f"q[{qubit}]" for qubit in range(qubits))
    return Program("QASM3", qubits, groups, tuple(made), (("c", groups),), names)


def snapshot(nodes: int) -> Snapshot:
    """So many nodes, each online, with room for every group."""
    return Snapshot(tuple(_node(number) for number in range(nodes)))


def _node(number: int) -> NodeFacts:
    judged = 985_000 + number % 11 * 1_000
    return NodeFacts(
        node_id=f"node-{number:04}",
        state="online",
        organisation="lab",
        region="local",
        compliance_zone="onprem",
        sovereign=True,
        price_per_fragment=f"0.0{1 + number % 7}",
        price_per_shot="0.00001",
        currency="USD",
        offers=tuple(Offer(service, judged + 1_000, judged, 1, 64) for service in SERVICES),
        latency_us=1_000 + number % 13 * 100,
        load_ppm=number % 5 * 10_000,
        failure_ppm=number % 3 * 1_000,
    )


def _planned(operations: int, qubits: int, groups: int, nodes: int, times: int) -> Figures:
    of, known, config = program(operations, qubits, groups), snapshot(nodes), PlanConfig()
    took = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        drawn = plan(of, known, config, SEED, None)
        took.append(time.perf_counter() - begun)
        if not isinstance(drawn, Plan) or len(drawn.fragments) != groups:
            raise RuntimeError("the planner made another plan than was meant")
    warm = took[1:]
    size = {"operations": operations, "qubits": qubits, "fragments": groups, "nodes": nodes}
    return {**size, "ms": in_ms(warm) | {"p95": 1_000 * quantile(warm, 0.95)}}


def _reading(times: int) -> Figures:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        took = pool.apply(_read_alone, (times,))
    return {"ms": in_ms(took) | {"p95": 1_000 * quantile(took, 0.95)}}


def _read_alone(times: int) -> list[float]:
    """Seconds for a source of 50 operations, service aliases among them: the importer's work, not the native one's."""
    import warnings

    from hal_drivers.frames import CompileCall
    from hal_drivers.limits import Limits
    from hal_drivers.p2p.ingest import read_program
    from hal_drivers.prescan import prescan

    warnings.simplefilter("ignore")
    lines = [f"cnot q[{place % 11}], q[{place % 11 + 1}];" for place in range(38)]
    text = "OPENQASM 3.0;\nqubit[12] q;\nbit[12] c;\n" + "\n".join(lines) + "\nc = measure q;\n"
    call = CompileCall("QASM3", text.encode(), {}, Limits(), 1 << 28)
    took = []
    for _ in range(times + 3):
        begun = time.perf_counter()
        prescan("QASM3", call.source, call.limits)
        found, _ = read_program(call)
        took.append(time.perf_counter() - begun)
        if len(found.operations) != 50:
            raise RuntimeError("another program was read")
    return took[3:]


def tables(figures: Figures) -> dict[str, str]:
    """The usual size with its goal, and the curve."""
    made = {}
    if "plan" in figures:
        read = figures["reading"]["ms"]
        lines = [f"| 50 operations read from OpenQASM 3 | | {_ms(read)} | |"]
        lines += [_line(row, "5") for row in figures["plan"]]
        made["network-plan"] = table("| what | fragments | ms: p50, p95 | goal, p95 |", lines)
    if "curve" in figures:
        lines = [
            _line(row, "2000" if row["operations"] * row["nodes"] == 5_000_000 else "") for row in figures["curve"]
        ]
        made["network-curve"] = table("| planned | fragments | ms: p50, p95 | goal |", lines)
    return made


def _line(row: Figures, goal: str) -> str:
    what = f"{row['operations']:,} operations on {row['qubits']:,} qubits, {row['nodes']:,} nodes"
    return f"| {what} | {row['fragments']} | {_ms(row['ms'])} | {goal} |"


def _ms(found: Figures) -> str:
    return f"{found['p50']:.2f}, {found['p95']:.2f}"
