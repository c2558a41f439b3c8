# SPDX-License-Identifier: Apache-2.0
"""The walls inside the database, read off its catalog: who may do what stands in docs/threat-model.md (I7, I4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.postgres import TestDatabase

PAGE = Path(__file__).parents[2] / "docs" / "threat-model.md"
ROLES = ("app", "sealer", "audit")
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
NOBODYS = {"jobs.backend", "migration.alembic_version"}  # no row of them is a tenant's
OURS = "n.nspname !~ '^(pg_|information_schema)' AND n.nspname <> 'public'"


def asked(database: TestDatabase, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.conninfo("superuser")) as conn:
        return conn.execute(statement.encode(), values).fetchall()


def rights(database: TestDatabase) -> str:
    """Every role's rights on every table of ours; a right on some columns counts, in brackets."""
    lines = ["| table | app | sealer | audit |", "|---|---|---|---|"]
    for oid, table in asked(
        database,
        "SELECT c.oid, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p', 'v', 'm') AND {OURS} AND n.nspname <> 'alembic' ORDER BY 2",
    ):
        cells = []
        for role in ROLES:
            name, found = getattr(database.roles, role), []
            for right in RIGHTS:
                whole = asked(database, "SELECT has_table_privilege(%s, %s::oid, %s)", name, oid, right)[0][0]
                some = (
                    right in RIGHTS[:3]
                    and asked(database, "SELECT has_any_column_privilege(%s, %s::oid, %s)", name, oid, right)[0][0]
                )
                if whole or some:
                    found.append(right if whole else f"({right})")
            cells.append(" ".join(found) or "—")
        lines.append(f"| `{table}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def functions(database: TestDatabase) -> list[tuple[str, bool, str]]:
    """Functions that run as their owner: name, whether the search path is pinned, who may call them."""
    rows = asked(
        database,
        "SELECT p.oid::regprocedure::text, p.oid, coalesce(p.proconfig, '{}') FROM pg_proc p"
        f" JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef AND {OURS} ORDER BY 1",
    )
    found = []
    for name, oid, settings in rows:
        may = [
            role
            for role in ROLES
            if asked(
                database, "SELECT has_function_privilege(%s, %s::oid, 'EXECUTE')", getattr(database.roles, role), oid
            )[0][0]
        ]
        pinned = "search_path=pg_catalog, pg_temp" in settings
        found.append((name, pinned, ", ".join(may) or "nobody"))
    return found


def definers(database: TestDatabase) -> str:
    lines = ["| function | may be called by |", "|---|---|"]
    lines += [f"| `{name}` | {may} |" for name, _, may in functions(database)]
    return "\n".join(lines) + "\n"


def block(name: str) -> str:
    return PAGE.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]


def test_the_rights_of_every_role_on_every_table_are_those_of_the_page(database: TestDatabase) -> None:
    """Decision 4: nobody who logs in may change or delete what was sealed."""
    found, page = rights(database).splitlines(), block("database-rights").splitlines()
    assert [line for line in page if line not in found] == [], "\n".join(found)
    listed = {line.split("|")[1] for line in page}
    for line in found:  # what a newer migration made stands by the rule until the page has its line
        _, table, app, sealer, audit, _ = line.split("|")
        if table not in listed:
            assert not {"TRUNCATE", "REFERENCES", "TRIGGER"} & set(app.split()), line
            assert not {"UPDATE", "TRUNCATE", "REFERENCES", "TRIGGER"} & set(sealer.split()), line
            assert set(audit.split()) <= {"SELECT", "—"}, line
    sealed = [line for line in found if "`ledger." in line]
    for table in ("entry", "tile", "checkpoint", "token", "signature", "cosignature", "outside", "alarm"):
        (line,) = [one for one in sealed if f"`ledger.{table}`" in one]
        assert not {"UPDATE", "DELETE", "TRUNCATE", "TRIGGER"} & set(line.split()), line


def test_what_runs_as_its_owner_is_listed_and_finds_nothing_by_the_caller_s_path(database: TestDatabase) -> None:
    found = functions(database)
    assert [name for name, pinned, _ in found if not pinned] == []
    now = definers(database)
    assert [line for line in block("definers").splitlines() if line not in now.splitlines()] == [], now
    public = asked(
        database,
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        f" WHERE p.prosecdef AND {OURS} AND EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0)",
    )
    assert public == []


def test_every_table_forces_its_wall_and_every_view_asks_as_its_caller(database: TestDatabase) -> None:
    """I7: the owner is subject to the policies, too."""
    open_tables = asked(
        database,
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p') AND {OURS} AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    )
    views = asked(
        database,
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('v', 'm') AND {OURS}"
        " AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false)",
    )
    assert {table for (table,) in open_tables} <= NOBODYS
    assert views == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("statement", ["UPDATE {} SET leaf = leaf", "DELETE FROM {}", "TRUNCATE {}"])
def test_nobody_who_logs_in_changes_or_deletes_an_entry(database: TestDatabase, role: str, statement: str) -> None:
    with (
        psycopg.connect(database.conninfo(role)) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute(sql.SQL(statement).format(sql.Identifier("ledger", "entry")))


@pytest.mark.parametrize("role", ROLES)
def test_no_login_turns_off_triggers_or_walls(database: TestDatabase, role: str) -> None:
    for statement in (
        "SET session_replication_role = replica",
        "ALTER TABLE ledger.entry DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE ledger.entry NO FORCE ROW LEVEL SECURITY",
        f"SET ROLE {database.roles.owner}",
    ):
        with (
            psycopg.connect(database.conninfo(role)) as conn,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            conn.execute(statement.encode())
