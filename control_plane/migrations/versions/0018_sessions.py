# SPDX-License-Identifier: Apache-2.0
"""Sessions that workflows have open at backends: the next job of a loop, on whichever worker, uses them (S9)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0018_sessions"
down_revision = "0017_workflows"
branch_labels = None
depends_on = None

# A backend ends what nobody uses; the next job opens another.
EXPENDABLE = frozenset({"jobs.session"})

TABLE = """
CREATE TABLE jobs.session (
    tenant text NOT NULL,
    workflow text NOT NULL,
    name text NOT NULL,
    backend text NOT NULL,
    session text NOT NULL,
    used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, workflow, name, backend)
)
"""
# Takes away, of every tenant, what no job has used for so long and none that is on its way will: the caller closes it.
IDLE = """
CREATE FUNCTION jobs.idle_sessions(backends text[], idle_s double precision) RETURNS TABLE (backend text, session text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM jobs.session s
    WHERE s.backend = ANY (backends) AND s.used_at < clock_timestamp() - make_interval(secs => idle_s)
      AND NOT EXISTS (
          SELECT 1 FROM jobs.job j WHERE j.tenant = s.tenant AND j.workflow ->> 'id' = s.workflow
              AND j.state IN ('COMPILING', 'RESERVING', 'EXECUTING'))
    RETURNING s.backend, s.session
$$
"""


def upgrade() -> None:
    """Create both."""
    op.execute(TABLE)
    protect("jobs.session", app="SELECT, INSERT, UPDATE, DELETE")
    op.execute(IDLE)
    op.execute("REVOKE ALL ON FUNCTION jobs.idle_sessions(text[], double precision) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION jobs.idle_sessions(text[], double precision) TO {roles().app}")


def downgrade() -> None:
    """Drop both."""
    op.execute("DROP FUNCTION jobs.idle_sessions(text[], double precision)")
    op.execute("DROP TABLE jobs.session")
