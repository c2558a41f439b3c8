# SPDX-License-Identifier: Apache-2.0
"""No tenant starves another: claims in turn, limits that the plane's operator sets, and when a tenant was closed (G11).

Work is claimed tenant by tenant, from the one after the last on; of a tenant first what waits longest. A tenant with a
limit on running jobs is counted under a lock that claims share, one on waiting jobs or a day's shots under the lock of
its own row: both hold exactly, whatever comes at once.
"""

from __future__ import annotations

import importlib
from typing import Any

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0030_tenants"
down_revision = "0029_engine_log"
branch_labels = None
depends_on = None

# Each was set by an entry of the tenant's, and can be set again.
EXPENDABLE = frozenset({"auth.tenant_limit", "auth.tenant.closed_at"})

TABLES = """
ALTER TABLE auth.tenant ADD COLUMN closed_at timestamptz;

-- A column without a value is no limit.
CREATE TABLE auth.tenant_limit (
    tenant text PRIMARY KEY REFERENCES auth.tenant,
    requests_per_s double precision CHECK (requests_per_s > 0 AND requests_per_s < 'infinity'),
    bytes_per_s double precision CHECK (bytes_per_s > 0 AND bytes_per_s < 'infinity'),
    waiting_jobs integer CHECK (waiting_jobs >= 0),
    running_jobs integer CHECK (running_jobs > 0),
    shots_per_day bigint CHECK (shots_per_day >= 0)
);

DROP INDEX jobs.job_waiting;
CREATE INDEX job_queue ON jobs.job (tenant, submitted_at) WHERE state = 'QUEUED';
CREATE INDEX job_asking ON jobs.job (tenant, lease_until) WHERE state = 'AWAITING_APPROVAL';
CREATE INDEX job_held ON jobs.job (tenant) WHERE worker IS NOT NULL
    AND state IN ('QUEUED', 'COMPILING', 'RESERVING', 'EXECUTING', 'AWAITING_APPROVAL');
"""

# Who is looked at for one claim: with more tenants than that waiting, the next claim begins where this one ended.
RING = 32

# The first tenant after the one named that has something waiting, whoever may take it.
NEXT = """least(
            (SELECT j.tenant FROM jobs.job j WHERE j.state = 'QUEUED' AND j.tenant > {0}
             ORDER BY j.tenant, j.submitted_at LIMIT 1),
            (SELECT j.tenant FROM jobs.job j WHERE j.state = 'AWAITING_APPROVAL' AND j.tenant > {0}
             ORDER BY j.tenant, j.lease_until LIMIT 1))"""

FREE = "(j.lease_until IS NULL OR j.lease_until < clock_timestamp())"

