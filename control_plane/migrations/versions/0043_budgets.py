# SPDX-License-Identifier: Apache-2.0
"""Budgets of money, shots and jobs, hard or not, and holds that are made right where a job runs (G7, I3).

A hold counts in each of its budgets what that budget counts: its amount, its shots, or one job. `rehold` moves a hold
to other budgets and another amount in one step; it takes the place of `enlarge_hold`. All functions lock budgets first,
in the order of their ids, as revision 2 says.

`jobs.admit` and `jobs.advance` are changed where they stand, whatever other revisions put into them.
"""

from __future__ import annotations

import importlib
from typing import Any

from alembic import op

from control_plane.migrations.walls import roles

revision = "0043_budgets"
down_revision = "0042_meters"
branch_labels = None
depends_on = None

# Of the first the downgrade sees to it that nothing is lost, the second gets its old name back, and why a job waits is
# found again with the next claim.
EXPENDABLE = frozenset({"finops.budget.mode", "finops.budget.thresholds", "finops.budget.unit", "jobs.job.waiting"})

# What a hold has none of is null: its shots where it is in no quota, and what was never given back.
TABLES = """
ALTER TABLE finops.budget RENAME COLUMN currency TO unit;
ALTER TABLE finops.budget
    DROP CONSTRAINT budget_currency_check,
    DROP CONSTRAINT budget_period_check,
    DROP CONSTRAINT budget_tenant_scope_period_key,
    ADD COLUMN mode text NOT NULL DEFAULT 'hard',
    ADD COLUMN thresholds smallint[] NOT NULL DEFAULT '{80,100}',
    ADD COLUMN counts text NOT NULL
        GENERATED ALWAYS AS (CASE WHEN unit IN ('shots', 'jobs') THEN unit ELSE 'money' END) STORED,
    ADD CONSTRAINT budget_unit_check CHECK (unit ~ '^([A-Z]{3}|shots|jobs)$'),
    ADD CONSTRAINT budget_period_check CHECK (period ~ '^(monthly|quarterly|total|concurrent|rolling:[0-9]+)$'),
    ADD CONSTRAINT budget_mode_check CHECK (mode IN ('hard', 'soft', 'advisory')),
    ADD CONSTRAINT budget_thresholds_check CHECK (cardinality(thresholds) <= 16),
    ADD CONSTRAINT budget_quota_check CHECK (unit IN ('shots', 'jobs') AND limit_amount = trunc(limit_amount)
        OR unit NOT IN ('shots', 'jobs') AND period <> 'concurrent'),
    ADD CONSTRAINT budget_one_check UNIQUE (tenant, scope, period, counts);
ALTER TABLE finops.hold
    ADD COLUMN shots numeric CHECK (shots > 0 AND shots < 1e15),
    ADD COLUMN used_shots numeric CHECK (used_shots > 0),
    ADD COLUMN used_jobs numeric CHECK (used_jobs > 0),
    ADD COLUMN refunded numeric CHECK (refunded > 0),
    ADD CHECK (refunded <= captured);
ALTER TABLE jobs.job ADD COLUMN waiting jsonb;
"""

# Fails where there is what the revision before doesn't know: quotas, and budgets that are not hard or tell otherwise.
UNDO = """
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM finops.budget WHERE mode <> 'hard' OR thresholds <> '{80,100}' OR counts <> 'money') THEN
        RAISE EXCEPTION 'there are quotas, or budgets with a mode or thresholds of their own';
    END IF;
END $$;
ALTER TABLE jobs.job DROP COLUMN waiting;
ALTER TABLE finops.hold DROP COLUMN refunded, DROP COLUMN used_jobs, DROP COLUMN used_shots, DROP COLUMN shots;
ALTER TABLE finops.budget
    DROP CONSTRAINT budget_one_check,
    DROP CONSTRAINT budget_quota_check,
    DROP CONSTRAINT budget_unit_check,
    DROP CONSTRAINT budget_period_check,
    DROP COLUMN counts,
    DROP COLUMN thresholds,
    DROP COLUMN mode;
ALTER TABLE finops.budget RENAME COLUMN unit TO currency;
ALTER TABLE finops.budget
    ADD CONSTRAINT budget_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    ADD CONSTRAINT budget_period_check CHECK (period ~ '^(monthly|quarterly|total|rolling:[0-9]+)$'),
    ADD CONSTRAINT budget_tenant_scope_period_key UNIQUE (tenant, scope, period);
"""

