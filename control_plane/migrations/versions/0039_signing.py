# SPDX-License-Identifier: Apache-2.0
"""Keys with which people sign their requests, nonces that were used, and which envelope asked for a job (S1).

A nonce is forgotten a while after its envelope is no longer good. The table is logged: a crash must not let an
envelope through a second time.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0039_signing"
down_revision = "0038_saml"
branch_labels = None
depends_on = None

# Keys stand in the entries of their enrolment, a job's envelope in its admission and among its contents.
EXPENDABLE = frozenset({"auth.signing_key", "auth.nonce", "jobs.job.envelope"})

TABLES = """
-- Named by its thumbprint; one key is one person's, and once revoked nobody's.
CREATE TABLE auth.signing_key (
    tenant text NOT NULL REFERENCES auth.tenant,
    key_id text NOT NULL,
    name text NOT NULL,
    alg text NOT NULL,
    public bytea NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    entry_id uuid NOT NULL,
    enrolled_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (tenant, key_id)
);
CREATE INDEX signing_key_of ON auth.signing_key (tenant, issuer, subject, enrolled_at DESC);

CREATE TABLE auth.nonce (
    tenant text NOT NULL REFERENCES auth.tenant,
    key_id text NOT NULL,
    nonce text NOT NULL,
    forget_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, key_id, nonce)
);
CREATE INDEX nonce_forgotten ON auth.nonce (tenant, forget_at);

ALTER TABLE jobs.job ADD COLUMN envelope jsonb;
"""


def upgrade() -> None:
    """Create them."""
    op.execute(TABLES)
    protect("auth.signing_key", app="SELECT, INSERT, UPDATE")
    protect("auth.nonce", app="SELECT, INSERT, DELETE")


def downgrade() -> None:
    """Nobody has signed anything any more, but for what the ledger keeps."""
    op.execute("ALTER TABLE jobs.job DROP COLUMN envelope")
    op.execute("DROP TABLE auth.nonce; DROP TABLE auth.signing_key")
