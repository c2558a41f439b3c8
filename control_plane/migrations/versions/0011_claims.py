# SPDX-License-Identifier: Apache-2.0
"""A claim is a lease and nothing more: a job is compiled while its admission is sealed, and told with what comes next.

Workers hear of an admission from its own commit (a notification an admission serialises commits: some 4,000 a second
here, far above what admission reaches). `losses` counts the workers that a waiting job was lost with, for which no
entry was due.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import roles

revision = "0011_claims"
down_revision = "0010_lists"
branch_labels = None
depends_on = None

# Counted anew from the next loss on; nothing but the end of a job that breaks every worker rests on it.
EXPENDABLE = frozenset({"jobs.job.losses"})

WAITING = """
        SELECT j.tenant, j.job_id FROM jobs.job j
        WHERE j.state = 'QUEUED' AND (j.lease_until IS NULL OR j.lease_until < clock_timestamp()){sealed}
        ORDER BY j.submitted_at LIMIT at_most FOR UPDATE OF j SKIP LOCKED
"""
SEALED = """
          AND EXISTS (SELECT 1 FROM ledger.entry e WHERE e.entry_id = j.admission_entry)"""
CLAIM = """
CREATE OR REPLACE FUNCTION jobs.claim(claimer text, lease_s double precision, at_most integer)
RETURNS TABLE (tenant text, job_id text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH waiting AS ({waiting}    ), lost AS (
        SELECT j.tenant, j.job_id FROM jobs.job j
        WHERE j.state IN ('COMPILING', 'RESERVING', 'EXECUTING') AND j.lease_until < clock_timestamp()
        ORDER BY j.lease_until LIMIT at_most FOR UPDATE OF j SKIP LOCKED
    ), picked AS (
        SELECT * FROM lost UNION SELECT * FROM waiting LIMIT at_most
    )
    UPDATE jobs.job j SET worker = claimer, lease_until = clock_timestamp() + make_interval(secs => lease_s){losses}
    FROM picked p WHERE j.tenant = p.tenant AND j.job_id = p.job_id
    RETURNING j.tenant, j.job_id
$$;
"""
LOSSES = """,
        losses = j.losses + CASE WHEN j.state = 'QUEUED' AND j.worker IS NOT NULL THEN 1 ELSE 0 END"""
HEARTBEAT = """
CREATE OR REPLACE FUNCTION jobs.heartbeat(claimer text, lease_s double precision, tenants text[], jobs text[])
RETURNS TABLE (tenant text, job_id text, attempt integer, cancel_requested boolean)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE jobs.job j SET lease_until = clock_timestamp() + make_interval(secs => lease_s)
    FROM unnest(tenants, jobs) AS held (tenant, job_id)
    WHERE j.tenant = held.tenant AND j.job_id = held.job_id
      AND j.worker = claimer AND j.state IN ({states})
    RETURNING j.tenant, j.job_id, j.attempt, j.cancel_requested
$$;
"""
RUNNING = "'COMPILING', 'RESERVING', 'EXECUTING'"
NOTIFY = """
CREATE FUNCTION jobs.tell_admitted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qcos_admitted', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER admitted AFTER INSERT ON jobs.job FOR EACH ROW WHEN (NEW.state = 'QUEUED')
    EXECUTE FUNCTION jobs.tell_admitted();
"""


def upgrade() -> None:
    """Claim before the seal, count losses, renew what waits for its seal, and tell workers of an admission."""
    op.execute("ALTER TABLE jobs.job ADD COLUMN losses integer NOT NULL DEFAULT 0")
    op.execute(CLAIM.format(waiting=WAITING.format(sealed=""), losses=LOSSES))
    op.execute(HEARTBEAT.format(states=f"'QUEUED', {RUNNING}"))
    op.execute(NOTIFY)
    op.execute(f"GRANT EXECUTE ON FUNCTION jobs.tell_admitted() TO {roles().app}")


def downgrade() -> None:
    """Claim after the seal again; losses are forgotten."""
    op.execute("DROP TRIGGER admitted ON jobs.job; DROP FUNCTION jobs.tell_admitted()")
    op.execute(HEARTBEAT.format(states=RUNNING))
    op.execute(CLAIM.format(waiting=WAITING.format(sealed=SEALED), losses=""))
    op.execute("ALTER TABLE jobs.job DROP COLUMN losses")
