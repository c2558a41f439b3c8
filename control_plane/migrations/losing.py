# SPDX-License-Identifier: Apache-2.0
"""What a migration downwards would take away for good, found in the catalogue while it can still be undone (N10, I2).

`look` notes which tables and columns hold anything before the first step. After each step, in the same transaction,
`Watch.after` sees which of them are gone, and raises: PostgreSQL then puts all of it back. So no revision has to
declare what it drops, and none can forget to. What is made anew by itself may go: a revision names it in `EXPENDABLE`,
as `schema.table` or `schema.table.column`; for the first ones it stands here. Not looked at: what a step does to rows
that stay.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from control_plane.errors import MigrationRefused

# What workers report anew, and what a program before it doesn't know.
EXPENDABLE = frozenset({"jobs.backend"})

_TABLES = text("""
    SELECT n.nspname || '.' || c.relname AS name, c.oid::regclass::text AS spelled,
           coalesce(array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attnum IS NOT NULL), '{}') AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.relowner = to_regrole(current_user)
      AND n.nspname <> :version_schema
    GROUP BY 1, 2 ORDER BY 1""")


def look(conn: Connection, version_schema: str) -> Watch:
    """Note what every table of the plane holds. Call before the first step, in its transaction."""
    holds: dict[str, int] = {}
    for table in conn.execute(_TABLES, {"version_schema": version_schema}).all():
        quoted = [column.replace('"', '""') for column in table.columns]
        counts = ", ".join(["count(*)", *(f'count("{column}")' for column in quoted)])
        found = conn.execute(text(f"SELECT {counts} FROM {table.spelled}".replace(":", r"\:"))).one()
        holds[table.name] = found[0]
        holds |= {f"{table.name}.{column}": n for column, n in zip(table.columns, found[1:], strict=True)}
    return Watch({name: count for name, count in holds.items() if count}, version_schema)


class Watch:
    """What was there, and the eye on what is left; `after` is Alembic's `on_version_apply`."""

    def __init__(self, held: dict[str, int], version_schema: str) -> None:
        self._held = held
        self._version_schema = version_schema

    def after(self, ctx: Any, step: Any, heads: Any, run_args: Any) -> None:
        """Raise MigrationRefused if this step down has taken something that can't be rebuilt."""
        del heads, run_args
        if step.is_upgrade:
            return
        named = (getattr(revision.module, "EXPENDABLE", ()) for revision in step.up_revisions)
        expendable = EXPENDABLE.union(*named)
        left = set()
        for table in ctx.connection.execute(_TABLES, {"version_schema": self._version_schema}).all():
            left |= {table.name, *(f"{table.name}.{column}" for column in table.columns)}
        gone = {name: count for name, count in self._held.items() if name not in left}
        lost = {name: count for name, count in gone.items() if not {name, _table_of(name)} & expendable}
        lost = {name: count for name, count in lost.items() if _table_of(name) not in gone}
        if lost:
            raise MigrationRefused(_said(step.up_revision_id, lost))
        self._held = {name: count for name, count in self._held.items() if name not in gone}


def _table_of(name: str) -> str:
    """The table of a column; nothing for a table itself."""
    return ".".join(name.split(".")[:2]) if name.count(".") == 2 else ""


def _said(revision: str, lost: dict[str, int]) -> str:
    entries = lost.get("ledger.entry")
    named = ", ".join(f"{name} ({count:,})" for name, count in sorted(lost.items()))
    what = f"{entries:,} sealed entries" if entries else "what can't be rebuilt"
    return f"going below {revision} would drop {what}: {named}; nothing was changed"
