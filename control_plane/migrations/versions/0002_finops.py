# SPDX-License-Identifier: Apache-2.0
"""Budgets, their windows, holds and rate cards (G6, G7, I3, I6, decision 6).

Placing, enlarging and settling a hold are functions here, each one round trip: on a hot budget the time a row
stays locked is the throughput, so the check and the change don't wait for a client in between. Their one
discipline: whoever changes a window holds the row lock of its budget, and budgets are locked in id order.
Under those locks a new statement sees every balance as committed, whatever window it lies in; reading
balances in the statement that waits for the lock would see them as they were before the wait. They run with
their caller's rights, so row-level security holds in them.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0002_finops"
down_revision = "0001_ledger"
branch_labels = None
depends_on = None

# `window` and `limit` are reserved words, hence window_key and limit_amount. Ids are compared bytewise, so
# that their order is the same in every session. A low fillfactor lets the updates of hot rows be heap-only.
TABLES = """
CREATE SCHEMA finops;

CREATE TABLE finops.budget (
    tenant text NOT NULL,
    budget_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    period text NOT NULL CHECK (period ~ '^(monthly|quarterly|total|rolling:[0-9]+)$'),
    days integer GENERATED ALWAYS AS (substring(period from '[0-9]+$')::integer) STORED,
    limit_amount numeric NOT NULL CHECK (limit_amount >= 0 AND limit_amount < 1e15),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    PRIMARY KEY (tenant, budget_id),
    UNIQUE (tenant, scope, period)
) WITH (fillfactor = 50);

CREATE TABLE finops.budget_window (
    tenant text NOT NULL,
    budget_id text COLLATE "C" NOT NULL,
    window_key text COLLATE "C" NOT NULL,
    held numeric NOT NULL CHECK (held >= 0),
    captured numeric NOT NULL CHECK (captured >= 0),
    PRIMARY KEY (tenant, budget_id, window_key),
    FOREIGN KEY (tenant, budget_id) REFERENCES finops.budget
) WITH (fillfactor = 50);

CREATE TABLE finops.hold (
    tenant text NOT NULL,
    job_id text NOT NULL,
    amount numeric NOT NULL CHECK (amount >= 0 AND amount < 1e15),
    currency text NOT NULL,
    budgets text[] COLLATE "C" NOT NULL,
    windows text[] COLLATE "C" NOT NULL,
    state text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'parked', 'settled')),
    captured numeric CHECK (captured >= 0),
    released numeric CHECK (released >= 0),
    overrun numeric CHECK (overrun >= 0),
    PRIMARY KEY (tenant, job_id),
    CHECK (cardinality(budgets) = cardinality(windows)),
    CHECK ((state = 'settled') = (captured IS NOT NULL AND released IS NOT NULL AND overrun IS NOT NULL)),
    CHECK (state <> 'settled' OR amount + overrun = captured + released)
) WITH (fillfactor = 70);

CREATE TABLE finops.rate_card (
    tenant text NOT NULL,
    hash text NOT NULL,
    effective_from timestamptz NOT NULL,
    effective_until timestamptz,
    pushed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    document bytea NOT NULL,
    PRIMARY KEY (tenant, hash)
);
"""

# A rolling budget counts what is held whenever it was held, and what was captured in its last days: an old
# hold that is still open can't drop out of the sum.
STANDING = """
CREATE FUNCTION finops.standing(p_tenant text, p_budgets text[], p_windows text[])
RETURNS TABLE (budget_id text, scope text, period text, window_key text, limit_amount numeric,
               held numeric, captured numeric, currency text)
LANGUAGE sql STABLE AS $$
    SELECT b.budget_id, b.scope, b.period, p.window_key, b.limit_amount, s.held, s.captured, b.currency
    FROM unnest(p_budgets, p_windows) AS p (budget_id, window_key)
    JOIN finops.budget b ON b.tenant = p_tenant AND b.budget_id = p.budget_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(w.held), 0) AS held,
               coalesce(sum(w.captured) FILTER (WHERE CASE WHEN b.days IS NULL THEN true ELSE w.window_key >=
                   to_char((p.window_key::date - (b.days - 1))::timestamp, 'YYYY-MM-DD') END), 0) AS captured
        FROM finops.budget_window w
        WHERE w.tenant = p_tenant AND w.budget_id = p.budget_id
          AND (b.days IS NOT NULL OR w.window_key = p.window_key)
    ) s
    ORDER BY b.budget_id
