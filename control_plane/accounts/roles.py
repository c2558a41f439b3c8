# SPDX-License-Identifier: Apache-2.0
"""Roles that this plane gives: to a person, or to all whom a provider's group holds; each with its entry (G5, G13).

What is given and taken counts from the next request on. Who administers one project gives roles there alone, which the
API asks before it calls this.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane import administrative
from control_plane.accounts import issuers, last, people, store
from control_plane.accounts.people import Issuer, Named, Subject
from control_plane.auth import store as rights
from control_plane.auth.principal import Assignment, Principal, Role
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.strict import Reason

__all__ = [
    "Giving",
    "Held",
    "Mapping",
    "ProjectName",
    "giving",
    "grant",
    "map_group",
    "mapping",
    "revoke",
    "unmap_group",
]

ProjectName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
User = Annotated[str, Meta(pattern="^a-[0-9a-f]{32}$", description="A pseudonym, as `users` shows it.")]
Group = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Giving(Struct, frozen=True, forbid_unknown_fields=True):
    """A role of somebody, who is named by `user`, or by `issuer` and `subject`; without a project it holds in all."""

    role: Role
    reason: Reason
    project: ProjectName | None = None
    user: User | None = None
    issuer: Issuer | None = None
    subject: Subject | None = None


class Mapping(Struct, frozen=True, forbid_unknown_fields=True):
    """A role that a group gives, as the issuer names the group; without a project it holds in all."""

    issuer: Issuer
    group: Group
    role: Role
    reason: Reason
    project: ProjectName | None = None


class Held(Struct, frozen=True):
    """Who holds a role now, or no longer."""

    user: str
    issuer: str
    subject: str
    role: str
    project: str | None


giving = msgspec.json.Decoder(Giving)
mapping = msgspec.json.Decoder(Mapping)


async def grant(plane: Plane, who: Principal, asked: Giving) -> Held:
    """Give the role. Refused `conflict` where they hold it by assignment already, or are removed."""
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        await _want_project(conn, who.tenant, asked.project)
        so = Named(asked.user, asked.issuer, asked.subject)
        held = Held(*await people.named_by(plane, conn, who, so, asked.reason), asked.role, asked.project)
        one = Assignment(asked.role, asked.project)
        if one in await rights.roles_of(conn, who.tenant, held.issuer, held.subject):
            raise Refused("conflict", f"{held.user} holds {_said(asked.role, asked.project)} already")
        await rights.assign(conn, who.tenant, held.issuer, held.subject, one)
        await _tell(plane, conn, who, "identity:role:granted", held, asked.reason)
    return held


async def revoke(plane: Plane, who: Principal, asked: Giving) -> Held:
    """Take the role. Refused `not_found` where it wasn't given, `last_administrator` where nobody would be left."""
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        so = Named(asked.user, asked.issuer, asked.subject)
        held = Held(*await people.named_by(plane, conn, who, so, None), asked.role, asked.project)
        one = Assignment(asked.role, asked.project)
        async with last.kept(conn, who):
            if not await rights.revoke(conn, who.tenant, held.issuer, held.subject, one):
                said = f"this plane didn't give {held.user} {_said(asked.role, asked.project)}"
                raise Refused("not_found", f"{said}; what a provider says or a group gives ends there")
        await _tell(plane, conn, who, "identity:role:revoked", held, asked.reason)
    return held


async def map_group(plane: Plane, who: Principal, asked: Mapping) -> None:
    """Let the group give the role. Refused `conflict` where it does."""
    issuers.check(plane.settings, asked.issuer, who.tenant)
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        await _want_project(conn, who.tenant, asked.project)
        if not await store.map_group(conn, _row(who.tenant, asked)):
            raise Refused("conflict", f"the group gives {_said(asked.role, asked.project)} already")
        await _tell_group(plane, conn, who, "identity:group:mapped", asked)


async def unmap_group(plane: Plane, who: Principal, asked: Mapping) -> None:
    """Let it give the role no more. Refused `not_found` where it didn't, `last_administrator`."""
    async with plane.transaction(who.tenant) as conn:
        await store.alone(conn, who.tenant)
        async with last.kept(conn, who):
            if not await store.unmap_group(conn, _row(who.tenant, asked)):
                raise Refused("not_found", f"the group doesn't give {_said(asked.role, asked.project)}")
        await _tell_group(plane, conn, who, "identity:group:unmapped", asked)


async def _want_project(conn: AsyncConnection, tenant: str, project: str | None) -> None:
    if project is not None and await store.project(conn, tenant, project) is None:
        raise Refused("not_found", f"no project {project}")


def _said(role: str, project: str | None) -> str:
    return f"{role} in {f'project {project}' if project else 'the tenant'}"


def _row(tenant: str, asked: Mapping) -> dict[str, str]:
    return {
        "tenant": tenant,
        "issuer": asked.issuer,
        "name": asked.group,
        "project": asked.project or "",
        "role": asked.role,
    }


async def _tell(
    plane: Plane, conn: AsyncConnection, who: Principal, kind: administrative.Kind, held: Held, reason: str
) -> None:
    body = {"user": held.user, "role": held.role, "project": held.project}
    await administrative.append(conn, administrative.entry(who, kind, body, reason, plane.now()))


async def _tell_group(
    plane: Plane, conn: AsyncConnection, who: Principal, kind: administrative.Kind, asked: Mapping
) -> None:
    body = {"issuer": asked.issuer, "group": asked.group, "role": asked.role, "project": asked.project}
    await administrative.append(conn, administrative.entry(who, kind, body, asked.reason, plane.now()))
