# SPDX-License-Identifier: Apache-2.0
"""Tables whose rows come and go are swept by how many have gone, not by their share of a table that grows (N18).

The default share, a fifth, lets a job's table keep the dead versions of every fifth job it ever had: at 10⁶ entries
some hundred thousand, which each look for work walks past. `ledger.inbox` has been so since the first revision.
"""

from __future__ import annotations

from alembic import op

revision = "0008_queues"
down_revision = "0007_alarms"
branch_labels = None
depends_on = None

# A sweep of jobs.job reads its indexes, which grow: so a small share too, and a floor that a busy minute reaches.
SWEPT: dict[str, dict[str, float]] = {
    "ledger.unstamped": {"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
    "jobs.job": {"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_threshold": 2000},
}


def upgrade() -> None:
    """Set the thresholds."""
    for table, options in SWEPT.items():
        op.execute(f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in options.items())})")


def downgrade() -> None:
    """Back to the server's own."""
    for table, options in SWEPT.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(options)})")
