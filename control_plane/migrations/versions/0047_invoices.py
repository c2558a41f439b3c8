# SPDX-License-Identifier: Apache-2.0
"""By which names vendors know a job's tasks, and what their invoices came to beside the ledger (G7)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0047_invoices"
down_revision = "0045_close"
branch_labels = None
depends_on = None

TABLES = """
-- [{attempt, backend, task}], of every attempt that was handed to a vendor.
ALTER TABLE jobs.job ADD COLUMN vendor_tasks jsonb;

CREATE TABLE finops.reconciliation (
    tenant text NOT NULL,
    reconciliation_id uuid NOT NULL,
    provider text NOT NULL,
    months text[] NOT NULL,
    made_at timestamptz NOT NULL,
    pseudonym text NOT NULL,
    summary jsonb NOT NULL,
    findings jsonb NOT NULL,
    PRIMARY KEY (tenant, reconciliation_id)
);
CREATE INDEX reconciliation_made ON finops.reconciliation (tenant, made_at DESC, reconciliation_id);
"""


def upgrade() -> None:
    """Create them."""
    op.execute(TABLES)
    # What was found stays as it was found: a new look is a row of its own.
    protect("finops.reconciliation", app="SELECT, INSERT")


def downgrade() -> None:
    """The ledger alone knows them."""
    op.execute("DROP TABLE finops.reconciliation")
    op.execute("ALTER TABLE jobs.job DROP COLUMN vendor_tasks")
