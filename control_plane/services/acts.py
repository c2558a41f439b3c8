# SPDX-License-Identifier: Apache-2.0
"""Service accounts are made and removed, their keys made, rotated and revoked: each in one transaction with its entry.

A removed account stays removed, and its name with it. What is revoked counts from the commit on, in every process:
each request looks at the row. Nobody who came with a narrowed right makes a key that is wider than it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane import administrative
from control_plane.auth import credentials
from control_plane.auth import store as auth_store
from control_plane.auth.access import require
from control_plane.auth.credentials import Credential, Issued
from control_plane.auth.people import store as people
from control_plane.auth.principal import Assignment, Principal, Scope
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.services import store
from control_plane.services.account import (
    ISSUER,
    AccountAsked,
    Keying,
    Reasoned,
    Rotating,
    narrowed,
    networks_of,
    principal,
)
from control_plane.services.store import Account

__all__ = ["create", "create_key", "keys", "live", "remove", "revoke_key", "rotate_key"]

MOST_KEYS = 20
"""Keys of one account that stand at a time."""


async def create(plane: Plane, who: Principal, asked: AccountAsked, pseudonym_key: bytes) -> Account:
    """Make an account with its roles. Refused `conflict` where the name was given before."""
    if asked.roles:
        require(who, "user:manage", None)
    now, service = plane.now(), principal(who.tenant, asked.name, pseudonym_key)
    async with plane.transaction(who.tenant) as conn:
        if not await store.add(conn, who.tenant, asked.name, asked.description, by=who.pseudonym, at=now):
            raise Refused("conflict", f"a service account {asked.name} is there, or was: names are given once")
        await people.remember(conn, service)
        body = {"service": asked.name, "pseudonym": service.pseudonym, "description": asked.description}
        entries = [administrative.entry(who, "identity:service:created", body, asked.reason, now)]
        for number, role in enumerate(asked.roles):
            one = Assignment(role.role, role.project)
            await _known_project(conn, who.tenant, role.project, f"roles[{number}].project")
            await auth_store.assign(conn, who.tenant, ISSUER, asked.name, one)
            given = {"user": service.pseudonym, "service": asked.name, "role": role.role, "project": role.project}
            entries.append(administrative.entry(who, "identity:role:granted", given, asked.reason, now))
        await administrative.append(conn, *entries)
    return Account(asked.name, asked.description, now, who.pseudonym, None)


async def remove(plane: Plane, who: Principal, name: str, asked: Reasoned) -> Account:
    """Shut an account for good, with every key and token of it. Refused `not_found`, or `conflict` where it is shut."""
    now = plane.now()
    async with plane.transaction(who.tenant) as conn:
        found = await live(conn, who.tenant, name, lock=True)
        await store.remove(conn, who.tenant, name, now)
        ended = await credentials.revoke_of(conn, who.tenant, ISSUER, name, by=who.pseudonym, at=now)
        body = {"service": name, "credentials": ended}
        await administrative.append(
            conn, administrative.entry(who, "identity:service:removed", body, asked.reason, now)
        )
    return structs.replace(found, removed_at=now)


async def create_key(plane: Plane, who: Principal, name: str, asked: Keying, pseudonym_key: bytes) -> Issued:
    """A key of the account; its text is in the answer and nowhere else."""
    now = plane.now()
    scope, networks = narrowed(who, asked.actions, asked.projects), networks_of(asked.networks)
    async with plane.transaction(who.tenant) as conn:
        await live(conn, who.tenant, name, lock=True)
        await _room(conn, who.tenant, name, now)
        for number, project in enumerate(asked.projects or ()):
            await _known_project(conn, who.tenant, project, f"projects[{number}]")
        issued = await credentials.issue(
            conn,
            principal(who.tenant, name, pseudonym_key),
            "key",
            at=now,
            expires_at=now + dt.timedelta(seconds=asked.expires_s),
            scope=scope,
            networks=networks,
            about={"by": who.pseudonym, "note": asked.note},
        )
        body = _told(name, issued, scope, networks)
        await administrative.append(conn, administrative.entry(who, "identity:key:created", body, asked.reason, now))
    return issued


async def rotate_key(
    plane: Plane, who: Principal, name: str, key_id: str, asked: Rotating, pseudonym_key: bytes
) -> tuple[Issued, Credential]:
    """A key in another's place, with its scope and networks; the old one stands for the overlap. (new, old)."""
    now = plane.now()
    async with plane.transaction(who.tenant) as conn:
        await live(conn, who.tenant, name, lock=True)
        old = await _key(conn, who.tenant, name, key_id)
        if (why := old.over(now)) is not None:
            raise Refused("conflict", f"key {key_id} is {why}: make a new one")
        await _room(conn, who.tenant, name, now)
        scope = old.scope or Scope()
        narrowed(who, scope.actions, scope.projects)
        lasts = old.expires_at - old.created_at if asked.expires_s is None else dt.timedelta(seconds=asked.expires_s)
        issued = await credentials.issue(
            conn,
            principal(who.tenant, name, pseudonym_key),
            "key",
            at=now,
            expires_at=now + lasts,
            scope=old.scope,
            networks=old.networks,
            about={"by": who.pseudonym, "note": old.about.get("note", ""), "after": key_id},
        )
        ends = min(old.expires_at, now + dt.timedelta(seconds=asked.overlap_s))
        await credentials.shorten(conn, who.tenant, key_id, ends)
        body = {**_told(name, issued, old.scope, old.networks), "after": key_id, "old_expires_at": ends.isoformat()}
        await administrative.append(conn, administrative.entry(who, "identity:key:rotated", body, asked.reason, now))
    return issued, structs.replace(old, expires_at=ends)