# busy: whose jobs the claimer runs, one name a job. shut: from whom it takes nothing now. after: where the last claim
# ended. Answers {"jobs": [[tenant, job id]], "after": tenant}. A tenant's turn is what it has at the claimer, and then
# its place in the round: so one with long jobs doesn't fill the claimer with them. Of more candidates than are taken,
# those that another claims at this moment are passed over.
CLAIM = f"""
CREATE FUNCTION jobs.claim(claimer text, lease_s double precision, at_most integer, busy text[] DEFAULT '{{}}',
                           shut text[] DEFAULT '{{}}', after text DEFAULT '')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Statistics of a queue are never of now: each step has its index, and no other plan is ever better by much.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_counted boolean := EXISTS (SELECT 1 FROM auth.tenant_limit l WHERE l.running_jobs IS NOT NULL);
    v_found jsonb;
BEGIN
    IF v_counted THEN
        -- Two claims at once would each find the last free place.
        PERFORM pg_advisory_xact_lock(hashtext('jobs.claim'), 0);
    END IF;
    WITH RECURSIVE onward (tenant, place) AS (
        SELECT {NEXT.format("after")}, 1
        UNION ALL
        SELECT {NEXT.format("o.tenant")}, o.place + 1 FROM onward o WHERE o.tenant IS NOT NULL AND o.place < {RING}
    ), around (tenant, place) AS (
        SELECT {NEXT.format("''::text")}, {RING} + 1
        UNION ALL
        SELECT {NEXT.format("o.tenant")}, o.place + 1 FROM around o WHERE o.tenant < after AND o.place < {2 * RING}
    ), ring AS (
        SELECT r.tenant, r.place FROM (
            SELECT o.tenant, o.place FROM onward o WHERE o.tenant IS NOT NULL
            UNION ALL SELECT o.tenant, o.place FROM around o WHERE o.tenant <= after) AS r
        ORDER BY r.place LIMIT {RING}
    ), held AS (
        SELECT b.tenant, count(*) AS n FROM unnest(busy) AS b (tenant) GROUP BY b.tenant
    ), running AS (
        SELECT j.tenant, count(*) AS n FROM jobs.job j
        WHERE v_counted AND j.worker IS NOT NULL
          AND j.state IN ('QUEUED', 'COMPILING', 'RESERVING', 'EXECUTING', 'AWAITING_APPROVAL')
          AND (j.state IN ('COMPILING', 'RESERVING', 'EXECUTING') OR j.lease_until >= clock_timestamp())
        GROUP BY j.tenant
    ), ranked AS (
        SELECT r.tenant, w.job_id, r.place, coalesce(h.n, 0) AS held,
               row_number() OVER (PARTITION BY r.tenant ORDER BY w.submitted_at) AS nth
        FROM ring r LEFT JOIN held h ON h.tenant = r.tenant
        CROSS JOIN LATERAL (
            (SELECT j.job_id, j.submitted_at FROM jobs.job j
             WHERE j.tenant = r.tenant AND j.state = 'QUEUED' AND {FREE}
             ORDER BY j.submitted_at LIMIT at_most + 8)
            UNION ALL
            (SELECT j.job_id, j.submitted_at FROM jobs.job j
             WHERE j.tenant = r.tenant AND j.state = 'AWAITING_APPROVAL' AND {FREE}
             ORDER BY j.lease_until NULLS FIRST LIMIT at_most + 8)) AS w
        WHERE NOT r.tenant = ANY (shut)
    ), candidate AS MATERIALIZED (
        SELECT k.tenant, k.job_id, k.held + k.nth AS turn, k.place FROM ranked k
        LEFT JOIN auth.tenant_limit l ON l.tenant = k.tenant LEFT JOIN running n ON n.tenant = k.tenant
        WHERE l.running_jobs IS NULL OR k.nth <= l.running_jobs - coalesce(n.n, 0)
        ORDER BY k.held + k.nth, k.place LIMIT 8 * at_most + 16
    ), waiting AS (
        SELECT j.tenant, j.job_id, c.turn, c.place
        FROM candidate c JOIN jobs.job j ON j.tenant = c.tenant AND j.job_id = c.job_id
        WHERE j.state IN ('QUEUED', 'AWAITING_APPROVAL') AND {FREE}
        ORDER BY c.turn, c.place LIMIT at_most FOR UPDATE OF j SKIP LOCKED
    ), lost AS (
        SELECT j.tenant, j.job_id, 0::bigint AS turn, NULL::integer AS place FROM jobs.job j
        WHERE j.state IN ('COMPILING', 'RESERVING', 'EXECUTING') AND j.lease_until < clock_timestamp()
        ORDER BY j.lease_until LIMIT at_most FOR UPDATE OF j SKIP LOCKED
    ), picked AS (
        SELECT * FROM lost UNION ALL SELECT * FROM waiting ORDER BY turn, place LIMIT at_most
    ), taken AS (
        UPDATE jobs.job j SET worker = claimer, lease_until = clock_timestamp() + make_interval(secs => lease_s),
            losses = j.losses
                + CASE WHEN j.state IN ('QUEUED', 'AWAITING_APPROVAL') AND j.worker IS NOT NULL THEN 1 ELSE 0 END
        FROM picked p WHERE j.tenant = p.tenant AND j.job_id = p.job_id
        RETURNING j.tenant, j.job_id, p.turn, p.place
    )
    SELECT jsonb_build_object(
        'jobs', (SELECT jsonb_agg(jsonb_build_array(t.tenant, t.job_id) ORDER BY t.turn, t.place) FROM taken t),
        'after', coalesce(
            (SELECT t.tenant FROM taken t WHERE t.place IS NOT NULL ORDER BY t.place DESC LIMIT 1),
            -- Nobody of a whole round had anything to take: the next begins with others.
            CASE WHEN NOT EXISTS (SELECT 1 FROM taken) AND (SELECT count(*) FROM ring) = {RING}
                THEN (SELECT r.tenant FROM ring r ORDER BY r.place DESC LIMIT 1) END,
            after))
        INTO v_found;
    RETURN v_found;
END
$$;
"""

