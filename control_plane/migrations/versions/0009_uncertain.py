# SPDX-License-Identifier: Apache-2.0
"""Jobs whose outcome is unknown, and so parked holds, are found without reading every job (G8)."""

from __future__ import annotations

from alembic import op

revision = "0009_uncertain"
down_revision = "0008_queues"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An index of few rows."""
    op.execute("CREATE INDEX job_uncertain ON jobs.job (submitted_at) WHERE final = 'UNCERTAIN'")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX jobs.job_uncertain")
