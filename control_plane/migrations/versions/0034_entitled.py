# SPDX-License-Identifier: Apache-2.0
"""Who asked for a job, as their issuer names them, and with which secret: what the dispatch gate judges anew (G13)."""

from __future__ import annotations

from alembic import op

revision = "0034_entitled"
down_revision = "0033_device"
branch_labels = None
depends_on = None

# The decision that admitted a job stands in its entries; without these its rights are taken to be as they were.
EXPENDABLE = frozenset({"jobs.job.issuer", "jobs.job.credential"})


def upgrade() -> None:
    """Of jobs that are there already nobody knows."""
    op.execute("ALTER TABLE jobs.job ADD COLUMN issuer text, ADD COLUMN credential text")


def downgrade() -> None:
    """Forget both."""
    op.execute("ALTER TABLE jobs.job DROP COLUMN issuer, DROP COLUMN credential")
