# SPDX-License-Identifier: Apache-2.0
"""Backup and restore of a plane by URL: what is refused and why, what a new log says, what is left untouched (N10)."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from control_plane import offline, parts
from control_plane.backup import archive
from control_plane.backup.archive import BackupInvalid
from control_plane.backup.restore import CAUSE, Restored, Wanted, restore
from control_plane.backup.take import backup
from control_plane.db import Database, conninfo
from control_plane.errors import AlreadyRunning, DatabaseUnusable, Refused, SchemaNewer, SettingInvalid
from control_plane.home import Hold
from control_plane.policy.pdp import Pdp
from control_plane.provision import migrate, provision
from control_plane.settings import Settings
from control_plane.upkeep import held
from ledger import checkpoint
from ledger.chain import parse_leaf
from ledger.errors import KeyInvalid, LedgerRollback, LogForeign
from ledger.head import read_head, write_head
from ledger.sealer_keys import load_sealer_keys
from ledger.succession import KIND, head_of
from tests.control_plane.jobs.desk import Desk, report
from tests.control_plane.jobs.desk import desk as open_desk
from tests.control_plane.jobs.ends import finish
from tests.control_plane.observed import attached
from tests.fakes import Dead, FakeDriver
from tests.postgres import RunningCluster, TestDatabase

ORIGIN = "qcos.test/log"  # the desk's
NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


async def restored(settings: Settings, wanted: Wanted) -> Restored:
    """A restore, which has an event loop of its own."""
    return await asyncio.to_thread(restore, settings, wanted, NOW)


class Kept:
    """A plane by URL with its home, and how to back it up and restore it."""

    def __init__(self, desk: Desk, cluster: RunningCluster, home: Path) -> None:
        self.desk, self.cluster, self.home = desk, cluster, home
        self.settings = replace(desk.plane.settings, home=home, database_url=desk.database.superuser)

    def note_head(self) -> bytes:
        """Keep the newest checkpoint as the sealer does; it lies elsewhere at a desk."""
        note = read_head(self.home / "ledger" / "head") or b""
        write_head(self.home / "head", note)
        return note

    def backup(self, name: str = "one.zip", *, with_keys: bool = True) -> Path:
        self.note_head()
        backup(self.settings, self.home.parent / name, with_keys=with_keys, now=datetime.now(UTC))
        return self.home.parent / name

    def elsewhere(self, home: Path | None = None) -> Settings:
        """A home, by default this one, with another, empty database."""
        return replace(self.settings, home=home or self.home, database_url=self.cluster.empty())

    async def restore(self, file: Path, home: Path | None = None, **wanted: Any) -> tuple[Restored, Settings]:
        settings = self.elsewhere(home)
        return await restored(settings, Wanted(file=file, **wanted)), settings

    def content(self) -> dict[str, bytes]:
        """Every file of the home that a restore might change."""
        files = [path for path in self.home.rglob("*") if path.is_file() and path.parts[-2:] != ("run", "lock")]
        return {str(path.relative_to(self.home)): path.read_bytes() for path in files if "log" not in path.parts}


@asynccontextmanager
async def opened(cluster: RunningCluster, home: Path, pdp: Pdp, driver: FakeDriver) -> AsyncIterator[Kept]:
    """A plane in a database of its own, which has completed a job and has another waiting."""
    home.mkdir(mode=0o700)
    url = cluster.empty()
    known = provision(url, home / "db")
    migrate(known)
    database = TestDatabase(
        name=url.rpartition("/")[2].partition("?")[0],
        roles=known.roles,
        app=known.app,
        sealer=known.sealer,
        audit=known.audit,
        migrator=known.migrator,
        superuser=url,
    )
    async with open_desk(database, home, pdp) as desk:
        for name in ("blob", "sealer"):
            (home / "keys").mkdir(mode=0o700, exist_ok=True)
            source = home / ("root" if name == "blob" else name)
            if source.is_dir():
                shutil.copytree(source, home / "keys" / name)
            else:
                (home / "keys" / name).mkdir(mode=0o700)
                shutil.copy2(source, home / "keys" / name / "root")
        kept = Kept(desk, cluster, home)
        parts.make_keys(kept.settings)
        await report(desk, driver)
        done = await desk.admitted()
        await (await desk.attempt(driver)).advance()
        assert await finish(desk, done) == "COMPLETED"
        yield kept


@pytest.fixture
async def plane(
    cluster: RunningCluster, tmp_path: Path, pdp: Pdp, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Kept]:
    monkeypatch.setattr(parts, "origin", lambda _: ORIGIN)
    async with opened(cluster, tmp_path / "home", pdp, driver) as kept:
        yield kept


def rows(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    """What a restored database holds."""
    with psycopg.connect(conninfo(Database.of_home(settings.home / "db").audit)) as conn:
        return conn.cursor(binary=True).execute(statement.encode()).fetchall()


async def test_a_backup_holds_everything_and_only_its_owner_reads_it(plane: Kept) -> None:
    """Rows of every table, keys, the head as the snapshot has it; 0600, and never over another file."""
    waits = (await plane.desk.submit()).job_id
    file = plane.backup()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with archive.reading(file) as source:
        source.check()
        told = source.manifest
    tables = {table.name: table.rows for table in told.tables}
    counted = {name: plane.desk.sql(f"SELECT count(*) FROM {name}")[0][0] for name in tables}
    assert tables == counted
    assert (tables["jobs.job"], told.waiting) == (2, 2)
    assert told.log is not None
    assert told.log.checkpoint.encode() == plane.note_head()
    assert {"keys/sealer/log_ed25519.pem", "keys/blob/root", "keys/pseudonym"} < {kept.path for kept in told.files}
    assert not any("password" in kept.path or "superuser" in kept.path for kept in told.files)
    with pytest.raises(Refused, match="is there already"):
        plane.backup()
    assert waits in zipfile.ZipFile(file).read("tables/jobs.job").decode()


async def test_a_restored_plane_is_the_same_and_goes_on(plane: Kept, driver: FakeDriver, tmp_path: Path) -> None:
    """On a new machine: rows equal, the ledger verified, walls up, ids not given twice; the old home is not needed."""
    await plane.desk.submit()
    done, settings = await plane.restore(plane.backup(), tmp_path / "new")
    assert (done.restored, done.held, done.compared, done.previous) == (True, [], 0, None)
    for table in ("ledger.entry", "ledger.inbox", "jobs.job", "finops.hold", "ledger.blob"):
        digest = f"SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {table} t"
        assert rows(settings, digest) == plane.desk.sql(digest), table
    assert read_head(settings.home / "head") == plane.note_head()
    lax = "SELECT count(*) FROM pg_class WHERE relrowsecurity AND NOT relforcerowsecurity"
    assert rows(settings, lax) == [(0,)]
    known = Database.of_home(settings.home / "db")
    with psycopg.connect(conninfo(known.app)) as conn:
        conn.execute("SELECT set_config('qcos.tenant', 'demo', true)")
        conn.execute("INSERT INTO ledger.inbox (tenant, pending) VALUES ('demo', '\\x')")
    assert stat.S_IMODE((settings.home / "keys" / "blob" / "root").stat().st_mode) == 0o600


async def test_a_plane_by_url_is_restored_into_a_home_with_a_database_of_its_own(plane: Kept, tmp_path: Path) -> None:
    """The wheel's PostgreSQL, made for it in the home; the server has ended when the command has."""
    settings = replace(plane.settings, home=tmp_path / "own", database_url=None)
    assert (await restored(settings, Wanted(file=plane.backup(), check=True))).jobs == 1
    assert not (settings.home / "db").exists()
    done = await restored(settings, Wanted(file=plane.home.parent / "one.zip", new_log="moved"))
    assert done.restored
    assert attached(settings.home / "db") == []
    with held(settings), offline.administered(settings) as url, psycopg.connect(conninfo(url)) as conn:
        assert conn.execute("SELECT max(size) FROM ledger.checkpoint").fetchone() == (done.log and done.log.size,)


