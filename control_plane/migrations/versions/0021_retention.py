# SPDX-License-Identifier: Apache-2.0
"""How long a job's contents are kept, who stopped their erasure, and the one way in which a blob's key goes (G12).

`app` still can't change a blob: it may call `ledger.erase`, which takes keys and contents away, and only from blobs of
the transaction's tenant.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0021_retention"
down_revision = "0020_reservations"
branch_labels = None
depends_on = None

# They stand in the entries of admission and erasure, from which they are read again.
EXPENDABLE = frozenset({"jobs.job.retention_days", "jobs.job.erase_from", "jobs.job.erased_at"})

TABLES = """
ALTER TABLE jobs.job
    ADD COLUMN retention_days integer,
    ADD COLUMN erase_from timestamptz,
    ADD COLUMN erased_at timestamptz;
-- A job's retention begins at its end, which is not before its submission: nobody else need be looked at.
CREATE INDEX job_expiring ON jobs.job (erase_from) WHERE erase_from IS NOT NULL AND erased_at IS NULL;

CREATE TABLE jobs.legal_hold (
    tenant text,
    hold_id uuid,
    scope text NOT NULL,
    reason text NOT NULL,
    placed_at timestamptz NOT NULL,
    placed_by text NOT NULL,
    released_at timestamptz,
    released_by text,
    PRIMARY KEY (tenant, hold_id),
    CHECK (num_nulls(released_at, released_by) IN (0, 2))
);
CREATE INDEX legal_hold_standing ON jobs.legal_hold (tenant, scope) WHERE released_at IS NULL;
"""

FUNCTIONS = {
    # How many keys were there to be erased. The nonce alone says nothing.
    "ledger.erase(text[])": """
CREATE FUNCTION ledger.erase(p_commitments text[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        UPDATE ledger.blob b SET wrapped_key = NULL, ciphertext = ''
        WHERE b.tenant = nullif(current_setting('qcos.tenant', true), '')
          AND b.commitment = ANY (p_commitments) AND b.wrapped_key IS NOT NULL
        RETURNING 1)
    SELECT count(*) FROM gone
$$
""",
    # Work is found whosesoever it is; what is done to it is done as its tenant.
    "jobs.expired(timestamptz, integer)": """
CREATE FUNCTION jobs.expired(p_now timestamptz, p_most integer) RETURNS TABLE (tenant text, job_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.tenant, j.job_id FROM jobs.job j
    WHERE j.erase_from <= p_now AND j.erased_at IS NULL AND j.final IS NOT NULL
      AND (j.history -> -1 ->> 'at')::timestamptz + make_interval(days => j.retention_days) <= p_now
      AND NOT EXISTS (
          SELECT 1 FROM jobs.legal_hold h
          WHERE h.tenant = j.tenant AND h.released_at IS NULL
            AND h.scope IN ('tenant', 'project:' || j.project, 'job:' || j.job_id, 'actor:' || j.pseudonym))
    ORDER BY j.erase_from LIMIT p_most
$$
""",
}


# A program before this one may have been here for a while: what the ledger tells is as if this one had always been.
AGAIN = """
WITH told AS (
    SELECT tenant, kind, leaf AS record FROM ledger.entry
    WHERE kind IN ('job:admission:allowed', 'job:admission:denied', 'evidence:content:erased')
    UNION ALL
    SELECT tenant, convert_from(pending, 'UTF8')::jsonb ->> 'kind', pending FROM ledger.inbox
    UNION ALL
    SELECT tenant, convert_from(pending, 'UTF8')::jsonb ->> 'kind', pending FROM ledger.unfolded
    UNION ALL
    SELECT tenant, convert_from(pending, 'UTF8')::jsonb ->> 'kind', pending FROM ledger.folded),
bodies AS (SELECT tenant, kind, convert_from(record, 'UTF8')::jsonb -> 'body' AS body FROM told),
jobs AS (
    SELECT tenant, body ->> 'job_id' AS job_id,
           max((body ->> 'retention_days')::integer) FILTER (WHERE kind LIKE 'job:admission:%') AS days,
           max((body ->> 'at')::timestamptz) FILTER (WHERE kind = 'evidence:content:erased') AS erased_at
    FROM bodies WHERE kind LIKE 'job:admission:%' OR kind = 'evidence:content:erased' GROUP BY 1, 2)
UPDATE jobs.job j
SET retention_days = t.days, erase_from = j.submitted_at + make_interval(days => t.days), erased_at = t.erased_at
FROM jobs t WHERE t.tenant = j.tenant AND t.job_id = j.job_id AND (t.days IS NOT NULL OR t.erased_at IS NOT NULL)
"""


def upgrade() -> None:
    """Add columns, holds and functions."""
    op.execute(TABLES)
    op.execute(AGAIN)
    protect("jobs.legal_hold", app="SELECT, INSERT, UPDATE (released_at, released_by)")
    for name, statement in FUNCTIONS.items():
        op.execute(statement)
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {roles().app}")


def downgrade() -> None:
    """Drop them; what was erased stays erased."""
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}")
    op.execute("DROP TABLE jobs.legal_hold")
    op.execute("DROP INDEX jobs.job_expiring")
    op.execute("ALTER TABLE jobs.job DROP COLUMN retention_days, DROP COLUMN erase_from, DROP COLUMN erased_at")
