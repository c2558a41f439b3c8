# SPDX-License-Identifier: Apache-2.0
"""`make bench-ledger`: how fast the log takes entries and gives proofs, beside what else a writer could do.

In one database in one run, in turns: entries of 2 KB into the ledger, one a transaction and 256 a transaction, each
waited for until it is sealed; the same bytes by plain INSERT; the same chained row by row under a lock; at 1, 64 and
512 transactions in flight. Tessera's POSIX log stands beside them where Go is. Then the log is grown to 10⁶ entries,
and at each stage appending, proving and verifying are timed; last, bundles of a running plane are verified on one core.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import random
import shutil
import statistics
import tempfile
import time
from typing import Any

from bench import processes
from bench.flight import Flight, Window, Writer
from bench.governed import SHOTS, circuits, mirrored
from bench.growth import proofs
from bench.log import Log
from bench.plane import Plane, spec
from bench.record import Figures, Run, main, table
from bench.spread import in_ms, spread
from bench.tessera import PUBLISHED, MissingError, Tessera
from bench.writers import TABLES, Bulk, Chained, Ledger, Plain
from control_plane.db import engine, snapshot
from ledger.audit import verify_log
from ledger.head import read_head
from ledger.verify import verify

IN_FLIGHT = (1, 64, 512)
BULK = 256
WAYS = ("plain", "ledger", "bulk", "chained")
STAGES = (1_000, 10_000, 100_000, 1_000_000)
SMALL_ENTRY = 400  # bytes, of the log that is grown: a denial's
BYTES_AN_ENTRY = 4_000  # of disk that must be free for it, write-ahead log included
AHEAD = 32  # transactions of 256 in flight while it is grown
GROW_LIMIT_S = 300.0
BUNDLES = 8


def measure(run: Run) -> None:
    """Writing, Tessera, growing, bundles; each keeps what it has found."""
    with Log() as log:
        run.figures["versions"]["postgresql"] = log.sql("SHOW server_version")[0][0]
        log.sql(TABLES.format(app=log.database.roles.app))
        run.keep(writing={}, stages=[])
        for in_flight in IN_FLIGHT:
            run.figures["writing"][str(in_flight)] = _writing(run, log, in_flight)
            run.keep()
    _beside(run)
    with Log() as log:
        for size in _sizes(run):
            if (found := _stage(run, log, size)) is None:
                break
            run.figures["stages"].append(found)
            run.keep()
    run.keep(bundles=_bundles(run))


def _times(run: Run) -> tuple[int, float, float]:
    """Rounds (each there and back), ramp and window in seconds."""
    return (1, 0.5, 1.0) if run.quick else (2, 1.0, 3.0)


def _writing(run: Run, log: Log, in_flight: int) -> Figures:
    """All ways in turns, so that what the machine does meets each; rates are the median window's."""
    rounds, ramp_s, window_s = _times(run)
    windows: dict[str, list[Window]] = {way: [] for way in WAYS}
    cpu: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    rows: dict[str, list[float]] = {way: [] for way in WAYS}
    for way in mirrored(list(WAYS), rounds):
        log.sql("CHECKPOINT")
        with Flight(log.app, _writer(way), in_flight, log.audit) as flight:
            used, begun = _used(log), _batches(log)
            windows[way].append(flight.run(ramp_s, window_s))
            ended = _batches(log)
            per = BULK if way == "bulk" else 1
            entries = max(1, flight.done * per)
            cpu[way].append({part: ms * 1e3 for part, ms in processes.cpu_ms(used, _used(log), entries).items()})
            rows[way].append((ended[0] - begun[0]) / max(1, ended[1] - begun[1]))
    found: Figures = {way: _way(windows[way]) for way in WAYS}
    for way in WAYS:
        found[way]["cpu_us_an_entry"] = {
            part: statistics.median(one.get(part, 0.0) for one in cpu[way]) for part in cpu[way][0]
        }
        found[way]["rows_a_batch"] = statistics.median(rows[way])
    found["bulk"]["per_s"] = [one * BULK for one in found["bulk"]["per_s"]]
    for way in ("ledger", "chained"):
        found[way]["over_plain"] = _paired(found[way]["per_s"], found["plain"]["per_s"])
    found["ledger"]["over_chained"] = _paired(found["ledger"]["per_s"], found["chained"]["per_s"])
    for way in WAYS:
        found[way]["per_s"] = spread(found[way]["per_s"])
    run.say(
        f"{in_flight} in flight: "
        + ", ".join(f"{way} {found[way]['per_s']['p50']:,.0f}/s" for way in WAYS)
        + f"; {found['ledger']['over_plain']:.2f} of plain, p99 {found['ledger']['ms']['p99']:.0f} ms"
    )
    return found


