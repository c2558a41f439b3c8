# SPDX-License-Identifier: Apache-2.0
"""The outbox of notices (G2): whom policy obliges to tell of a job, written in the job's own transaction.

A row is deleted once it is delivered or given up; an entry tells which. The trigger runs with its caller's rights, so
row-level security holds inside.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0026_notices"
down_revision = "0024_policy"
branch_labels = None
depends_on = None

EXPENDABLE = frozenset({"jobs.notice"})

TABLE = """
CREATE TABLE jobs.notice (
    tenant text NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    channel text NOT NULL,
    body jsonb NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, id)
);
CREATE INDEX notice_due ON jobs.notice (due_at);

CREATE FUNCTION jobs.notify_of_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs.notice (tenant, channel, body)
        SELECT NEW.tenant, o.one ->> 'value', jsonb_build_object(
            'version', 1, 'event', 'job:obliged', 'tenant', NEW.tenant, 'project', NEW.project, 'job_id', NEW.job_id,
            'state', NEW.state, 'actor', NEW.actor, 'decision_id', NEW.decision_id,
            'policy_revision', NEW.decision ->> 'policy_revision',
            'because', o.one ->> 'because', 'rule', o.one ->> 'rule',
            'at', to_char(NEW.submitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        FROM jsonb_array_elements(NEW.decision -> 'obligations') AS o (one) WHERE o.one ->> 'kind' = 'notify';
    RETURN NULL;
END
$$;
CREATE TRIGGER notices AFTER INSERT ON jobs.job FOR EACH ROW
    WHEN (NEW.decision ? 'obligations') EXECUTE FUNCTION jobs.notify_of_job();
"""

# Work is found whosesoever it is; what is done to it is done as its tenant.
DUE = """
CREATE FUNCTION jobs.due_notices(p_lease_s double precision, p_most integer) RETURNS TABLE (tenant text, id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE jobs.notice n SET due_at = clock_timestamp() + make_interval(secs => p_lease_s)
    FROM (SELECT d.tenant, d.id FROM jobs.notice d WHERE d.due_at <= clock_timestamp()
          ORDER BY d.due_at LIMIT p_most FOR UPDATE SKIP LOCKED) AS due
    WHERE n.tenant = due.tenant AND n.id = due.id
    RETURNING n.tenant, n.id
$$;
"""


def upgrade() -> None:
    """Add the table, what fills it, and what finds work in it."""
    op.execute(TABLE)
    protect("jobs.notice", app="SELECT, INSERT, UPDATE, DELETE")
    op.execute("REVOKE ALL ON FUNCTION jobs.notify_of_job() FROM PUBLIC")
    op.execute(DUE)
    op.execute("REVOKE ALL ON FUNCTION jobs.due_notices(double precision, integer) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION jobs.due_notices(double precision, integer) TO {roles().app}")


def downgrade() -> None:
    """Drop them; notices that weren't delivered are lost."""
    op.execute("DROP TRIGGER notices ON jobs.job")
    op.execute("DROP FUNCTION jobs.due_notices(double precision, integer)")
    op.execute("DROP FUNCTION jobs.notify_of_job()")
    op.execute("DROP TABLE jobs.notice")
