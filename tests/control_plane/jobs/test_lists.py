# SPDX-License-Identifier: Apache-2.0
"""A list of jobs reads what it shows, however many jobs the tenant ever had (N18)."""

from __future__ import annotations

from collections import Counter

import psycopg
import pytest
from sqlalchemy import text

from control_plane.jobs import store
from control_plane.jobs.state import FINAL, State
from tests.control_plane.jobs.desk import Desk

MANY = 4000
FEW: dict[State, int] = {"CANCELED": 3, "FAILED": 4, "UNCERTAIN": 1, "HELD": 2, "QUEUED": 1, "EXECUTING": 2}
READ = (
    "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relid = 'jobs.job'::regclass"
)
COPIES = """
    INSERT INTO jobs.job SELECT copy.* FROM jobs.job j, generate_series(1, %(n)s) AS n,
        jsonb_populate_record(j, jsonb_build_object(
            'job_id', %(state)s || %(project)s || n, 'state', %(state)s::text, 'final', %(final)s::text,
            'project', %(project)s::text, 'submitted_at', j.submitted_at + n * interval '1 second')) AS copy
    WHERE j.job_id = %(pattern)s"""


async def filled(desk: Desk) -> None:
    """One job and copies of its row: most completed, a few otherwise, a few of another project."""
    pattern = (await desk.submit()).job_id
    with psycopg.connect(desk.database.conninfo("superuser"), autocommit=True) as conn:
        for state, n in {"COMPLETED": MANY, "SEALING": 2, **FEW}.items():
            final = "COMPLETED" if state == "SEALING" else state if state in FINAL else None
            told = {"state": state, "final": final, "n": n, "project": "demo", "pattern": pattern}
            conn.execute(COPIES, told)
        conn.execute(
            COPIES, {"state": "COMPLETED", "final": "COMPLETED", "n": 5, "project": "rare", "pattern": pattern}
        )
        conn.execute("DELETE FROM jobs.job WHERE job_id = %s", (pattern,))
        conn.execute("ANALYZE jobs.job")


async def listed(desk: Desk, state: State | None, project: str | None = None) -> tuple[Counter[str], int]:
    """The states on the first page, and how many rows were read for it."""
    async with desk.plane.transaction("demo") as conn:
        rows = await store.page(conn, limit=50, projects=None, subject=None, state=state, project=project, before=None)
        read = (await conn.execute(text(READ))).scalar_one()
    return Counter(row["state"] for row in rows), read


@pytest.mark.parametrize("state", [*FEW, "SEALING", "COMPLETED", None])
async def test_a_state_with_few_jobs_is_listed_without_reading_all(desk: Desk, state: State | None) -> None:
    await filled(desk)
    found, read = await listed(desk, state)
    assert found == {
        "COMPLETED": {"COMPLETED": 50},
        # Their outcome's entry isn't in the log: the copies are rows alone.
        "SEALING": {"SEALING": 2},
        None: {"COMPLETED": 50},
    }.get(state, {state: FEW.get(state, 0)})  # type: ignore[arg-type]
    assert read <= 60


async def test_a_project_with_few_jobs_is_listed_without_reading_all(desk: Desk) -> None:
    await filled(desk)
    found, read = await listed(desk, None, "rare")
    assert (found, read) == ({"COMPLETED": 5}, 5)
