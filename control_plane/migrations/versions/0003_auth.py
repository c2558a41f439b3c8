# SPDX-License-Identifier: Apache-2.0
"""Tenants, projects, role assignments and rate buckets (G11, G13, N13)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0003_auth"
down_revision = "0002_finops"
branch_labels = None
depends_on = None

TABLES = """
CREATE SCHEMA auth;

CREATE TABLE auth.tenant (
    tenant text PRIMARY KEY CHECK (tenant ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE auth.project (
    tenant text NOT NULL REFERENCES auth.tenant,
    project text NOT NULL CHECK (project ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
    cost_center text,
    -- the project's slice of the policy input (G2): quotas, sizes, purposes
    limits jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(limits) = 'object'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, project)
);

-- A role of one person; an empty project means every project of the tenant.
CREATE TABLE auth.assignment (
    tenant text NOT NULL REFERENCES auth.tenant,
    issuer text NOT NULL,
    subject text NOT NULL,
    project text NOT NULL DEFAULT '',
    role text NOT NULL CHECK (role IN ('quantum-admin', 'quantum-engineer', 'quantum-user', 'auditor', 'finops')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, issuer, subject, project, role)
);

-- Token buckets, one a principal, shared by all processes. UNLOGGED: a crash fills every bucket, which harms nobody.
-- A low fillfactor lets each take be a heap-only update.
CREATE UNLOGGED TABLE auth.rate (
    tenant text NOT NULL,
    subject text NOT NULL,
    requests double precision NOT NULL,
    bytes double precision NOT NULL,
    filled_at timestamptz NOT NULL,
    granted boolean NOT NULL,
    PRIMARY KEY (tenant, subject)
) WITH (fillfactor = 50);
"""


def upgrade() -> None:
    """Create the tables, each behind its wall."""
    op.execute(TABLES)
    protect("auth.tenant", app="SELECT, INSERT, UPDATE")
    protect("auth.project", app="SELECT, INSERT, UPDATE")
    protect("auth.assignment", app="SELECT, INSERT, DELETE")
    protect("auth.rate", app="SELECT, INSERT, UPDATE")


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP SCHEMA auth CASCADE")