async def test_a_backup_that_lost_entries_is_refused_and_nothing_changes(plane: Kept) -> None:
    """I2: the home's head, or a checkpoint kept elsewhere, is ahead of it."""
    file = plane.backup()
    await plane.desk.admitted()
    newer = plane.note_head()
    before = plane.content()
    with pytest.raises(LedgerRollback, match="--new-log"):
        await plane.restore(file)
    assert plane.content() == before
    for home in (plane.home.parent / "new", plane.home.parent / "newer"):
        if home.name == "new":
            with pytest.raises(LedgerRollback):
                await plane.restore(file, home, checkpoints=(newer,))
        else:
            assert (await plane.restore(file, home, checkpoints=(head_note(file),)))[0].compared == 1


def head_note(file: Path) -> bytes:
    with archive.reading(file) as source:
        assert source.manifest.log is not None
        return source.manifest.log.checkpoint.encode()


async def test_a_new_log_names_the_old_head_and_runs_nothing_twice_by_itself(plane: Kept, driver: FakeDriver) -> None:
    """I2, I3: origin, old head, reason and who; what may have run since the backup is HELD; balances carry over."""
    waits = (await plane.desk.submit()).job_id
    await plane.desk.seal()
    file, held = plane.backup(), (await plane.desk.money())[0]
    kept = head_of(head_note(file))
    await plane.desk.admitted()
    lost = head_of(plane.note_head())
    done, settings = await plane.restore(file, new_log="the disk died")
    assert (done.previous, done.held) == (lost, [waits])
    assert done.log is not None
    assert done.log.origin.startswith(f"{ORIGIN}/2026-11-21-")
    assert (done.log.size, lost.size > kept.size) == (kept.size + 1, True)
    ((leaf,),) = rows(settings, f'SELECT leaf FROM ledger.entry WHERE "index" = {kept.size}')
    first = parse_leaf(leaf)
    assert (first.kind, first.body["reason"]) == (KIND, "the disk died")
    assert first.body["previous"] == {
        "origin": lost.origin,
        "size": lost.size,
        "root": lost.root,
        "checkpoint": lost.checkpoint,
    }
    assert first.body["operator"].startswith("os:")
    assert rows(settings, f"SELECT state FROM jobs.job WHERE job_id = '{waits}'") == [("HELD",)]
    assert CAUSE in str(rows(settings, "SELECT pending FROM ledger.inbox"))
    assert rows(settings, "SELECT sum(held) FROM finops.budget_window") == [(held,)]
    note = read_head(settings.home / "head")
    assert note is not None
    assert checkpoint.parse(note).origin == done.log.origin
    (aside,) = plane.home.glob("replaced-*")
    assert done.replaced == aside.name
    assert {path.name for path in aside.iterdir()} == {"db", "keys", "head", "dev-login"}