ASKED = "CASE {b}.counts WHEN 'shots' THEN {shots} WHEN 'jobs' THEN {jobs} ELSE {amount} END"
WINDOW = """CASE b.period WHEN 'monthly' THEN p_month WHEN 'quarterly' THEN p_quarter WHEN 'total' THEN 'all'
                WHEN 'concurrent' THEN 'now' ELSE p_day END"""

# As in revision 2: a rolling budget counts what is held whenever it was held, and what was captured in its last days.
STANDING = """
CREATE FUNCTION finops.standing(p_tenant text, p_budgets text[], p_windows text[])
RETURNS TABLE (budget_id text, scope text, period text, window_key text, limit_amount numeric,
               held numeric, captured numeric, unit text, mode text, thresholds smallint[], counts text)
LANGUAGE sql STABLE AS $$
    SELECT b.budget_id, b.scope, b.period, p.window_key, b.limit_amount, s.held, s.captured, b.unit, b.mode,
           b.thresholds, b.counts
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

ANSWER = """outcome text, budget_id text, scope text, period text, window_key text, limit_amount numeric,
               held numeric, captured numeric, unit text, mode text, thresholds smallint[], asked numeric"""
SHORT = """'exceeded', s.budget_id, s.scope, s.period, s.window_key, s.limit_amount, s.held, s.captured, s.unit, s.mode,
            s.thresholds"""


def _answer(outcome: str, budget: str = "NULL", window: str = "NULL", unit: str = "NULL") -> str:
    numbers = "NULL::numeric, NULL::numeric, NULL::numeric"
    return f"{outcome}, {budget}, NULL, NULL, {window}, {numbers}, {unit}, NULL, NULL::smallint[], NULL::numeric"


# Under its lock a budget's row is read as it was committed last, though the statement began before.
LOCKED = f"""
    SELECT coalesce(array_agg(b.budget_id ORDER BY b.budget_id), '{{{{}}}}'), array_agg({WINDOW} ORDER BY b.budget_id),
           bool_or(starts_with(b.scope, 'project:') AND b.counts = 'money' AND b.mode = 'hard'),
           min(b.unit) FILTER (WHERE b.counts = 'money' AND b.unit <> p_currency)
        INTO v_budgets, v_windows, v_project, v_foreign
        FROM (SELECT * FROM finops.budget l WHERE l.tenant = p_tenant AND l.budget_id = ANY ({{wanted}})
              ORDER BY l.budget_id FOR NO KEY UPDATE) AS b
        WHERE b.budget_id = ANY (p_wanted);
    IF {{lacking}} NOT v_budgets @> p_wanted THEN
        RETURN QUERY SELECT {_answer("'missing'")};
        RETURN;
    END IF;
    IF v_foreign IS NOT NULL THEN
        RETURN QUERY SELECT {_answer("'currency'", unit="v_foreign")};
        RETURN;
    END IF;"""

# 1. lock, in id order: all there, a hard one of a project in money, one currency  2. room in each hard one
# 3. the hold, unique by job  4. the windows. Nothing is written before step 3, so a refusal leaves nothing.
PLACE = f"""
CREATE FUNCTION finops.place_hold(p_tenant text, p_job text, p_wanted text[], p_month text, p_quarter text,
                                  p_day text, p_amount numeric, p_currency text, p_shots numeric)
RETURNS TABLE ({ANSWER})
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_budgets text[];
    v_windows text[];
    v_project boolean;
    v_foreign text;
