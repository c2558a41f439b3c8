# SPDX-License-Identifier: Apache-2.0
"""Alembic's entry: connects as `migrator`, acts as `owner`, a revision a transaction, one migrating process at a time.

The role names and the URL come in the config's attributes from `control_plane.provision.migrate`; there is no
alembic.ini, so nobody migrates with another login by accident.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

from control_plane.migrations.walls import roles

_LOCK = 0x71636F73
_SCHEMA = "migration"


def run() -> None:
    """Run the revisions that Alembic has chosen."""
    engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
    with engine.connect() as conn:
        # Session-wide, so that it spans the revisions' transactions; it ends with this connection.
        conn.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        conn.execute(text(f'SET ROLE "{roles().owner}"'))
        conn.execute(text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
        conn.commit()
        context.configure(connection=conn, version_table_schema=_SCHEMA, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


run()
