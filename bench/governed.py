# SPDX-License-Identifier: Apache-2.0
"""`make bench-governed`: what governing a job costs, beside bare Aer in the same run (design page's cost table).

Bare pool and plane live side by side, each with two processes for circuits, and take turns in blocks, ABBA: what the
machine does meanwhile meets both. Latency is that of one client, one job at a time; throughput is counted in windows
of time with a named number in flight. CPU a job by process is what bounds throughput, and is steadier than either.
`bench/plane.py` says from when to when a job is timed.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path
from typing import Any

from bench import processes
from bench.bare import Pool
from bench.plane import Plane, postgresql
from bench.record import Figures, Run, main, table
from bench.spread import in_ms, spread

CIRCUITS = Path(__file__).parent / "circuits"
NAMES = {"bell": "bell", "q5-g40": "5 qubits / 40 gates", "q12-g50": "12 qubits / 50 gates"}
LEVELS = ("standard", "full")
SHOTS = 1000
CHILDREN = 2
CLIENTS = 32
WARM = 30


def measure(run: Run) -> None:
    """Latency of each circuit and level, then throughput of each."""
    sources = circuits()
    with Pool(CHILDREN) as pool, Plane(workers=str(CHILDREN)) as plane:
        run.say(f"plane up in {plane.start_s:.1f} s, policy {plane.status['policy_engine']}")
        run.figures["versions"]["postgresql"] = postgresql(plane)
        run.keep(
            policy_engine=plane.status["policy_engine"], shots=SHOTS, children=CHILDREN, clients=CLIENTS, latency={}
        )
        for level in LEVELS:
            plane.flow(sources["bell"], SHOTS, level=level, clients=4, ramp_s=0, window_s=0.5 if run.quick else 2)
        for name, source in sources.items():
            pool.latencies(source, SHOTS, WARM // 3 if run.quick else WARM)
            latency = run.figures["latency"]
            latency[name] = _latency(run, pool, plane, name, source)
            run.keep(latency=latency)
        run.keep(idle_cpu_share=_idle(plane, 1 if run.quick else 5), throughput={})
        for name, source in sources.items():
            throughput = run.figures["throughput"]
            throughput[name] = _throughput(run, pool, plane, name, source)
            run.keep(throughput=throughput, refused=len(plane.refused))


def circuits() -> dict[str, str]:
    """The reference circuits; raises ValueError where one isn't the frozen one."""
    sums = dict(line.split()[::-1] for line in (CIRCUITS / "SHA256SUMS").read_text("ascii").splitlines())
    found = {}
    for name in NAMES:
        data = (CIRCUITS / f"{name}.qasm").read_bytes()
        if hashlib.sha256(data).hexdigest() != sums[f"{name}.qasm"]:
            raise ValueError(f"bench/circuits/{name}.qasm is not the one of SHA256SUMS")
        found[name] = data.decode()
    return found


def _latency(run: Run, pool: Pool, plane: Plane, name: str, source: str) -> Figures:
    """Blocks bare, standard, full, full, standard, bare, and so on."""
    jobs = 10 if run.quick else 30
    rounds = 1 if run.quick else (5 if name == "bell" else 2)
    found: dict[str, list[float]] = {"bare": [], "standard": [], "full": []}
    evidence: list[float] = []
    for turn in mirrored(["bare", *LEVELS], rounds):
        if turn == "bare":
            found[turn] += pool.latencies(source, SHOTS, jobs)
        else:
            found[turn] += plane.latencies(source, SHOTS, jobs, level=turn)
    if name == "bell":
        evidence = plane.evidence_latencies(source, SHOTS, jobs, level="full")
    made: Figures = {turn: in_ms(times) for turn, times in found.items()}
    middle = statistics.median(found["bare"])
    for level in LEVELS:
        over = in_ms([one - middle for one in found[level]])
        made[f"{level}_over_bare"] = over
        run.say(f"{name} {level}: + {over['p50']:.1f} ms over bare {middle * 1e3:.1f} ms, p99 + {over['p99']:.1f} ms")
    if evidence:
        made["bundle"] = in_ms(evidence)
    return made


def _throughput(run: Run, pool: Pool, plane: Plane, name: str, source: str) -> Figures:
    """Windows bare, standard, full, full, standard, bare; CPU a job over the governed ones."""
    ramp_s, window_s, rounds = (0.5, 1.0, 1) if run.quick else (0.8, 3.0, 2)
    rates: dict[str, list[float]] = {"bare": [], "standard": [], "full": []}
    took: dict[str, list[float]] = {level: [] for level in LEVELS}
    cpu: dict[str, list[dict[str, float]]] = {level: [] for level in LEVELS}
    ended: dict[str, list[int]] = {level: [] for level in LEVELS}
    for turn in mirrored(["bare", *LEVELS], rounds):
        if turn == "bare":
            rates[turn].append(pool.flow(source, SHOTS, ramp_s, window_s).rate)
            continue
        marks: list[dict[str, processes.Use]] = []
        window = plane.flow(
            source,
            SHOTS,
            level=turn,
            clients=CLIENTS,
            ramp_s=ramp_s,
            window_s=window_s,
            mark=lambda marks=marks: marks.append(processes.use(plane.status) | {processes.BENCH: processes.own()}),  # type: ignore[misc]
        )
        rates[turn].append(window.rate)
        took[turn] += window.latencies_s
        ended[turn].append(len(window.latencies_s))
        cpu[turn].append(processes.cpu_ms(marks[0], marks[1], max(1, len(window.latencies_s))))
    made: Figures = {turn: spread(found) for turn, found in rates.items()}
    for level in LEVELS:
        ratios = [governed / bare for governed, bare in zip(rates[level], rates["bare"], strict=True)]
        made[f"{level}_ratio"] = spread(ratios)
        made[f"{level}_latency"] = in_ms(took[level])
        made[f"{level}_cpu_ms"] = _weighted(cpu[level], ended[level])
        total = sum(made[f"{level}_cpu_ms"].values())
        run.say(
            f"{name} {level}: {made[level]['p50']:.0f} jobs/s of {made['bare']['p50']:.0f}, {total:.1f} ms CPU a job"
        )
    return made