BEGIN{LOCKED.format(wanted="p_wanted", lacking="v_project IS NOT TRUE OR")}
    RETURN QUERY SELECT {SHORT}, a.asked FROM finops.standing(p_tenant, v_budgets, v_windows) s
        CROSS JOIN LATERAL (SELECT {ASKED.format(b="s", shots="p_shots", jobs="1", amount="p_amount")} AS asked) a
        WHERE s.mode = 'hard' AND s.held + s.captured + a.asked > s.limit_amount;
    IF FOUND THEN
        RETURN;
    END IF;
    INSERT INTO finops.hold (tenant, job_id, amount, currency, budgets, windows, shots)
        VALUES (p_tenant, p_job, p_amount, p_currency, v_budgets, v_windows, nullif(p_shots, 0)) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT {_answer("'exists'")};
        RETURN;
    END IF;
    RETURN QUERY
        INSERT INTO finops.budget_window AS w (tenant, budget_id, window_key, held, captured)
            SELECT p_tenant, p.budget_id, p.window_key,
                   {ASKED.format(b="b", shots="p_shots", jobs="1", amount="p_amount")}, 0
            FROM unnest(v_budgets, v_windows) AS p (budget_id, window_key)
            JOIN finops.budget b ON b.tenant = p_tenant AND b.budget_id = p.budget_id
            ON CONFLICT (tenant, budget_id, window_key) DO UPDATE SET held = w.held + excluded.held
            RETURNING {_answer("'held'", "w.budget_id", "w.window_key")};
END
$$;
"""

# A budget that the hold is in keeps its window, for a job counts where it was admitted; one that it leaves gets its
# share back. That the project has a hard budget was asked at the admission. Where a share doesn't grow there is always
# room: a limit that was lowered since stops new holds only.
REHOLD = f"""
CREATE FUNCTION finops.rehold(p_tenant text, p_job text, p_wanted text[], p_month text, p_quarter text,
                              p_day text, p_amount numeric, p_currency text, p_shots numeric)
RETURNS TABLE ({ANSWER})
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_hold finops.hold;
    v_budgets text[];
    v_windows text[];
    v_project boolean;
    v_foreign text;
BEGIN
    SELECT * INTO v_hold FROM finops.hold h WHERE h.tenant = p_tenant AND h.job_id = p_job;
    {LOCKED.format(wanted="p_wanted || v_hold.budgets", lacking="").lstrip()}
    SELECT * INTO v_hold FROM finops.hold h WHERE h.tenant = p_tenant AND h.job_id = p_job FOR NO KEY UPDATE;
    IF v_hold.state IS DISTINCT FROM 'held' OR v_hold.currency <> p_currency THEN
        RETURN QUERY SELECT {
    _answer(
        "CASE WHEN v_hold.state IS NULL THEN 'unknown' WHEN v_hold.state <> 'held' THEN 'closed' ELSE 'currency' END",
        unit="v_hold.currency",
    )
};
        RETURN;
    END IF;
    SELECT array_agg(coalesce(o.window_key, n.window_key) ORDER BY n.budget_id) INTO v_windows
        FROM unnest(v_budgets, v_windows) AS n (budget_id, window_key)
        LEFT JOIN unnest(v_hold.budgets, v_hold.windows) AS o (budget_id, window_key) USING (budget_id);
    RETURN QUERY SELECT {SHORT}, a.asked FROM finops.standing(p_tenant, v_budgets, v_windows) s
        CROSS JOIN LATERAL (
            SELECT {ASKED.format(b="s", shots="p_shots", jobs="1", amount="p_amount")} AS asked,
                   CASE WHEN s.budget_id = ANY (v_hold.budgets) THEN
                       {ASKED.format(b="s", shots="v_hold.shots", jobs="1", amount="v_hold.amount")} END AS had) a
        WHERE s.mode = 'hard' AND (a.had IS NULL OR a.asked > a.had)
          AND s.held - coalesce(a.had, 0) + s.captured + a.asked > s.limit_amount;
    IF FOUND THEN
        RETURN;
    END IF;
    UPDATE finops.hold h SET amount = p_amount, budgets = v_budgets, windows = v_windows, shots = nullif(p_shots, 0)
        WHERE h.tenant = p_tenant AND h.job_id = p_job;
    UPDATE finops.budget_window w SET held = w.held + d.by
        FROM (SELECT o.budget_id, o.window_key,
                  CASE WHEN o.budget_id = ANY (v_budgets)
                      THEN {ASKED.format(b="b", shots="p_shots", jobs="1", amount="p_amount")} ELSE 0 END
                  - {ASKED.format(b="b", shots="v_hold.shots", jobs="1", amount="v_hold.amount")} AS by
              FROM unnest(v_hold.budgets, v_hold.windows) AS o (budget_id, window_key)
              JOIN finops.budget b ON b.tenant = p_tenant AND b.budget_id = o.budget_id) AS d
        WHERE w.tenant = p_tenant AND w.budget_id = d.budget_id AND w.window_key = d.window_key AND d.by <> 0;
    INSERT INTO finops.budget_window AS w (tenant, budget_id, window_key, held, captured)
        SELECT p_tenant, n.budget_id, n.window_key,
               {ASKED.format(b="b", shots="p_shots", jobs="1", amount="p_amount")}, 0
        FROM unnest(v_budgets, v_windows) AS n (budget_id, window_key)
        JOIN finops.budget b ON b.tenant = p_tenant AND b.budget_id = n.budget_id
        WHERE NOT n.budget_id = ANY (v_hold.budgets)
        ON CONFLICT (tenant, budget_id, window_key) DO UPDATE SET held = w.held + excluded.held;
    RETURN QUERY SELECT {_answer("'held'", "p.budget_id", "p.window_key")}
        FROM unnest(v_budgets, v_windows) AS p (budget_id, window_key);
