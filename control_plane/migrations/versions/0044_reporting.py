# SPDX-License-Identifier: Apache-2.0
"""Views that a tool for reports reads within its tenant's walls (G7, I7).

They ask as their caller: what a login sees in them is what the rows' own policies let it see. Each login is one
tenant's, made by `qcos admin reader`, which gives it the views and the columns behind them, and a policy that is bound
to its role and to no setting that it could change. It may not use the schemas of the tables themselves.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import roles

revision = "0044_reporting"
down_revision = "0044_estimates"
branch_labels = None
depends_on = None

# One row a group and currency. A job is charged by one entry whose lines are numbered from 0 (0040), so its first line
# counts it.
FIGURES = """
    currency,
    sum(amount) AS spend,
    coalesce(sum(amount) FILTER (WHERE category IN ('usage', 'shared')), 0) AS gross,
    coalesce(sum(amount) FILTER (WHERE category NOT IN ('usage', 'shared')), 0) AS credits,
    count(*) FILTER (WHERE category = 'usage' AND line = 0) AS jobs,
    count(*) FILTER (WHERE category = 'usage' AND line = 0 AND ended_at IS NOT NULL) AS completed_jobs"""
GROUPED = {
    "spend_by_project": "project, cost_center",
    "spend_by_team": "team",
    "spend_by_backend": "provider, backend, region",
    "spend_by_purpose": "purpose",
    "spend_by_classification": "classification",
}
DAY = "(charged_at AT TIME ZONE 'UTC')::date"

VIEWS = {
    **{
        name: f"SELECT month, {keys}, {FIGURES} FROM finops.charge GROUP BY month, {keys}, currency"
        for name, keys in GROUPED.items()
    },
    "spend_by_day": f"SELECT {DAY} AS day, project, {FIGURES} FROM finops.charge GROUP BY {DAY}, project, currency",
    # A person by the name under which they submitted; erased ones by pseudonym, as the job's row has them.
    "spend_by_user": """
        SELECT s.month, coalesce(j.actor, s.pseudonym) AS user_name, s.project, s.currency, s.spend, s.gross, s.credits,
               s.jobs, s.completed_jobs
        FROM (SELECT tenant, month, pseudonym, project, max(job_id) AS job_id,"""
    + FIGURES
    + """
              FROM finops.charge GROUP BY tenant, month, pseudonym, project, currency) AS s
        LEFT JOIN jobs.job j ON j.tenant = s.tenant AND j.job_id = s.job_id""",
    "charges": """
        SELECT month, charged_at, category, job_id, project, cost_center, team, pseudonym, purpose, classification,
               provider, backend, region, started_at, ended_at, meter, quantity, unit, rate, amount, currency, source,
               reporter, rate_card, entry_id, line
        FROM finops.charge""",
    # A rolling budget's days stand for themselves, each a window.
    "budgets": """
        SELECT b.scope, b.period, b.mode, w.window_key AS window_name, b.limit_amount, w.held, w.captured,
               b.limit_amount - w.held - w.captured AS available, b.unit
        FROM finops.budget b
        JOIN finops.budget_window w ON w.tenant = b.tenant AND w.budget_id = b.budget_id""",
}


def upgrade() -> None:
    """Create the schema with its views; nobody may read them who isn't given them."""
    op.execute("CREATE SCHEMA reporting")
    for name, statement in VIEWS.items():
        op.execute(f"CREATE VIEW reporting.{name} WITH (security_invoker = true) AS {statement}")
    op.execute(f"GRANT USAGE ON SCHEMA reporting TO {roles().audit}")
    op.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO {roles().audit}")


def downgrade() -> None:
    """Drop them; logins made for them see nothing any more."""
    op.execute("DROP SCHEMA reporting CASCADE")
