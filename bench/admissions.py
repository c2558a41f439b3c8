# SPDX-License-Identifier: Apache-2.0
"""Whole admissions a second, on one hot budget: scan, look, decide by OPA, hold, job row, blobs and entries, durable.

What an API process does for a request between reading its body and answering it, by the plane's own code, in so many
processes of the bench, each with its share of the clients. The bell's bytes are parsed once; nothing runs, for each job
is put off. OPA and PostgreSQL are the running plane's, whose sealer seals meanwhile. PostgreSQL's CPU is that of the
sessions which admit: what the plane's worker has it do, whom each job wakes and who finds none due, is in the sum.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop

from bench.machine import ROOT
from bench.plane import Plane
from bench.processes import cpu_ms, spent_s, use
from bench.record import Figures, Run, table
from bench.spread import in_ms
from control_plane.auth.principal import Principal
from control_plane.context import open_plane
from control_plane.db import Database, read
from control_plane.jobs import reading
from control_plane.jobs.admit import admit
from control_plane.jobs.envelope import Envelope, Submit
from control_plane.policy.decision import Decision
from control_plane.policy.pdp import Pdp
from control_plane.sealing import utc_now
from control_plane.settings import load

CLIENTS = (1, 8, 64)
PROCESSES = (1, 2)
GOAL = 1000
PUT_OFF_S = 86_400.0


def measure(run: Run, plane: Plane) -> None:
    """Clients, and processes that share them."""
    seconds = 2.0 if run.quick else 10.0
    rows: list[Figures] = []
    for processes in PROCESSES:
        for clients in CLIENTS:
            if clients >= processes:
                rows.append(_row(plane, processes, clients, seconds, decided="each"))
                run.keep(admissions=rows)
                run.say(f"{clients} clients in {processes} processes: {rows[-1]['per_s']:.0f}/s")
    rows.append(_row(plane, max(PROCESSES), max(CLIENTS), seconds, decided="once"))
    run.keep(admissions=rows)


def _row(plane: Plane, processes: int, clients: int, seconds: float, *, decided: str) -> Figures:
    before = use(plane.status)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        asked = (str(plane.home), clients // processes, seconds, decided)
        found: list[_Spent] = pool.starmap(_process, [asked] * processes)
    after = use(plane.status)
    took = [one for spent in found for one in spent.took]
    own = {
        "admitting": sum(spent.own_s for spent in found) / len(took) * 1e3,
        "admitting: postgres": sum(spent.sessions_s for spent in found) / len(took) * 1e3,
    }
    return {
        "processes": processes,
        "clients": clients,
        "decided": decided,
        "per_s": len(took) / seconds,
        "ms": in_ms(took),
        "cpu_ms": cpu_ms(before, after, len(took) + sum(spent.warmed for spent in found)) | own,
    }


class _Spent(NamedTuple):
    """What a process of the bench took: seconds of each admission, and CPU of its own and of its sessions meanwhile.

    The plane's CPU is that of those before it, too: `warmed` of them.
    """

    took: list[float]
    warmed: int
    own_s: float
    sessions_s: float


class _Once(Pdp):
    """Decides the first and gives its decision to all others: what admissions cost without OPA."""

    def __init__(self, pdp: Pdp) -> None:
        super().__init__(pdp.engine, pdp.held)
        self._first: Decision | None = None

    async def decide(self, document: Mapping[str, object], decision_id: str, at: dt.datetime) -> Decision:
        """Ask once."""
        if self._first is None:
            self._first = await super().decide(document, decision_id, at)
        return msgspec.structs.replace(self._first, id=decision_id)


def _process(home: str, clients: int, seconds: float, decided: str) -> _Spent:
    return uvloop.run(_admitting(home, clients, seconds, decided))  # as the plane runs its own


async def _admitting(home: str, clients: int, seconds: float, decided: str) -> _Spent:
    settings = load({"home": home})
    settings = msgspec.structs.replace(
        settings, policy_engine="opa", opa_url=f"unix://{settings.opa_socket}", policy_limit_s=30.0
    )
    database = Database.of_home(Path(home) / "db")
    plane = open_plane(settings, database, connections=min(clients, 16) + 2, name=(name := f"bench-{os.getpid()}"))
    watch = plane.watch
    assert watch is not None
    if decided == "once":
        plane = dataclasses.replace(plane, pdp=_Once(plane.pdp))
    body = json.dumps(_spec()).encode()
    spec, digest, took = reading.parse(body), hashlib.sha256(body).hexdigest(), []
    ends = 0.0

    async def client() -> None:
        while (begun := time.perf_counter()) < ends:
            payload = Submit(spec, digest, None)
            made = await admit(plane, Envelope(WHO, payload, utc_now(), "bench"), payload, put_off_s=PUT_OFF_S)
            assert made.state == "QUEUED", made.problem
            took.append(time.perf_counter() - begun)

    try:
        await watch.look()
        ends = time.perf_counter() + seconds / 4
        await asyncio.gather(*(client() for _ in range(clients)))  # what a process, and each session, learns once
        warmed = len(took)
        took.clear()
        sessions = [row["pid"] for row in (await read(plane.engine, None, (_SESSIONS, {"name": name})))[0]]
        before = time.process_time(), spent_s(sessions)
        ends = time.perf_counter() + seconds
        await asyncio.gather(*(client() for _ in range(clients)))
        return _Spent(took, warmed, time.process_time() - before[0], spent_s(sessions) - before[1])
    finally:
        await plane.pdp.close()
        await plane.engine.dispose()


_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = %(name)s"
WHO = Principal(
    subject="bench",
    name="engineer",
    domain="demo",
    tenant="demo",
    issuer="urn:bench",
    pseudonym="a-demo-bench",
    roles=("quantum-engineer",),
)


def _spec() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((ROOT / "examples" / "bell.json").read_bytes())
    spec["evidence_requirements"]["level"] = "standard"
    return spec


def tables(figures: Figures) -> dict[str, str]:
    """Rate, latency, and whose CPU it took."""
    if "admissions" not in figures:
        return {}
    rows = figures["admissions"]
    lines = [
        f"| {row['clients']} in {row['processes']}{', decided once' if row['decided'] == 'once' else ''} "
        f"| {row['per_s']:,.0f} "
        f"| {row['ms']['p50']:.1f}, {row['ms']['p99']:.1f} "
        f"| {_cpu(row, 'admitting')} | {_cpu(row, 'opa')} | {_cpu(row, 'admitting: postgres')} "
        f"| {_cpu(row, 'sealer', 'postgres: sealer')} | {_all(row)} "
        f"| {GOAL if row['clients'] == max(CLIENTS) and row['decided'] == 'each' else ''} |"
        for row in rows
    ]
    head = (
        "| clients in processes | a second | ms: p50, p99 | CPU ms each: admitting | OPA | PostgreSQL | sealer "
        "| all | goal |"
    )
    return {"finops-admissions": table(head, lines)}


def _cpu(row: Figures, *names: str) -> str:
    return f"{sum(row['cpu_ms'].get(name, 0.0) for name in names):.2f}"


def _all(row: Figures) -> str:
    """Of every process of plane and bench; that of ended sessions is PostgreSQL's own by then."""
    return _cpu(row, *(row["cpu_ms"].keys() - {"admitting: postgres"}))
