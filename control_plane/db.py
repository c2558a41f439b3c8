# SPDX-License-Identifier: Apache-2.0
"""The database: its roles, the engine and the transaction.

Enters: the password files that `provision` left in `QCOS_HOME/db`. Leaves: one URL a login (design decision 4).
Every transaction names its tenant, or none; row-level security then shows that tenant's rows, or no rows (I7). No SQL
of any table is here: each package has its own `store.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec
import psycopg
from msgspec import Struct
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader
from sqlalchemy import event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from control_plane.errors import DatabaseUnusable
from control_plane.patience import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

LOGINS = ("migrator", "app", "sealer", "audit")
# What a database that is away, or refuses, raises: SQLAlchemy's of statements, the driver's own of BEGIN and COMMIT.
FAULTS = (SQLAlchemyError, psycopg.Error, OSError)
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_CONNECT_S = 10
_LIMIT = "qcos_limit_s"  # an execution option of an engine: how long one transaction may last
T = TypeVar("T")
Query: TypeAlias = tuple[str, Mapping[str, object]]
"""A statement with `%(name)s` in it, and the values by name."""
_TENANT = re.compile(r"[A-Za-z0-9_.-]{0,128}")


class Roles(Struct, frozen=True):
    """The names of the five PostgreSQL roles of one database (design decision 4)."""

    owner: str
    migrator: str
    app: str
    sealer: str
    audit: str

    @classmethod
    def of(cls, database: str) -> Roles:
        """The roles of the database of this name: PostgreSQL's roles span a server, so each name ends in it."""
        plain = _PLAIN_NAME.fullmatch(database)
        suffix = database if plain else hashlib.sha256(database.encode()).hexdigest()[:12]
        return cls(*(f"qcos_{role}_{suffix}" for role in ("owner", *LOGINS)))


class Database(Struct, frozen=True):
    """The plane's way into its database: role names and one SQLAlchemy URL a login. The URLs hold passwords."""

    roles: Roles
    migrator: str
    app: str
    sealer: str
    audit: str

    @classmethod
    def of_home(cls, folder: Path) -> Database:
        """The logins that `provision` left in `folder`; raises DatabaseUnusable before the first `qcos up`."""
        try:
            place = make_url((folder / "place").read_text(encoding="ascii").strip())
            passwords = {role: (folder / f"{role}.password").read_text("ascii").strip() for role in LOGINS}
        except OSError as error:
            raise DatabaseUnusable(f"{error.filename}: {error.strerror}; qcos up makes it") from error
        roles = Roles.of(place.database or "")
        urls = {
            role: place.set(username=getattr(roles, role), password=password).render_as_string(hide_password=False)
            for role, password in passwords.items()
        }
        return cls(roles=roles, **urls)


