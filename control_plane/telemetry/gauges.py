# SPDX-License-Identifier: Apache-2.0
"""The process `telemetry`: what only the whole plane knows, read at intervals as `audit` and from the plane's record.

It runs where telemetry is on, apart from the others, so that exporters' threads are in no process that forks and no
request waits for a count. What can't be read is left out: an old figure would be taken for a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from control_plane import store
from control_plane.db import FAULTS, Database, engine, transaction
from control_plane.home import ProcessRecord, is_alive, read_record
from control_plane.settings import Settings
from control_plane.telemetry.names import METRICS

OF_DATABASE = (
    "qcos.jobs",
    "qcos.queue.age",
    "qcos.sealed.age",
    "qcos.seal.alarm",
    "qcos.inbox.entries",
    "qcos.log.entries",
    "qcos.stamps.awaited",
    "qcos.stamps.age",
    "qcos.witness.entries",
    "qcos.outside.faults",
    "qcos.holds",
    "qcos.hold.age",
    "qcos.backends",
)
OF_PROCESSES = ("qcos.process.ready", "qcos.process.restarts", "qcos.process.memory")
_PAGE = resource.getpagesize()
Reading = list[tuple[str, dict[str, str], float]]


async def run(settings: Settings, meter: Meter, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Read every `metric_interval_s` until `stop` is set."""
    gauges = Gauges(meter)
    pool = engine(Database.of_home(settings.home / "db").audit, connections=1, name="qcos-telemetry")
    try:
        while not stop.is_set():
            gauges.now = [*await _of_database(pool), *of_processes(settings.home)]
            ready()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.telemetry.metric_interval_s):
                    await stop.wait()
    finally:
        await pool.dispose()


async def _of_database(pool: object) -> Reading:
    try:
        async with asyncio.timeout(5), transaction(pool, None) as conn:  # type: ignore[arg-type]
            return await store.gauges(conn)
    except (*FAULTS, TimeoutError):
        return []


def of_processes(home: Path) -> Reading:
    """Readiness, restarts and memory of each process, from the record that `up` keeps and the kernel."""
    record = read_record(home)
    found: Reading = []
    for process in record.processes if record is not None else ():
        name = {"process": process.name}
        alive = is_alive(process.pid, process.started)
        found += [
            ("qcos.process.ready", name, float(process.ready and alive)),
            ("qcos.process.restarts", name, float(process.restarts)),
        ]
        if alive:
            found.append(("qcos.process.memory", name, float(_resident(process))))
    return found


def _resident(process: ProcessRecord) -> int:
    try:
        return int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


class Gauges:
    """Observable instruments over the newest reading."""

    def __init__(self, meter: Meter) -> None:
        """Make them; there is no reading yet."""
        self.now: Reading = []
        for name in (*OF_DATABASE, *OF_PROCESSES):
            metric = METRICS[name]
            make = meter.create_observable_counter if metric.form == "counter" else meter.create_observable_gauge
            make(name, [self._look(name)], metric.unit, metric.means)

    def _look(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def look(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, labels) for metric, labels, value in self.now if metric == name]

        return look
