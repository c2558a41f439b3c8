# SPDX-License-Identifier: Apache-2.0
"""Who was seen, the secrets that the plane itself gave out, and what a provider's groups mean here (G13, S1).

A secret lies here as its SHA-256 alone: it is 256 random bits, which nobody guesses from a hash.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0031_identity"
down_revision = "0030_tenants"
branch_labels = None
depends_on = None

# Who is who and which secrets stand is said again by the next login; who gave what to whom stands in the entries.
EXPENDABLE = frozenset({"auth.person", "auth.credential", "auth.group_role"})

TABLES = """
-- A person or a service, as their provider described them last; `removed` shuts them out whatever it says.
CREATE TABLE auth.person (
    tenant text NOT NULL REFERENCES auth.tenant,
    issuer text NOT NULL,
    subject text NOT NULL,
    pseudonym text NOT NULL,
    name text NOT NULL,
    domain text NOT NULL,
    kind text NOT NULL DEFAULT 'user' CHECK (kind IN ('user', 'service')),
    team text,
    department text,
    groups text[] NOT NULL DEFAULT '{}',
    -- the roles that the provider's own words give: ROLE, or ROLE@PROJECT
    roles text[] NOT NULL DEFAULT '{}',
    -- of all that the provider says, to see whether it says something else
    digest text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'removed')),
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- when the provider said so, and when they were here
    asserted_at timestamptz,
    seen_at timestamptz,
    PRIMARY KEY (tenant, issuer, subject)
);
CREATE INDEX person_by_pseudonym ON auth.person (tenant, pseudonym);
CREATE INDEX person_by_name ON auth.person (tenant, name);

-- A role that a provider's group gives; an empty project means every project of the tenant.
CREATE TABLE auth.group_role (
    tenant text NOT NULL REFERENCES auth.tenant,
    issuer text NOT NULL,
    name text NOT NULL,
    project text NOT NULL DEFAULT '',
    role text NOT NULL CHECK (role IN ('quantum-admin', 'quantum-engineer', 'quantum-user', 'auditor', 'finops')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, issuer, name, project, role)
);

-- A secret that the plane gave out. Who holds it is (issuer, subject); `principal` is what was known of them then.
CREATE TABLE auth.credential (
    tenant text NOT NULL REFERENCES auth.tenant,
    id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('key', 'token', 'session', 'delegation')),
    digest bytea NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    principal jsonb NOT NULL,
    scope jsonb,
    networks text[],
    -- the one that it was made with, where it can't outlive or exceed that
    parent text,
    about jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    idle_s double precision,
    used_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX credential_of ON auth.credential (tenant, issuer, subject, kind, created_at DESC);
CREATE INDEX credential_by_kind ON auth.credential (tenant, kind, created_at DESC);
CREATE INDEX credential_expiring ON auth.credential (expires_at);
"""


def upgrade() -> None:
    """Create the tables, each behind its wall."""
    op.execute(TABLES)
    protect("auth.person", app="SELECT, INSERT, UPDATE, DELETE")
    protect("auth.group_role", app="SELECT, INSERT, DELETE")
    protect("auth.credential", app="SELECT, INSERT, UPDATE, DELETE")


def downgrade() -> None:
    """Forget them: nobody's rights from groups, and no secret of the plane's own, hold any more."""
    op.execute("DROP TABLE auth.credential; DROP TABLE auth.group_role; DROP TABLE auth.person")
