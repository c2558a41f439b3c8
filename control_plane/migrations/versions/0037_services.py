# SPDX-License-Identifier: Apache-2.0
"""Service accounts, the rules by which a CI system's token stands for one, and which tokens were used up (G13, S1)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0037_services"
down_revision = "0035_tenant_rates"
branch_labels = None
depends_on = None

# Who made which account, key and rule stands in the entries.
EXPENDABLE = frozenset({"auth.service_account", "auth.workload_rule", "auth.used_token"})

TABLES = """
-- A name is never given twice: the ledger's pseudonym of it would stand for two.
CREATE TABLE auth.service_account (
    tenant text NOT NULL REFERENCES auth.tenant,
    account text NOT NULL CHECK (account ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    description text NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (tenant, account)
);

-- Tokens of the issuer that claim this are the account's.
CREATE TABLE auth.workload_rule (
    tenant text NOT NULL REFERENCES auth.tenant,
    rule_id text NOT NULL,
    issuer text NOT NULL,
    account text NOT NULL,
    claims jsonb NOT NULL CHECK (jsonb_typeof(claims) = 'object' AND claims <> '{}'),
    scope jsonb,
    lasts_s integer NOT NULL CHECK (lasts_s > 0),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    PRIMARY KEY (tenant, rule_id),
    FOREIGN KEY (tenant, account) REFERENCES auth.service_account
);
CREATE INDEX workload_rule_of ON auth.workload_rule (tenant, issuer);

-- Tokens that were exchanged, until they would have expired anyway: each is good for one exchange.
CREATE TABLE auth.used_token (
    tenant text NOT NULL,
    digest bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, digest)
);
CREATE INDEX used_token_expiring ON auth.used_token (tenant, expires_at);
"""


def upgrade() -> None:
    """Create the tables, each behind its wall."""
    op.execute(TABLES)
    protect("auth.service_account", app="SELECT, INSERT, UPDATE")
    protect("auth.workload_rule", app="SELECT, INSERT, DELETE")
    protect("auth.used_token", app="SELECT, INSERT, UPDATE, DELETE")  # to lock what is swept takes UPDATE


def downgrade() -> None:
    """Forget them: keys of accounts stay with the credentials, and go with those."""
    op.execute("DROP TABLE auth.used_token; DROP TABLE auth.workload_rule; DROP TABLE auth.service_account")