END
$$;
"""

SETTLED = """RETURNS TABLE (outcome text, captured numeric, released numeric, overrun numeric, currency text,
               budgets text[], windows text[], shots numeric, jobs numeric)"""
UNSETTLED = "NULL::numeric, NULL::numeric, NULL::numeric"
NOWHERE = "NULL::text[], NULL::text[], NULL::numeric, NULL::numeric"

USED = ASKED.format(b="b", shots="v_hold.used_shots", jobs="v_hold.used_jobs", amount="p_capture")

# Captured in full even where it exceeds the hold or the limit: what was used is owed, and an overrun is told. What runs
# at once has nothing to capture.
SETTLE = f"""
CREATE FUNCTION finops.settle_hold(p_tenant text, p_job text, p_capture numeric, p_currency text,
                                   p_shots numeric, p_jobs numeric)
{SETTLED}
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_hold finops.hold;
BEGIN
    SELECT * INTO v_hold FROM finops.hold h WHERE h.tenant = p_tenant AND h.job_id = p_job;
    IF v_hold.state IS NULL OR v_hold.currency <> coalesce(p_currency, v_hold.currency) THEN
        RETURN QUERY SELECT CASE WHEN v_hold.state IS NULL THEN 'unknown' ELSE 'currency' END,
            {UNSETTLED}, v_hold.currency, {NOWHERE};
        RETURN;
    END IF;
    PERFORM finops.lock_budgets(p_tenant, v_hold.budgets);
    UPDATE finops.hold AS h SET state = 'settled', captured = p_capture,
            released = greatest(h.amount - p_capture, 0), overrun = greatest(p_capture - h.amount, 0),
            used_shots = CASE WHEN h.shots IS NOT NULL THEN nullif(p_shots, 0) END,
            used_jobs = CASE WHEN h.shots IS NOT NULL THEN nullif(p_jobs, 0) END
        WHERE h.tenant = p_tenant AND h.job_id = p_job AND h.state <> 'settled'
        RETURNING * INTO v_hold;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'closed', {UNSETTLED}, NULL, {NOWHERE};
        RETURN;
    END IF;
    UPDATE finops.budget_window w
        SET held = w.held - {ASKED.format(b="b", shots="v_hold.shots", jobs="1", amount="v_hold.amount")},
            captured = w.captured + CASE WHEN b.period = 'concurrent' THEN 0
                ELSE coalesce({USED}, 0) END
        FROM unnest(v_hold.budgets, v_hold.windows) AS p (budget_id, window_key)
        JOIN finops.budget b ON b.tenant = p_tenant AND b.budget_id = p.budget_id
        WHERE w.tenant = p_tenant AND w.budget_id = p.budget_id AND w.window_key = p.window_key;
    RETURN QUERY SELECT 'settled', v_hold.captured, v_hold.released, v_hold.overrun, v_hold.currency,
        v_hold.budgets, v_hold.windows, coalesce(v_hold.used_shots, 0), coalesce(v_hold.used_jobs, 0);
