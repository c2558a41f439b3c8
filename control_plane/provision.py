# SPDX-License-Identifier: Apache-2.0
"""Makes a database ready for the plane: the database itself where it may, roles, passwords, migrations.

Enters: `QCOS_DATABASE_URL`, a login that owns the database and may create roles; it is used here and nowhere else.
Leaves: a `Database`. Running it again changes nothing. Passwords are written before the roles that wear them, so a
start that was killed in between is mended by the next. Not here: any table (migrations), any query (`store.py` files).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from msgspec import Struct
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from control_plane.db import LOGINS, Database, Roles, conninfo
from control_plane.errors import DatabaseUnusable, MigrationFailed, Refused, SchemaNewer, SchemaUnreleased
from control_plane.postgres import write_secret

_OLDEST = 150000
_CONNECT_S = 10
_LOCK = 0x71636F73  # "qcos": two `up` at once make the roles one after the other
_SCRIPTS = Path(__file__).parent / "migrations"


def provision(admin_url: str, folder: Path) -> Database:
    """Create the roles and their passwords in `folder` (0700); raises DatabaseUnusable naming what is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _connect(admin_url) as conn, conn.transaction():
            _refuse_what_will_not_do(conn)
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            _create_roles(conn, Roles.of(conn.info.dbname), folder)
    except psycopg.Error as error:
        # The statement isn't shown: it may hold a password.
        reason = error.diag.message_primary or type(error).__name__
        raise DatabaseUnusable(f"QCOS_DATABASE_URL: the plane's roles can't be made: {reason}") from error
    place = make_url(admin_url).set(drivername="postgresql+psycopg", username=None, password=None)
    write_secret(folder / "place", place.render_as_string())
    return Database.of_home(folder)


class Migrated(Struct, frozen=True):
    """The revisions before and after; None is an empty database."""

    before: str | None
    after: str | None


def migrate(database: Database, revision: str = "head", *, versions: Path | None = None) -> Migrated:
    """Bring the schema up, or down, to a revision, as `migrator` acting for `owner`. `base` empties the database.

    All of it or nothing. A revision may be shortened while it stays one. Raises SchemaNewer, SchemaUnreleased or
    MigrationFailed, and on the way down MigrationRefused where something would be lost that can't be rebuilt.
    """
    config = _config(versions)
    config.attributes["roles"] = database.roles
    config.attributes["url"] = database.migrator
    known = _known(config)
    before = revision_of(database)
    if before is not None:
        _refuse_newer(before, known)
    if before == "0004_jobs":
        _refuse_unreleased(database)
    target = _target(revision, before, known)
    order = (None, *known)
    downwards = config.attributes["downwards"] = order.index(target) < order.index(before)
    try:
        if downwards:
            command.downgrade(config, target or "base")
        elif target is not None:
            command.upgrade(config, target)
    except (CommandError, DBAPIError) as error:
        # The server's words without the statement.
        said = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        shown = f"the schema stays at {before or 'nothing'} and can't be brought to {target or 'nothing'}: {said}"
        raise MigrationFailed(shown) from error
    return Migrated(before, target)


def revision_of(database: Database) -> str | None:
    """The revision that the database is at; None for an empty one."""
    try:
        with psycopg.connect(conninfo(database.migrator), connect_timeout=_CONNECT_S) as conn:
            conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(database.roles.owner)))
            if not _exists(conn, "migration.alembic_version"):
                return None
            row = conn.execute("SELECT version_num FROM migration.alembic_version").fetchone()
    except psycopg.Error as error:
        raise DatabaseUnusable(f"the schema's revision can't be read: {' '.join(str(error).split())}") from error
    return str(row[0]) if row else None


def holds_plane(admin_url: str) -> bool:
    """Whether the database that the URL names holds a plane's ledger."""
    with _connect(admin_url) as conn:
        row = conn.execute("SELECT to_regnamespace('ledger') IS NOT NULL").fetchone()
    return row is not None and bool(row[0])


def sessions(database: Database) -> int:
    """How many connections planes, of whatever home or machine, have to this database."""
    with psycopg.connect(conninfo(database.audit), connect_timeout=_CONNECT_S) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename::text = ANY (%s)",
            ([database.roles.app, database.roles.sealer],),
        ).fetchone()
    return int(row[0]) if row else 0


def refuse_newer(revision: str) -> None:
    """Raise SchemaNewer where this program doesn't know the revision of something that was kept."""
    _refuse_newer(revision, _known(_config(None)))


def _config(versions: Path | None) -> Config:
    config = Config()
    if versions is not None:
        config.set_main_option("path_separator", "os")
        config.set_main_option("version_locations", str(versions))
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


