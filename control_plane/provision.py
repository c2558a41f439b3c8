# SPDX-License-Identifier: Apache-2.0
"""Makes a database ready for the plane: the database itself where it may, roles, passwords, migrations.

Enters: `QCOS_DATABASE_URL`, a login that owns the database and may create roles; it is used here and nowhere else.
Leaves: a `Database`. Running it again changes nothing. Passwords are written before the roles that wear them, so a
start that was killed in between is mended by the next. Not here: any table (migrations), any query (`store.py` files).
"""

from __future__ import annotations

import secrets
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from control_plane.db import LOGINS, Database, Roles, conninfo
from control_plane.errors import DatabaseUnusable
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


def migrate(database: Database, revision: str = "head", *, versions: Path | None = None) -> None:
    """Bring the schema up, or down, to a revision, as `migrator` acting for `owner`. `base` empties the database."""
    config = Config()
    if versions is not None:
        config.set_main_option("path_separator", "os")
        config.set_main_option("version_locations", str(versions))
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["roles"] = database.roles
    config.attributes["url"] = database.migrator
    try:
        if revision == "base" or revision.startswith("-"):
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
    except (CommandError, DBAPIError) as error:
        # The server's words without the statement; Alembic's where the schema is newer than this program.
        said = error.orig if isinstance(error, DBAPIError) else error
        raise DatabaseUnusable(f"the schema can't be brought to {revision}: {' '.join(str(said).split())}") from error


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