# In `jobs.admit`, once it is known that the job is new.
LIMITED = """    IF v_job.state <> 'DENIED' THEN
        -- Locked, so that admissions of such a tenant count one after another.
        SELECT l.waiting_jobs, l.shots_per_day INTO v_limit FROM auth.tenant_limit l
            WHERE l.tenant = p_tenant AND num_nonnulls(l.waiting_jobs, l.shots_per_day) > 0 FOR NO KEY UPDATE;
        v_limited := FOUND;
        IF v_limited AND v_limit.waiting_jobs <= (SELECT count(*) FROM jobs.job j WHERE j.tenant = p_tenant
                AND j.state IN ('QUEUED', 'HELD', 'AWAITING_APPROVAL')) THEN
            RETURN 'crowded';
        END IF;
        IF v_limited AND v_limit.shots_per_day < v_job.executions
                + (SELECT coalesce(sum(u.executions), 0) FROM jobs.usage u
                WHERE u.tenant = p_tenant AND u.day = (p_write ->> 'day')::date AND u.scope LIKE 'project:%') THEN
            RETURN 'quota';
        END IF;
    END IF;
"""
DUPLICATE = """        RETURN 'duplicate';
    END IF;
"""
OLD = "claim(text, double precision, integer)"
NEW = "claim(text, double precision, integer, text[], text[], text)"


def upgrade() -> None:
    """Claim in turn, and keep to limits."""
    op.execute(TABLES)
    protect("auth.tenant_limit", app="SELECT, INSERT, UPDATE")
    op.execute(f"DROP FUNCTION jobs.{OLD}")
    op.execute(CLAIM)
    _grant(NEW)
    op.execute(_admit(limited=True))


def downgrade() -> None:
    """Claim what waits longest, whoever's it is; limits are forgotten."""
    approvals = _revision("0027_approvals")
    op.execute(_admit(limited=False))
    op.execute(f"DROP FUNCTION jobs.{NEW}")
    op.execute(approvals._claim(_revision("0011_claims"), asking=True))  # noqa: SLF001 - the one form of the function
    _grant(OLD)
    op.execute("CREATE INDEX job_waiting ON jobs.job (submitted_at) WHERE state = 'QUEUED'")
    op.execute("DROP INDEX jobs.job_held; DROP INDEX jobs.job_asking; DROP INDEX jobs.job_queue")
    op.execute("DROP TABLE auth.tenant_limit")
    op.execute("ALTER TABLE auth.tenant DROP COLUMN closed_at")


def _grant(function: str) -> None:
    op.execute(f"REVOKE ALL ON FUNCTION jobs.{function} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION jobs.{function} TO {roles().app}")


def _admit(*, limited: bool) -> str:
    """The function of revision 6, which here asks for the tenant's limits too."""
    writes = _revision("0006_writes")
    made: str = writes.ADMIT.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    if limited:
        made = made.replace(
            "    v_outcome text;\n", "    v_outcome text;\n    v_limit record;\n    v_limited boolean;\n"
        )
        made = made.replace(DUPLICATE, DUPLICATE + LIMITED)
    return made


def _revision(name: str) -> Any:
    return importlib.import_module(f"control_plane.migrations.versions.{name}")
