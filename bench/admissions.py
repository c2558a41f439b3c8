# SPDX-License-Identifier: Apache-2.0
"""Whole admissions a second, on one hot budget: scan, look, decide by OPA, hold, job row, blobs and entries, durable.

What an API process does for a request between reading its body and answering it, by the plane's own code, in so many
processes of the bench, each with its share of the clients. The bell's bytes are parsed once; nothing runs, for each job
is put off. OPA and PostgreSQL are the running plane's, whose sealer seals meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import json
import multiprocessing
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.machine import ROOT
from bench.plane import Plane
from bench.processes import cpu_ms, use
from bench.record import Figures, Run, table
from bench.spread import in_ms
from control_plane.auth.principal import Principal
from control_plane.context import open_plane
from control_plane.db import Database
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
        found: list[tuple[list[float], float]] = pool.starmap(_process, [asked] * processes)
    after = use(plane.status)
    took = [one for times, _ in found for one in times]
    return {
        "processes": processes,
        "clients": clients,
        "decided": decided,
        "per_s": len(took) / seconds,
        "ms": in_ms(took),
        "cpu_ms": cpu_ms(before, after, len(took)) | {"admitting": sum(spent for _, spent in found) / len(took) * 1e3},
    }


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


def _process(home: str, clients: int, seconds: float, decided: str) -> tuple[list[float], float]:
    return asyncio.run(_admitting(home, clients, seconds, decided))


async def _admitting(home: str, clients: int, seconds: float, decided: str) -> tuple[list[float], float]:
    settings = load({"home": home})
    settings = msgspec.structs.replace(
        settings, policy_engine="opa", opa_url=f"unix://{settings.opa_socket}", policy_limit_s=30.0
    )
    database = Database.of_home(Path(home) / "db")
    plane = open_plane(settings, database, connections=min(clients, 16) + 2, name="bench")
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
        ends = time.perf_counter() + 0.5
        await client()  # what a process learns once
        took.clear()
        spent, ends = time.process_time(), time.perf_counter() + seconds
        await asyncio.gather(*(client() for _ in range(clients)))
        return took, time.process_time() - spent
    finally:
        await plane.pdp.close()
        await plane.engine.dispose()


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
        f"| {_cpu(row, 'admitting')} | {_cpu(row, 'opa')} | {_cpu(row, 'postgres: app')} | {_cpu(row, 'sealer')} "
        f"| {GOAL if row['clients'] == max(CLIENTS) and row['decided'] == 'each' else ''} |"
        for row in rows
    ]
    head = (
        "| clients in processes | a second | ms: p50, p99 | CPU ms each: admitting | OPA | PostgreSQL | sealer | goal |"
    )
    return {"finops-admissions": table(head, lines)}


def _cpu(row: Figures, name: str) -> str:
    return f"{row['cpu_ms'].get(name, 0.0):.2f}"
