# SPDX-License-Identifier: Apache-2.0
"""People of a tenant: known before they come, removed, restored; each in one transaction with its entry (G5, G13).

Who is removed is refused from their next request on, whatever their provider says and whatever secret they hold; their
assignments stay for when they are restored. Entries have pseudonyms alone.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane import administrative
from control_plane.accounts import issuers, last, store
from control_plane.auth.keys import pseudonym_key
from control_plane.auth.principal import Principal, named, pseudonym_of
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.strict import Reason

__all__ = [
    "Acting",
    "Adding",
    "Issuer",
    "Named",
    "Subject",
    "acting",
    "add",
    "adding",
    "named_by",
    "pseudonym",
    "remove",
    "restore",
]

# No control characters: they would reach logs, SQL and canonical JSON.
Issuer = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Subject = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Adding(Struct, frozen=True, forbid_unknown_fields=True):
    """A person who shall be known before they come: as their issuer names them."""

    issuer: Issuer
    subject: Subject
    reason: Reason


class Acting(Struct, frozen=True, forbid_unknown_fields=True):
    """Why something is done to somebody or something that the address names."""

    reason: Reason


class Named(Struct, frozen=True):
    """Somebody, by their pseudonym alone, or by issuer and subject."""

    user: str | None
    issuer: str | None
    subject: str | None


adding = msgspec.json.Decoder(Adding)
acting = msgspec.json.Decoder(Acting)


async def add(plane: Plane, who: Principal, asked: Adding) -> RowMapping:
    """Know of them; the row. Refused `conflict` where they are known, removed or not."""
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        row, new = await _known(plane, conn, who, asked.issuer, asked.subject)
        if not new:
            raise Refused("conflict", f"{row['pseudonym']} is known already, and {row['state']}")
        await _tell_added(plane, conn, who, row, asked.reason)
    return row


async def named_by(
    plane: Plane, conn: AsyncConnection, who: Principal, so: Named, reason: str | None
) -> tuple[str, str, str]:
    """(pseudonym, issuer, subject) of whom `so` names. With a reason they are added where they aren't known yet.

    Refused `not_found` for a pseudonym of nobody, `conflict` with a reason for somebody who is removed.
    """
    if so.user is not None and so.issuer is None and so.subject is None:
        row = await _person(conn, who.tenant, so.user)
    elif so.user is None and so.issuer is not None and so.subject is not None:
        if reason is None:
            return pseudonym(plane, who.tenant, so.issuer, so.subject), so.issuer, so.subject
        row, new = await _known(plane, conn, who, so.issuer, so.subject)
        if new:
            await _tell_added(plane, conn, who, row, reason)
    else:
        said = "either user, or issuer and subject"
        raise Refused("request_invalid", f"user: {said}", errors=({"field": "user", "message": said},))
    if reason is not None and row["state"] == "removed":
        raise Refused("conflict", f"{row['pseudonym']} is removed; restore them first")
    return row["pseudonym"], row["issuer"], row["subject"]


async def remove(plane: Plane, who: Principal, user: str, reason: str) -> RowMapping:
    """Shut somebody out from their next request on; their row. Refused `conflict`, `last_administrator`."""
    return await _put(plane, who, user, "removed", reason)


async def restore(plane: Plane, who: Principal, user: str, reason: str) -> RowMapping:
    """Let somebody in again, with the roles they had; the row. Refused `conflict` where they weren't out."""
    return await _put(plane, who, user, "active", reason)


async def _put(plane: Plane, who: Principal, user: str, state: str, reason: str) -> RowMapping:
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        row = await _person(conn, who.tenant, user)
        async with last.kept(conn, who):
            if not await store.put(conn, who.tenant, user, state):
                raise Refused("conflict", f"{user} is {state} already")
        kind: administrative.Kind = "identity:user:removed" if state == "removed" else "identity:user:restored"
        await administrative.append(conn, administrative.entry(who, kind, {"user": user}, reason, plane.now()))
        return await _person(conn, who.tenant, row["pseudonym"])


async def _person(conn: AsyncConnection, tenant: str, user: str) -> RowMapping:
    row = await store.person(conn, tenant, user)
    if row is None:
        raise Refused("not_found", f"nobody here is called {user}")
    return row


async def _known(
    plane: Plane, conn: AsyncConnection, who: Principal, issuer: str, subject: str
) -> tuple[RowMapping, bool]:
    """The person whom the issuer calls so, and whether they are new."""
    tenant = who.tenant
    row = await store.known(conn, tenant, issuer, subject)
    if row is not None:
        return row, False
    issuers.check(plane.settings, issuer, tenant)
    name, domain = named(subject, tenant=tenant, subject=subject)
    user = pseudonym(plane, tenant, issuer, subject)
    made = {"pseudonym": user, "name": name, "domain": domain}
    new = await store.add(conn, {"tenant": tenant, "issuer": issuer, "subject": subject, **made})
    return await _person(conn, tenant, user), new


def pseudonym(plane: Plane, tenant: str, issuer: str, subject: str) -> str:
    """What the ledger calls them, whether they were here or not."""
    return pseudonym_of(pseudonym_key(plane.settings.home), tenant=tenant, issuer=issuer, subject=subject)


async def _tell_added(plane: Plane, conn: AsyncConnection, who: Principal, row: RowMapping, reason: str) -> None:
    body = {"user": row["pseudonym"]}
    await administrative.append(conn, administrative.entry(who, "identity:user:added", body, reason, plane.now()))
