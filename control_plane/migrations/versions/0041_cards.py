# SPDX-License-Identifier: Apache-2.0
"""Several rate cards in force at once: their names, which were accepted, and by which of them a job is priced (G6, I6).

A job keeps, for each backend that it may use, the card of its admission; `rate_card` becomes the one of the backend
that runs it.
"""

from __future__ import annotations

from alembic import op

revision = "0041_cards"
down_revision = "0040_charges"
branch_labels = None
depends_on = None

# They stand in the card's document. What was accepted, and by what a job is priced, no row says again.
EXPENDABLE = frozenset({"finops.rate_card.name", "finops.rate_card.ends"})

TABLES = """
ALTER TABLE finops.rate_card ADD COLUMN name text COLLATE "C", ADD COLUMN ends boolean NOT NULL DEFAULT false,
    ADD COLUMN accepted_at timestamptz;
UPDATE finops.rate_card SET name = convert_from(document, 'UTF8')::jsonb ->> 'name';
ALTER TABLE finops.rate_card ALTER COLUMN name SET NOT NULL;
ALTER TABLE jobs.job ADD COLUMN rate_cards jsonb;
"""

# The function is as whoever changed it last has left it; this adds one column to those that it may change.
ADVANCE = "SELECT pg_get_functiondef('jobs.advance(text, jsonb, bytea[], bytea[])'::regprocedure)"
MORE = (
    ("result_blob, artefacts, cost_amount,", "rate_card, "),
    ("r.result_blob, r.artefacts, r.cost_amount,", "r.rate_card, "),
)


def upgrade() -> None:
    """Add the columns, and let a job's change name its card."""
    op.execute(TABLES)
    statement = op.get_bind().exec_driver_sql(ADVANCE).scalar_one()
    for columns, more in MORE:
        if columns not in statement:
            raise RuntimeError(f"jobs.advance doesn't list {columns}")
        statement = statement.replace(columns, more + columns)
    op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def downgrade() -> None:
    """Forget them."""
    statement = op.get_bind().exec_driver_sql(ADVANCE).scalar_one()
    for columns, more in MORE:
        statement = statement.replace(more + columns, columns)
    op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
    op.execute("ALTER TABLE jobs.job DROP COLUMN rate_cards")
    op.execute("ALTER TABLE finops.rate_card DROP COLUMN name, DROP COLUMN ends, DROP COLUMN accepted_at")