END
$$;
"""

# Money that is given back is there again where it was spent: in the windows of the hold.
REFUND = f"""
CREATE FUNCTION finops.refund(p_tenant text, p_job text, p_amount numeric, p_currency text)
{SETTLED}
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_hold finops.hold;
BEGIN
    SELECT * INTO v_hold FROM finops.hold h WHERE h.tenant = p_tenant AND h.job_id = p_job;
    PERFORM finops.lock_budgets(p_tenant, v_hold.budgets);
    SELECT * INTO v_hold FROM finops.hold h WHERE h.tenant = p_tenant AND h.job_id = p_job FOR NO KEY UPDATE;
    IF v_hold.state IS DISTINCT FROM 'settled' OR v_hold.currency <> p_currency
        OR coalesce(v_hold.refunded, 0) + p_amount > v_hold.captured THEN
        RETURN QUERY SELECT
            CASE WHEN v_hold.state IS NULL THEN 'unknown' WHEN v_hold.state <> 'settled' THEN 'open'
                 WHEN v_hold.currency <> p_currency THEN 'currency' ELSE 'more' END,
            v_hold.captured, coalesce(v_hold.refunded, 0), NULL::numeric, v_hold.currency, {NOWHERE};
        RETURN;
    END IF;
    UPDATE finops.hold h SET refunded = nullif(coalesce(h.refunded, 0) + p_amount, 0)
        WHERE h.tenant = p_tenant AND h.job_id = p_job;
    UPDATE finops.budget_window w SET captured = w.captured - p_amount
        FROM unnest(v_hold.budgets, v_hold.windows) AS p (budget_id, window_key)
        JOIN finops.budget b ON b.tenant = p_tenant AND b.budget_id = p.budget_id AND b.counts = 'money'
        WHERE w.tenant = p_tenant AND w.budget_id = p.budget_id AND w.window_key = p.window_key;
    RETURN QUERY SELECT 'refunded', v_hold.captured, coalesce(v_hold.refunded, 0) + p_amount, NULL::numeric,
        v_hold.currency, v_hold.budgets, v_hold.windows, NULL::numeric, NULL::numeric;
END
$$;
"""

FUNCTIONS = {
    "standing(text, text[], text[])": STANDING,
    "place_hold(text, text, text[], text, text, text, numeric, text, numeric)": PLACE,
    "rehold(text, text, text[], text, text, text, numeric, text, numeric)": REHOLD,
    "settle_hold(text, text, numeric, text, numeric, numeric)": SETTLE,
    "refund(text, text, numeric, text)": REFUND,
}
BEFORE = (
    "standing(text, text[], text[])",
    "place_hold(text, text, text[], text, text, text, numeric, text)",
    "enlarge_hold(text, text, numeric, text)",
    "settle_hold(text, text, numeric, text)",
)

# What stands in a function's text, and what stands there from now on. `jobs.admit` answers a hold that was refused with
# {"exceeded": [what `place_hold` answered]}, as text; `jobs.advance` so too, of {"rehold": as `hold`} in its p_write.
ADMIT = (
    ("    v_windows text[];\n", "    v_windows text[];\n    v_short jsonb;\n"),
    (
        """array_agg(h.window_key ORDER BY h.budget_id COLLATE "C")
            INTO v_outcome, v_budgets, v_windows
""",
        """array_agg(h.window_key ORDER BY h.budget_id COLLATE "C"),
               jsonb_agg(to_jsonb(h)) FILTER (WHERE h.outcome = 'exceeded')
            INTO v_outcome, v_budgets, v_windows, v_short
