# SPDX-License-Identifier: Apache-2.0
"""A project can be closed: what it has done stays, and it takes no new jobs (G13)."""

from __future__ import annotations

from alembic import op

revision = "0032_projects"
down_revision = "0031_identity"
branch_labels = None
depends_on = None

# Who closed it, and why, stands in the entries.
EXPENDABLE = frozenset({"auth.project.state"})


def upgrade() -> None:
    """Every project that is there is open."""
    op.execute(
        "ALTER TABLE auth.project ADD COLUMN state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed'))"
    )


def downgrade() -> None:
    """Nothing is closed any more for a program that can't close it."""
    op.execute("ALTER TABLE auth.project DROP COLUMN state")
