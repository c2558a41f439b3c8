# SPDX-License-Identifier: Apache-2.0
"""A hold and its capture, as the plane makes them: one call each; few or many budgets, no past charges or many.

A job touches four budgets: tenant, project, cost centre, user.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from decimal import Decimal

import psycopg

import finops.store
from bench.plane import Plane
from bench.record import Figures, Run, table
from bench.spread import in_ms
from control_plane.db import Database, conninfo, engine, transaction
from control_plane.sealing import utc_now
from finops.budget import windows

SCOPES = ("project:p0", "cost_center:c0", "user:u0")  # and its tenant
SIZES = ((10, 0), (10_000, 0), (10, 1_000_000), (10_000, 1_000_000))
GOAL_MS = 2.0
WARM = 50

_HOLD = "SELECT min(outcome) FROM finops.place_hold(%s, %s, %s, %s, %s, %s, 0.52, 'USD', 0)"
_SETTLE = "SELECT outcome FROM finops.settle_hold(%s, %s, 0.38, 'USD', 0, 0)"
_OTHERS = """
    INSERT INTO finops.budget (tenant, budget_id, scope, period, limit_amount, unit)
    SELECT %(tenant)s, gen_random_uuid()::text, 'user:other-' || n, 'monthly', 1000, 'USD'
    FROM generate_series(1, %(most)s) n"""
_CHARGES = """
    INSERT INTO finops.charge (tenant, entry_id, line, category, month, charged_at, job_id, project, meter, quantity,
                               unit, rate, amount, currency, source)
    SELECT %(tenant)s, gen_random_uuid(), 0, 'usage', '2026-10', '2026-10-05T00:00:00Z', 'past-' || n, 'p0', 'shots',
           1000, 'Shots', 0.00008, 0.08, 'USD', 'measured'
    FROM generate_series(1, %(most)s) n"""
_HOLDS = """
    INSERT INTO finops.hold (tenant, job_id, amount, currency, budgets, windows, state, captured, released, overrun)
    SELECT %(tenant)s, 'past-' || n, 0.52, 'USD', %(budgets)s, %(windows)s, 'settled', 0.38, 0.14, 0
    FROM generate_series(1, %(most)s) n"""


def measure(run: Run, plane: Plane) -> None:
    """Every number of budgets and of past charges."""
    turns = 100 if run.quick else 1000
    rows: list[Figures] = []
    for number, (budgets, past) in enumerate(SIZES):
        asked = past // 100 if run.quick else past
        # A tenant each: no charge is ever deleted.
        rows.append(asyncio.run(_row(plane, f"bench-holds-{number}", budgets, asked, turns)))
        run.keep(holds=rows)
        run.say(f"{budgets} budgets, {asked} past charges")


async def _row(plane: Plane, tenant: str, budgets: int, past: int, turns: int) -> Figures:
    login = Database.of_home(plane.home / "db").app
    ids = await _budgets(login, tenant)
    with plane.superuser() as conn:
        conn.execute(_OTHERS.encode(), {"tenant": tenant, "most": budgets - len(ids)})
        if past:
            values = {"tenant": tenant, "most": past, "budgets": ids, "windows": ["2026-10"] * len(ids)}
            conn.execute(_CHARGES.encode(), values)
            conn.execute(_HOLDS.encode(), values)
        conn.execute("ANALYZE finops.charge, finops.hold, finops.budget, finops.budget_window")
    took: dict[str, list[float]] = {"hold": [], "capture": [], "both": []}
    async with await psycopg.AsyncConnection.connect(conninfo(login), autocommit=True, prepare_threshold=1) as db:
        await db.execute("SELECT set_config('qcos.tenant', %s, false)", (tenant,))
        for turn in range(turns + WARM):
            job, moment = str(uuid.uuid4()), windows(utc_now())
            begun = time.perf_counter()
            held = await db.execute(_HOLD, (tenant, job, ids, moment.monthly, moment.quarterly, moment.rolling))
            assert await held.fetchone() == ("held",)
            between = time.perf_counter()
            settled = await db.execute(_SETTLE, (tenant, job))
            assert await settled.fetchone() == ("settled",)
            ended = time.perf_counter()
            if turn >= WARM:
                for name, seconds in zip(took, (between - begun, ended - between, ended - begun), strict=True):
                    took[name].append(seconds)
    return {"budgets": budgets, "past": past, **{name: in_ms(seconds) for name, seconds in took.items()}}


async def _budgets(login: str, tenant: str) -> list[str]:
    pool, scopes = engine(login, connections=1), (f"tenant:{tenant}", *SCOPES)
    try:
        async with transaction(pool, tenant) as db:
            made = [await finops.store.set_budget(db, tenant, one, "monthly", Decimal(10**9), "USD") for one in scopes]
    finally:
        await pool.dispose()
    return [one.budget_id for one in made]


def tables(figures: Figures) -> dict[str, str]:
    """Hold, capture, and the two together."""
    if "holds" not in figures:
        return {}
    lines = [
        f"| {row['budgets']:,} | {row['past']:,} | {_shown(row['hold'])} | {_shown(row['capture'])} "
        f"| {_shown(row['both'])} | {GOAL_MS:g} |"
        for row in figures["holds"]
    ]
    head = "| budgets | past charges | hold, ms: p50, p99 | capture, ms | both, ms | goal, p50 of both |"
    return {"finops-holds": table(head, lines)}


def _shown(figures: Figures) -> str:
    return f"{figures['p50']:.2f}, {figures['p99']:.2f}"
