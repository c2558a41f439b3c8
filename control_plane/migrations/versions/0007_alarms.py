# SPDX-License-Identifier: Apache-2.0
"""What stops sealing, and what shows that it has stopped (I2, I4, G8): alarms, ages, the clock of each checkpoint.

`ledger.alarm` is added to and never changed: a row without a code ends the alarm before it. Times here are for
operators; what the log proves is in its leaves and tokens.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0007_alarms"
down_revision = "0006_writes"
branch_labels = None
depends_on = None

# Entries tell of every alarm that is over, and the next checkpoint brings its clock with it.
EXPENDABLE = frozenset({"ledger.alarm", "ledger.checkpoint.sealed_at", "ledger.inbox.since"})

TABLES = """
CREATE TABLE ledger.alarm (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    code text,
    detail text NOT NULL DEFAULT ''
);

-- The sealer's clock as it sealed: the next batch's must not lie before it. Null for what older versions sealed.
ALTER TABLE ledger.checkpoint ADD COLUMN sealed_at timestamptz;

-- By the database's clock, so that one writer's wrong one doesn't hide a wait.
ALTER TABLE ledger.inbox ADD COLUMN since timestamptz NOT NULL DEFAULT clock_timestamp();

-- The app role sees no inbox row; how long the oldest has waited says nothing of whose it is.
CREATE FUNCTION ledger.waited_s() RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT extract(epoch FROM clock_timestamp() - since)::double precision FROM ledger.inbox ORDER BY id LIMIT 1
$$;
"""


def upgrade() -> None:
    """Add the table, the columns and the function."""
    op.execute(TABLES)
    protect("ledger.alarm", app="SELECT", sealer="SELECT, INSERT", tenant_column="")
    names = roles()
    op.execute("REVOKE ALL ON FUNCTION ledger.waited_s() FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION ledger.waited_s() TO {names.app}, {names.audit}")


def downgrade() -> None:
    """Drop them; no sealed entry is touched."""
    op.execute("DROP FUNCTION ledger.waited_s(); DROP TABLE ledger.alarm")
    op.execute("ALTER TABLE ledger.checkpoint DROP COLUMN sealed_at; ALTER TABLE ledger.inbox DROP COLUMN since")
