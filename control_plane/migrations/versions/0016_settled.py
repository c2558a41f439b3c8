# SPDX-License-Identifier: Apache-2.0
"""How somebody settled a job whose outcome nobody knows: who, when, why, and for how much (I3, G5)."""

from __future__ import annotations

from alembic import op

revision = "0016_settled"
down_revision = "0015_registry"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what it says is in the ledger too."""
    op.execute("ALTER TABLE jobs.job ADD COLUMN settlement jsonb")


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE jobs.job DROP COLUMN settlement")
