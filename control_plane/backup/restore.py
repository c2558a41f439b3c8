# SPDX-License-Identifier: Apache-2.0
"""`qcos restore`: a backup, judged as a whole beside what is there, then put in its place (I2, N10).

    1 the archive     every member of the size and hash that the manifest says; its plane and schema are ours
    2 the heads       none kept outside is ahead of it, or a new log was asked for
    3 a fresh place   folder `restoring`; for a plane by URL an empty database
    4 loaded          at the backup's revision, then migrated to this program's
    5 judged          the log verified, the rows held against its fold, the keys tried on both
    6 the new log     where one was asked for: its first entry sealed; jobs that may have run since are HELD
    7 the switch      decided by one marker; what was there before lies in `replaced-TIME`

Whatever fails before 7 leaves the home as it was. The plane must be down.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import cast

import psycopg
from msgspec import Struct

from control_plane import db, offline, parts
from control_plane.backup import archive, store, switch
from control_plane.backup.archive import BackupInvalid, Reader
from control_plane.backup.judge import judge, lost, refuse_older, rollback
from control_plane.db import Database, conninfo
from control_plane.errors import DatabaseUnusable, SettingInvalid, Unusable
from control_plane.home import make_folder
from control_plane.jobs import store as job_store
from control_plane.jobs import transition
from control_plane.jobs.state import State
from control_plane.postgres import DATABASE, cluster
from control_plane.provision import holds_plane, migrate, provision, refuse_newer
from control_plane.settings import Settings
from control_plane.upkeep import held
from ledger.batch import Plane
from ledger.errors import KeyInvalid
from ledger.head import read_head, write_head
from ledger.predicate import Profile
from ledger.sealer import begin
from ledger.sealer_config import SealerConfig
from ledger.succession import MAX_REASON, Head, Succession, head_of

CAUSE = "log_begun_anew"


class Wanted(Struct, frozen=True, kw_only=True):
    """What the operator asked for: `checkpoints` are notes kept elsewhere; `check` changes nothing."""

    file: Path
    new_log: str | None = None
    checkpoints: tuple[bytes, ...] = ()
    check: bool = False


class Restored(Struct, frozen=True):
    """What was done."""

    restored: bool
    created_at: str
    log: Head | None
    previous: Head | None
    entries: int
    jobs: int
    held: list[str]
    compared: int
    replaced: str | None


def restore(settings: Settings, wanted: Wanted, now: datetime) -> Restored:
    """Judge a backup and put it in place; raises BackupInvalid, LedgerRollback and what stands in the steps above."""
    if wanted.new_log is not None and not 0 < len(wanted.new_log) <= MAX_REASON:
        raise SettingInvalid("--new-log", wanted.new_log, f"a reason of 1 to {MAX_REASON} characters")
    with archive.reading(wanted.file) as source:
        source.check()
        _refuse_other_planes(settings, source)
        refuse_newer(source.manifest.schema_version)
        with held(settings):
            kept = _heads(settings, wanted)
            if wanted.new_log is None:
                refuse_older(source.manifest, kept)
            switch.discard(settings.home)
            make_folder(switch.folder(settings.home))
            try:
                done = _restored(settings, source, wanted, kept, now)
            except OSError as error:
                switch.discard(settings.home)
                raise Unusable(f"the restore was given up, nothing was changed: {error}") from error
            except psycopg.Error as error:
                switch.discard(settings.home)
                said = " ".join(str(error).split())
                raise DatabaseUnusable(f"the restore was given up, nothing was changed: {said}") from error
            except BaseException:
                switch.discard(settings.home)
                raise
            if wanted.check:
                switch.discard(settings.home)
            else:
                switch.finish(settings.home)
    return done


def _refuse_other_planes(settings: Settings, source: Reader) -> None:
    theirs = source.manifest
    for name, value in (("profile", theirs.profile), ("plane", theirs.plane)):
        if getattr(settings, name) != value:
            raise SettingInvalid(name, getattr(settings, name), f"{value!r}, as the backup's evidence and log say")


def _heads(settings: Settings, wanted: Wanted) -> list[bytes]:
    """The checkpoints that were kept outside the database."""
    here = read_head(settings.home / "head")
    return [*wanted.checkpoints, *([here] if here is not None else [])]


def _restored(settings: Settings, source: Reader, wanted: Wanted, kept: list[bytes], now: datetime) -> Restored:
    place, there = switch.folder(settings.home), any((settings.home / name).exists() for name in switch.NAMES)
    _put_files(settings.home, place, source)
    with _fresh(settings, place) as database:
        _load(database, source)
        migrate(database)
        sound = asyncio.run(judge(database, source.manifest, place / "keys", settings.keys))
        missing = lost(database, kept, origin=parts.origin(settings))
        log, jobs = head_of(source.manifest.log.checkpoint.encode()) if source.manifest.log else None, list[str]()
        if wanted.new_log is not None and log is not None:
            succession = _succession(settings, wanted.new_log, missing or log, log, source, now)
            note = asyncio.run(begin(_sealer(settings, database, place), succession))
            jobs = asyncio.run(_hold(database, now))
            write_head(place / "head", note)
            log = head_of(note)
        elif missing is not None:
            raise rollback(missing.size, log.size if log else 0)
        elif source.manifest.log:
            write_head(place / "head", source.manifest.log.checkpoint.encode())
        if wanted.check and settings.database_url is not None:
            store.drop_all(database)
    aside = f"replaced-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    if not wanted.check:
        switch.decide(settings.home, aside)
    return Restored(
        restored=not wanted.check,
        created_at=source.manifest.created_at,
        log=log,
        previous=missing,
        entries=sound.entries,
        jobs=sound.jobs,
        held=jobs,
        compared=len(kept),
        replaced=aside if there and not wanted.check else None,
    )


def _put_files(home: Path, place: Path, source: Reader) -> None:
    """The keys of the backup, or of the home where the backup has none."""
    for file in source.manifest.files:
        if file.path == "qcos.toml" and (home / file.path).exists():
            continue  # what this machine is set to stays
        path = place / file.path
        for folder in reversed([path.parent, *path.parent.parents]):
            if folder.is_relative_to(place):
                make_folder(folder)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, file.mode & 0o700)
        with os.fdopen(handle, "wb") as out:
            for piece in source.pieces(f"home/{file.path}"):
                out.write(piece)
    if not source.manifest.keys:
        if not (home / "keys").is_dir():
            raise KeyInvalid("the backup was made without keys; put the plane's keys folder into QCOS_HOME first")
        shutil.copytree(home / "keys", place / "keys")


@contextmanager
def _fresh(settings: Settings, place: Path) -> Iterator[Database]:
    """An empty database with its roles: the wheel's in a folder of its own, or the one that the URL names."""
    make_folder(place / "db")
    if settings.database_url is None:
        make_folder(settings.postgres_sockets)
        make_folder(settings.home / "log")
        found = cluster(place / "db", settings.postgres_sockets)
        with offline.serving(found, settings.home / "log" / "postgres.log"):
            found.make_database(DATABASE)
            yield provision(found.url(DATABASE), place / "db")
        return
    if holds_plane(settings.database_url):
        raise DatabaseUnusable("QCOS_DATABASE_URL names a database that holds a plane; a restore wants an empty one")
    database = provision(settings.database_url, place / "db")
    try:
        yield database
    except BaseException:
        store.drop_all(database)
        raise


