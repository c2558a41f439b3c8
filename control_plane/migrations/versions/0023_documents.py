# SPDX-License-Identifier: Apache-2.0
"""Documents about evidence (PDF): what the sealer signed for them, and each one as it was issued (G3, G4).

A signature is the sealer's own row, beside the entry that asked for it. A document is issued once for each bundle; its
bytes lie in a blob, so that they are erased with the evidence. No role has UPDATE on either.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0023_documents"
down_revision = "0022_outside"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE ledger.document_signature (
    entry_id uuid PRIMARY KEY,
    tenant text NOT NULL,
    bundle_id uuid NOT NULL,
    digest text NOT NULL,
    certificate text NOT NULL,
    signature bytea NOT NULL
);

CREATE TABLE jobs.document (
    tenant text NOT NULL,
    bundle_id uuid NOT NULL,
    entry_id uuid NOT NULL,
    sha256 text NOT NULL,
    blob text NOT NULL,
    PRIMARY KEY (tenant, bundle_id)
);
"""
PURPOSES = """
ALTER TABLE ledger.key DROP CONSTRAINT key_purpose_check;
ALTER TABLE ledger.key ADD CONSTRAINT key_purpose_check CHECK (purpose IN ({}))"""


def upgrade() -> None:
    """Add the tables; a key may be for documents; the sealer sees the records on which a folded denial rests."""
    op.execute(TABLES)
    protect("ledger.document_signature", app="SELECT", sealer="SELECT, INSERT")
    protect("jobs.document", app="SELECT, INSERT")
    op.execute(PURPOSES.format("'log', 'evidence', 'document'"))
    op.execute(f"GRANT SELECT ON ledger.folded TO {roles().sealer}")


def downgrade() -> None:
    """Drop them; the document key's row goes, its entry stays."""
    op.execute(f"REVOKE SELECT ON ledger.folded FROM {roles().sealer}")
    op.execute("DELETE FROM ledger.key WHERE purpose = 'document'")
    op.execute(PURPOSES.format("'log', 'evidence'"))
    op.execute("DROP TABLE jobs.document, ledger.document_signature")
