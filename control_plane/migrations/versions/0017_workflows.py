# SPDX-License-Identifier: Apache-2.0
"""A job knows the workflow that it is a step of, and the jobs of one are found without reading all others (S9)."""

from __future__ import annotations

from alembic import op

revision = "0017_workflows"
down_revision = "0016_settled"
branch_labels = None
depends_on = None

# It stands in the entry of the job's admission.
EXPENDABLE = frozenset({"jobs.job.workflow"})


def upgrade() -> None:
    """Add the column, and an index of the jobs that have one."""
    op.execute("ALTER TABLE jobs.job ADD COLUMN workflow jsonb")
    op.execute("""
        CREATE INDEX job_of_workflow ON jobs.job (tenant, (workflow ->> 'id'), submitted_at DESC, job_id DESC)
            WHERE workflow IS NOT NULL""")


def downgrade() -> None:
    """Drop both."""
    op.execute("DROP INDEX jobs.job_of_workflow")
    op.execute("ALTER TABLE jobs.job DROP COLUMN workflow")
