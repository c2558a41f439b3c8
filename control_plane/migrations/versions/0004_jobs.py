# SPDX-License-Identifier: Apache-2.0
"""Jobs, idempotency keys and the registry of backends (G1, G9, N9, N10)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0004_jobs"
down_revision = "0003_auth"
branch_labels = None
depends_on = None

TABLES = """
CREATE SCHEMA jobs;

CREATE TABLE jobs.job (
    tenant text NOT NULL,
    job_id text NOT NULL,
    project text NOT NULL,
    team text,
    subject text NOT NULL,
    actor text NOT NULL,
    pseudonym text NOT NULL,
    state text NOT NULL,
    final text,
    seq integer NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    level text NOT NULL,
    executions bigint NOT NULL,
    submitted_at timestamptz NOT NULL,
    history jsonb NOT NULL,
    decision_id uuid NOT NULL,
    decision jsonb NOT NULL,
    spec_blob text NOT NULL,
    input_blob text NOT NULL,
    admission_entry uuid NOT NULL,
    hold_amount numeric,
    currency text,
    -- routing and dispatch
    allowed text[] NOT NULL DEFAULT '{}',
    route jsonb NOT NULL DEFAULT '[]',
    backend text,
    token text,
    -- the outcome
    outcome_entry uuid,
    bundle_id uuid,
    statement_blob text,
    result_blob text,
    artefacts jsonb NOT NULL DEFAULT '{}',
    cost_amount numeric,
    rate_card text,
    partial text,
    error jsonb,
    -- operational: no entry tells of these
    cancel_requested boolean NOT NULL DEFAULT false,
    worker text,
    lease_until timestamptz,
    handle jsonb,
    PRIMARY KEY (tenant, job_id)
);
CREATE INDEX job_waiting ON jobs.job (submitted_at) WHERE state = 'QUEUED';
CREATE INDEX job_running ON jobs.job (lease_until) WHERE state IN ('COMPILING', 'RESERVING', 'EXECUTING');
CREATE INDEX job_sealing ON jobs.job (submitted_at) WHERE state = 'SEALING';
CREATE INDEX job_listed ON jobs.job (tenant, submitted_at DESC, job_id DESC);
CREATE INDEX job_unfinished ON jobs.job (tenant, project)
    WHERE state IN ('QUEUED', 'HELD', 'COMPILING', 'RESERVING', 'EXECUTING');

-- Executions admitted a day (UTC) by team and by project: what quotas judge, so that no request sums a day's jobs.
CREATE TABLE jobs.usage (
    tenant text NOT NULL,
    scope text NOT NULL,
    day date NOT NULL,
    executions bigint NOT NULL,
    PRIMARY KEY (tenant, scope, day)
);

CREATE TABLE jobs.idempotency (
    tenant text NOT NULL,
    subject text NOT NULL,
    key text NOT NULL,
    body_sha256 text NOT NULL,
    job_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, subject, key)
);
CREATE INDEX idempotency_age ON jobs.idempotency (created_at);

