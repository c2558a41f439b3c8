# SPDX-License-Identifier: Apache-2.0
"""`qcos backup`: everything that a plane is, as of one moment, in one file, while jobs flow.

Kept: every table's rows out of one snapshot, the head of the log as that snapshot has it, the keys, the settings. Not
kept: passwords of database roles and the login token (made anew), rate buckets, logs, sockets.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from control_plane import offline
from control_plane.backup import archive, store
from control_plane.backup.archive import File, Log, Manifest, Table, Writer
from control_plane.db import Database
from control_plane.environment import qcos_version
from control_plane.errors import DatabaseUnusable, Refused
from control_plane.home import is_held
from control_plane.provision import revision_of
from control_plane.settings import Settings, to_json
from control_plane.upkeep import held
from ledger import checkpoint
from ledger.canonical import timestamp


def backup(settings: Settings, target: Path, *, with_keys: bool, now: datetime) -> dict[str, Any]:
    """Write a backup to `target`, a new file or an existing folder; what it holds, as the command shows it."""
    path = target / f"qcos-{settings.plane}-{now:%Y%m%dT%H%M%SZ}.zip" if target.is_dir() else target
    if path.exists():
        raise Refused("usage", f"{path} is there already; a backup never replaces one")
    with _reached(settings) as database:
        try:
            with archive.writing(path) as into:
                manifest = _write(settings, database, into, with_keys=with_keys, now=now)
        except OSError as error:
            raise Refused("usage", f"{path} can't be written: {error.strerror}") from error
        except psycopg.Error as error:
            raise DatabaseUnusable(f"the backup was given up: {' '.join(str(error).split())}") from error
    return told(manifest) | {"file": str(path), "size": path.stat().st_size, "sha256": _sha256(path)}


def told(manifest: Manifest) -> dict[str, Any]:
    """What a manifest says, in short; no content."""
    log = manifest.log
    return {
        "created_at": manifest.created_at,
        "plane": manifest.plane,
        "profile": manifest.profile,
        "schema_version": manifest.schema_version,
        "keys": manifest.keys,
        "log": None if log is None else {"origin": log.origin, "size": log.size, "root": log.root},
        "waiting": manifest.waiting,
        "rows": {table.name: table.rows for table in manifest.tables},
    }


@contextmanager
def _reached(settings: Settings) -> Iterator[Database]:
    """The plane's database, running or not."""
    database = Database.of_home(settings.home / "db")
    own = settings.database_url is None and (settings.home / "db" / "data").exists()
    if is_held(settings.home) or not own:
        yield database
    else:
        with held(settings), offline.administered(settings):
            yield database


def _write(settings: Settings, database: Database, into: Writer, *, with_keys: bool, now: datetime) -> Manifest:
    revision = revision_of(database)
    if revision is None:
        raise DatabaseUnusable("the database is empty; qcos up makes a plane in it")
    with store.snapshot(database) as conn:
        tables = [_table(conn, columns, into) for columns in store.tables(conn, database.roles.owner)]
        note, waiting = store.newest_note(conn), store.waiting(conn)
        server = conn.info.parameter_status("server_version") or ""
    if revision_of(database) != revision:
        raise DatabaseUnusable("the schema was migrated while the backup was made; make it again")
    manifest = Manifest(
        created_at=timestamp(now),
        qcos=qcos_version(),
        profile=settings.profile,
        plane=settings.plane,
        schema_version=revision,
        postgresql=server,
        log=None if note is None else _log(note),
        waiting=waiting,
        keys=with_keys,
        settings=msgspec.json.decode(to_json(settings)),
        tables=tuple(tables),
        files=tuple(_files(settings.home, into)) if with_keys else (),
    )
    into.end(manifest)
    return manifest


def _table(conn: store.Rows, columns: store.Columns, into: Writer) -> Table:
    rows = 0

    def write(put: Any) -> None:
        nonlocal rows
        rows = store.copy_out(conn, columns, put)

    content = into.member(f"tables/{columns.name}", write)
    return Table(columns.name, columns.columns, rows, content)


def _files(home: Path, into: Writer) -> Iterator[File]:
    """The keys, and the settings' file, which may hold the database's password."""
    paths = [path for path in sorted((home / "keys").rglob("*")) if path.is_file()]
    paths += [path for path in (home / "dev-login", home / "qcos.toml") if path.is_file()]
    for path in paths:
        name, data = path.relative_to(home).as_posix(), path.read_bytes()
        content = into.member(f"home/{name}", lambda put, data=data: put(data))  # type: ignore[misc]
        yield File(name, stat.S_IMODE(path.stat().st_mode), content)


def _log(note: bytes) -> Log:
    found = checkpoint.parse(note)
    return Log(found.origin, found.size, found.root.hex(), note.decode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
