# SPDX-License-Identifier: Apache-2.0
"""Entries that nobody waits for may lie a moment, and are then sealed with others: a batch less a job (decision 1)."""

from __future__ import annotations

from alembic import op

revision = "0013_patience"
down_revision = "0012_floor"
branch_labels = None
depends_on = None

EXPENDABLE = frozenset({"ledger.inbox.patient"})

TAKE_IN = """
CREATE OR REPLACE FUNCTION ledger.take_in(p_tenant text, p_write jsonb, p_blobs bytea[], p_entries bytea[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.blob (tenant, commitment, nonce, wrapped_key, ciphertext)
        SELECT p_tenant, b.name, p_blobs[3 * b.n - 2], p_blobs[3 * b.n - 1], p_blobs[3 * b.n]
        FROM jsonb_array_elements_text(p_write -> 'blobs') WITH ORDINALITY AS b (name, n);
    INSERT INTO ledger.inbox (tenant, pending, bundle_id, level, statement, salt, traceparent{column})
        SELECT p_tenant, p_entries[3 * e.n - 2], (e.one ->> 'bundle')::uuid, e.one ->> 'level',
               p_entries[3 * e.n - 1], p_entries[3 * e.n], e.one ->> 'traceparent'{value}
        FROM jsonb_array_elements(p_write -> 'entries') WITH ORDINALITY AS e (one, n) ORDER BY e.n;
END
$$;
"""


def upgrade() -> None:
    """A writer says of an entry that it may wait; what says nothing may not."""
    op.execute("ALTER TABLE ledger.inbox ADD COLUMN patient boolean NOT NULL DEFAULT false")
    op.execute(
        TAKE_IN.format(column=", patient", value=",\n               coalesce((e.one ->> 'patient')::boolean, false)")
    )


def downgrade() -> None:
    """Every entry is in a hurry again."""
    op.execute(TAKE_IN.format(column="", value=""))
    op.execute("ALTER TABLE ledger.inbox DROP COLUMN patient")