$$;
"""

LOCK = """
CREATE FUNCTION finops.lock_budgets(p_tenant text, p_budgets text[]) RETURNS text[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT b.budget_id FROM finops.budget b
        WHERE b.tenant = p_tenant AND b.budget_id = ANY (p_budgets)
        ORDER BY b.budget_id FOR NO KEY UPDATE
    );
END
$$;
"""

ANSWER = """outcome text, budget_id text, scope text, period text, window_key text, limit_amount numeric,
               held numeric, captured numeric, currency text"""

NOTHING = "NULL, NULL, NULL, NULL, NULL::numeric, NULL::numeric, NULL::numeric"

# 1. lock, in id order  2. all there, one of a project, one currency  3. room in each
# 4. the hold, unique by job  5. the windows. Nothing is written before step 4, so a refusal leaves nothing.
PLACE = f"""
CREATE FUNCTION finops.place_hold(p_tenant text, p_job text, p_wanted text[], p_month text, p_quarter text,
                                  p_day text, p_amount numeric, p_currency text)
RETURNS TABLE ({ANSWER})
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_budgets text[];
    v_windows text[];
    v_project boolean;
    v_foreign text;
BEGIN
    v_budgets := finops.lock_budgets(p_tenant, p_wanted);
    SELECT array_agg(CASE b.period WHEN 'monthly' THEN p_month WHEN 'quarterly' THEN p_quarter
                                   WHEN 'total' THEN 'all' ELSE p_day END ORDER BY b.budget_id),
           bool_or(starts_with(b.scope, 'project:')),
           min(b.currency) FILTER (WHERE b.currency <> p_currency)
        INTO v_windows, v_project, v_foreign
        FROM finops.budget b WHERE b.tenant = p_tenant AND b.budget_id = ANY (v_budgets);
    IF v_project IS NOT TRUE OR NOT v_budgets @> p_wanted THEN
        RETURN QUERY SELECT 'missing', {NOTHING}, NULL;
        RETURN;
    END IF;
    IF v_foreign IS NOT NULL THEN
        RETURN QUERY SELECT 'currency', {NOTHING}, v_foreign;
        RETURN;
    END IF;
    RETURN QUERY SELECT 'exceeded', s.* FROM finops.standing(p_tenant, v_budgets, v_windows) s
        WHERE s.held + s.captured + p_amount > s.limit_amount;
    IF FOUND THEN
        RETURN;
    END IF;
    INSERT INTO finops.hold (tenant, job_id, amount, currency, budgets, windows)
        VALUES (p_tenant, p_job, p_amount, p_currency, v_budgets, v_windows) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'exists', {NOTHING}, NULL;
        RETURN;
    END IF;
    RETURN QUERY
        INSERT INTO finops.budget_window AS w (tenant, budget_id, window_key, held, captured)
            SELECT p_tenant, p.budget_id, p.window_key, p_amount, 0
            FROM unnest(v_budgets, v_windows) AS p (budget_id, window_key)
            ON CONFLICT (tenant, budget_id, window_key) DO UPDATE SET held = w.held + excluded.held
            RETURNING 'held', w.budget_id, NULL, NULL, w.window_key, NULL::numeric, w.held, w.captured,
            p_currency;
END
$$;
"""

# The same windows as the hold's: a job counts where it was admitted. In the answer, `held` is the growth.
ENLARGE = f"""
CREATE FUNCTION finops.enlarge_hold(p_tenant text, p_job text, p_amount numeric, p_currency text)
RETURNS TABLE ({ANSWER})
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_hold finops.hold;
    v_by numeric;
