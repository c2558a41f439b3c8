# SPDX-License-Identifier: Apache-2.0
"""`make bench-growth`: what a longer log costs, from 10³ to 10⁶ entries.

Two planes live side by side. One is filled with copies of its own jobs (`bench.fill`), stage by stage, and never
restarted meanwhile; the other stays at a thousand. At each stage both run the same jobs in turns, A B B A, so that what
the machine does meets both: the ratio of the two is the growth. Then what reads the log is timed on the filled one, and
PostgreSQL's own counters tell which tables a job made it read from end to end.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bench import processes
from bench.fill import Fill
from bench.governed import SHOTS, circuits, mirrored
from bench.plane import Plane, postgresql, spec
from bench.record import Figures, Run, main, table
from bench.spread import in_ms, spread
from control_plane.db import Database, engine, snapshot
from ledger.export import consistency, inclusion

SMALL = 1_000
STAGES = (1_000, 10_000, 100_000, 1_000_000)
BYTES_AN_ENTRY = 9_000  # of disk that must be free: tables and indexes, and write-ahead log on top
VERIFY_LIMIT_S = 120.0
FILL_LIMIT_S = 540.0
QUIET_S = 60.0  # how long autovacuum may go on before a stage is measured all the same
LOOKS = 40


def measure(run: Run) -> None:
    """Each stage, then the restart of the filled plane."""
    source = circuits()["bell"]
    with Plane(workers="2") as small, Plane(workers="2") as grown:
        run.figures["versions"]["postgresql"] = postgresql(grown)
        run.keep(stages=[], level="full", shots=SHOTS)
        Fill(small, source).to(SMALL)
        fill = Fill(grown, source)
        for size in _sizes(run):
            if _too_long(run, size):
                break
            run.say(f"filling to {size:,} entries")
            run.figures["stages"].append(_stage(run, small, grown, fill, source, size))
            run.keep()
        run.keep(held=_held(run, grown, fill, source))
        run.keep(restart=_restart(run, grown, source), mix=dict(fill.jobs))
    if faults := run.figures.get("faults"):
        raise RuntimeError(f"{len(faults)} commands broke: {faults[0]}")


def _sizes(run: Run) -> list[int]:
    """The stages that there is time and disk for."""
    sizes = STAGES[:2] if run.quick else STAGES
    free = shutil.disk_usage(tempfile.gettempdir()).free  # where the planes live
    fit = [size for size in sizes if size * BYTES_AN_ENTRY < free]
    if fit != list(sizes):
        run.say(f"only {free / 1e9:.0f} GB of disk are free: the stages above {fit[-1]:,} entries are left out")
        run.keep(left_out=[size for size in sizes if size not in fit])
    return fit


def _too_long(run: Run, size: int) -> bool:
    """Whether filling up to `size` would take more than its time, by the rate of the stage before; told if so."""
    if size <= STAGES[1]:
        return False
    last = run.figures["stages"][-1]
    wanted_s = float((size - last["size"]) / last["filled_per_s"])
    if wanted_s > FILL_LIMIT_S:
        run.say(f"left out: {size:,} entries, {wanted_s:.0f} s to fill at {last['filled_per_s']:,.0f} a second")
        run.keep(left_out=[one for one in STAGES if one >= size])
    return wanted_s > FILL_LIMIT_S


def _stage(run: Run, small: Plane, grown: Plane, fill: Fill, source: str, size: int) -> Figures:
    before = _log(grown)
    used = processes.use(grown.status) | {processes.BENCH: processes.own()}
    took_s = fill.to(size, run.say, FILL_LIMIT_S)
    after, spent = _log(grown), processes.use(grown.status) | {processes.BENCH: processes.own()}
    if after["entries"] < size:
        run.say(f"the time to fill is over at {after['entries']:,} entries: measured there")
        size = after["entries"]
    found: Figures = {"size": size, "fill_s": took_s, "filled_per_s": (after["entries"] - before["entries"]) / took_s}
    found["fill_cpu_ms_an_entry"] = processes.cpu_ms(used, spent, max(1, after["entries"] - before["entries"]))
    found["rows_a_batch"] = (after["entries"] - before["entries"]) / max(1, after["batches"] - before["batches"])
    found["quiet_after_s"] = _quiet(grown, 2.0 if run.quick else QUIET_S)
    found |= _jobs(run, small, grown, source)
    found["bulk_256"] = in_ms(fill.bulk(10))
    found["reads"] = _reads(grown, fill, source)
    found["proofs"] = asyncio.run(proofs(Database.of_home(grown.home / "db").audit))
    found["disk_bytes_an_entry"] = after["bytes"] / size
    if not run.quick or size == STAGES[0]:
        found |= _verified(run, grown)
    ratio = found["ratio"]
    run.say(f"{size:,}: a job {found['grown']['p50']:.1f} ms, {ratio:.2f} x of what it takes at {SMALL:,}")
    return found


def _log(plane: Plane) -> Figures:
    with plane.superuser() as conn:
        row = conn.execute(
            """SELECT (SELECT coalesce(max("index") + 1, 0) FROM ledger.entry),
                      (SELECT count(*) FROM ledger.checkpoint), pg_database_size(current_database())"""
        ).fetchone()
    assert row is not None
    return dict(zip(("entries", "batches", "bytes"), row, strict=True))


def _quiet(plane: Plane, limit_s: float) -> float:
    """What filling set off is done: pages written, autovacuum ended or given `limit_s`; how long that took."""
    begun = time.monotonic()
    with plane.superuser() as conn:
        conn.execute("CHECKPOINT")
        while time.monotonic() - begun < limit_s:
            busy = conn.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'")
            if busy.fetchone() == (0,):
                break
            time.sleep(0.2)
    return time.monotonic() - begun


def _jobs(run: Run, small: Plane, grown: Plane, source: str) -> Figures:
    """Latency of both planes in turns, CPU a job of each, and what a job made the filled one's database read."""
    jobs, rounds = (8, 1) if run.quick else (16, 2)
    planes = {"small": small, "grown": grown}
    times: dict[str, list[float]] = {name: [] for name in planes}
    cpu: dict[str, list[dict[str, float]]] = {name: [] for name in planes}
    for plane in planes.values():
        plane.latencies(source, SHOTS, 5, level="full")
    first = _rows_read(grown)
    for name in mirrored(list(planes), rounds):
        before = processes.use(planes[name].status)
        times[name] += planes[name].latencies(source, SHOTS, jobs, level="full")
        cpu[name].append(processes.cpu_ms(before, processes.use(planes[name].status), jobs))
    jobs_run = len(times["grown"])
    read = {
        name: ((scanned - first.get(name, (0, 0))[0]) / jobs_run, (fetched - first.get(name, (0, 0))[1]) / jobs_run)
        for name, (scanned, fetched) in _rows_read(grown).items()
    }
    ratios = [a / b for a, b in zip(sorted(times["grown"]), sorted(times["small"]), strict=True)]
    return {
        **{name: in_ms(found) for name, found in times.items()},
        "ratio": in_ms(times["grown"])["p50"] / in_ms(times["small"])["p50"],
        "ratio_by_rank": spread(ratios),
        "cpu_ms": {name: _mean(found) for name, found in cpu.items()},
        "rows_read_a_job": {name: rows for name, rows in sorted(read.items()) if max(rows) >= 1},
    }


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: sum(one.get(name, 0.0) for one in found) / len(found) for name in sorted({n for o in found for n in o})
    }


