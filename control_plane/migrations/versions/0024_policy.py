# SPDX-License-Identifier: Apache-2.0
"""Policy revisions (G2): each push with its files, and the sealer's signature of it beside its entry.

A push is never changed: no role has UPDATE. `number` is the fence of two at once; which one is in force is the newest
that has a signature. Policy is the plane's, not a tenant's: every process reads every push.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0024_policy"
down_revision = "0023_documents"
branch_labels = None
depends_on = None

TABLES = """
CREATE SCHEMA policy;
CREATE TABLE policy.push (
    number bigint PRIMARY KEY,
    entry_id uuid NOT NULL UNIQUE,
    revision text NOT NULL,
    base text,
    whose text NOT NULL,
    actor text NOT NULL,
    message text NOT NULL,
    files bytea NOT NULL,
    pushed_at timestamptz NOT NULL
);
CREATE INDEX push_revision ON policy.push (revision, number);
CREATE TABLE ledger.policy_signature (
    entry_id uuid PRIMARY KEY,
    number bigint NOT NULL UNIQUE,
    revision text NOT NULL,
    signature bytea NOT NULL
);
"""
PURPOSES = """
ALTER TABLE ledger.key DROP CONSTRAINT key_purpose_check;
ALTER TABLE ledger.key ADD CONSTRAINT key_purpose_check CHECK (purpose IN ({}))"""


def upgrade() -> None:
    """Add the tables; a key may be for policies."""
    op.execute(TABLES)
    protect("policy.push", app="SELECT, INSERT", tenant_column="")
    protect("ledger.policy_signature", app="SELECT", sealer="SELECT, INSERT", tenant_column="")
    op.execute(PURPOSES.format("'log', 'evidence', 'document', 'policy'"))


def downgrade() -> None:
    """Drop them; the policy key's row goes, its entry stays."""
    op.execute("DELETE FROM ledger.key WHERE purpose = 'policy'")
    op.execute(PURPOSES.format("'log', 'evidence', 'document'"))
    op.execute("DROP TABLE ledger.policy_signature")
    op.execute("DROP SCHEMA policy CASCADE")