async def revoke_key(plane: Plane, who: Principal, name: str, key_id: str, asked: Reasoned) -> Credential:
    """End a key now. Refused `not_found`, or `conflict` where it has ended."""
    now = plane.now()
    async with plane.transaction(who.tenant) as conn:
        found = await _key(conn, who.tenant, name, key_id)
        if not await credentials.revoke(conn, who.tenant, key_id, by=who.pseudonym, at=now):
            raise Refused("conflict", f"key {key_id} was revoked already")
        body = {"service": name, "key": key_id}
        await administrative.append(conn, administrative.entry(who, "identity:key:revoked", body, asked.reason, now))
    return structs.replace(found, revoked_at=now, revoked_by=who.pseudonym)


async def keys(conn: AsyncConnection, tenant: str, name: str) -> list[Credential]:
    """The account's keys, the newest first, ended ones too. Refused `not_found` where there is no such account."""
    if await store.account(conn, tenant, name) is None:
        raise _missing(name)
    return await credentials.held(conn, tenant, ISSUER, name, "key")


async def live(conn: AsyncConnection, tenant: str, name: str, *, lock: bool = False) -> Account:
    """The account, which isn't removed. Refused `not_found`, or `conflict`."""
    found = await store.account(conn, tenant, name, lock=lock)
    if found is None:
        raise _missing(name)
    if found.removed_at is not None:
        raise Refused("conflict", f"service account {name} was removed")
    return found


async def _key(conn: AsyncConnection, tenant: str, name: str, key_id: str) -> Credential:
    found = await credentials.find(conn, tenant, key_id)
    if found is None or (found.kind, found.issuer, found.subject) != ("key", ISSUER, name):
        raise Refused("not_found", f"service account {name} has no such key")
    return found


async def _room(conn: AsyncConnection, tenant: str, name: str, now: dt.datetime) -> None:
    standing = [one for one in await credentials.held(conn, tenant, ISSUER, name, "key") if one.over(now) is None]
    if len(standing) >= MOST_KEYS:
        raise Refused("conflict", f"service account {name} has {MOST_KEYS} keys already: revoke one")


async def _known_project(conn: AsyncConnection, tenant: str, project: str | None, field: str) -> None:
    if project is None or await auth_store.project(conn, tenant, project) is not None:
        return
    said = "no project of this tenant"
    raise Refused("request_invalid", f"{field}: {said}", errors=({"field": field, "message": said},))


def _told(name: str, issued: Issued, scope: Scope | None, networks: tuple[str, ...] | None) -> Mapping[str, Any]:
    """What an entry says of a key: never what proves it."""
    return {
        "service": name,
        "key": issued.id,
        "actions": None if scope is None else scope.actions,
        "projects": None if scope is None else scope.projects,
        "networks": networks,
        "expires_at": issued.expires_at.isoformat(),
    }


def _missing(name: str) -> Refused:
    return Refused("not_found", f"no service account {name}")
