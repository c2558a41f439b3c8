# SPDX-License-Identifier: Apache-2.0
"""Lists of jobs by state and by project read what they show, not what the tenant ever ran (N18).

Ended jobs but the completed ones, and each project's, newest first; those not yet ended have `job_unfinished`, and the
completed ones are most of `job_listed`.
"""

from __future__ import annotations

from alembic import op

revision = "0010_lists"
down_revision = "0009_uncertain"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both."""
    op.execute("""
        CREATE INDEX job_ended_otherwise ON jobs.job (tenant, final, submitted_at DESC, job_id DESC)
            WHERE final <> 'COMPLETED'""")
    op.execute("CREATE INDEX job_of_project ON jobs.job (tenant, project, submitted_at DESC, job_id DESC)")


def downgrade() -> None:
    """Drop both."""
    op.execute("DROP INDEX jobs.job_of_project; DROP INDEX jobs.job_ended_otherwise")
