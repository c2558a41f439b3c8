# SPDX-License-Identifier: Apache-2.0
"""Shadow mode (G2): the plane's one candidate, and how far each tenant's recorded decisions were followed by it.

Which process follows is a lease on the one row. Counts lie in rows of their tenants (I7). All of it is told by entries.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0028_shadow"
down_revision = "0027_approvals"
branch_labels = None
depends_on = None

EXPENDABLE = frozenset({"policy.shadow", "policy.shadow_seen"})

TABLES = """
CREATE TABLE policy.shadow (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    run bigint NOT NULL DEFAULT 1,
    revision text NOT NULL,
    files bytea NOT NULL,
    by_tenant text NOT NULL,
    actor text NOT NULL,
    message text NOT NULL,
    started_at timestamptz NOT NULL,
    stopped_at timestamptz,
    reason text,
    holder text,
    lease_until timestamptz
);
CREATE TABLE policy.shadow_seen (
    tenant text PRIMARY KEY,
    run bigint NOT NULL,
    place bigint NOT NULL,
    decided bigint NOT NULL DEFAULT 0,
    same bigint NOT NULL DEFAULT 0,
    deny_to_allow bigint NOT NULL DEFAULT 0,
    allow_to_deny bigint NOT NULL DEFAULT 0,
    other bigint NOT NULL DEFAULT 0,
    undecided bigint NOT NULL DEFAULT 0,
    hour timestamptz,
    told integer NOT NULL DEFAULT 0,
    untold integer NOT NULL DEFAULT 0
);
"""

# Work is found whosesoever it is; what is done to it is done as its tenant.
TENANTS = """
CREATE FUNCTION policy.shadow_tenants() RETURNS TABLE (tenant text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.tenant FROM policy.shadow w CROSS JOIN auth.tenant t
    LEFT JOIN policy.shadow_seen s ON s.tenant = t.tenant AND s.run = w.run
    WHERE s.tenant IS NULL OR s.untold > 0
       OR EXISTS (SELECT 1 FROM ledger.entry e WHERE e.tenant = t.tenant AND e.tenant_index > s.place)
$$;
"""


def upgrade() -> None:
    """Add the tables, and who has decisions to follow."""
    op.execute(TABLES)
    protect("policy.shadow", app="SELECT, INSERT, UPDATE", tenant_column="")
    protect("policy.shadow_seen", app="SELECT, INSERT, UPDATE")
    op.execute(TENANTS)
    op.execute("REVOKE ALL ON FUNCTION policy.shadow_tenants() FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION policy.shadow_tenants() TO {roles().app}")


def downgrade() -> None:
    """Drop them; what was found stands in the ledger."""
    op.execute("DROP FUNCTION policy.shadow_tenants()")
    op.execute("DROP TABLE policy.shadow_seen")
    op.execute("DROP TABLE policy.shadow")