""",
    ),
    (
        """v_hold ->> 'currency') AS h;
        IF v_outcome <> 'held' THEN
            RETURN v_outcome;
""",
        """v_hold ->> 'currency', (v_hold ->> 'shots')::numeric) AS h;
        IF v_outcome <> 'held' THEN
            RETURN CASE WHEN v_short IS NULL THEN v_outcome ELSE jsonb_build_object('exceeded', v_short)::text END;
""",
    ),
)
ADVANCE = (
    ("    v_settled record;\n", "    v_settled record;\n    v_held record;\n"),
    (
        "    UPDATE jobs.job j SET (",
        """    IF p_write -> 'rehold' <> 'null' THEN
        SELECT min(h.outcome) AS outcome, array_agg(h.budget_id ORDER BY h.budget_id COLLATE "C") AS budgets,
               array_agg(h.window_key ORDER BY h.budget_id COLLATE "C") AS windows,
               jsonb_agg(to_jsonb(h)) FILTER (WHERE h.outcome = 'exceeded') AS short
            INTO v_held
            FROM jsonb_to_record(p_write -> 'rehold') AS w (budgets text[], windows text[], month text, quarter text,
                day text, amount numeric, currency text, shots numeric),
                finops.rehold(p_tenant, v_id, w.budgets, w.month, w.quarter, w.day, w.amount, w.currency, w.shots) AS h;
        IF v_held.outcome = 'exceeded' THEN
            RETURN jsonb_build_object('exceeded', v_held.short)::text;
        END IF;
        IF v_held.outcome <> 'held' OR to_jsonb(v_held.budgets) <> p_write -> 'rehold' -> 'budgets'
            OR to_jsonb(v_held.windows) <> p_write -> 'rehold' -> 'windows' THEN
            RAISE EXCEPTION 'the hold of % is made otherwise than its entry tells: %', v_id, v_held.outcome;
        END IF;
    END IF;
    UPDATE jobs.job j SET (""",
    ),
    (
        "finops.settle_hold(p_tenant, v_id, (v_money ->> 'capture')::numeric, NULL)",
        """finops.settle_hold(p_tenant, v_id, (v_money ->> 'capture')::numeric, NULL,
            (v_money ->> 'shots')::numeric, (v_money ->> 'jobs')::numeric)""",
    ),
)


def upgrade() -> None:
    """Count shots and jobs beside money, and make holds right."""
    op.execute(TABLES)
    for signature in BEFORE:
        op.execute(f"DROP FUNCTION finops.{signature}")
    _create(FUNCTIONS)
    _rewrite("jobs.admit", ADMIT)
    _rewrite("jobs.advance", ADVANCE)


def downgrade() -> None:
    """Money alone, in hard budgets."""
    _rewrite("jobs.advance", tuple((new, old) for old, new in ADVANCE))
    _rewrite("jobs.admit", tuple((new, old) for old, new in ADMIT))
    for signature in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION finops.{signature}")
    op.execute(UNDO)
    first: Any = importlib.import_module("control_plane.migrations.versions.0002_finops")
    _create({signature: first.FUNCTIONS[signature] for signature in BEFORE})


def _create(functions: dict[str, str]) -> None:
    for signature, statement in functions.items():
        op.execute(statement)
        op.execute(f"REVOKE ALL ON FUNCTION finops.{signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION finops.{signature} TO {roles().app}")
    op.execute(f"GRANT EXECUTE ON FUNCTION finops.standing(text, text[], text[]) TO {roles().audit}")


def _rewrite(function: str, changes: tuple[tuple[str, str], ...]) -> None:
    """Change the text of a function as it stands; each piece MUST be there once."""
    found = op.get_bind().exec_driver_sql(f"SELECT pg_get_functiondef('{function}'::regproc)").scalar_one()
    for old, new in changes:
        if found.count(old) != 1:
            raise RuntimeError(f"{function} isn't as revision {revision} knows it")
        found = found.replace(old, new)
    op.get_bind().exec_driver_sql(found.replace("%", "%%"))
