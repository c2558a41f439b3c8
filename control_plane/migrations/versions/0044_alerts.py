# SPDX-License-Identifier: Apache-2.0
"""Alerts of budgets, found in the transaction that crosses a threshold, and whom each budget tells (G7, I3).

A window keeps the amounts at which its next alert is due, so that a change below them costs a comparison and nothing
more. Where one is crossed, `cross_thresholds` inserts the alert beside the change, under the budget's lock that whoever
changes a window holds: both are there or neither. A courier tells of it later. A rolling budget is a sum over days, so
each change of it looks. An alert fires once until its threshold is out of reach again, because the limit was changed.

The trigger functions run with their caller's rights, so row-level security holds inside.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0044_alerts"
down_revision = "0043_budgets"
branch_labels = None
depends_on = None

# Entries tell which alerts fired; what is near is found anew.
EXPENDABLE = frozenset(
    {"finops.alert", "finops.budget.notify", "finops.budget_window.spent_at", "finops.budget_window.committed_at"}
)

# `entry_id` is null until an entry tells of the alert; `deliveries` is {channel: {state, at, tries, error}}.
TABLES = """
CREATE TABLE finops.alert (
    tenant text NOT NULL,
    alert_id uuid NOT NULL DEFAULT gen_random_uuid(),
    budget_id text COLLATE "C" NOT NULL,
    window_key text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('spent', 'committed', 'exceeded', 'lowered', 'overrun', 'refused')),
    threshold integer NOT NULL,
    scope text NOT NULL,
    period text NOT NULL,
    mode text NOT NULL,
    limit_amount numeric NOT NULL,
    held numeric NOT NULL,
    captured numeric NOT NULL,
    unit text NOT NULL,
    job_id text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rearmed_at timestamptz,
    entry_id uuid,
    deliveries jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant, alert_id),
    FOREIGN KEY (tenant, budget_id) REFERENCES finops.budget
);
CREATE UNIQUE INDEX alert_once ON finops.alert (tenant, budget_id, window_key, kind, threshold)
    WHERE rearmed_at IS NULL;
CREATE INDEX alert_due ON finops.alert (due_at) WHERE entry_id IS NULL;
CREATE INDEX alert_newest ON finops.alert (tenant, at DESC, alert_id);

ALTER TABLE finops.budget ADD COLUMN notify text[];
ALTER TABLE finops.budget_window ADD COLUMN spent_at numeric DEFAULT 0, ADD COLUMN committed_at numeric DEFAULT 0;
"""

RAISE = """
CREATE FUNCTION finops.raise_alert(p_budget finops.budget, p_window text, p_kind text, p_threshold integer,
                                   p_held numeric, p_captured numeric, p_job text) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO finops.alert (tenant, budget_id, window_key, kind, threshold, scope, period, mode, limit_amount, held,
                              captured, unit, job_id)
        VALUES (p_budget.tenant, p_budget.budget_id, p_window, p_kind, p_threshold, p_budget.scope, p_budget.period,
                p_budget.mode, p_budget.limit_amount, p_held, p_captured, p_budget.unit, p_job)
        ON CONFLICT (tenant, budget_id, window_key, kind, threshold) WHERE rearmed_at IS NULL DO NOTHING
