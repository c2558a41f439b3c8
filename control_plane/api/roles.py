# SPDX-License-Identifier: Apache-2.0
"""Roles that this plane gives, and what a provider's groups mean here (G13).

Who reads or manages people in one project only sees and gives what holds in that project.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct

from control_plane.accounts import people, roles, store
from control_plane.api import bookmark
from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Instant
from control_plane.auth.access import require, visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from ledger.canonical import timestamp

Project = Annotated[
    str | None,
    QueryParameter(name="project", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="In it alone."),
]


class RoleListed(roles.Held, frozen=True, kw_only=True):
    """A role that this plane gave somebody; without a project it holds in all."""

    granted_at: Instant


class GroupListed(Struct, frozen=True):
    """A role that a group of a provider gives; without a project it holds in all."""

    issuer: str
    group: str
    role: str
    project: str | None
    mapped_at: Instant


class Mapped(Struct, frozen=True):
    """What a group gives now, or no longer."""

    issuer: str
    group: str
    role: str
    project: str | None


@get(
    "/roles",
    opt={
        "action": "user:read",
        "query": ("cursor", "limit", "project"),
        "answers": Answers({200: tuple[RoleListed, ...]}, headers=bookmark.TOLD),
    },
    summary="List the roles that this plane gave",
)
async def given(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    project: Project = None,
    limit: bookmark.Limit = bookmark.PAGE,
    cursor: bookmark.Bookmark = None,
) -> Response[Any]:
    """A page by issuer and subject; those of tokens and groups are shown with each of the people."""
    after = bookmark.read(cursor, 4)
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.roles(
            conn, request.user.tenant, limit + 1, after=after, projects=_projects(request.user, project)
        )
    listed = [
        RoleListed(
            user=row["pseudonym"] or people.pseudonym(plane, request.user.tenant, row["issuer"], row["subject"]),
            issuer=row["issuer"],
            subject=row["subject"],
            role=row["role"],
            project=row["project"] or None,
            granted_at=timestamp(row["created_at"]),
        )
        for row in rows[:limit]
    ]
    return Response(listed, headers=bookmark.following(rows, limit, "issuer", "subject", "project", "role"))


@post(
    "/roles/grant",
    status_code=200,
    opt={
        "action": "user:manage",
        "where": "project",
        "absent": "not_found",
        "answers": Answers({200: roles.Held}, refusals=("not_found", "conflict"), body=roles.Giving),
    },
    summary="Give a role",
)
async def grant(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """It counts from their next request on; who isn't known yet is added, named by issuer and subject."""
    asked = await _giving(request)
    return Response(await roles.grant(plane, request.user, asked))


@post(
    "/roles/revoke",
    status_code=200,
    opt={
        "action": "user:manage",
        "where": "project",
        "absent": "not_found",
        "answers": Answers(
            {200: roles.Held}, refusals=("not_found", "conflict", "last_administrator"), body=roles.Giving
        ),
    },
    summary="Take a role",
)
async def revoke(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """It counts from their next request on; what a token or a group gives stays."""
    asked = await _giving(request)
    return Response(await roles.revoke(plane, request.user, asked))


@get(
    "/groups",
    opt={
        "action": "user:read",
        "query": ("cursor", "limit", "project"),
        "answers": Answers({200: tuple[GroupListed, ...]}, headers=bookmark.TOLD),
    },
    summary="List the roles that groups give",
)
async def groups(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    project: Project = None,
    limit: bookmark.Limit = bookmark.PAGE,
    cursor: bookmark.Bookmark = None,
) -> Response[Any]:
    """A page by issuer and group."""
    after = bookmark.read(cursor, 4)
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.mappings(
            conn, request.user.tenant, limit + 1, after=after, projects=_projects(request.user, project)
        )
    listed = [
        GroupListed(
            issuer=row["issuer"],
            group=row["name"],
            role=row["role"],
            project=row["project"] or None,
            mapped_at=timestamp(row["created_at"]),
        )
        for row in rows[:limit]
    ]
    return Response(listed, headers=bookmark.following(rows, limit, "issuer", "name", "project", "role"))


@post(
    "/groups/map",
    status_code=200,
    opt={
        "action": "user:manage",
        "where": "project",
        "absent": "not_found",
        "answers": Answers({200: Mapped}, refusals=("not_found", "conflict"), body=roles.Mapping),
    },
    summary="Let a group give a role",
)
async def map_group(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """To everybody whose token or directory names the group, from their next request on."""
    asked = await _mapping(request)
    await roles.map_group(plane, request.user, asked)
    return Response(_mapped(asked))


@post(
    "/groups/unmap",
    status_code=200,
    opt={
        "action": "user:manage",
        "where": "project",
        "absent": "not_found",
        "answers": Answers({200: Mapped}, refusals=("not_found", "last_administrator"), body=roles.Mapping),
    },
    summary="Let a group give a role no more",
)
async def unmap_group(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """It counts from everybody's next request on."""
    asked = await _mapping(request)
    await roles.unmap_group(plane, request.user, asked)
    return Response(_mapped(asked))


async def _giving(request: Request[Principal, Any, Any]) -> roles.Giving:
    asked = await asked_by(request, roles.giving)
    require(request.user, "user:manage", asked.project)
    return asked


async def _mapping(request: Request[Principal, Any, Any]) -> roles.Mapping:
    asked = await asked_by(request, roles.mapping)
    require(request.user, "user:manage", asked.project)
    return asked


def _projects(who: Principal, asked: str | None) -> list[str] | None:
    """The projects whose rows are shown: of the caller's the one that is asked for; None = all, and the tenant."""
    seen = visible(who, "user:read")
    if asked is None:
        return None if seen is None else sorted(seen)
    return [asked] if seen is None or asked in seen else []


def _mapped(asked: roles.Mapping) -> dict[str, Any]:
    return {name: msgspec.structs.asdict(asked)[name] for name in Mapped.__struct_fields__}


HANDLERS = (given, grant, revoke, groups, map_group, unmap_group)