-- What workers say of the backends that they drive. Of the plane, not of a tenant.
CREATE TABLE jobs.backend (
    id text PRIMARY KEY,
    provider text NOT NULL,
    state text NOT NULL,
    reason text,
    qubits integer NOT NULL,
    formats text[] NOT NULL,
    region text NOT NULL,
    compliance_zone text NOT NULL,
    sovereign boolean NOT NULL,
    capability jsonb NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""

# Evidence is ready once its entry is sealed and, where its level is `full`, each signature has the time-stamp
# token of every authority that is due. The caller's row-level security applies: a stranger's evidence is never ready.
READY = """
CREATE FUNCTION jobs.evidence_ready(entry uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM ledger.entry e WHERE e.entry_id = entry)
       AND NOT EXISTS (
           SELECT 1 FROM ledger.signature s
           WHERE s.entry_id = entry AND s.p256 IS NOT NULL
             AND (NOT EXISTS (SELECT 1 FROM ledger.token t WHERE t.imprint = sha256(s.mldsa65))
               OR NOT EXISTS (SELECT 1 FROM ledger.token t WHERE t.imprint = sha256(s.p256))
               OR EXISTS (SELECT 1 FROM ledger.unstamped u WHERE u.imprint IN (sha256(s.mldsa65), sha256(s.p256)))))
$$;
"""

# Workers serve every tenant but may read none before they hold a job of it: this function leases jobs and tells
# only whose they are. A job waits until its admission is sealed (I1), or until the lease of a lost worker ends.
CLAIM = """
CREATE FUNCTION jobs.claim(claimer text, lease_s double precision, at_most integer)
RETURNS TABLE (tenant text, job_id text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH waiting AS (
        SELECT j.tenant, j.job_id FROM jobs.job j
        WHERE j.state = 'QUEUED' AND (j.lease_until IS NULL OR j.lease_until < clock_timestamp())
          AND EXISTS (SELECT 1 FROM ledger.entry e WHERE e.entry_id = j.admission_entry)
        ORDER BY j.submitted_at LIMIT at_most FOR UPDATE OF j SKIP LOCKED
    ), lost AS (
        SELECT j.tenant, j.job_id FROM jobs.job j
        WHERE j.state IN ('COMPILING', 'RESERVING', 'EXECUTING') AND j.lease_until < clock_timestamp()
        ORDER BY j.lease_until LIMIT at_most FOR UPDATE OF j SKIP LOCKED
    ), picked AS (
        SELECT * FROM lost UNION SELECT * FROM waiting LIMIT at_most
    )
    UPDATE jobs.job j SET worker = claimer, lease_until = clock_timestamp() + make_interval(secs => lease_s)
    FROM picked p WHERE j.tenant = p.tenant AND j.job_id = p.job_id
    RETURNING j.tenant, j.job_id
$$;

-- A heartbeat renews the leases of what a worker works on and tells it what to cancel; what it has lost is left out.
CREATE FUNCTION jobs.heartbeat(claimer text, lease_s double precision, tenants text[], jobs text[])
RETURNS TABLE (tenant text, job_id text, attempt integer, cancel_requested boolean)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE jobs.job j SET lease_until = clock_timestamp() + make_interval(secs => lease_s)
    FROM unnest(tenants, jobs) AS held (tenant, job_id)
    WHERE j.tenant = held.tenant AND j.job_id = held.job_id
      AND j.worker = claimer AND j.state IN ('COMPILING', 'RESERVING', 'EXECUTING')
    RETURNING j.tenant, j.job_id, j.attempt, j.cancel_requested
$$;

-- The state column is a cache: what is sealed, and stamped where its level wants that, gets its final state.
CREATE FUNCTION jobs.settle_states(at_most integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH done AS (
        SELECT j.tenant, j.job_id FROM jobs.job j
        WHERE j.state = 'SEALING' AND jobs.evidence_ready(j.outcome_entry)
        ORDER BY j.submitted_at LIMIT at_most FOR UPDATE OF j SKIP LOCKED
    ), moved AS (
        UPDATE jobs.job j SET state = j.final FROM done d
        WHERE j.tenant = d.tenant AND j.job_id = d.job_id RETURNING 1
    )
    SELECT count(*)::integer FROM moved
$$;

-- An idempotency key is kept for 24 hours.
CREATE FUNCTION jobs.forget_keys() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM jobs.idempotency WHERE created_at < clock_timestamp() - interval '24 hours'
$$;
"""


def upgrade() -> None:
    """Create the schema, its walls, and the three functions that look across tenants."""
    op.execute(TABLES)
    protect("jobs.job", app="SELECT, INSERT, UPDATE")
    protect("jobs.usage", app="SELECT, INSERT, UPDATE")
    protect("jobs.idempotency", app="SELECT, INSERT, UPDATE")
    names = roles()
    op.execute(f"GRANT USAGE ON SCHEMA jobs TO {names.app}, {names.audit}")
    op.execute(
        f"GRANT SELECT, INSERT, UPDATE ON jobs.backend TO {names.app}; GRANT SELECT ON jobs.backend TO {names.audit}"
    )
    op.execute(READY)
    op.execute(CLAIM)
    for function in (
        "claim(text, double precision, integer)",
        "heartbeat(text, double precision, text[], text[])",
        "settle_states(integer)",
        "forget_keys()",
    ):
        op.execute(f"REVOKE ALL ON FUNCTION jobs.{function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION jobs.{function} TO {names.app}")


def downgrade() -> None:
    """Drop the schema; the ledger keeps every entry."""
    op.execute("DROP SCHEMA jobs CASCADE")
