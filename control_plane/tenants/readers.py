# SPDX-License-Identifier: Apache-2.0
"""Logins of the database with which a tool for reports reads one tenant's views, on the plane's machine (G7, I7, G11).

Such a login sees the views of schema `reporting` and, through them, the rows of its one tenant: a policy on each table
behind a view is bound to the login's role, and to no setting that it could change. It has the columns that the views
use, and not the schemas in which the tables are, so it can name none of them; it writes nothing. Made again it has a
new password, and whatever views came since. Its password is written to a new file of mode 0600 and nowhere else.
`confined` is false where the plane's database login isn't a superuser: PostgreSQL then lets a reader take advisory
locks and write large objects, as it lets every login.

Roles span a server and are in no backup: after a restore logins are made again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from control_plane import administrative
from control_plane.context import Plane
from control_plane.db import Database, conninfo
from control_plane.errors import DatabaseUnusable, Refused
from control_plane.postgres import DATABASE, cluster
from control_plane.settings import Settings
from control_plane.tenants import reader_store, store


async def create(plane: Plane, tenant: str, reason: str, file: Path) -> dict[str, Any]:
    """Make the tenant's login, or give it a new password; Refused `not_found` without the tenant."""
    await _known(plane, tenant)
    database = Database.of_home(plane.settings.home / "db")
    owning, password = database.roles.owner, secrets.token_urlsafe(32)
    _write(file, password)
    try:
        with _administered(plane.settings) as admin, _connected(database.migrator) as owner:
            role = reader_store.named(admin, owner, owning, tenant)
            reader_store.login(admin, role, password)
            confined = reader_store.confine(admin, database.roles, role)
            reader_store.open_views(owner, owning, role)
            host, name = admin.info.host, admin.info.dbname
    except BaseException:
        file.unlink()
        raise
    await _tell(plane, tenant, "tenant:reader:created", role, reason)
    return {
        "tenant": tenant,
        "login": role,
        "database": name,
        "host": host,
        "password_file": str(file),
        "confined": confined,
    }


async def drop(plane: Plane, tenant: str, reason: str) -> dict[str, Any]:
    """End the tenant's login at once; Refused `not_found` where there is none."""
    database = Database.of_home(plane.settings.home / "db")
    with _administered(plane.settings) as admin, _connected(database.migrator) as owner:
        role = reader_store.of_tenant(admin, owner, database.roles.owner, tenant)
        if role is None:
            raise Refused("not_found", f"tenant {tenant} has no reader")
        reader_store.close_views(owner, database.roles.owner, role)
        owner.commit()  # a role that a policy names can't be dropped
        reader_store.end(admin, role)
        reader_store.forget(owner, database.roles.owner, role)
    await _tell(plane, tenant, "tenant:reader:dropped", role, reason)
    return {"tenant": tenant, "login": role}


async def _known(plane: Plane, tenant: str) -> None:
    async with plane.transaction(tenant) as conn:
        if await store.standing(conn, tenant) is None:
            raise Refused("not_found", f"no tenant {tenant}")


async def _tell(plane: Plane, tenant: str, kind: administrative.Kind, role: str, reason: str) -> None:
    async with plane.transaction(tenant) as conn:
        entry = administrative.entry(None, kind, {"login": role}, reason, plane.now(), tenant=tenant)
        await administrative.append(conn, entry)


@contextmanager
def _administered(settings: Settings) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """The login that makes roles, of a plane that runs."""
    url = settings.database_url
    if url is None:
        url = cluster(settings.home / "db", settings.postgres_sockets).url(DATABASE)
    with _connected(url) as conn:
        yield conn


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    try:
        with psycopg.connect(conninfo(url), connect_timeout=10) as conn:
            yield conn
    except psycopg.Error as error:
        # The statement isn't shown: it may hold a password.
        reason = error.diag.message_primary or type(error).__name__
        raise DatabaseUnusable(f"the reader's login can't be made: {reason}") from error


def _write(file: Path, password: str) -> None:
    try:
        place = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Refused("unusable_input", f"{file}: {error.strerror}") from None
    with os.fdopen(place, "w", encoding="ascii") as out:
        out.write(password + "\n")