async def test_a_log_can_be_begun_anew_more_than_once(plane: Kept) -> None:
    """Each time under a name that was never used; the head of the second is missed like that of the first."""
    file = plane.backup()
    first, _ = await plane.restore(file, new_log="once")
    with pytest.raises(LedgerRollback):
        await plane.restore(file)
    second, settings = await plane.restore(file, new_log="twice")
    assert second.previous == first.log
    assert second.log is not None
    assert second.log != first.log
    ((size,),) = rows(settings, "SELECT count(*) FROM ledger.entry")
    assert size == second.log.size


async def test_check_judges_and_changes_nothing(plane: Kept) -> None:
    file, before = plane.backup(), plane.content()
    settings = plane.elsewhere()
    done = await restored(settings, Wanted(file=file, check=True))
    assert (done.restored, done.replaced, done.jobs) == (False, None, 1)
    assert plane.content() == before
    assert (await restored(settings, Wanted(file=file))).restored


Change = Callable[[dict[str, bytes]], None]


def swap(name: str, old: bytes, new: bytes) -> Change:
    """Change a member's content."""

    def change(members: dict[str, bytes]) -> None:
        assert old in members[name]
        members[name] = members[name].replace(old, new, 1)

    return change


def lifted(members: dict[str, bytes]) -> None:
    """Charge less than the ledger tells."""
    cells = members["tables/finops.hold"].split(b"\t")
    place = next(n for n, cell in enumerate(cells) if cell == b"settled") + 1
    cells[place] = b"0.01"
    members["tables/finops.hold"] = b"\t".join(cells)


