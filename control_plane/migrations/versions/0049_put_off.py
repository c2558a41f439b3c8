# SPDX-License-Identifier: Apache-2.0
"""What is put off is looked at when it is due and not before, in turn with what can begin (G7, G11).

Jobs that wait for a budget, a backend or an answer were scanned by each claim of their tenant; and being older than
what came after them, a few dozen of them, due again each second, kept every job behind them from ever being looked at.
Now a job that nobody has leased, or that was given back to run at once, is found by its age; one that was put off, by
when it is due; and each kind is numbered by itself.
"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0049_put_off"
down_revision = "0048_readers"
branch_labels = None
depends_on = None

WAITS = "j.state IN ('QUEUED', 'AWAITING_APPROVAL')"
FRESH = f"{WAITS} AND j.lease_until IS NULL"
LEASED = f"{WAITS} AND j.lease_until IS NOT NULL"

# Who is looked at for one claim: with more tenants than that waiting, the next claim begins where this one ended.
RING = 32

# The first tenant after the one named that has something waiting, whoever may take it.
NEXT = f"""least(
            (SELECT j.tenant FROM jobs.job j WHERE {FRESH} AND j.tenant > {{0}}
             ORDER BY j.tenant, j.submitted_at LIMIT 1),
            (SELECT j.tenant FROM jobs.job j WHERE {LEASED} AND j.tenant > {{0}}
             ORDER BY j.tenant, j.lease_until LIMIT 1))"""

# busy: whose jobs the claimer runs, one name a job. shut: from whom it takes nothing now. after: where the last claim
# ended. Answers {"jobs": [[tenant, job id]], "after": tenant}. A tenant's turn is what it has at the claimer, and then
# its place in the round: so one with long jobs doesn't fill the claimer with them. Of more candidates than are taken,
# those that another claims at this moment are passed over. Of one tenant, what can begin and what is looked at again
# take turns, and chance decides between the two: where one job is taken at a time, neither is always the first.
CLAIM = f"""
CREATE OR REPLACE FUNCTION jobs.claim(claimer text, lease_s double precision, at_most integer,
                           busy text[] DEFAULT '{{}}', shut text[] DEFAULT '{{}}', after text DEFAULT '')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Statistics of a queue are never of now: each step has its index, and no other plan is ever better by much.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_counted boolean := EXISTS (SELECT 1 FROM auth.tenant_limit l WHERE l.running_jobs IS NOT NULL);
    v_now timestamptz;  -- a value: no index serves a comparison with a function that is volatile
    v_found jsonb;
BEGIN
    IF v_counted THEN
        -- Two claims at once would each find the last free place.
        PERFORM pg_advisory_xact_lock(hashtext('jobs.claim'), 0);
    END IF;
    v_now := clock_timestamp();
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
          AND (j.state IN ('COMPILING', 'RESERVING', 'EXECUTING') OR j.lease_until >= v_now)
        GROUP BY j.tenant
    ), ranked AS (
        SELECT r.tenant, w.job_id, r.place, coalesce(h.n, 0) AS held,
               row_number() OVER (PARTITION BY r.tenant ORDER BY w.nth, random()) AS nth
        FROM ring r LEFT JOIN held h ON h.tenant = r.tenant
        CROSS JOIN LATERAL (
            SELECT f.job_id, row_number() OVER (ORDER BY f.submitted_at) AS nth FROM (
                SELECT j.job_id, j.submitted_at FROM jobs.job j WHERE j.tenant = r.tenant AND {FRESH}
                ORDER BY j.submitted_at LIMIT at_most + 8) AS f
            UNION ALL
            SELECT d.job_id, row_number() OVER (ORDER BY d.lease_until) AS nth FROM (
                SELECT j.job_id, j.lease_until FROM jobs.job j
                WHERE j.tenant = r.tenant AND {WAITS} AND j.lease_until < v_now
                ORDER BY j.lease_until LIMIT at_most + 8) AS d) AS w
        WHERE NOT r.tenant = ANY (shut)
    ), candidate AS MATERIALIZED (
        SELECT k.tenant, k.job_id, k.held + k.nth AS turn, k.place FROM ranked k
        LEFT JOIN auth.tenant_limit l ON l.tenant = k.tenant LEFT JOIN running n ON n.tenant = k.tenant
        WHERE l.running_jobs IS NULL OR k.nth <= l.running_jobs - coalesce(n.n, 0)
        ORDER BY k.held + k.nth, k.place LIMIT 8 * at_most + 16
    ), waiting AS (
        SELECT j.tenant, j.job_id, c.turn, c.place
        FROM candidate c JOIN jobs.job j ON j.tenant = c.tenant AND j.job_id = c.job_id
        WHERE {WAITS} AND (j.lease_until IS NULL OR j.lease_until < v_now)
        ORDER BY c.turn, c.place LIMIT at_most FOR UPDATE OF j SKIP LOCKED
    ), lost AS (
        SELECT j.tenant, j.job_id, 0::bigint AS turn, NULL::integer AS place FROM jobs.job j
        WHERE j.state IN ('COMPILING', 'RESERVING', 'EXECUTING') AND j.lease_until < v_now
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


def upgrade() -> None:
    """An index for each of the two."""
    op.execute("DROP INDEX jobs.job_queue; DROP INDEX jobs.job_asking; DROP INDEX jobs.job_awaiting")
    for name, column, which in (("job_fresh", "submitted_at", FRESH), ("job_put_off", "lease_until", LEASED)):
        op.execute(f"CREATE INDEX {name} ON jobs.job (tenant, {column}) WHERE {which.replace('j.', '')}")
    op.execute(CLAIM)


def downgrade() -> None:
    """Claims look at all that waits."""
    tenants = importlib.import_module("control_plane.migrations.versions.0030_tenants")
    op.execute(tenants.CLAIM.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("DROP INDEX jobs.job_put_off; DROP INDEX jobs.job_fresh")
    op.execute("CREATE INDEX job_queue ON jobs.job (tenant, submitted_at) WHERE state = 'QUEUED'")
    op.execute("CREATE INDEX job_asking ON jobs.job (tenant, lease_until) WHERE state = 'AWAITING_APPROVAL'")
    op.execute("CREATE INDEX job_awaiting ON jobs.job (lease_until) WHERE state = 'AWAITING_APPROVAL'")
