# SPDX-License-Identifier: Apache-2.0
"""What a job was expected to cost, kept with it, so that the intervals' coverage is measured (G7)."""

from __future__ import annotations

from alembic import op

revision = "0044_estimates"
down_revision = "0044_alerts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; jobs from before have none."""
    op.execute("ALTER TABLE jobs.job ADD COLUMN estimate jsonb")


def downgrade() -> None:
    """Jobs keep theirs in the ledger alone."""
    op.execute("ALTER TABLE jobs.job DROP COLUMN estimate")
