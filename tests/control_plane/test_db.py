# SPDX-License-Identifier: Apache-2.0
"""The database: roles, walls between tenants, transactions, migrations (decision 4, I7, N10)."""

from __future__ import annotations

import stat
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from control_plane.db import Roles, conninfo, engine, transaction
from control_plane.errors import DatabaseUnusable
from control_plane.provision import migrate, provision
from tests.postgres import RunningCluster, TestDatabase, relinked


def test_every_role_logs_in_and_none_is_privileged(database: TestDatabase) -> None:
    """Decision 4: no login of the plane is superuser, creates roles, or passes row-level security."""
    for role in ("app", "sealer", "audit", "migrator"):
        with psycopg.connect(database.conninfo(role)) as conn:
            row = conn.execute(
                "SELECT rolsuper, rolcreaterole, rolbypassrls, rolcreatedb FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert row == (False, False, False, False)


def test_the_owner_cannot_log_in(database: TestDatabase) -> None:
    with psycopg.connect(database.conninfo("superuser")) as conn:
        row = conn.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (database.roles.owner,)).fetchone()
    assert row == (False,)


def test_every_table_with_a_tenant_is_walled(database: TestDatabase) -> None:
    """I7: row-level security is on and forced for each table whose rows belong to tenants, whoever made it."""
    with psycopg.connect(database.conninfo("superuser")) as conn:
        rows = conn.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('ledger', 'finops', 'auth', 'jobs')"
            " AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant')"
            " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
        ).fetchall()
    assert rows == []


async def test_a_transaction_names_its_tenant_and_forgets_it(database: TestDatabase) -> None:
    """I7: a pooled connection carries no tenant into the next transaction."""
    pool = engine(database.app, connections=1)
    asked = text("SELECT coalesce(current_setting('qcos.tenant', true), '')")
    async with transaction(pool, "demo") as conn:
        assert await conn.scalar(asked) == "demo"
    async with transaction(pool, None) as conn:
        assert await conn.scalar(asked) == ""
    await pool.dispose()


async def test_what_raises_is_rolled_back(database: TestDatabase) -> None:
    pool = engine(database.superuser)
    with pytest.raises(ZeroDivisionError):
        async with transaction(pool, None) as conn:
            await conn.execute(text("CREATE TABLE gone (x int)"))
            raise ZeroDivisionError
    async with transaction(pool, None) as conn:
        assert await conn.scalar(text("SELECT to_regclass('gone')")) is None
    await pool.dispose()


async def test_connections_that_the_server_lost_are_replaced(database: TestDatabase) -> None:
    """I2: after PostgreSQL came back, the next transaction works although every connection of the pool is dead."""
    pool = engine(database.app, connections=3)
    async with (
        transaction(pool, "demo") as first,
        transaction(pool, "demo") as second,
        transaction(pool, "demo") as third,
    ):
        for conn in (first, second, third):
            await conn.execute(text("SELECT 1"))
    with psycopg.connect(database.conninfo("superuser"), autocommit=True) as root:
        root.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (database.roles.app,))
    async with transaction(pool, "demo") as again:
        assert await again.scalar(text("SELECT 1")) == 1
    await pool.dispose()


def test_provisioning_twice_changes_nothing(cluster: RunningCluster, tmp_path: Path) -> None:
    url = cluster.empty()
    first = provision(url, tmp_path / "db")
    assert provision(url, tmp_path / "db") == first
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "db").iterdir()}
    assert modes == {0o600}


def test_migrations_go_up_down_and_up_again(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N10: each revision is reversible; nothing of a schema stays behind."""
    url = cluster.empty()
    monkeypatch.setenv("PGOPTIONS", "-c check_function_bodies=off")
    known = provision(url, tmp_path)
    versions = relinked(tmp_path / "versions")
    migrate(known, versions=versions)
    migrate(known, "base", versions=versions)
    with psycopg.connect(conninfo(url)) as conn:
        rows = conn.execute("SELECT nspname FROM pg_namespace WHERE nspname IN ('ledger','finops','auth','jobs')")
        assert rows.fetchall() == []
    migrate(known, versions=versions)


def test_a_schema_of_a_later_program_is_refused(cluster: RunningCluster, tmp_path: Path) -> None:
    """N10: an older program doesn't touch what it doesn't know, and says which revision that is."""
    known = provision(cluster.empty(), tmp_path)
    versions = tmp_path / "versions"
    migrate(known, "0001_ledger", versions=relinked(versions))
    with psycopg.connect(conninfo(known.migrator)) as conn:
        conn.execute(f"SET ROLE {known.roles.owner}".encode())
        conn.execute(b"UPDATE migration.alembic_version SET version_num = '9999_later'")
    with pytest.raises(DatabaseUnusable, match="9999_later"):
        migrate(known, versions=versions)


def test_another_home_cannot_take_over_a_planes_roles(cluster: RunningCluster, tmp_path: Path) -> None:
    url = cluster.empty()
    provision(url, tmp_path / "first")
    with psycopg.connect(conninfo(url), autocommit=True) as conn:
        conn.execute("CREATE SCHEMA IF NOT EXISTS ledger")
    with pytest.raises(DatabaseUnusable, match="already belongs to a plane"):
        provision(url, tmp_path / "second")


def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    """I10 and issue 2: a clear message, and no secret in it."""
    url = f"postgresql://who:s3cret@/nothing?host={tmp_path}"
    with pytest.raises(DatabaseUnusable, match="QCOS_DATABASE_URL") as caught:
        provision(url, tmp_path / "db")
    assert "s3cret" not in caught.value.detail


def test_a_login_that_may_not_create_roles_is_refused(database: TestDatabase, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="may not create roles"):
        provision(database.app, tmp_path)


def test_role_names_end_in_the_databases_name_or_its_hash() -> None:
    assert Roles.of("qcos").app == "qcos_app_qcos"
    odd = Roles.of('odd "name"').app
    assert odd.removeprefix("qcos_app_").isalnum()
    assert Roles.of("x" * 60).app != Roles.of("x" * 61).app