def mirrored(turns: list[str], rounds: int) -> list[str]:
    """A B C, C B A, A B C …: each meets early and late alike."""
    return [turn for number in range(2 * rounds) for turn in (turns if number % 2 == 0 else turns[::-1])]


def _weighted(found: list[dict[str, float]], ended: list[int]) -> dict[str, float]:
    """CPU a job over all windows, by process; what a window didn't see counts as nothing in it."""
    names = sorted({name for one in found for name in one})
    jobs = max(1, sum(ended))
    return {name: sum(one.get(name, 0.0) * n for one, n in zip(found, ended, strict=True)) / jobs for name in names}


def _idle(plane: Plane, seconds: float) -> float:
    """The share of one core that the idle plane takes: what bare Aer had to do without."""
    before, begun = processes.use(plane.status), time.perf_counter()
    time.sleep(seconds)
    after = processes.use(plane.status)
    used = sum(after[name].cpu_s - before[name].cpu_s for name in after.keys() & before)
    return used / (time.perf_counter() - begun)


def tables(figures: Figures) -> dict[str, str]:
    """The rows of the cost table with their goals, then each circuit and level."""
    made: dict[str, str] = {}
    latency, throughput = figures.get("latency", {}), figures.get("throughput", {})
    if rows := _goal_rows(latency, throughput):
        made["governed-goals"] = table("| what | measured | goal |", rows)
    rows = [_latency_row(name, kind, found) for name, of in latency.items() for kind, found in _shown(of)]
    if rows:
        head = "| one client, one job at a time, ms | jobs | p50 | p25–p75 | p99 | over bare p50 | over bare p99 |"
        made["governed-latency"] = table(head, rows)
    if throughput:
        made["governed-throughput"] = table(
            "| jobs/s | bare Aer | standard | ÷ bare | full | ÷ bare | p50 / p99 ms at full |",
            [_rate_row(name, of) for name, of in throughput.items()],
        )
        made["governed-cpu"] = _cpu_table(throughput)
    return made


def _goal_rows(latency: Figures, throughput: Figures) -> list[str]:
    rows = []
    if "bell" in latency:
        over = latency["bell"]["full_over_bare"]
        rows += [
            f"| governed job over bare Aer, bell, full, p50 | + {over['p50']:.1f} ms | + 15 ms |",
            f"| governed job over bare Aer, bell, full, p99 | + {over['p99']:.1f} ms | + 60 ms |",
        ]
    if "q12-g50" in throughput:
        ratio = throughput["q12-g50"]["standard_ratio"]
        rows.append(f"| governed ÷ bare jobs/s, 12 qubits / 50 gates, standard | {ratio['p50']:.2f} | 0.5 |")
    if "bell" in throughput:
        rows.append(f"| governed jobs/s, bell, full | {throughput['bell']['full']['p50']:.0f} | 250 |")
    return rows


def _shown(of: Figures) -> list[tuple[str, Any]]:
    names = {"bare": "bare Aer", "standard": "standard", "full": "full", "bundle": "full, and its bundle fetched"}
    return [(label, (of[kind], of.get(f"{kind}_over_bare"))) for kind, label in names.items() if kind in of]


def _latency_row(name: str, kind: str, found: tuple[Any, Any]) -> str:
    s, over = found
    more = f"+ {over['p50']:.1f} | + {over['p99']:.1f}" if over else " | "
    spread_ = f"{s['p25']:.1f}–{s['p75']:.1f}"
    return f"| {NAMES[name]}, {kind} | {s['n']} | {s['p50']:.1f} | {spread_} | {s['p99']:.1f} | {more} |"


def _rate_row(name: str, of: Figures) -> str:
    cells = [_range(of["bare"], "{:.0f}")]
    for level in LEVELS:
        cells += [_range(of[level], "{:.0f}"), _range(of[f"{level}_ratio"], "{:.2f}")]
    late = of["full_latency"]
    return f"| {NAMES[name]} | {' | '.join(cells)} | {late['p50']:.0f} / {late['p99']:.0f} |"


def _range(s: Figures, form: str) -> str:
    """Median (least–most of the windows)."""
    return f"{form.format(s['p50'])} ({form.format(s['min'])}–{form.format(s['max'])})"


def _cpu_table(throughput: Figures) -> str:
    columns = [(name, level) for name in throughput for level in LEVELS]
    found = [throughput[name][f"{level}_cpu_ms"] for name, level in columns]
    parts = sorted({part for one in found for part in one})
    rows = [f"| {part} | {' | '.join(f'{one.get(part, 0.0):.2f}' for one in found)} |" for part in parts]
    rows.append(f"| **all** | {' | '.join(f'**{sum(one.values()):.1f}**' for one in found)} |")
    return table(f"| CPU ms a job | {' | '.join(f'{NAMES[n]}, {level}' for n, level in columns)} |", rows)


if __name__ == "__main__":
    main("governed", measure, tables)
