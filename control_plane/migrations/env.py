# SPDX-License-Identifier: Apache-2.0
"""Alembic's entry: connects as `migrator`, acts as `owner`, one migrating process at a time.

All revisions of a run are one transaction: a run that fails, or would lose something on its way down, changes nothing.
The role names and the URL come in the config's attributes from `control_plane.provision.migrate`; there is no
alembic.ini, so nobody migrates with another login by accident.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

from control_plane.migrations.losing import look
from control_plane.migrations.walls import roles

_LOCK = 0x71636F73
_SCHEMA = "migration"


def run() -> None:
    """Run the revisions that Alembic has chosen."""
    engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
    with engine.connect() as conn:
        # Session-wide, so that it holds from before the first look until this connection ends.
        conn.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        conn.execute(text(f'SET ROLE "{roles().owner}"'))
        conn.execute(text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
        conn.commit()
        watch = look(conn, _SCHEMA).after if context.config.attributes["downwards"] else None
        conn.rollback()
        context.configure(connection=conn, version_table_schema=_SCHEMA, on_version_apply=watch)
        with context.begin_transaction():
            context.run_migrations()


run()
