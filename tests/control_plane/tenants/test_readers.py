# SPDX-License-Identifier: Apache-2.0
"""A login for reports reads its tenant's rows through the views, and nothing else by any way (G7, I7, G11)."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from control_plane.db import conninfo
from control_plane.provision import migrate
from control_plane.tenants import reader_store
from tests.postgres import TestDatabase

CHARGED = """
    INSERT INTO finops.charge (tenant, entry_id, line, category, month, charged_at, job_id, project, team, pseudonym,
                               purpose, classification, provider, backend, ended_at, amount, currency)
    SELECT '{tenant}', gen_random_uuid(), n, 'usage', '2026-11', '2026-11-30 23:30+00', 'j1', 'p', 't', 'a-1', 'r',
           'internal', 'aer', 'aer-1', now(), {amount}, 'USD' FROM generate_series(0, 1) n
"""
BUDGET = """
    INSERT INTO finops.budget (tenant, budget_id, scope, period, limit_amount, unit)
        VALUES ('{tenant}', 'b', 'project:p', 'monthly', 10, 'USD');
    INSERT INTO finops.budget_window (tenant, budget_id, window_key, held, captured)
        VALUES ('{tenant}', 'b', '2026-11', 1, {amount})
"""


class Readers:
    """A database in which two tenants were charged, and a login of each."""

    def __init__(self, database: TestDatabase) -> None:
        self.database = database
        self.names: dict[str, str] = {}
        with self.admin() as admin:
            for tenant, amount in (("demo", "0.25"), ("other", "100")):
                admin.execute(CHARGED.format(tenant=tenant, amount=amount).encode())
                admin.execute(BUDGET.format(tenant=tenant, amount=amount).encode())
        for tenant in ("demo", "other"):
            self.make(tenant)

    def make(self, tenant: str, password: str = "secret") -> None:
        roles = self.database.roles
        with self.admin() as admin, self.owner() as owner:
            name = self.names[tenant] = reader_store.named(admin, owner, roles.owner, tenant)
            reader_store.login(admin, name, password)
            assert reader_store.confine(admin, roles, name)
            reader_store.open_views(owner, roles.owner, name)

    def drop(self, tenant: str) -> None:
        with self.admin() as admin, self.owner() as owner:
            if reader_store.exists(admin, self.names[tenant]):
                reader_store.close_views(owner, self.database.roles.owner, self.names[tenant])
                owner.commit()
                reader_store.end(admin, self.names[tenant])
                reader_store.forget(owner, self.database.roles.owner, self.names[tenant])

    def admin(self) -> Any:
        return psycopg.connect(self.database.conninfo("superuser"))

    def owner(self) -> Any:
        return psycopg.connect(self.database.conninfo("migrator"))

    def reader(self, tenant: str = "demo", password: str = "secret") -> psycopg.Connection[tuple[Any, ...]]:
        """A session of the tenant's login."""
        url = make_url(self.database.superuser).set(username=self.names[tenant], password=password)
        return psycopg.connect(conninfo(url.render_as_string(hide_password=False)), autocommit=True)


@pytest.fixture
def readers(database: TestDatabase) -> Iterator[Readers]:
    made = Readers(database)
    yield made
    for tenant in made.names:
        made.drop(tenant)


def views(readers: Readers) -> list[str]:
    with readers.admin() as admin:
        rows = admin.execute("SELECT table_name FROM information_schema.views WHERE table_schema = 'reporting'")
        return sorted(name for (name,) in rows.fetchall())


def test_each_view_shows_the_logins_own_tenant(readers: Readers) -> None:
    """I7: all views, whichever came since; figures as `qcos costs show` has them."""
    with readers.reader() as reader, readers.reader("other") as other:
        for view in views(readers):
            mine, theirs = (one.execute(f"SELECT * FROM {view}".encode()).fetchall() for one in (reader, other))
            assert mine, view
            assert len(mine) == len(theirs), view
            assert not {100, 200, Decimal(100), Decimal(200)} & {cell for row in mine for cell in row}, view
        assert reader.execute(
            "SELECT project, currency, spend, jobs, completed_jobs FROM spend_by_project"
        ).fetchall() == [("p", "USD", Decimal("0.50"), 1, 1)]
        assert reader.execute("SELECT user_name, spend FROM spend_by_user").fetchall() == [("a-1", Decimal("0.50"))]
        assert reader.execute("SELECT day::text FROM spend_by_day").fetchall() == [("2026-11-30",)]
        assert reader.execute("SELECT held, captured, available FROM budgets").fetchall() == [
            (1, Decimal("0.25"), Decimal("8.75"))
        ]


SETTINGS = (
    "SET qcos.tenant = 'other'",
    "SELECT set_config('qcos.tenant', 'other', false)",
    "SET search_path = finops, reporting; SET default_transaction_read_only = off",
    "SET row_security = on",
)
FORBIDDEN = (
    "SET ROLE {app}",
    "SET ROLE {owner}",
    "SET ROLE {other}",
    "SET SESSION AUTHORIZATION {other}",
    "SELECT * FROM finops.charge",
    "SELECT * FROM finops.hold",
    "SELECT * FROM jobs.job",
    "SELECT * FROM ledger.entry",
    "SELECT * FROM auth.tenant",
    "SELECT * FROM pg_authid",
    "SELECT finops.open_month('demo', now())",
    "SELECT finops.add_charges('demo', '[]')",
    "INSERT INTO reporting.charges (amount) VALUES (1)",
    "UPDATE reporting.charges SET amount = 0",
    "DELETE FROM reporting.charges",
    "CREATE TABLE reporting.mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "ALTER ROLE {self} BYPASSRLS",
    "ALTER TABLE finops.charge DISABLE ROW LEVEL SECURITY",
    "COPY reporting.charges TO '/tmp/charges'",
    "COPY reporting.charges FROM PROGRAM 'id'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock_shared(1, 2)",
    "SELECT pg_advisory_xact_lock(hashtext('finops.month'), hashtext('other'))",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'mine')",
    "INSERT INTO reporting.reader VALUES ('other', current_user)",
    "UPDATE reporting.reader SET tenant = 'other'",
)


