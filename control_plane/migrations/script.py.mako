# SPDX-License-Identifier: Apache-2.0
"""${message}"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else 'op.execute("")'}


def downgrade() -> None:
    ${downgrades if downgrades else 'op.execute("")'}