def _known(config: Config) -> list[str]:
    """Every revision of this program, oldest first."""
    scripts = ScriptDirectory.from_config(config)
    if len(heads := scripts.get_heads()) != 1:
        raise MigrationFailed(
            f"this program's revisions are no single line: {', '.join(sorted(heads))} are all the last"
        )
    return [script.revision for script in scripts.walk_revisions()][::-1]


def _refuse_newer(found: str, known: Sequence[str]) -> None:
    if found not in known:
        raise SchemaNewer(
            f"the database is at {found}, this program knows {known[-1]} at most: start the later program, or bring the"
            f" schema down with it first (qcos migrate --to {known[-1]})"
        )


def _refuse_unreleased(database: Database) -> None:
    """0004 grew until it was released; what it grew by last tells its forms apart."""
    with psycopg.connect(conninfo(database.migrator), connect_timeout=_CONNECT_S) as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(database.roles.owner)))
        if not _exists(conn, "jobs.usage"):
            raise SchemaUnreleased("the database was made by an unreleased form of 0004_jobs; make a new home")


def _exists(conn: psycopg.Connection[tuple[object, ...]], table: str) -> bool:
    row = conn.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return row is not None and bool(row[0])


def _target(revision: str, before: str | None, known: Sequence[str]) -> str | None:
    """The revision that is meant; None for `base`."""
    if revision == "base":
        return None
    if revision == "head":
        return known[-1]
    if revision == "-1":
        place = known.index(before) if before is not None else 0
        return known[place - 1] if place else None
    meant = [name for name in known if name == revision] or [name for name in known if name.startswith(revision)]
    if len(meant) != 1:
        raise Refused("usage", f"no one revision {revision!r}; there are base, {', '.join(known)}")
    return meant[0]


def _connect(admin_url: str) -> psycopg.Connection[tuple[object, ...]]:
    try:
        return psycopg.connect(conninfo(admin_url), connect_timeout=_CONNECT_S)
    except psycopg.Error as error:
        shown = make_url(admin_url).render_as_string(hide_password=True)
        raise DatabaseUnusable(f"QCOS_DATABASE_URL = {shown}: {' '.join(str(error).split())}") from error


def _refuse_what_will_not_do(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    if conn.info.server_version < _OLDEST:
        raise DatabaseUnusable(f"QCOS_DATABASE_URL: PostgreSQL {conn.info.server_version // 10000}; wanted 15 or newer")
    row = conn.execute(
        "SELECT r.rolsuper OR r.rolcreaterole, r.rolsuper OR pg_has_role(d.datdba, 'USAGE')"
        " FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()"
    ).fetchone()
    if row is None or not row[0]:
        raise DatabaseUnusable("QCOS_DATABASE_URL: its login may not create roles; ALTER ROLE … CREATEROLE")
    if not row[1]:
        raise DatabaseUnusable("QCOS_DATABASE_URL: its login doesn't own the database; ALTER DATABASE … OWNER TO …")


def _create_roles(conn: psycopg.Connection[tuple[object, ...]], roles: Roles, folder: Path) -> None:
    owner, database = sql.Identifier(roles.owner), sql.Identifier(conn.info.dbname)
    existing = {row[0] for row in conn.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'qcos\\_%'")}
    if roles.owner not in existing:
        conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(owner))
    for role in LOGINS:
        name = getattr(roles, role)
        password = _password(conn, folder / f"{role}.password", in_use=name in existing)
        verb = "ALTER" if name in existing else "CREATE"
        statement = sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}")
        conn.execute(statement.format(sql.Identifier(name), sql.Literal(password)))
    logins = sql.SQL(", ").join(sql.Identifier(getattr(roles, role)) for role in LOGINS)
    conn.execute(sql.SQL("GRANT {} TO {}").format(owner, sql.Identifier(roles.migrator)))
    conn.execute(sql.SQL("GRANT CONNECT, CREATE ON DATABASE {} TO {}").format(database, owner))
    conn.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, logins))
    conn.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))


def _password(conn: psycopg.Connection[tuple[object, ...]], path: Path, *, in_use: bool) -> str:
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    row = conn.execute("SELECT to_regnamespace('ledger') IS NOT NULL").fetchone()
    if in_use and row is not None and row[0]:
        # Setting a new password would lock out the plane that these roles belong to, while it runs.
        raise DatabaseUnusable(
            f"the database already belongs to a plane, and {path} isn't there; bring that home's db folder"
        )
    password = secrets.token_urlsafe(24)
    write_secret(path, password)
    return password
