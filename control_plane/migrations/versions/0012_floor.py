# SPDX-License-Identifier: Apache-2.0
"""How long the oldest entry has waited is asked without walking past all that were taken (N18, `ledger.floor`).

While a backup or a verification holds its snapshot, what was taken from the inbox can't be swept. The sealer tells here
from which id on there may be rows; a sequence, since no role changes a row of the ledger. Nothing but the speed of
`waited_s` rests on it: the leader sets it back to zero as it begins, and takes from zero every few seconds.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import roles

revision = "0012_floor"
down_revision = "0011_claims"
branch_labels = None
depends_on = None

WAITED = """
CREATE OR REPLACE FUNCTION ledger.waited_s() RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT extract(epoch FROM clock_timestamp() - since)::double precision FROM ledger.inbox{above} ORDER BY id LIMIT 1
$$;
"""
ABOVE = """
    WHERE id > (SELECT last_value FROM ledger.inbox_floor)"""


def upgrade() -> None:
    """Add the sequence; ask above it."""
    op.execute("CREATE SEQUENCE ledger.inbox_floor MINVALUE 0 START 0")
    op.execute(f"GRANT UPDATE ON SEQUENCE ledger.inbox_floor TO {roles().sealer}")
    op.execute(WAITED.format(above=ABOVE))


def downgrade() -> None:
    """Ask from the first row again."""
    op.execute(WAITED.format(above=""))
    op.execute("DROP SEQUENCE ledger.inbox_floor")
