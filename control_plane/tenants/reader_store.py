# SPDX-License-Identifier: Apache-2.0
"""The SQL of readers' logins: roles as the login that makes roles, rights and policies as the tables' owner (I7).

Each function takes a connection whose transaction its caller owns. Names are quoted by the driver. Every login of a
database reads its catalogue: no role, policy or setting there tells of a tenant.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from control_plane.db import LOGINS, Roles

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

# What PostgreSQL lets any login do beside reading: take the locks by which the plane's processes take turns, and write
# large objects.
_OPEN = """
    SELECT p.oid::regprocedure::text FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^(pg_(try_)?advisory_|lo_|loread$|lowrite$)'
      AND has_function_privilege(%s, p.oid, 'EXECUTE')
"""


def of_tenant(admin: Rows, owner: Rows, owning: str, tenant: str) -> str | None:
    """The tenant's login of this database; None where it has none, or one that a restore didn't bring along."""
    owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owning)))
    found = owner.execute("SELECT login FROM reporting.reader WHERE tenant = %s", (tenant,)).fetchone()
    return str(found[0]) if found is not None and exists(admin, str(found[0])) else None


def named(admin: Rows, owner: Rows, owning: str, tenant: str) -> str:
    """The name of the tenant's login, made up where it has none: it tells nothing. Committed at once."""
    role = of_tenant(admin, owner, owning, tenant)
    if role is None:
        role = f"qcos_reader_{secrets.token_hex(8)}"
        owner.execute(
            "INSERT INTO reporting.reader VALUES (%s, %s) ON CONFLICT (tenant) DO UPDATE SET login = EXCLUDED.login",
            (tenant, role),
        )
    owner.commit()
    return role


def forget(owner: Rows, owning: str, role: str) -> None:
    """Nobody has this login any more."""
    owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owning)))
    owner.execute("DELETE FROM reporting.reader WHERE login = %s", (role,))


def exists(admin: Rows, role: str) -> bool:
    """Whether there is a role of this name that may connect to this database."""
    asked = "SELECT 1 FROM pg_roles WHERE rolname = %s AND has_database_privilege(oid, current_database(), 'CONNECT')"
    return admin.execute(asked, (role,)).fetchone() is not None


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


def confine(admin: Rows, roles: Roles, role: str) -> bool:
    """Leave what any login may do to the plane's own roles; False where this admin may not. Committed at once."""
    ours = sql.SQL(", ").join(sql.Identifier(getattr(roles, name)) for name in ("owner", *LOGINS))
    for (function,) in admin.execute(_OPEN, (role,)).fetchall():
        named = sql.SQL(function)
        admin.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(named, ours))
        admin.execute(sql.SQL("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC").format(named))
    left = admin.execute(_OPEN, (role,)).fetchone()
    admin.commit()
    return left is None


def open_views(owner: Rows, owning: str, role: str) -> None:
    """Give the role the views, the columns behind them, and its tenant's rows alone of each table."""
    close_views(owner, owning, role)
    name = sql.Identifier(role)
    owner.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), name))
    owner.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), name))
    owner.execute(
        sql.SQL("CREATE POLICY {} ON reporting.reader FOR SELECT TO {} USING (login = current_user)").format(name, name)
    )
    for schema, table, columns in owner.execute(_BEHIND, (SCHEMA,)).fetchall():
        place = sql.Identifier(schema, table)
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        owner.execute(sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(listed, place, name))
        owner.execute(
            sql.SQL(
                "CREATE POLICY {} ON {} FOR SELECT TO {}"
                " USING (tenant = (SELECT r.tenant FROM reporting.reader r WHERE r.login = current_user))"
            ).format(name, place, name)
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
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), admin.transaction():
        admin.execute(sql.SQL("DROP OWNED BY {}").format(name))  # what it may have made where it wasn't confined
    admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(sql.Identifier(admin.info.dbname), name))
    admin.execute(sql.SQL("DROP ROLE {}").format(name))
    admin.commit()
