# SPDX-License-Identifier: Apache-2.0
"""Migrations on a database with jobs, money and sealed entries in it: up, down, refused, failed (N10, I2)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

from control_plane.db import Database
from control_plane.errors import MigrationFailed, MigrationRefused, Refused, SchemaNewer, SchemaUnreleased
from control_plane.provision import migrate, revision_of
from tests.control_plane.jobs.desk import Desk, bell, person
from tests.control_plane.jobs.ends import finish
from tests.fakes import FakeDriver
from tests.postgres import relinked

CHAIN = [path.stem for path in sorted(Path("control_plane/migrations/versions").glob("0*.py"))]
VERSIONS = "control_plane.migrations.versions"
SCHEMAS = ("ledger", "finops", "auth", "jobs", "network")


@pytest.fixture
async def used(desk: Desk, driver: FakeDriver) -> Desk:
    """A plane that has completed a job, denied one, and has one waiting."""
    done = await desk.admitted()
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, done) == "COMPLETED"
    await desk.submit(bell(), who=person("eve", "demo", "auditor"))
    await desk.submit(key="k")
    await desk.seal()
    return desk


def logins(desk: Desk) -> Database:
    urls = desk.database
    return Database(urls.roles, urls.migrator, urls.app, urls.sealer, urls.audit)


def content(desk: Desk) -> dict[str, str]:
    """A digest of every row of every table, but for what revisions let go, and of each function's text."""
    tables = desk.sql(
        "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = ANY (%s)", list(SCHEMAS)
    )
    let_go = {name for one in CHAIN for name in getattr(import_module(f"{VERSIONS}.{one}"), "EXPENDABLE", ())}
    digest = "SELECT md5(coalesce(string_agg(kept, ';' ORDER BY kept), '')) FROM {0} t, "
    digest += "LATERAL (SELECT (to_jsonb(t) - ARRAY[{1}]::text[])::text AS kept) k"
    columns = {
        table: [f"'{name.split('.')[2]}'" for name in let_go if name.startswith(f"{table}.")] for (table,) in tables
    }
    rows = {
        table: desk.sql(digest.format(table, ", ".join(without)))[0][0]
        for table, without in columns.items()
        if table not in let_go
    }
    functions = desk.sql(
        "SELECT p.oid::regprocedure::text, md5(prosrc) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace"
        " WHERE nspname = ANY (%s)",
        list(SCHEMAS),
    )
    return rows | dict(functions)


async def test_each_step_down_keeps_everything_or_is_refused(used: Desk) -> None:
    """N10: from the newest on, a step that can be undone loses no row; the first that can't changes nothing.

    What was charged, expected and priced by is nowhere else in rows, so those steps are refused; the rest is looked at
    with it set aside.
    """
    known, all_of_it = logins(used), content(used)
    with pytest.raises(MigrationRefused, match=r"jobs\.job\.estimate"):
        migrate(known, CHAIN[CHAIN.index("0044_estimates") - 1])
    assert content(used) == all_of_it
    used.sql("CREATE TABLE public.told AS SELECT tenant, job_id, estimate, rate_cards FROM jobs.job")
    used.sql("UPDATE jobs.job SET estimate = NULL, rate_cards = NULL")
    before = content(used)
    with pytest.raises(MigrationRefused, match=r"finops\.charge"):
        migrate(known, CHAIN[CHAIN.index("0040_charges") - 1])
    assert content(used) == before
    used.sql("CREATE TABLE public.aside AS TABLE finops.charge")
    used.sql("ALTER TABLE finops.charge DISABLE TRIGGER charges_stay")
    used.sql("DELETE FROM finops.charge")
    whole, before = before, content(used)
    for place in range(len(CHAIN) - 1, -1, -1):
        here, target = content(used), CHAIN[place - 1] if place else "base"
        try:
            migrate(known, target)
        except MigrationRefused as refused:
            assert "nothing was changed" in refused.detail
            assert revision_of(known) == CHAIN[place]
            break
        assert migrate(known, CHAIN[place]).before == target
        assert content(used) == here
        migrate(known, target)
    assert CHAIN[place] >= "0004_jobs"
    migrate(known)
    assert content(used) == before
    used.sql("INSERT INTO finops.charge SELECT * FROM public.aside")
    assert content(used) == whole
    used.sql(
        "UPDATE jobs.job j SET estimate = t.estimate, rate_cards = t.rate_cards FROM public.told t"
        " WHERE (j.tenant, j.job_id) = (t.tenant, t.job_id)"
    )
    assert content(used) == all_of_it
    replayed = await used.replayed()
    assert replayed.agrees, replayed.differences