def _load(database: Database, source: Reader) -> None:
    """The rows, into the schema that they were taken from."""
    migrate(database, source.manifest.schema_version)
    kept = {table.name: table for table in source.manifest.tables}
    try:
        with store.loading(database) as conn:
            there = store.tables(conn, database.roles.owner)
            if {table.name: table.columns for table in there} != {name: t.columns for name, t in kept.items()}:
                raise BackupInvalid(f"its tables aren't those of schema {source.manifest.schema_version}")
            store.empty(conn, there)
            for table in there:
                rows = store.copy_in(conn, table, source.pieces(f"tables/{table.name}"))
                if rows != kept[table.name].rows:
                    raise BackupInvalid(f"{table.name} has {rows} rows, its manifest says {kept[table.name].rows}")
    except (psycopg.errors.DataError, psycopg.errors.IntegrityError) as error:
        raise BackupInvalid(f"its rows don't fit: {error.diag.message_primary}") from error


def _succession(
    settings: Settings, reason: str, previous: Head, kept: Head, source: Reader, now: datetime
) -> Succession:
    return Succession(
        origin=f"{parts.origin(settings)}/{now:%Y-%m-%d}-{secrets.token_hex(4)}",
        previous=previous,
        kept=kept,
        reason=reason,
        operator=f"os:{_user()}",
        backup_created_at=source.manifest.created_at,
    )


def _user() -> str:
    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):
        return str(os.getuid())


def _sealer(settings: Settings, database: Database, place: Path) -> SealerConfig:
    return SealerConfig(
        conninfo=conninfo(database.sealer),
        keys=place / "keys" / "sealer",
        custody=settings.keys,
        head=place / "head",
        origin=parts.origin(settings),
        plane=Plane(profile=cast("Profile", settings.profile), name=settings.plane),
    )


async def _hold(database: Database, now: datetime) -> list[str]:
    """Keep what may have run after the backup from running again by itself; the ids of those jobs.

    A job whose intent is told is asked for by its token, as after any crash, and submitted again by nobody.
    """
    with store.snapshot(database) as conn:
        jobs = store.unstarted(conn)
    app = db.engine(database.app, connections=1, name="qcos-restore")
    try:
        for job in jobs:
            targets: tuple[State, ...] = ("HELD",) if job["state"] == "QUEUED" else ("QUEUED", "HELD")
            change = transition.move(
                job,
                targets,
                "job:control:held",
                now,
                actor="plane",
                told={"cause": CAUSE},
                worker=None,
                lease_until=None,
            )
            await job_store.advance(app, job["tenant"], change)
    finally:
        await app.dispose()
    return [job["job_id"] for job in jobs]