BEGIN
    SELECT * INTO v_hold FROM finops.hold h WHERE h.tenant = p_tenant AND h.job_id = p_job;
    PERFORM finops.lock_budgets(p_tenant, v_hold.budgets);
    SELECT * INTO v_hold FROM finops.hold h WHERE h.tenant = p_tenant AND h.job_id = p_job
        FOR NO KEY UPDATE;
    IF v_hold.state IS DISTINCT FROM 'held' OR v_hold.currency <> p_currency THEN
        RETURN QUERY SELECT
            CASE WHEN v_hold.state IS NULL THEN 'unknown' WHEN v_hold.state <> 'held' THEN 'closed'
                 ELSE 'currency' END,
            {NOTHING}, v_hold.currency;
        RETURN;
    END IF;
    v_by := greatest(p_amount - v_hold.amount, 0);
    RETURN QUERY SELECT 'exceeded', s.* FROM finops.standing(p_tenant, v_hold.budgets, v_hold.windows) s
        WHERE v_by > 0 AND s.held + s.captured + v_by > s.limit_amount;
    IF FOUND THEN
        RETURN;
    END IF;
    UPDATE finops.hold SET amount = amount + v_by WHERE tenant = p_tenant AND job_id = p_job;
    UPDATE finops.budget_window w SET held = w.held + v_by
        FROM unnest(v_hold.budgets, v_hold.windows) AS p (budget_id, window_key)
        WHERE w.tenant = p_tenant AND w.budget_id = p.budget_id AND w.window_key = p.window_key;
    RETURN QUERY SELECT 'held', p.budget_id, NULL, NULL, p.window_key, v_hold.amount + v_by, v_by,
        NULL::numeric, p_currency
        FROM unnest(v_hold.budgets, v_hold.windows) AS p (budget_id, window_key);
END
$$;
"""

# Captured in full even where it exceeds the hold or the limit: what was used is owed, and an overrun is told.
SETTLE = """
CREATE FUNCTION finops.settle_hold(p_tenant text, p_job text, p_capture numeric, p_currency text)
RETURNS TABLE (outcome text, captured numeric, released numeric, overrun numeric, currency text,
               budgets text[], windows text[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_hold finops.hold;
BEGIN
    SELECT * INTO v_hold FROM finops.hold h WHERE h.tenant = p_tenant AND h.job_id = p_job;
    IF v_hold.state IS NULL OR v_hold.currency <> coalesce(p_currency, v_hold.currency) THEN
        RETURN QUERY SELECT CASE WHEN v_hold.state IS NULL THEN 'unknown' ELSE 'currency' END,
            NULL::numeric, NULL::numeric, NULL::numeric, v_hold.currency, NULL::text[], NULL::text[];
        RETURN;
    END IF;
    PERFORM finops.lock_budgets(p_tenant, v_hold.budgets);
    UPDATE finops.hold AS h SET state = 'settled', captured = p_capture,
            released = greatest(h.amount - p_capture, 0), overrun = greatest(p_capture - h.amount, 0)
        WHERE h.tenant = p_tenant AND h.job_id = p_job AND h.state <> 'settled'
        RETURNING * INTO v_hold;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'closed', NULL::numeric, NULL::numeric, NULL::numeric, NULL,
            NULL::text[], NULL::text[];
        RETURN;
    END IF;
    UPDATE finops.budget_window w SET held = w.held - v_hold.amount, captured = w.captured + p_capture
        FROM unnest(v_hold.budgets, v_hold.windows) AS p (budget_id, window_key)
        WHERE w.tenant = p_tenant AND w.budget_id = p.budget_id AND w.window_key = p.window_key;
    RETURN QUERY SELECT 'settled', v_hold.captured, v_hold.released, v_hold.overrun, v_hold.currency,
        v_hold.budgets, v_hold.windows;
END
$$;
"""

FUNCTIONS = {
    "standing(text, text[], text[])": STANDING,
    "lock_budgets(text, text[])": LOCK,
    "place_hold(text, text, text[], text, text, text, numeric, text)": PLACE,
    "enlarge_hold(text, text, numeric, text)": ENLARGE,
    "settle_hold(text, text, numeric, text)": SETTLE,
}


def upgrade() -> None:
    """Create the tables, each behind its wall, and the functions, which only `app` and readers may call."""
    op.execute(TABLES)
    # No DELETE anywhere: what was held or priced stays.
    for table in ("budget", "budget_window", "hold", "rate_card"):
        protect(f"finops.{table}", app="SELECT, INSERT, UPDATE")
    for signature, statement in FUNCTIONS.items():
        op.execute(statement)
        op.execute(f"REVOKE ALL ON FUNCTION finops.{signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION finops.{signature} TO {roles().app}")
    op.execute(f"GRANT EXECUTE ON FUNCTION finops.standing(text, text[], text[]) TO {roles().audit}")


def downgrade() -> None:
    """Drop the books with everything in them."""
    op.execute("DROP SCHEMA finops CASCADE")
