# SPDX-License-Identifier: Apache-2.0
"""The trace of a job crosses the database beside it, in columns that no entry tells of (G8)."""

from __future__ import annotations

from alembic import op

revision = "0005_trace"
down_revision = "0004_jobs"
branch_labels = None
depends_on = None

EXPENDABLE = ("jobs.job.traceparent", "ledger.inbox.traceparent")  # traces of jobs under way; nothing rests on them


def upgrade() -> None:
    """A W3C traceparent on the job's row, for its worker, and on the inbox row, for the sealer; null without one."""
    op.execute("ALTER TABLE jobs.job ADD COLUMN traceparent text")
    op.execute("ALTER TABLE ledger.inbox ADD COLUMN traceparent text")


def downgrade() -> None:
    """Drop both; traces of jobs under way end there."""
    op.execute("ALTER TABLE ledger.inbox DROP COLUMN traceparent")
    op.execute("ALTER TABLE jobs.job DROP COLUMN traceparent")