async def test_no_way_down_drops_a_sealed_entry(used: Desk) -> None:
    """I2: named with their number, also when jobs, books and accounts are empty; nothing was changed."""
    known = logins(used)
    for name in ("jobs.job", "jobs.usage", "jobs.idempotency", "finops.budget_window", "finops.hold", "finops.budget"):
        used.sql(f"DELETE FROM {name}")
    used.sql("ALTER TABLE finops.charge DISABLE TRIGGER charges_stay")
    for name in ("finops.charge", "finops.rate_card", "auth.project", "auth.tenant"):
        used.sql(f"DELETE FROM {name}")
    entries, before = used.sql("SELECT count(*) FROM ledger.entry")[0][0], content(used)
    for target in ("base", "0001_ledger"):
        if target == "base":
            with pytest.raises(MigrationRefused, match=f"would drop {entries} sealed entries"):
                migrate(known, target)
            assert content(used) == before
        else:
            migrate(known, target)
            assert used.sql("SELECT count(*) FROM ledger.entry") == [(entries,)]
            migrate(known)


async def test_an_empty_plane_goes_all_the_way_down(desk: Desk) -> None:
    """What nobody has used may go; workers' reports on backends are made anew."""
    known = logins(desk)
    assert desk.sql("SELECT count(*) FROM jobs.backend") == [(1,)]
    migrate(known, "0003_auth")
    assert desk.sql("SELECT to_regclass('jobs.job')") == [(None,)]
    with pytest.raises(MigrationRefused, match=r"auth\.tenant \(2\)"):
        migrate(known, "0002")


def broken(folder: Path, upgrade: str, downgrade: str = "pass", more: str = "") -> Path:
    """The revisions that exist, and two after them: one that works, one as given."""
    versions = relinked(folder / "versions")
    head = max(path.stem for path in versions.iterdir() if path.suffix == ".py")
    for name, before, up, down in (
        ("0900_sound", head, "op.execute('CREATE TABLE jobs.sound (x int)')", "op.execute('DROP TABLE jobs.sound')"),
        ("0901_next", "0900_sound", upgrade, downgrade),
    ):
        text = f"""\
            from alembic import op
            revision, down_revision = "{name}", "{before}"
            {more}
            def upgrade() -> None:
                {up}
            def downgrade() -> None:
                {down}
            """
        (versions / f"{name}.py").write_text(dedent(text))
    return versions


async def test_a_migration_that_fails_leaves_the_old_schema_whole(used: Desk, tmp_path: Path) -> None:
    """N10: all revisions of a run are one transaction; the refusal says where the schema stays."""
    known, before = logins(used), content(used)
    versions = broken(tmp_path, "op.execute('ALTER TABLE jobs.job ADD COLUMN x int; SELECT 1/0')")
    with pytest.raises(MigrationFailed, match=f"stays at {CHAIN[-1]} .*division by zero"):
        migrate(known, versions=versions)
    assert revision_of(known) == CHAIN[-1]
    assert content(used) == before


async def test_a_later_schema_is_refused_and_its_own_program_brings_it_down(used: Desk, tmp_path: Path) -> None:
    """N10: version N doesn't start on the schema of N + 1; the way down is the later program's."""
    known, before = logins(used), content(used)
    versions = broken(tmp_path, "op.execute('CREATE TABLE jobs.later (x int)')", "op.execute('DROP TABLE jobs.later')")
    migrate(known, versions=versions)
    with pytest.raises(SchemaNewer, match=f"at 0901_next, this program knows {CHAIN[-1]}"):
        migrate(known)
    migrate(known, CHAIN[-1], versions=versions)
    migrate(known)
    assert content(used) == before


@pytest.mark.parametrize("expendable", [True, False])
async def test_a_column_that_holds_something_is_kept_unless_its_revision_lets_it_go(
    used: Desk, tmp_path: Path, *, expendable: bool
) -> None:
    """A step that drops what can't be rebuilt is refused, column or table; what it calls expendable goes."""
    known = logins(used)
    versions = broken(
        tmp_path,
        "op.execute(\"ALTER TABLE jobs.job ADD COLUMN note text; UPDATE jobs.job SET note = 'x'\")",
        "op.execute('ALTER TABLE jobs.job DROP COLUMN note')",
        "EXPENDABLE = ('jobs.job.note',)" if expendable else "",
    )
    migrate(known, versions=versions)
    if expendable:
        migrate(known, CHAIN[-1], versions=versions)
        assert revision_of(known) == CHAIN[-1]
    else:
        with pytest.raises(MigrationRefused, match=r"jobs\.job\.note \(3\)"):
            migrate(known, CHAIN[-1], versions=versions)
        assert used.sql("SELECT count(note) FROM jobs.job") == [(3,)]


async def test_a_home_of_an_unreleased_program_is_refused_in_a_sentence(desk: Desk) -> None:
    """0004 grew until it was released: what lacks its last table isn't it, whatever name it wears."""
    known = logins(desk)
    migrate(known, "0004_jobs")
    desk.sql("DROP TABLE jobs.usage")
    with pytest.raises(SchemaUnreleased, match="unreleased form of 0004_jobs"):
        migrate(known)


async def test_a_revision_that_is_not_there_is_usage(desk: Desk) -> None:
    for wrong in ("0", "0999", "nonsense"):
        with pytest.raises(Refused, match="no one revision"):
            migrate(logins(desk), wrong)