def _writer(way: str) -> Writer:
    match way:
        case "plain":
            return Plain()
        case "chained":
            return Chained()
        case _:
            return Bulk(BULK) if way == "bulk" else Ledger()


def _way(windows: list[Window]) -> Figures:
    return {
        "per_s": [one.per_s for one in windows],
        "ms": in_ms([took for one in windows for took in one.done_s] or [0.0]),
    }


def _paired(ours: list[float], theirs: list[float]) -> float:
    """The median of window by window: each is held against its neighbour in time."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _used(log: Log) -> dict[str, processes.Use]:
    return processes.use(log.status()) | {processes.BENCH: processes.own()}


def _batches(log: Log) -> tuple[int, int]:
    return log.sql("SELECT coalesce(max(size), 0), count(*) FROM ledger.checkpoint")[0]


def _beside(run: Run) -> None:
    """Tessera, one entry at a time and 256 at a time; or why not."""
    _, ramp_s, window_s = _times(run)
    try:
        with Tessera() as tessera:
            found: Figures = {}
            for in_flight in IN_FLIGHT:
                one = tessera.run(in_flight, 1, ramp_s, window_s)
                bulk = tessera.run(in_flight, BULK, ramp_s, window_s)
                found[str(in_flight)] = {
                    "per_s": one.per_s,
                    "ms": in_ms(one.done_s or [0.0]),
                    "bulk_per_s": bulk.per_s * BULK,
                }
                run.say(f"Tessera, {in_flight} in flight: {one.per_s:,.0f}/s, bulk {bulk.per_s * BULK:,.0f}/s")
            run.keep(tessera=found)
    except MissingError as why:
        run.say(f"Tessera is left out: {why}")
        run.keep(tessera_missing=str(why))


def _sizes(run: Run) -> list[int]:
    """The stages that there is disk for."""
    sizes = STAGES[:2] if run.quick else STAGES
    free = shutil.disk_usage(tempfile.gettempdir()).free
    fit = [size for size in sizes if size * BYTES_AN_ENTRY < free]
    if fit != list(sizes):
        run.say(f"only {free / 1e9:.0f} GB of disk are free: stages left out")
        run.keep(left_out=[size for size in sizes if size not in fit])
    return fit


def _stage(run: Run, log: Log, size: int) -> Figures | None:
    """Fill up to `size`, then append one by one and in bulk, prove, verify; None where filling takes too long."""
    begun, before = time.monotonic(), _batches(log)[0]
    wanted = math.ceil((size - before) / BULK)
    with Flight(log.app, Bulk(BULK, SMALL_ENTRY), min(AHEAD, wanted), log.audit) as flight:
        flight.count(wanted, GROW_LIMIT_S)
    filled_s, after = time.monotonic() - begun, _batches(log)[0]
    if after < size:
        run.say(f"the time to fill is over at {after:,} entries")
        run.keep(left_out=[one for one in STAGES if one >= size])
        return None
    log.sql("CHECKPOINT")
    found: Figures = {"size": after, "filled_per_s": (after - before) / filled_s}
    with Flight(log.app, Ledger(SMALL_ENTRY), 1, log.audit) as flight:
        found["append_ms"] = in_ms(flight.each(20 if run.quick else 200).done_s)
    with Flight(log.app, Bulk(BULK, SMALL_ENTRY), 1, log.audit) as flight:
        found["bulk_ms"] = in_ms(flight.each(5 if run.quick else 20).done_s)
    found["proofs"] = asyncio.run(proofs(log.database.audit))
    took_s, checked = asyncio.run(_verified(log))
    found |= {"verify_s": took_s, "verify_per_s": checked / took_s}
    found["bytes_an_entry"] = log.sql("SELECT pg_database_size(current_database())")[0][0] / after
    run.say(f"{after:,} entries: append {found['append_ms']['p50']:.1f} ms, verified {found['verify_per_s']:,.0f}/s")
    return found


async def _verified(log: Log) -> tuple[float, int]:
    """Seconds and entries of a whole verification, as `qcos ledger verify` runs it."""
    pool = engine(log.database.audit, connections=2)
    try:
        begun = time.perf_counter()
        async with snapshot(pool) as conn:
            said = await verify_log(conn, head=read_head(log.head))
        took_s = time.perf_counter() - begun
    finally:
        await pool.dispose()
    if not said.ok:
        raise RuntimeError(f"the log does not verify: {said.failures[:3]}")
    return took_s, said.checked


def _bundles(run: Run) -> Figures:
    """Bundles of fresh jobs, verified over and over on one core."""
    with Plane(workers="1") as plane:
        body = {level: spec(circuits()["bell"], SHOTS, level) for level in ("full", "standard")}
        files: dict[str, list[bytes]] = {}
        with plane.client() as client:
            for level in body:
                jobs = [client.job(body[level])[1] for _ in range(BUNDLES)]
                files[level] = [client.get(f"/api/v1/jobs/{job}/evidence") for job in jobs]
        path = plane.home / "trust.json"
        plane.cli("trust", "export", "-o", str(path))
        trust = path.read_bytes()
    return {level: _verify_rate(run, level, files[level], trust) for level in files}


def _verify_rate(run: Run, level: str, files: list[bytes], trust: bytes) -> Figures:
    now, times, until = dt.datetime.now(dt.UTC), [], time.perf_counter() + (1.0 if run.quick else 4.0)
    order = random.Random(20260109)  # noqa: S311  which comes next, no secret
    while time.perf_counter() < until:
        data, begun = order.choice(files), time.perf_counter()
        report = verify(data, trust, now)
        times.append(time.perf_counter() - begun)
        if report.verdict != "valid":
            raise RuntimeError(f"a fresh bundle is {report.verdict}: {report.reason}")
    run.say(f"bundle at {level}: {len(times) / sum(times):,.0f} a second")
    return {"per_s": len(times) / sum(times), "ms": in_ms(times), "bytes": statistics.median(map(len, files))}


def tables(figures: Figures) -> dict[str, str]:
    """The goals, the ways to write, their CPU, the growing log."""
    made: dict[str, str] = {}
    if writing := figures.get("writing"):
        made["ledger-goals"] = table("| what | measured | goal |", _goals(figures, writing))
        heads = " | ".join(f"{n} in flight" for n in writing)
        rows = [_row(label, writing.values(), get) for label, get in WRITING.items()]
        made["ledger-writing"] = table(f"| entries of 2 KB | {heads} |", [*rows, *_tessera(figures, list(writing))])
        if "64" in writing:
            made["ledger-cpu"] = _cpu(writing["64"])
    if stages := figures.get("stages"):
        heads = " | ".join(f"{stage['size']:,}" for stage in stages)
        made["ledger-growth"] = table(f"| entries | {heads} |", [_row(n, stages, get) for n, get in GROWING.items()])
    return made


def _goals(figures: Figures, writing: Figures) -> list[str]:
    rows = []
    if "64" in writing:
        ours = writing["64"]["ledger"]
        rows += [
            f"| one 2 KB entry a transaction, 64 in flight, sealed ÷ plain INSERT | {ours['over_plain']:.2f} | 0.5 |",
            f"| the same, p99 to sealed | {ours['ms']['p99']:.0f} ms | 50 ms |",
        ]
    best = max(one["bulk"]["per_s"]["p50"] for one in writing.values())
    rows.append(f"| bulk, {BULK} entries a transaction, sealed | {best:,.0f}/s | 20,000/s |")
    if stages := figures.get("stages"):
        rows.append(f"| full re-verification, entries | {max(s['verify_per_s'] for s in stages):,.0f}/s | 100,000/s |")
    if bundles := figures.get("bundles"):
        rows += [f"| bundle at `{n}` verified, one core | {b['per_s']:,.0f}/s | 1,000/s |" for n, b in bundles.items()]
    return rows


def _row(label: str, columns: Any, get: Any) -> str:
    return f"| {label} | {' | '.join(get(one) for one in columns)} |"


def _rate(one: Figures) -> str:
    return f"{one['p50']:,.0f} ({one['min']:,.0f}–{one['max']:,.0f})"


def _ms(one: Figures) -> str:
    return f"{one['p50']:.1f} / {one['p99']:.1f}"


WRITING: dict[str, Any] = {
    "plain INSERT, /s": lambda w: _rate(w["plain"]["per_s"]),
    "plain INSERT, to commit, p50 / p99 ms": lambda w: _ms(w["plain"]["ms"]),
    "chained row by row, /s": lambda w: _rate(w["chained"]["per_s"]),
    "chained row by row, to commit, p50 / p99 ms": lambda w: _ms(w["chained"]["ms"]),
    "**ledger, one a transaction, sealed/s**": lambda w: _rate(w["ledger"]["per_s"]),
    "÷ plain INSERT": lambda w: f"**{w['ledger']['over_plain']:.2f}**",
    "÷ chained row by row": lambda w: f"{w['ledger']['over_chained']:.1f}",
    "to sealed, p50 / p99 ms": lambda w: _ms(w["ledger"]["ms"]),
    "entries a batch": lambda w: f"{w['ledger']['rows_a_batch']:.0f}",
    f"**ledger, {BULK} a transaction, sealed/s**": lambda w: _rate(w["bulk"]["per_s"]),
    f"{BULK} to sealed, p50 / p99 ms": lambda w: _ms(w["bulk"]["ms"]),
    "entries a batch then": lambda w: f"{w['bulk']['rows_a_batch']:.0f}",
}

GROWING: dict[str, Any] = {
    "one entry, to sealed, p50 / p99 ms": lambda s: _ms(s["append_ms"]),
    f"{BULK} in a transaction, to sealed, p50 / p99 ms": lambda s: _ms(s["bulk_ms"]),
    "inclusion proof, p50 / p99 ms": lambda s: _ms(s["proofs"]["inclusion"]["ms"]),
    "its hashes, most": lambda s: f"{s['proofs']['inclusion']['hashes']['max']:.0f}",
    "consistency proof, p50 / p99 ms": lambda s: _ms(s["proofs"]["consistency"]["ms"]),
    "its hashes, most ": lambda s: f"{s['proofs']['consistency']['hashes']['max']:.0f}",
    "filled, entries/s": lambda s: f"{s['filled_per_s']:,.0f}",
    "verified, entries/s": lambda s: f"{s['verify_per_s']:,.0f}",
    "disk, bytes an entry": lambda s: f"{s['bytes_an_entry']:,.0f}",
}


def _tessera(figures: Figures, in_flight: list[str]) -> list[str]:
    if (found := figures.get("tessera")) is None:
        why = figures.get("tessera_missing", "not reached")
        return [
            f"| Tessera's POSIX log, published/s | not measured ({why}); {PUBLISHED} |" + " |" * (len(in_flight) - 1)
        ]
    one = [found[n] for n in in_flight if n in found]
    return [
        _row("Tessera's POSIX log, published/s", one, lambda t: f"{t['per_s']:,.0f}"),
        _row("to published, p50 / p99 ms", one, lambda t: _ms(t["ms"])),
        _row(f"{BULK} at a time, published/s", one, lambda t: f"{t['bulk_per_s']:,.0f}"),
    ]


def _cpu(writing: Figures) -> str:
    parts = sorted({part for way in WAYS for part in writing[way]["cpu_us_an_entry"]} - {"up"})
    rows = [
        f"| {part} | {' | '.join(f'''{writing[way]['cpu_us_an_entry'].get(part, 0.0):.0f}''' for way in WAYS)} |"
        for part in parts
    ]
    return table(f"| CPU µs an entry, 64 in flight | plain | ledger | ledger, {BULK} each | chained |", rows)


if __name__ == "__main__":
    main("ledger", measure, tables)
