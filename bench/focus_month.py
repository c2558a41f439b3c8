# SPDX-License-Identifier: Apache-2.0
"""A month of a million charges becomes a FOCUS file: how long it takes, and what memory (G7, G14).

The charges and their jobs lie in the plane's own database; their entries don't, for the log is the sealer's. A process
of its own runs what the API runs for `GET /api/v1/costs/export`, so that its peak of memory is the export's.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

from bench.plane import Plane
from bench.record import Figures, Run, table
from control_plane.costs import exporting
from control_plane.db import Database, engine
from finops.focus.selection import Selection

TENANT = "bench-month"
MONTH = "2026-11"
MOST = 1_000_000
FILES = (("1.2", "parquet"), ("1.4", "parquet"), ("1.2", "csv"))
GOAL_S, GOAL_MB = 10.0, 500

# Three lines a job, as of a QPU that bills shots, tasks and seconds. Without triggers: these rows have no entries.
_FILL = (
    "SET LOCAL session_replication_role = replica",
    """INSERT INTO jobs.job (tenant, job_id, project, team, subject, actor, pseudonym, state, final, seq, level,
        executions, submitted_at, history, decision_id, decision, spec_blob, input_blob, admission_entry, outcome_entry,
        bundle_id, queue_s)
    SELECT %(tenant)s, 'job-' || md5(i::text), 'project-' || i %% 20, 'team-' || i %% 7, 's', 'user:a@demo',
        'p' || i %% 50, 'COMPLETED', 'COMPLETED', 5, 'standard', 1000,
        timestamptz '2026-11-01Z' + i * interval '7 seconds', '[]', gen_random_uuid(), '{}', 'x', 'y',
        gen_random_uuid(), md5('e' || i)::uuid, md5('b' || i)::uuid, (i %% 100) / 7.0
    FROM generate_series(1, %(jobs)s) i""",
    """INSERT INTO finops.charge (tenant, entry_id, line, category, month, charged_at, job_id, project, cost_center,
        team, pseudonym, purpose, classification, provider, backend, region, started_at, ended_at, meter, quantity,
        unit, rate, amount, currency, source, reporter, rate_card)
    SELECT %(tenant)s, md5('e' || i)::uuid, l, 'usage', %(month)s, at, 'job-' || md5(i::text), 'project-' || i %% 20,
        'CC-' || i %% 30, 'team-' || i %% 7, 'p' || i %% 50, 'production-benchmark', 'internal-restricted',
        (ARRAY['aws-braket', 'ibm-quantum', 'aer'])[1 + i %% 3], 'backend-' || i %% 12, 'us-east-1',
        at - interval '3.217 seconds', at - interval '1.017 seconds', (ARRAY['shots', 'tasks', 'qpu_seconds'])[l + 1],
        (ARRAY[1000, 1, 1.234567])[l + 1], (ARRAY['Shots', 'Tasks', 'Seconds'])[l + 1],
        (ARRAY[0.00145, 0.3, 1.6])[l + 1], round((ARRAY[1.45, 0.3, 1.9753072])[l + 1], 6), 'USD',
        (ARRAY['measured', 'measured', 'vendor'])[l + 1], 'plane', 'sha256:' || repeat(md5((i %% 9)::text), 2)
    FROM generate_series(1, %(jobs)s) i, generate_series(0, 2) l,
        LATERAL (SELECT timestamptz '2026-11-01Z' + i * interval '7 seconds' AS at) t""",
)
_EMPTY = (
    "SET LOCAL session_replication_role = replica",
    "DELETE FROM finops.charge WHERE tenant = %(tenant)s",
    "DELETE FROM jobs.job WHERE tenant = %(tenant)s",
)


def measure(run: Run, plane: Plane) -> None:
    """Each file in a process of its own; the rows go again."""
    jobs = (MOST // 100 if run.quick else MOST) // 3
    _all(plane, _FILL, jobs)
    with plane.superuser() as conn:
        conn.execute("VACUUM (ANALYZE) finops.charge")
        conn.execute("VACUUM (ANALYZE) jobs.job")
    run.say(f"{3 * jobs} charges are there")
    rows: list[Figures] = []
    try:
        for version, form in FILES:
            told = subprocess.run(
                [sys.executable, "-m", "bench.focus_month", _place(plane), version, form],
                stdout=subprocess.PIPE,
                check=True,
                timeout=900,
            )
            rows.append({"version": version, "format": form, "lines": 3 * jobs} | json.loads(told.stdout))
            run.keep(focus_month=rows)
    finally:
        _all(plane, _EMPTY, jobs)


def tables(figures: Figures) -> dict[str, str]:
    """A row a file."""
    head = f"| FOCUS | format | lines | seconds (goal {GOAL_S:g}) | file, MB | peak memory, MB (goal {GOAL_MB}) |"
    rows = [
        f"| {row['version']} | {row['format']} | {row['lines']:,} | {row['seconds']:.1f} | {row['bytes'] / 1e6:.0f} "
        f"| {row['peak_mb']:.0f} |"
        for row in figures.get("focus_month", ())
    ]
    return {"finops-month": table(head, rows)}


def _all(plane: Plane, statements: tuple[str, ...], jobs: int) -> None:
    with plane.superuser() as conn, conn.transaction():
        for statement in statements:
            if "%(" in statement:
                conn.execute(statement.encode(), {"tenant": TENANT, "month": MONTH, "jobs": jobs})
            else:
                conn.execute(statement.encode())


def _place(plane: Plane) -> str:
    return Database.of_home(plane.home / "db").app


def main() -> None:
    """One file of one database, as the API makes it; its figures as JSON."""
    place, version, form = sys.argv[1:]
    sys.stdout.write(json.dumps(asyncio.run(_exported(place, exporting.Form(version, form)))))


async def _exported(place: str, form: exporting.Form) -> Figures:
    plane: Any = SimpleNamespace(engine=engine(place, connections=1), name="bench")
    begun, size = time.perf_counter(), 0
    try:
        async for piece in exporting.stream(plane, TENANT, Selection(month=MONTH), form):
            size += len(piece)
    finally:
        await plane.engine.dispose()
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "bytes": size, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
