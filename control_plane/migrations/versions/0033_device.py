# SPDX-License-Identifier: Apache-2.0
"""Commands that wait for a person to confirm them in a browser (G13)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0033_device"
down_revision = "0032_projects"
branch_labels = None
depends_on = None

EXPENDABLE = frozenset({"auth.device"})  # whoever waits asks again

TABLES = """
-- Of no tenant until somebody says yes. The device code lies as its SHA-256; a token is made when it is fetched.
CREATE TABLE auth.device (
    digest bytea PRIMARY KEY,
    user_code text NOT NULL UNIQUE,
    source text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'allowed', 'refused')),
    tenant text,
    session text,
    asked_at timestamptz,
    expires_at timestamptz NOT NULL
);
CREATE INDEX device_expiring ON auth.device (expires_at);
"""


def upgrade() -> None:
    """Add the table."""
    op.execute(TABLES)
    protect("auth.device", app="SELECT, INSERT, UPDATE, DELETE", tenant_column="")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE auth.device")
