# SPDX-License-Identifier: Apache-2.0
"""Reservations are listed, and looked after whosesoever they are: those that are live, of every tenant (N5, N17)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import roles

revision = "0020_reservations"
down_revision = "0019_network"
branch_labels = None
depends_on = None

LIVE = """
CREATE FUNCTION network.live_reservations(at_most integer)
RETURNS TABLE (tenant text, reservation_id text, peer_id text, waited_s double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.tenant, r.reservation_id, r.peer_id, extract(epoch FROM clock_timestamp() - r.changed_at)::double precision
    FROM network.reservation r WHERE r.state IN ('REQUESTED', 'PREPARED', 'COMMITTED')
    ORDER BY r.created_at LIMIT at_most
$$
"""


def upgrade() -> None:
    """Create the indexes and the function."""
    op.execute("CREATE INDEX reservation_newest ON network.reservation (tenant, created_at DESC, reservation_id DESC)")
    op.execute("""
        CREATE INDEX reservation_live ON network.reservation (created_at)
        WHERE state IN ('REQUESTED', 'PREPARED', 'COMMITTED')""")
    op.execute(LIVE)
    op.execute("REVOKE ALL ON FUNCTION network.live_reservations(integer) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION network.live_reservations(integer) TO {roles().app}")


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP FUNCTION network.live_reservations(integer)")
    op.execute("DROP INDEX network.reservation_live")
    op.execute("DROP INDEX network.reservation_newest")