def conninfo(url: str) -> str:
    """Libpq's form of a SQLAlchemy URL."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def engine(url: str, *, connections: int = 10, name: str = "qcos", limit_s: float | None = None) -> AsyncEngine:
    """An engine with at most `connections` connections. psycopg prepares what it sees often, by itself.

    With `limit_s` a transaction that lasts longer is cut off: its server is taken to be away (`patience`).

    Transactions begin and end in `transaction` and `snapshot` alone: the driver itself begins none.
    """
    made = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_CONNECT_S,
        hide_parameters=True,  # what a statement carries stands in no error and so in no log (I10)
        connect_args={"application_name": name, "connect_timeout": _CONNECT_S},
        json_deserializer=msgspec.json.decode,
        execution_options={_LIMIT: limit_s},
    )
    event.listen(made.sync_engine, "connect", _ids_are_text)
    return made


def _ids_are_text(connection: Any, _: object) -> None:
    """An id is text wherever the plane handles it, whichever way its row was read."""
    connection.driver_connection.adapters.register_loader("uuid", TextLoader)


@asynccontextmanager
async def transaction(
    engine: AsyncEngine, tenant: str | None, *, limit_s: float | None = None
) -> AsyncIterator[AsyncConnection]:
    """One transaction that sees `tenant`'s rows; with None it sees no tenant's. Durable once this has left.

    `limit_s` replaces the engine's.
    """
    begin = f"BEGIN; SELECT set_config('qcos.tenant', '{_plain(tenant or '')}', true)"
    async with _running(engine, begin, limit_s) as conn:
        yield conn


async def call(engine: AsyncEngine, statement: str, *values: object) -> Any:
    """Call a function of the database that is a transaction of its own; its one value. Durable once this has returned.

    The function names its tenant itself, and answers a repeated call as it did the first: a connection that broke is
    replaced and the call sent again.
    """
    return await _repeated(engine, lambda driver: _value(driver, statement, values))


async def read(engine: AsyncEngine, tenant: str | None, *queries: Query) -> list[list[dict[str, Any]]]:
    """The rows of each query, in one transaction that sees `tenant` and writes nothing, in one round trip."""
    named = _plain(tenant or "")
    return await _repeated(engine, lambda driver: _rows(driver, named, queries))


async def _value(driver: psycopg.AsyncConnection[Any], statement: str, values: Sequence[object]) -> Any:
    row = await (await driver.execute(statement, values, binary=True)).fetchone()
    return row[0] if row else None


_READING = "SELECT set_config('transaction_read_only', 'on', true), set_config('qcos.tenant', %s, true)"


async def _rows(
    driver: psycopg.AsyncConnection[Any], tenant: str, queries: Sequence[Query]
) -> list[list[dict[str, Any]]]:
    cursors = [driver.cursor(row_factory=dict_row) for _ in queries]
    try:
        # What is sent before a Sync is one transaction, which needs no BEGIN and no COMMIT: a fifth of a read's time.
        async with driver.pipeline():
            await driver.execute(_READING, (tenant,))
            for cursor, (statement, values) in zip(cursors, queries, strict=True):
                await cursor.execute(statement, values)
        return [await cursor.fetchall() for cursor in cursors]
    except psycopg.Error:
        with contextlib.suppress(psycopg.Error):
            await _send(driver, "ROLLBACK")
        raise


async def _repeated(engine: AsyncEngine, what: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]]) -> T:
    """Do it on a kept connection; where that broke, again on the next, the last one new (as in `_begin`)."""
    patience = _patience(engine)
    for tries_left in range(_kept(engine), -1, -1):
        conn = await _connected(engine, patience)
        try:
            with patience.within(_driver(conn)):
                return await what(_driver(conn))
        except psycopg.OperationalError:
            if not _driver(conn).closed:
                raise  # an answer of the server: a statement's time limit, a full disk
            await conn.invalidate()
            if not tries_left or patience.over:
                raise
        finally:
            await conn.close()
    raise AssertionError  # the loop returns or raises


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Read everything as of one moment, and write nothing; for the audit role."""
    async with _running(engine, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as conn:
        yield conn


@asynccontextmanager
async def snapshot_of(engine: AsyncEngine, tenant: str, *, limit_s: float) -> AsyncIterator[AsyncConnection]:
    """Read all that one tenant has as of one moment, and write nothing, for `limit_s` at most."""
    begin = (
        f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT set_config('qcos.tenant', '{_plain(tenant)}', true)"
    )
    async with _running(engine, begin, limit_s) as conn:
        yield conn


@asynccontextmanager
async def _running(engine: AsyncEngine, begin: str, limit_s: float | None = None) -> AsyncIterator[AsyncConnection]:
    patience = _patience(engine, limit_s)
    conn, driver = await _begin(engine, begin, patience)
    try:
        with patience.within(driver):
            yield conn
            await _send(driver, "COMMIT")
    except BaseException:
        # What the server has already ended, or a connection that is gone, can't be rolled back again.
        with contextlib.suppress(DBAPIError, psycopg.Error):
            await _send(driver, "ROLLBACK")
        raise
    finally:
        await conn.close()


async def _begin(
    engine: AsyncEngine, begin: str, patience: Patience
) -> tuple[AsyncConnection, psycopg.AsyncConnection[Any]]:
    # A restarted server shows at the first statement of a kept connection, before anything was done on it; that
    # statement is safe to repeat. Every kept connection may be dead, and each try discards one; a server that is away
    # fails in `connect`. This replaces a ping before each transaction, which costs a round trip.
    for tries_left in range(_kept(engine), -1, -1):
        conn = await _connected(engine, patience)
        driver = _driver(conn)
        try:
            with patience.within(driver):
                await _send(driver, begin)
        except psycopg.OperationalError:
            await conn.invalidate()
            await conn.close()
            if not tries_left or patience.over:
                raise
        except BaseException:
            await conn.close()
            raise
        else:
            return conn, driver
    raise AssertionError  # the loop returns or raises


async def _connected(engine: AsyncEngine, patience: Patience) -> AsyncConnection:
    """A connection of the pool; a server that takes one and then says nothing is away as well."""
    try:
        async with asyncio.timeout(patience.left_s):
            return await engine.connect()
    except TimeoutError as error:
        raise psycopg.OperationalError("no connection to the database in time") from error


def _patience(engine: AsyncEngine, limit_s: float | None = None) -> Patience:
    own: float | None = engine.get_execution_options().get(_LIMIT)
    return Patience(own if limit_s is None else limit_s)


def _kept(engine: AsyncEngine) -> int:
    return engine.pool.size() if isinstance(engine.pool, QueuePool) else 1


async def _send(driver: psycopg.AsyncConnection[Any], command: str) -> None:
    """A command without parameters in one round trip, several statements if need be (the simple query protocol)."""
    await driver.execute(command, prepare=False)


def _driver(conn: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    held = conn.sync_connection
    found: psycopg.AsyncConnection[Any] | None = held.connection.driver_connection if held is not None else None
    if found is None:
        raise DatabaseUnusable("the connection is closed")
    return found


def _plain(tenant: str) -> str:
    """A tenant's name as it may stand in a command's text; there is no other spelling of one."""
    if not _TENANT.fullmatch(tenant):
        raise DatabaseUnusable("a tenant's name is letters, digits, underscore, hyphen and dot")
    return tenant