def altered(members: dict[str, bytes]) -> None:
    """One hex digit of the last leaf."""
    lines = members["tables/ledger.entry"].splitlines(keepends=True)
    lines[-1] = lines[-1][:-30] + (b"0" if lines[-1][-30:-29] != b"0" else b"1") + lines[-1][-29:]
    members["tables/ledger.entry"] = b"".join(lines)


# Changed with the manifest made to fit, so that only what is inside can tell.
INSIDE: dict[str, Change] = {
    "a job's state": swap("tables/jobs.job", b"COMPLETED", b"CANCELED"),
    "an entry": altered,
    "a budget": swap("tables/finops.budget", b"1000", b"9999"),
    "a row that doesn't fit": swap("tables/jobs.job", b"demo", b"\\N"),
    "rows that are gone": lambda members: members.update({"tables/ledger.tile": b""}),
    "an unknown column's worth": swap("tables/jobs.usage", b"demo", b"demo\tx"),
}


def rewritten(file: Path, change: Change, *, fitting: bool) -> Path:
    """The archive after a change, its manifest made to fit or left as it is."""
    with zipfile.ZipFile(file) as source:
        members = {name: source.read(name) for name in source.namelist()}
    change(members)
    manifest = json.loads(members.pop("manifest.json"))
    if fitting:
        for kept in (*manifest["tables"], *manifest["files"]):
            name = f"tables/{kept['name']}" if "name" in kept else f"home/{kept['path']}"
            data = members[name]
            kept["content"] = {"size": len(data), "sha256": sha256(data).hexdigest()}
            if "rows" in kept:
                kept["rows"] = data.count(b"\n")
    made = file.with_name("changed.zip")
    with zipfile.ZipFile(made, "w") as out:
        for name, data in members.items():
            out.writestr(name, data)
        out.writestr("manifest.json", json.dumps(manifest))
    return made


async def test_whatever_was_changed_in_it_is_found_and_the_home_stays_as_it_was(plane: Kept) -> None:
    """I4: with the manifest made to fit, log and fold tell; the database that it was loaded in is empty again."""
    file, before = plane.backup(), plane.content()
    for name, change in INSIDE.items():
        settings = plane.elsewhere()
        with pytest.raises(BackupInvalid) as refused:
            await restored(settings, Wanted(file=rewritten(file, change, fitting=True)))
        assert refused.value.code == "backup_invalid", name
        assert plane.content() == before, name
        with psycopg.connect(conninfo(settings.database_url or "")) as conn:
            schemas = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('ledger', 'jobs', 'finops', 'auth')"
            assert conn.execute(schemas.encode()).fetchone() == (0,), name


def told(key: str, value: Any) -> Change:
    def change(members: dict[str, bytes]) -> None:
        members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | {key: value}).encode()

    return change


OUTSIDE: dict[str, tuple[Change, type[Exception]]] = {
    "a member changed": (swap("tables/jobs.job", b"COMPLETED", b"CANCELED"), BackupInvalid),
    "a key changed": (lambda members: members.update({"home/keys/pseudonym": b"0" * 65}), BackupInvalid),
    "a member gone": (lambda members: members.pop("tables/ledger.tile"), BackupInvalid),  # type: ignore[dict-item]
    "a member more": (lambda members: members.update({"home/../../etc/cron": b"x"}), BackupInvalid),
    "a later form": (told("type", "urn:qcos:backup:v2"), BackupInvalid),
    "a later schema": (told("schema_version", "9999_later"), SchemaNewer),
    "another plane": (told("plane", "other"), SettingInvalid),
    "another profile": (told("profile", "onprem"), SettingInvalid),
}


