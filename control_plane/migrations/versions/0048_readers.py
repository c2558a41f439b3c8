# SPDX-License-Identifier: Apache-2.0
"""Which login reads which tenant's views: a row that the login alone sees, for policies are read by everybody (I7).

A policy's words stand in PostgreSQL's catalogue, open to every login of the database. So a reader's policies name no
tenant: they ask this table, in which each login sees its own row, by a policy that is made with it.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0048_readers"
down_revision = "0047_invoices"
branch_labels = None
depends_on = None

EXPENDABLE = frozenset({"reporting.reader"})  # `qcos admin reader create` makes a login again


def upgrade() -> None:
    """Create the table; logins that were made before are made again."""
    op.execute("CREATE TABLE reporting.reader (tenant text NOT NULL, login text NOT NULL, PRIMARY KEY (tenant))")
    protect("reporting.reader")


def downgrade() -> None:
    """Drop it, and with it the policies that ask it: logins see nothing any more."""
    op.execute("DROP TABLE reporting.reader CASCADE")
