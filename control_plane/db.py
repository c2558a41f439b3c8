# SPDX-License-Identifier: Apache-2.0
"""The database: its roles, the engine and the transaction.

Enters: the password files that `provision` left in `QCOS_HOME/db`. Leaves: one URL a login (design decision 4). Every transaction names its tenant, or none; row-level security then
shows that tenant's rows, or no rows (I7). No SQL of any table is here: each package has its own `store.py`.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from control_plane.errors import DatabaseUnusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOGINS = ("migrator", "app", "sealer", "audit")
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_CONNECT_S = 10
_NAME_THE_TENANT = text("SELECT set_config('qcos.tenant', :tenant, true)")


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
    """libpq's form of a SQLAlchemy URL."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def engine(url: str, *, connections: int = 10, name: str = "qcos") -> AsyncEngine:
    """An engine with at most `connections` connections. psycopg prepares what it sees often, by itself."""
    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_CONNECT_S,
        connect_args={"application_name": name, "connect_timeout": _CONNECT_S},
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine, tenant: str | None) -> AsyncIterator[AsyncConnection]:
    """One transaction that sees `tenant`'s rows; with None it sees no tenant's. Durable once this has left."""
    conn = await _begin(engine, tenant or "")
    try:
        yield conn
    except BaseException:
        await conn.rollback()
        raise
    else:
        await conn.commit()
    finally:
        await conn.close()


async def _begin(engine: AsyncEngine, tenant: str) -> AsyncConnection:
    # A restarted server shows at the first statement of a kept connection, before anything was done on it; that
    # statement is safe to repeat. This replaces a ping before each transaction, which costs a round trip.
    for last in (False, True):
        conn = await engine.connect()
        try:
            await conn.execute(_NAME_THE_TENANT, {"tenant": tenant})
        except DBAPIError as error:
            await conn.close()
            if last or not error.connection_invalidated:
                raise
        except BaseException:
            await conn.close()
            raise
        else:
            return conn
    raise AssertionError  # the loop returns or raises