async def test_a_file_that_is_no_whole_backup_of_this_plane_is_refused(plane: Kept, tmp_path: Path) -> None:
    file, before = plane.backup(), plane.content()
    for name, (change, wanted) in OUTSIDE.items():
        with pytest.raises(wanted):
            await restored(plane.settings, Wanted(file=rewritten(file, change, fitting=False)))
        assert plane.content() == before, name
    for data in (b"", b"PK", file.read_bytes()[:-100], file.read_bytes()[100:]):
        broken = tmp_path / "broken.zip"
        broken.write_bytes(data)
        with pytest.raises(BackupInvalid):
            await restored(plane.settings, Wanted(file=broken))
    with pytest.raises(BackupInvalid):
        await restored(plane.settings, Wanted(file=tmp_path / "none.zip"))
    assert plane.content() == before


async def test_a_restore_wants_an_empty_database_a_stopped_plane_and_a_reason(plane: Kept) -> None:
    file = plane.backup()
    with pytest.raises(DatabaseUnusable, match="wants an empty one"):
        await restored(plane.settings, Wanted(file=file))
    for reason in ("", "x" * 501):
        with pytest.raises(SettingInvalid, match="--new-log"):
            await plane.restore(file, new_log=reason)
    hold = Hold(plane.settings)
    with pytest.raises(AlreadyRunning):
        await plane.restore(file)
    hold.release()


async def test_without_keys_those_of_the_home_are_wanted_and_tried(plane: Kept, tmp_path: Path) -> None:
    """A backup without keys holds no secret of the plane; a home with other keys can't go on with its log."""
    file = plane.backup("keyless.zip", with_keys=False)
    assert not [name for name in zipfile.ZipFile(file).namelist() if name.startswith("home/")]
    with pytest.raises(KeyInvalid, match="without keys"):
        await plane.restore(file, tmp_path / "new")
    parts.make_keys(replace(plane.settings, home=tmp_path / "strange"))
    with pytest.raises(KeyInvalid, match="other keys than the log has published"):
        await plane.restore(file, tmp_path / "strange")
    assert (await plane.restore(file))[0].restored


async def test_the_head_of_another_planes_log_stops_a_restore(plane: Kept, tmp_path: Path) -> None:
    keys = load_sealer_keys(plane.home / "keys" / "sealer")
    note = checkpoint.sign("qcos.else/log", 1, b"\0" * 32, ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)
    with pytest.raises(LogForeign):
        await plane.restore(plane.backup(), tmp_path / "new", checkpoints=(note,))


def killed_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the restore, as a kill would, at the nth rename of its switch."""
    left, real = int(step), Path.rename

    def rename(self: Path, target: Path) -> Path:
        nonlocal left
        if not left:
            raise Dead
        left -= 1
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)


@pytest.mark.parametrize("step", ["1", "4"])
async def test_a_switch_that_was_cut_off_is_finished_by_whoever_holds_the_home_next(
    plane: Kept, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Never half: before the marker the old plane is there, after it the new one, wherever it was killed."""
    file, settings = plane.backup(), plane.elsewhere()
    with monkeypatch.context() as patched:
        killed_at(step, patched)
        with pytest.raises(Dead):
            await restored(settings, Wanted(file=file, new_log="cut off"))
    Hold(settings).release()
    note = read_head(settings.home / "head")
    assert note is not None
    assert checkpoint.parse(note).origin.startswith(f"{ORIGIN}/")
    assert rows(settings, "SELECT max(size) FROM ledger.checkpoint") == [(checkpoint.parse(note).size,)]
    assert not (settings.home / "restoring").exists()
    assert len(list(settings.home.glob("replaced-*/db"))) == 1


@pytest.fixture(autouse=True)
def _no_debris(tmp_path: Path) -> Iterator[None]:
    """Nothing that grew in a restore stays behind."""
    yield
    assert not list(tmp_path.rglob("restoring"))
    assert not list(tmp_path.rglob("*.part"))
