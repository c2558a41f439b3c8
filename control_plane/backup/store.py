# SPDX-License-Identifier: Apache-2.0
"""All rows of the plane's tables, out of one snapshot and into an empty schema, whatever tables a revision has.

Out: as `audit`, read only. In: as `owner`, whose forced row-level security is lifted for the loading transaction (COPY
into a table is not to be had under it) and is back before the commit. COPY's text form doesn't depend on the server's
version. Left out: unlogged tables, which a crash empties too, and Alembic's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from graphlib import TopologicalSorter
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import sql
from psycopg.rows import dict_row

from control_plane.db import Database, conninfo

_FORM = (
    "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL timezone = 'UTC'; SET LOCAL bytea_output = 'hex';"
    " SET LOCAL extra_float_digits = 1; SET LOCAL intervalstyle = 'iso_8601'; SET LOCAL client_encoding = 'UTF8'"
)
_TABLES = """
    SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.relowner = to_regrole(%s) AND n.nspname <> 'migration'
    GROUP BY 1, 2 ORDER BY 1, 2"""
_REFERENCES = """
    SELECT DISTINCT n.nspname || '.' || c.relname, m.nspname || '.' || r.relname FROM pg_constraint f
    JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace m ON m.oid = r.relnamespace
    WHERE f.contype = 'f' AND f.conrelid <> f.confrelid AND c.relowner = to_regrole(%s)"""
_FORCED = "SELECT relforcerowsecurity FROM pg_class WHERE oid = to_regclass(%s)"
_COUNTERS = """
    SELECT a.attname::text, pg_get_serial_sequence(%(table)s, a.attname) FROM pg_attribute a
    WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
      AND pg_get_serial_sequence(%(table)s, a.attname) IS NOT NULL"""
_HEAD = "SELECT note FROM ledger.checkpoint ORDER BY size DESC LIMIT 1"
_NOTE = "SELECT note FROM ledger.checkpoint WHERE size = %s"
_WAITING = "SELECT count(*) FROM ledger.inbox"
_UNSTARTED = """
    SELECT tenant, job_id, state, seq, attempt, pseudonym, history FROM jobs.job
    WHERE state IN ('QUEUED', 'COMPILING', 'RESERVING') AND token IS NULL ORDER BY tenant, job_id"""
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspowner = to_regrole(%s)"

Rows = psycopg.Connection[Any]


class Columns(Struct, frozen=True):
    """A table and its columns, generated ones left out: they follow."""

    schema: str
    table: str
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """As the manifest names it."""
        return f"{self.schema}.{self.table}"

    def spelled(self) -> sql.Composed:
        """As SQL names it."""
        return sql.SQL("{}.{}").format(sql.Identifier(self.schema), sql.Identifier(self.table))

    def listed(self) -> sql.Composed:
        """The columns as SQL lists them."""
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


@contextmanager
def snapshot(database: Database) -> Iterator[Rows]:
    """Everything as of one moment, read as `audit`."""
    with psycopg.connect(conninfo(database.audit), autocommit=True, application_name="qcos-backup") as conn:
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        conn.execute(_FORM)
        yield conn
        conn.execute("COMMIT")


def tables(conn: Rows, owner: str) -> list[Columns]:
    """What there is to keep, each table after those that it refers to."""
    found = {
        f"{schema}.{table}": (schema, table, columns) for schema, table, columns in conn.execute(_TABLES, (owner,))
    }
    order: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(found, ()))
    for name, wanted in conn.execute(_REFERENCES, (owner,)):
        order.add(name, wanted)
    return [
        Columns(schema, table, tuple(columns))
        for schema, table, columns in map(found.__getitem__, order.static_order())
    ]


def copy_out(conn: Rows, table: Columns, put: Callable[[bytes], None]) -> int:
    """Hand every row of a table to `put`; how many."""
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(table.listed(), table.spelled())
    cursor = conn.cursor()
    with cursor.copy(statement) as copy:
        for piece in copy:
            put(bytes(piece))
    return cursor.rowcount


def newest_note(conn: Rows) -> bytes | None:
    """The signed head of the log; None of an empty one."""
    row = conn.execute(_HEAD).fetchone()
    return bytes(row[0]) if row else None


def note_of(conn: Rows, size: int) -> bytes | None:
    """The checkpoint of this size, if there is one."""
    row = conn.execute(_NOTE, (size,)).fetchone()
    return bytes(row[0]) if row else None


def waiting(conn: Rows) -> int:
    """How many entries are durable and not sealed."""
    row = conn.execute(_WAITING).fetchone()
    return int(row[0]) if row else 0


def unstarted(conn: Rows) -> list[dict[str, Any]]:
    """The jobs of every tenant that wait, or whose intent isn't told yet."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_UNSTARTED).fetchall()


@contextmanager
def loading(database: Database) -> Iterator[Rows]:
    """One transaction as `owner`, to fill an empty schema in."""
    with psycopg.connect(conninfo(database.migrator), application_name="qcos-restore") as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(database.roles.owner)))
        conn.execute(_FORM)
        yield conn


def empty(conn: Rows, found: Sequence[Columns]) -> None:
    """Take away what a revision put into its own tables: the backup has it."""
    conn.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(table.spelled() for table in found)))


def copy_in(conn: Rows, table: Columns, pieces: Iterable[bytes]) -> int:
    """Fill a table, and have its counters go on after what is in it; how many rows."""
    row = conn.execute(_FORCED, (table.name,)).fetchone()
    forced = bool(row and row[0])
    if forced:
        conn.execute(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(table.spelled()))
    cursor = conn.cursor()
    with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(table.spelled(), table.listed())) as copy:
        for piece in pieces:
            copy.write(piece)
    for column, sequence in conn.execute(_COUNTERS, {"table": table.name}).fetchall():
        statement = sql.SQL("SELECT setval({}, coalesce(max({}), 0) + 1, false) FROM {}")
        conn.execute(statement.format(sql.Literal(sequence), sql.Identifier(column), table.spelled()))
    if forced:
        conn.execute(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table.spelled()))
    return cursor.rowcount


def drop_all(database: Database) -> None:
    """Take a restore that failed out of its database again; every schema in it is of that restore's making."""
    with loading(database) as conn:
        for (schema,) in conn.execute(_SCHEMAS, (database.roles.owner,)).fetchall():
            conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