def test_no_setting_makes_it_another_tenants(readers: Readers) -> None:
    """I7: its policy is bound to its role."""
    for statement in SETTINGS:
        with readers.reader() as reader:
            reader.execute(statement.encode())
            found = reader.execute("SELECT DISTINCT amount FROM reporting.charges").fetchall()
            assert found == [(Decimal("0.25"),)], statement


def test_it_reads_the_views_and_can_do_nothing_else(readers: Readers) -> None:
    """Read-only by its rights, not only by a setting that it may change."""
    roles = readers.database.roles
    names = {"app": roles.app, "owner": roles.owner, "other": readers.names["other"], "self": readers.names["demo"]}
    refusals = (psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType)
    with readers.reader() as reader:
        reader.execute("SET default_transaction_read_only = off")
        for statement in FORBIDDEN:
            try:
                reader.execute(statement.format(**names).encode())
            except refusals:
                continue
            pytest.fail(statement)
    with readers.admin() as admin:
        assert admin.execute("SELECT sum(amount) FROM finops.charge").fetchone() == (Decimal("200.50"),)


CATALOGUE = (
    "SELECT * FROM pg_policies",
    "SELECT * FROM pg_roles",
    "SELECT * FROM pg_db_role_setting",
    "SELECT * FROM pg_stats WHERE schemaname IN ('finops', 'jobs', 'reporting')",
    "SELECT obj_description(oid) FROM pg_class",
    "SELECT * FROM reporting.reader",
)


def test_the_catalogue_tells_no_tenant_of_another(readers: Readers) -> None:
    """I7: what every login may read of roles, policies, settings and statistics names no tenant."""
    with readers.admin() as admin:
        admin.execute("ANALYZE")
    with readers.reader() as reader:
        for statement in CATALOGUE:
            told = str(reader.execute(statement.encode()).fetchall())
            assert "other" not in told, statement
        assert reader.execute("SELECT tenant FROM reporting.reader").fetchall() == [("demo",)]


def test_what_a_reader_wrote_while_it_could_does_not_keep_it(readers: Readers) -> None:
    """A login that wasn't confined, and owns something, is ended all the same."""
    with readers.admin() as admin:
        admin.execute("GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC")
    with readers.reader() as reader:
        reader.execute("SET default_transaction_read_only = off")
        reader.execute("SELECT lo_create(0)")
    readers.drop("demo")
    with readers.admin() as admin:
        assert not reader_store.exists(admin, readers.names["demo"])
        assert admin.execute("SELECT tenant FROM reporting.reader").fetchall() == [("other",)]


def test_below_its_revision_a_reader_sees_nothing_and_stands_in_nobodys_way(readers: Readers) -> None:
    """Going down isn't refused for a login that can be made again (N10); what is left of it reads no row."""
    migrate(readers.database, "0047_invoices")  # type: ignore[arg-type]  # it has a Database's roles and migrator
    with readers.reader() as reader:
        assert reader.execute("SELECT * FROM reporting.charges").fetchall() == []
    migrate(readers.database)  # type: ignore[arg-type]
    readers.make("demo")
    with readers.reader() as reader:
        assert reader.execute("SELECT DISTINCT amount FROM reporting.charges").fetchall() == [(Decimal("0.25"),)]


def test_row_security_switched_off_refuses_instead_of_showing_all(readers: Readers) -> None:
    with readers.reader() as reader:
        reader.execute("SET row_security = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT * FROM reporting.charges")


def test_made_again_it_has_a_new_password_and_dropped_it_is_gone(readers: Readers) -> None:
    readers.make("demo", "another")
    with pytest.raises(psycopg.OperationalError, match="password"):
        readers.reader("demo", "secret")
    with readers.reader("demo", "another") as reader:
        readers.drop("demo")
        with pytest.raises(psycopg.Error):
            reader.execute("SELECT * FROM reporting.charges")
    with pytest.raises(psycopg.OperationalError):
        readers.reader("demo", "another")
    with readers.admin() as admin:
        assert admin.execute(
            "SELECT count(*) FROM pg_policies WHERE policyname = %s", (readers.names["demo"],)
        ).fetchone() == (0,)
    with readers.reader("other") as other:
        assert other.execute("SELECT sum(amount) FROM reporting.charges").fetchone() == (Decimal(200),)


def test_the_planes_own_roles_see_what_they_saw(readers: Readers) -> None:
    """A reader's policy is one more way in for the reader alone."""
    with psycopg.connect(readers.database.conninfo("app")) as app:
        assert app.execute("SELECT count(*) FROM finops.charge").fetchone() == (0,)
        app.execute("SELECT set_config('qcos.tenant', 'demo', true)")
        assert app.execute("SELECT count(*) FROM finops.charge").fetchone() == (2,)
    for role in ("app", "sealer", "audit", "migrator"):
        with psycopg.connect(readers.database.conninfo(role)) as ours:
            assert ours.execute("SELECT pg_try_advisory_xact_lock(1, 2)").fetchone() == (True,)