def _rows_read(plane: Plane) -> dict[str, tuple[int, int]]:
    """Rows that sequential scans and that indexes have fetched so far, by table; sessions report within a second."""
    time.sleep(1.5)
    with plane.superuser() as conn:
        found = conn.execute(
            "SELECT schemaname || '.' || relname, seq_tup_read, coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
        )
        return {name: (scanned, fetched) for name, scanned, fetched in found.fetchall()}


def _reads(plane: Plane, fill: Fill, source: str) -> Figures:
    """What users ask for: the head of the log, a page of jobs, one job, its evidence; of a copy and of a new job."""
    body = spec(source, SHOTS, "full")
    with plane.client() as client:
        _, newest = client.job(body)
        copied = fill.examples["full"]
        paths = {
            "ledger/checkpoint": ["/api/v1/ledger/checkpoint"],
            "jobs, first page of 100": ["/api/v1/jobs"],
            "jobs, state FAILED": ["/api/v1/jobs?state=FAILED"],
            "one job": [f"/api/v1/jobs/{copied}", f"/api/v1/jobs/{newest}"],
            "its evidence bundle": [f"/api/v1/jobs/{copied}/evidence", f"/api/v1/jobs/{newest}/evidence"],
            "budgets": ["/api/v1/budgets"],
        }
        found: Figures = {}
        for name, alike in paths.items():
            times = []
            for number in range(LOOKS):
                begun = time.perf_counter()
                client.get(alike[number % len(alike)])
                times.append(time.perf_counter() - begun)
            found[name] = in_ms(times)
    return found


async def proofs(audit: str) -> Figures:
    """Inclusion of entries and consistency of sizes drawn evenly: time with the database's answer, and size."""
    chance = random.Random(20260109)  # noqa: S311  places to look at, no secret
    pool = engine(audit, connections=1)
    try:
        async with snapshot(pool) as conn:
            size = int((await conn.exec_driver_sql("SELECT max(size) FROM ledger.checkpoint")).scalar_one())
            places = [chance.randrange(size) for _ in range(LOOKS)]
            return {
                "inclusion": await _timed(conn, lambda conn, at: inclusion(conn, at, size), places),
                "consistency": await _timed(conn, lambda conn, at: consistency(conn, at + 1, size), places),
                "log2": math.log2(size),
            }
    finally:
        await pool.dispose()


