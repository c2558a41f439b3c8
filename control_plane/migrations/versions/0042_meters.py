# SPDX-License-Identifier: Apache-2.0
"""A job knows the batch job that submitted it and as what it ran, so that a site's accounts are joined on them (G6)."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0042_meters"
down_revision = "0041_cards"
branch_labels = None
depends_on = None

# The first stands in the entry of the job's admission, the second in that of its outcome.
EXPENDABLE = frozenset({"jobs.job.accounting", "jobs.job.ran_as"})

_LAST = "approval, approver"
_COLUMNS = (f"{_LAST}) = (", f"{_LAST}, ran_as) = (")
_VALUES = ("r.approval, r.approver", "r.approval, r.approver, r.ran_as")


def upgrade() -> None:
    """Add the columns and an index of the jobs that have one, and let a job's end write what it ran as."""
    op.execute("ALTER TABLE jobs.job ADD COLUMN accounting jsonb, ADD COLUMN ran_as jsonb")
    op.execute("""
        CREATE INDEX job_accounted ON jobs.job (tenant, submitted_at DESC, job_id DESC)
            WHERE accounting IS NOT NULL OR ran_as IS NOT NULL""")
    _advance(_COLUMNS, _VALUES)


def downgrade() -> None:
    """Entries keep what they tell."""
    _advance(_COLUMNS[::-1], _VALUES[::-1])
    op.execute("DROP INDEX jobs.job_accounted")
    op.execute("ALTER TABLE jobs.job DROP COLUMN accounting, DROP COLUMN ran_as")


def _advance(*changes: tuple[str, ...]) -> None:
    """Change the function as it is: other revisions change other lines of it."""
    found = op.get_bind().execute(
        text("SELECT pg_get_functiondef('jobs.advance(text,jsonb,bytea[],bytea[])'::regprocedure)")
    )
    statement = str(found.scalar_one())
    for before, after in changes:
        if statement.count(before) != 1:
            raise RuntimeError(f"jobs.advance has no one place with {before}")
        statement = statement.replace(before, after)
    op.execute(statement)
