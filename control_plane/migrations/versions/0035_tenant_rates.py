# SPDX-License-Identifier: Apache-2.0
"""An API process hears of changed rates of any tenant, once a second, without a look for each request (G11, N13)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import roles

revision = "0035_tenant_rates"
down_revision = "0034_entitled"
branch_labels = None
depends_on = None

# When a limit was set says its entry.
EXPENDABLE = frozenset({"auth.tenant_limit.changed_at"})

# Names and rates of tenants that have or had a limit of rates; nothing else of them. A change counts from before its
# commit, so who asks leaves some seconds of overlap.
RATES = """
ALTER TABLE auth.tenant_limit ADD COLUMN changed_at timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE INDEX tenant_limit_changed ON auth.tenant_limit (changed_at);

CREATE FUNCTION auth.tenant_rates(since timestamptz)
RETURNS TABLE (tenant text, requests_per_s double precision, bytes_per_s double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.tenant, l.requests_per_s, l.bytes_per_s FROM auth.tenant_limit l
    WHERE l.changed_at > coalesce(since - interval '1 minute', '-infinity')
$$;
"""


def upgrade() -> None:
    """Add the function, for the app role alone."""
    op.execute(RATES)
    op.execute("REVOKE ALL ON FUNCTION auth.tenant_rates(timestamptz) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION auth.tenant_rates(timestamptz) TO {roles().app}")


def downgrade() -> None:
    """Rates of tenants hold no more."""
    op.execute("DROP FUNCTION auth.tenant_rates(timestamptz)")
    op.execute("ALTER TABLE auth.tenant_limit DROP COLUMN changed_at")