async def _timed(conn: AsyncConnection, prove: Callable[[AsyncConnection, int], Any], places: list[int]) -> Figures:
    times, hashes = [], []
    for place in places:
        begun = time.perf_counter()
        hashes.append(len(await prove(conn, place)))
        times.append(time.perf_counter() - begun)
    return {"ms": in_ms(times), "hashes": spread(hashes)}


def _verified(run: Run, plane: Plane) -> Figures:
    """`qcos ledger verify`, its own start included; where it would take too long by the last rate, it is left out."""
    entries = _log(plane)["entries"]
    last = next((s["verify_per_s"] for s in reversed(run.figures["stages"]) if "verify_per_s" in s), None)
    if last and entries / last > VERIFY_LIMIT_S:
        run.say(f"ledger verify of {entries:,} entries left out: {entries / last:.0f} s by the last rate")
        return {}
    before, begun = os.times(), time.perf_counter()
    if (said := _told(run, plane, "verify")) is None:
        return {}
    took_s, after = time.perf_counter() - begun, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    if not said["ok"] or said["checked"] < entries:
        raise RuntimeError(f"the filled ledger does not verify: {said['failures'][:3]}")
    found: Figures = {"verify_s": took_s, "verify_cpu_s": cpu_s, "verify_per_s": said["checked"] / took_s}
    if entries < 200_000:  # the fold of a million holds every job in memory
        begun = time.perf_counter()
        if (said := _told(run, plane, "replay", "--compare")) is not None:
            if not said["agrees"]:
                raise RuntimeError(f"the filled rows are not the fold of the ledger: {said['differences'][:3]}")
            found["replay_s"] = time.perf_counter() - begun
    return found


def _told(run: Run, plane: Plane, *words: str) -> Any:
    """What `qcos ledger` says; None where it broke, which is kept, and ends the run once all is measured."""
    try:
        return plane.cli("ledger", *words, limit_s=4 * VERIFY_LIMIT_S)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        run.say(str(error))
        run.keep(faults=[*run.figures.get("faults", []), str(error)])
        return None


def _held(run: Run, plane: Plane, fill: Fill, source: str) -> Figures:
    """Jobs before and while a snapshot is held, as a backup or a verification does, over many entries written since."""
    jobs, entries = (8, 1_500) if run.quick else (30, 15_000)
    found: Figures = {"entries": entries, "before": _alone(plane, source, jobs)}
    with plane.superuser() as conn:
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        conn.execute("SELECT count(*) FROM ledger.key")
        fill.to(_log(plane)["entries"] + entries, run.say)
        found["while"] = _alone(plane, source, jobs)
        conn.execute("ROLLBACK")
    return found


def _alone(plane: Plane, source: str, jobs: int) -> Figures:
    before = processes.use(plane.status)
    times = plane.latencies(source, SHOTS, jobs, level="full")
    return {"job": in_ms(times), "cpu_ms": processes.cpu_ms(before, processes.use(plane.status), jobs)}


def _restart(run: Run, plane: Plane, source: str) -> Figures:
    """Down and up again, both as their commands; then the first jobs."""
    entries = _log(plane)["entries"]
    begun = time.perf_counter()
    plane.down()
    down_s = time.perf_counter() - begun
    plane.up()
    times = plane.latencies(source, SHOTS, 10 if run.quick else 30, level="full")
    run.say(f"restarted at {entries:,} entries: down {down_s:.1f} s, up {plane.start_s:.1f} s")
    return {
        "size": entries,
        "down_s": down_s,
        "up_s": plane.start_s,
        "first_job_ms": times[0] * 1e3,
        "job": in_ms(times),
    }


def tables(figures: Figures) -> dict[str, str]:
    """The goal, then a column a stage."""
    stages = figures.get("stages", [])
    if not stages:
        return {}
    last = stages[-1]
    goal = f"| growth: job latency at {last['size']:,} entries ÷ at {SMALL:,} | {last['ratio']:.2f} × | 1.2 × |"
    head = "| | " + " | ".join(f"{stage['size']:,}" for stage in stages) + " |"
    made = {
        "growth-goals": table("| what | measured | goal |", [goal]),
        "growth": table(head.replace("| |", "| entries |", 1), [_row(name, stages, get) for name, get in ROWS.items()]),
        "growth-cpu": table(head.replace("| |", "| CPU ms a job |", 1), _cpu_rows(stages)),
        "growth-rows": table(head.replace("| |", "| rows read a job: by scan, by index |", 1), _read_rows(stages)),
    }
    if left := figures.get("left_out"):
        made["growth-goals"] += (
            f"\nLeft out for want of time or disk: {', '.join(f'{size:,}' for size in left)} entries.\n"
        )
    if held := figures.get("held"):
        made["growth-held"] = table(
            f"| snapshot held over {held['entries']:,} entries | job, ms: p50 (p99) | CPU ms a job | sealer session |",
            [_held_row(name, held[name]) for name in ("before", "while")],
        )
    if again := figures.get("restart"):
        made["growth-restart"] = table(
            "| restart at | down s | up s | first job ms | jobs after it: p50 / p99 ms |",
            [_restart_row(again)],
        )
    return made