$$;
"""

# 1. what the window stands at  2. an alert for each threshold that it reached, unless there is one (of a rolling
# budget: within its days)  3. what to wait for next. What runs at once has no window to alert for.
CROSS = """
CREATE FUNCTION finops.cross_thresholds(p_tenant text, p_budget text, p_window text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_budget finops.budget;
    v_limit numeric;
    v_held numeric;
    v_captured numeric;
    v_spent_at numeric;
    v_committed_at numeric;
BEGIN
    SELECT * INTO v_budget FROM finops.budget b WHERE b.tenant = p_tenant AND b.budget_id = p_budget;
    v_limit := v_budget.limit_amount;
    IF v_budget.period <> 'concurrent' THEN
        SELECT s.held, s.captured INTO v_held, v_captured
            FROM finops.standing(p_tenant, ARRAY[p_budget], ARRAY[p_window]) s;
        PERFORM finops.raise_alert(v_budget, p_window, c.kind, c.threshold, v_held, v_captured, NULL)
            FROM (
                SELECT 'spent' AS kind, t AS threshold FROM unnest(v_budget.thresholds) AS t
                    WHERE v_captured > 0 AND v_captured * 100 >= v_limit * t
                UNION ALL
                SELECT 'committed', t FROM unnest(v_budget.thresholds) AS t
                    WHERE v_budget.mode = 'hard' AND v_held + v_captured > 0
                      AND (v_held + v_captured) * 100 >= v_limit * t AND v_captured * 100 < v_limit * t
                UNION ALL
                SELECT 'exceeded', 100 WHERE v_captured > v_limit
                    OR v_budget.mode <> 'hard' AND v_held + v_captured > v_limit
            ) AS c
            WHERE NOT EXISTS (
                SELECT FROM finops.alert a
                WHERE a.tenant = p_tenant AND a.budget_id = p_budget AND a.rearmed_at IS NULL
                  AND (a.kind = c.kind AND a.threshold = c.threshold OR a.kind = 'lowered' AND c.kind = 'exceeded')
                  AND CASE WHEN v_budget.days IS NULL THEN a.window_key = p_window
                      ELSE a.window_key > to_char((p_window::date - v_budget.days)::timestamp, 'YYYY-MM-DD') END);
        IF v_budget.days IS NOT NULL THEN
            RETURN;
        END IF;
        SELECT least(min(v_limit * t / 100) FILTER (WHERE v_limit * t > v_captured * 100),
                     CASE WHEN v_captured <= v_limit THEN v_limit END),
               CASE WHEN v_budget.mode = 'hard'
                   THEN min(v_limit * t / 100) FILTER (WHERE v_limit * t > (v_held + v_captured) * 100)
                   WHEN v_held + v_captured <= v_limit THEN v_limit END
            INTO v_spent_at, v_committed_at FROM unnest(v_budget.thresholds) AS t;
    END IF;
    UPDATE finops.budget_window w SET spent_at = v_spent_at, committed_at = v_committed_at
        WHERE w.tenant = p_tenant AND w.budget_id = p_budget AND w.window_key = p_window;
END
$$;
"""

WINDOW = """
CREATE FUNCTION finops.alert_of_window() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM finops.cross_thresholds(NEW.tenant, NEW.budget_id, NEW.window_key);
    RETURN NULL;
END
$$;
"""

# A limit that was changed: alerts whose threshold is out of reach by it may fire again; all windows look anew, the
# present one at once, by the database's clock.
BUDGET = """
CREATE FUNCTION finops.alert_of_budget() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_window text := CASE WHEN NEW.period = 'monthly' THEN to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')
        WHEN NEW.period = 'quarterly' THEN to_char(now() AT TIME ZONE 'UTC', 'YYYY-"Q"Q')
        WHEN NEW.period = 'total' THEN 'all' ELSE to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD') END;
    v_held numeric;
    v_captured numeric;
BEGIN
    UPDATE finops.alert a SET rearmed_at = clock_timestamp()
        FROM (SELECT o.alert_id, s.held, s.captured
              FROM finops.alert o, finops.standing(NEW.tenant, ARRAY[NEW.budget_id], ARRAY[o.window_key]) s
              WHERE o.tenant = NEW.tenant AND o.budget_id = NEW.budget_id AND o.rearmed_at IS NULL
                AND o.kind IN ('spent', 'committed', 'exceeded', 'lowered')) AS stood
        WHERE a.tenant = NEW.tenant AND a.alert_id = stood.alert_id
          AND CASE a.kind WHEN 'spent' THEN stood.captured * 100 < NEW.limit_amount * a.threshold
                  WHEN 'committed' THEN (stood.held + stood.captured) * 100 < NEW.limit_amount * a.threshold
                  ELSE stood.captured <= NEW.limit_amount END;
    UPDATE finops.alert a SET rearmed_at = clock_timestamp()
        WHERE a.tenant = NEW.tenant AND a.budget_id = NEW.budget_id AND a.rearmed_at IS NULL AND a.kind = 'refused'
          AND NEW.limit_amount > OLD.limit_amount;
    UPDATE finops.budget_window w SET spent_at = 0, committed_at = 0
        WHERE w.tenant = NEW.tenant AND w.budget_id = NEW.budget_id;
    IF NEW.period = 'concurrent' THEN
        RETURN NULL;
    END IF;
    SELECT s.held, s.captured INTO v_held, v_captured
        FROM finops.standing(NEW.tenant, ARRAY[NEW.budget_id], ARRAY[v_window]) s;
    IF NEW.limit_amount < OLD.limit_amount AND v_captured > NEW.limit_amount THEN
        PERFORM finops.raise_alert(NEW, v_window, 'lowered', 100, v_held, v_captured, NULL);
    END IF;
    PERFORM finops.cross_thresholds(NEW.tenant, NEW.budget_id, v_window);
    RETURN NULL;
END
$$;
"""

# Once a window and budget: the first job of them is named.
OVERRUN = """
CREATE FUNCTION finops.alert_of_overrun() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM finops.raise_alert(b, p.window_key, 'overrun', 0, s.held, s.captured, NEW.job_id)
        FROM unnest(NEW.budgets, NEW.windows) AS p (budget_id, window_key)
        JOIN finops.budget b ON b.tenant = NEW.tenant AND b.budget_id = p.budget_id AND b.counts = 'money',
            finops.standing(NEW.tenant, ARRAY[p.budget_id], ARRAY[p.window_key]) s
        ORDER BY b.budget_id;
    RETURN NULL;
END
$$;
"""

# Once a day and budget, however many jobs are refused; a job that is refused names the budgets that were short.
REFUSED = """
CREATE FUNCTION jobs.alert_of_refusal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM finops.raise_alert(b, to_char(NEW.submitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'refused', 0,
            (o.one ->> 'held')::numeric, (o.one ->> 'captured')::numeric, NEW.job_id)
        FROM jsonb_array_elements(NEW.error -> 'budgets') AS o (one)
        JOIN finops.budget b ON b.tenant = NEW.tenant AND b.scope = o.one ->> 'scope'
            AND b.period = o.one ->> 'period' AND b.unit = o.one ->> 'currency'
        ORDER BY b.budget_id;
    RETURN NULL;
END
$$;
"""

# Work is found whosesoever it is; what is done to it is done as its tenant.
DUE = """
CREATE FUNCTION finops.due_alerts(p_lease_s double precision, p_most integer)
RETURNS TABLE (tenant text, alert_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE finops.alert a SET due_at = clock_timestamp() + make_interval(secs => p_lease_s)
    FROM (SELECT d.tenant, d.alert_id FROM finops.alert d WHERE d.entry_id IS NULL AND d.due_at <= clock_timestamp()
          ORDER BY d.due_at LIMIT p_most FOR UPDATE SKIP LOCKED) AS due
    WHERE a.tenant = due.tenant AND a.alert_id = due.alert_id
    RETURNING a.tenant, a.alert_id
$$;
"""

FUNCTIONS = {
    "finops.raise_alert(finops.budget, text, text, integer, numeric, numeric, text)": RAISE,
    "finops.cross_thresholds(text, text, text)": CROSS,
    "finops.alert_of_window()": WINDOW,
    "finops.alert_of_budget()": BUDGET,
    "finops.alert_of_overrun()": OVERRUN,
    "jobs.alert_of_refusal()": REFUSED,
    "finops.due_alerts(double precision, integer)": DUE,
}

TRIGGERS = """
CREATE TRIGGER alerts AFTER INSERT OR UPDATE OF held, captured ON finops.budget_window FOR EACH ROW
    WHEN (NEW.captured >= NEW.spent_at OR NEW.held + NEW.captured >= NEW.committed_at)
    EXECUTE FUNCTION finops.alert_of_window();
CREATE TRIGGER alerts AFTER UPDATE OF limit_amount, mode, thresholds ON finops.budget FOR EACH ROW
    WHEN ((OLD.limit_amount, OLD.mode, OLD.thresholds) IS DISTINCT FROM (NEW.limit_amount, NEW.mode, NEW.thresholds))
    EXECUTE FUNCTION finops.alert_of_budget();
CREATE TRIGGER alerts AFTER UPDATE OF state ON finops.hold FOR EACH ROW
    WHEN (NEW.state = 'settled' AND OLD.state <> 'settled' AND NEW.overrun > 0)
    EXECUTE FUNCTION finops.alert_of_overrun();
CREATE TRIGGER alerts AFTER INSERT ON jobs.job FOR EACH ROW
    WHEN (NEW.state = 'DENIED' AND NEW.error ? 'budgets') EXECUTE FUNCTION jobs.alert_of_refusal();
"""


def upgrade() -> None:
    """Create the table behind its wall, what fills it, and what finds work in it."""
    op.execute(TABLES)
    protect("finops.alert", app="SELECT, INSERT, UPDATE")
    for signature, statement in FUNCTIONS.items():
        op.execute(statement)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {roles().app}")
    op.execute(TRIGGERS)


def downgrade() -> None:
    """Nobody is alerted any more; what was is in the ledger."""
    for table in ("finops.budget_window", "finops.budget", "finops.hold", "jobs.job"):
        op.execute(f"DROP TRIGGER alerts ON {table}")
    for signature in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("ALTER TABLE finops.budget_window DROP COLUMN spent_at, DROP COLUMN committed_at")
    op.execute("ALTER TABLE finops.budget DROP COLUMN notify")
    op.execute("DROP TABLE finops.alert")
