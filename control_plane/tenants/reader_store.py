# SPDX-License-Identifier: Apache-2.0
"""The SQL of readers' logins: roles as the login that makes roles, rights and policies as the tables' owner (I7).

Each function takes a connection whose transaction its caller owns. Names and tenants are quoted by the driver.
"""

from __future__ import annotations

import contextlib
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

SCHEMA = "reporting"
MOST = 8  # connections at a time
LIMIT_S = 300
Rows: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# The tables behind the views, with the columns that these use.
_BEHIND = """
    SELECT n.nspname, c.relname, array_agg(DISTINCT a.attname)
    FROM pg_class v
    JOIN pg_namespace s ON s.oid = v.relnamespace AND s.nspname = %s
    JOIN pg_rewrite r ON r.ev_class = v.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
    JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
    WHERE v.relkind = 'v'
    GROUP BY 1, 2 ORDER BY 1, 2
"""


def exists(admin: Rows, role: str) -> bool:
    """Whether there is a role of this name."""
    return admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None


def login(admin: Rows, role: str, password: str) -> None:
    """Make the role, or give it another password; it may connect, read, and nothing else. Committed at once."""
    name = sql.Identifier(role)
    verb = sql.SQL("ALTER" if exists(admin, role) else "CREATE")
    admin.execute(
        sql.SQL("{} ROLE {} LOGIN NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT {} PASSWORD {}").format(
            verb, name, sql.Literal(MOST), sql.Literal(password)
        )
    )
    for setting, value in (
        ("default_transaction_read_only", "on"),
        ("statement_timeout", f"{LIMIT_S}s"),
        ("search_path", SCHEMA),
    ):
        admin.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value)))
    admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(admin.info.dbname), name))
    admin.commit()


def open_views(owner: Rows, owning: str, role: str, tenant: str) -> None:
    """Give the role the views, the columns behind them, and the tenant's rows alone of each table."""
    close_views(owner, owning, role)
    name = sql.Identifier(role)
    owner.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), name))
    owner.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), name))
    for schema, table, columns in owner.execute(_BEHIND, (SCHEMA,)).fetchall():
        place = sql.Identifier(schema, table)
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        owner.execute(sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(listed, place, name))
        owner.execute(
            sql.SQL("CREATE POLICY {} ON {} FOR SELECT TO {} USING (tenant = {})").format(
                name, place, name, sql.Literal(tenant)
            )
        )


def close_views(owner: Rows, owning: str, role: str) -> None:
    """Take all of it away again; `owning` is the tables' owner, whose member the login is."""
    owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owning)))
    name = sql.Identifier(role)
    found = owner.execute("SELECT schemaname, tablename FROM pg_policies WHERE policyname = %s", (role,)).fetchall()
    for schema, table in found:
        place = sql.Identifier(schema, table)
        owner.execute(sql.SQL("DROP POLICY {} ON {}").format(name, place))
        owner.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(place, name))
    owner.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}").format(sql.Identifier(SCHEMA), name))
    owner.execute(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(sql.Identifier(SCHEMA), name))


def end(admin: Rows, role: str) -> None:
    """Drop the role, which has nothing any more, and whoever is connected by it. Committed at once."""
    name = sql.Identifier(role)
    admin.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(name))
    admin.commit()
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), admin.transaction():
        # Who may make roles need not be one who may end sessions; those of a role that is gone may read nothing.
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
    admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(sql.Identifier(admin.info.dbname), name))
    admin.execute(sql.SQL("DROP ROLE {}").format(name))
    admin.commit()