def _held_row(name: str, found: Figures) -> str:
    cpu = found["cpu_ms"]
    return f"| {name} | {_middle(found['job'])} | {sum(cpu.values()):.1f} | {cpu.get('postgres: sealer', 0.0):.1f} |"


def _restart_row(again: Figures) -> str:
    times = f"{again['down_s']:.1f} | {again['up_s']:.1f} | {again['first_job_ms']:.0f}"
    return f"| {again['size']:,} entries | {times} | {again['job']['p50']:.1f} / {again['job']['p99']:.1f} |"


def _row(name: str, stages: list[Figures], get: Callable[[Figures], str]) -> str:
    cells = []
    for stage in stages:
        try:
            cells.append(get(stage))
        except KeyError:  # this stage left it out
            cells.append("")
    return f"| {name} | {' | '.join(cells)} |"


def _middle(s: Figures) -> str:
    return f"{s['p50']:.1f} ({s['p99']:.1f})"


ROWS: dict[str, Callable[[Figures], str]] = {
    "job, ms: p50 (p99)": lambda s: _middle(s["grown"]),
    "the small plane's in turns": lambda s: _middle(s["small"]),
    "ratio of the medians": lambda s: f"{s['ratio']:.2f}",
    "256 entries in one commit, to sealed and stamped, ms": lambda s: _middle(s["bulk_256"]),
    "inclusion proof, ms": lambda s: _middle(s["proofs"]["inclusion"]["ms"]),
    "inclusion proof, hashes: median, most": lambda s: "{p50:.0f}, {max:.0f}".format(
        **s["proofs"]["inclusion"]["hashes"]
    ),
    "consistency proof, ms": lambda s: _middle(s["proofs"]["consistency"]["ms"]),
    "consistency proof, hashes: median, most": lambda s: "{p50:.0f}, {max:.0f}".format(
        **s["proofs"]["consistency"]["hashes"]
    ),
    "`GET ledger/checkpoint`, ms": lambda s: _middle(s["reads"]["ledger/checkpoint"]),
    "`GET jobs`, 100 of them, ms": lambda s: _middle(s["reads"]["jobs, first page of 100"]),
    "`GET jobs?state=FAILED`, ms": lambda s: _middle(s["reads"]["jobs, state FAILED"]),
    "`GET jobs/ID`, ms": lambda s: _middle(s["reads"]["one job"]),
    "`GET jobs/ID/evidence`, ms": lambda s: _middle(s["reads"]["its evidence bundle"]),
    "`GET budgets`, ms": lambda s: _middle(s["reads"]["budgets"]),
    "`qcos ledger verify`, s, of its own CPU s": lambda s: f"{s['verify_s']:.1f}, {s['verify_cpu_s']:.1f}",
    "the same, entries/s": lambda s: f"{s['verify_per_s']:,.0f}",
    "`qcos ledger replay --compare`, s": lambda s: f"{s['replay_s']:.1f}",
    "disk, bytes an entry": lambda s: f"{s['disk_bytes_an_entry']:,.0f}",
    "filled, entries/s": lambda s: f"{s['filled_per_s']:,.0f}",
}


def _cpu_rows(stages: list[Figures]) -> list[str]:
    found = [stage["cpu_ms"]["grown"] for stage in stages]
    parts = sorted({part for one in found for part in one})
    rows = [f"| {part} | {' | '.join(f'{one.get(part, 0.0):.1f}' for one in found)} |" for part in parts]
    return [*rows, f"| **all** | {' | '.join(f'**{sum(one.values()):.1f}**' for one in found)} |"]


def _read_rows(stages: list[Figures]) -> list[str]:
    found = [stage["rows_read_a_job"] for stage in stages]
    names = sorted({name for one in found for name in one}) or ["none"]
    return [
        f"| {name} | {' | '.join('{:,.0f}, {:,.0f}'.format(*one.get(name, (0, 0))) for one in found)} |"
        for name in names
    ]


if __name__ == "__main__":
    main("growth", measure, tables)
