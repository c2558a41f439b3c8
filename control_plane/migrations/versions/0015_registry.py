# SPDX-License-Identifier: Apache-2.0
"""The registry of backends remembers: calibrations as they change, the queue over time; jobs know how long they waited.

What is kept a backend is bounded by age and number; workers prune it (`registry.store.prune`). These tables are of the
plane, not of a tenant: they hold nothing of any job. A job's three durations are those of its outcome entry's facts.
"""

from __future__ import annotations

import importlib

from alembic import op

from control_plane.migrations.walls import protect

revision = "0015_registry"
down_revision = "0014_denials"
branch_labels = None
depends_on = None

# Workers report the registry anew, and a job's durations stand in its outcome entry.
EXPENDABLE = frozenset(
    {
        "jobs.backend_calibration",
        "jobs.backend_queue",
        "jobs.job.queue_s",
        "jobs.job.wait_s",
        "jobs.job.run_s",
        *(
            f"jobs.backend.{name}"
            for name in ("queue_depth", "queue_s", "max_shots", "simulator", "calibration", "changed_at")
        ),
    }
)

TABLES = """
ALTER TABLE jobs.backend
    ADD COLUMN queue_depth integer,
    ADD COLUMN queue_s double precision,
    ADD COLUMN max_shots integer,
    ADD COLUMN simulator boolean,
    ADD COLUMN calibration jsonb,
    ADD COLUMN changed_at timestamptz NOT NULL DEFAULT clock_timestamp();

-- A calibration's bytes, once for as long as it is in force; `seen_at` is when a worker last found it so.
CREATE TABLE jobs.backend_calibration (
    backend text NOT NULL,
    hash text NOT NULL,
    calibration_id text NOT NULL,
    valid_from timestamptz NOT NULL,
    data bytea NOT NULL,
    facts jsonb NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (backend, hash)
);

-- One row a backend and five minutes: how it stood at the worst and how much waited at most.
CREATE TABLE jobs.backend_queue (
    backend text NOT NULL,
    at timestamptz NOT NULL,
    online boolean NOT NULL,
    reason text,
    depth integer NOT NULL,
    queue_s double precision NOT NULL,
    reports integer NOT NULL DEFAULT 1,
    PRIMARY KEY (backend, at)
);

-- From submission to start, from handing over to start, and from start to end; null where it wasn't measured.
ALTER TABLE jobs.job
    ADD COLUMN queue_s double precision,
    ADD COLUMN wait_s double precision,
    ADD COLUMN run_s double precision;
"""
MEASURED = ("queue_s", "wait_s", "run_s")


def upgrade() -> None:
    """Add the tables and columns, and let a job's end write its durations."""
    op.execute(TABLES)
    for table in ("jobs.backend_calibration", "jobs.backend_queue"):
        protect(table, app="SELECT, INSERT, UPDATE, DELETE", tenant_column="")
    op.execute(_advance(MEASURED))


def downgrade() -> None:
    """Forget them."""
    op.execute(_advance(()))
    op.execute("ALTER TABLE jobs.job DROP COLUMN queue_s, DROP COLUMN wait_s, DROP COLUMN run_s")
    op.execute("DROP TABLE jobs.backend_queue; DROP TABLE jobs.backend_calibration")
    op.execute("""
        ALTER TABLE jobs.backend
            DROP COLUMN queue_depth, DROP COLUMN queue_s, DROP COLUMN max_shots, DROP COLUMN simulator,
            DROP COLUMN calibration, DROP COLUMN changed_at
    """)


def _advance(more: tuple[str, ...]) -> str:
    """The function of revision 6 with more columns that may change."""
    writes = importlib.import_module("control_plane.migrations.versions.0006_writes")
    statement: str = writes.ADVANCE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    last = "lease_until, handle"
    statement = statement.replace(f"{last}) = (", f"{', '.join((last, *more))}) = (")
    picked = "r.lease_until, r.handle"
    return statement.replace(picked, ", ".join((picked, *(f"r.{name}" for name in more))))
