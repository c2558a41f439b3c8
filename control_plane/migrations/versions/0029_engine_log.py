# SPDX-License-Identifier: Apache-2.0
"""The bounded copy of OPA's decision log (G2): which rules spoke, by which revision; no tenant, person or text in it.

Nothing rests on it: the record of a decision is its entry. `policy.engine_log` has one row, what came in so far.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0029_engine_log"
down_revision = "0028_shadow"
branch_labels = None
depends_on = None

EXPENDABLE = frozenset({"policy.engine_decision", "policy.engine_log"})

TABLES = """
CREATE TABLE policy.engine_decision (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decision_id uuid NOT NULL UNIQUE,
    decided_at timestamptz NOT NULL,
    revision text NOT NULL,
    failed text[] NOT NULL,
    codes text[] NOT NULL
);
CREATE TABLE policy.engine_log (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    taken bigint NOT NULL DEFAULT 0,
    refused bigint NOT NULL DEFAULT 0
);
"""


def upgrade() -> None:
    """Add both; the counters begin at nothing."""
    op.execute(TABLES)
    op.execute("INSERT INTO policy.engine_log DEFAULT VALUES")
    protect("policy.engine_decision", app="SELECT, INSERT, DELETE", tenant_column="")
    protect("policy.engine_log", app="SELECT, UPDATE", tenant_column="")


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TABLE policy.engine_decision; DROP TABLE policy.engine_log")
