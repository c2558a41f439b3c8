# SPDX-License-Identifier: Apache-2.0
"""People of the tenant: who was here or is awaited, what they hold, who is shut out (G13)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct
from sqlalchemy import RowMapping

from control_plane.accounts import people, store
from control_plane.api import bookmark
from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Instant
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from ledger.canonical import timestamp

MOST = 1000
Find = Annotated[
    str | None,
    QueryParameter(
        name="find",
        min_length=1,
        max_length=400,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",
        description="A subject, a name as evidence has it, or a pseudonym.",
    ),
]


class UserListed(Struct, frozen=True):
    """Somebody of the tenant: `user` is their pseudonym, which the ledger names; seen_at is null until they come."""

    user: str
    actor: str
    issuer: str
    subject: str
    kind: Literal["user", "service"]
    state: Literal["active", "removed"]
    added_at: Instant
    seen_at: Instant | None


class RoleOf(Struct, frozen=True):
    """A role of somebody and what gives it: this plane, a group, or their provider's own words."""

    role: str
    project: str | None
    source: Literal["assigned", "group", "provider"]
    group: str | None = None


class UserShown(UserListed, frozen=True, kw_only=True):
    """What is known of them, as their provider said it last, and what they hold."""

    team: str | None
    department: str | None
    groups: tuple[str, ...]
    roles: tuple[RoleOf, ...]


@get(
    "/users",
    opt={
        "action": "user:read",
        "where": "tenant",
        "query": ("cursor", "find", "limit", "state"),
        "answers": Answers({200: tuple[UserListed, ...]}, headers=bookmark.TOLD),
    },
    summary="List the tenant's people, by name",
)
async def users(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    find: Find = None,
    wanted: Annotated[
        Literal["active", "removed", "all"], QueryParameter(name="state", description="Whether they are shut out.")
    ] = "all",
    limit: bookmark.Limit = bookmark.PAGE,
    cursor: bookmark.Bookmark = None,
) -> Response[Any]:
    """A page of those who were here, or were added; the header's cursor leads to the next."""
    require(request.user, "user:read", None)
    after = bookmark.read(cursor, 2)
    place = None if after is None else (after[0], after[1])
    async with plane.transaction(request.user.tenant) as conn:
        state = None if wanted == "all" else wanted
        rows = await store.people(conn, request.user.tenant, limit + 1, after=place, state=state, find=find)
    listed = [_listed(row) for row in rows[:limit]]
    return Response(listed, headers=bookmark.following(rows, limit, "name", "pseudonym"))


@get(
    "/users/{user:str}",
    opt={
        "action": "user:read",
        "where": "tenant",
        "owner": "tenant",
        "answers": Answers({200: UserShown}, refusals=("not_found",)),
    },
    summary="Show one of the tenant's people",
)
async def user(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], user: FromPath[str]
) -> Response[Any]:
    """Who they are, and each role they hold with what gives it."""
    require(request.user, "user:read", None)
    return Response(await _shown(plane, request.user, user))


@post(
    "/users",
    status_code=201,
    opt={
        "action": "user:manage",
        "where": "tenant",
        "answers": Answers({201: UserShown}, refusals=("conflict",), body=people.Adding),
    },
    summary="Add somebody before they come",
)
async def add(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """They hold what is given to them from their first request on; adding gives nothing."""
    require(request.user, "user:manage", None)
    asked = await asked_by(request, people.adding)
    row = await people.add(plane, request.user, asked)
    return Response(await _shown(plane, request.user, row["pseudonym"]), status_code=201)


@post(
    "/users/{user:str}/remove",
    status_code=200,
    opt={
        "action": "user:manage",
        "where": "tenant",
        "owner": "tenant",
        "answers": Answers(
            {200: UserShown}, refusals=("not_found", "conflict", "last_administrator"), body=people.Acting
        ),
    },
    summary="Shut somebody out",
)
async def remove(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], user: FromPath[str]
) -> Response[Any]:
    """From their next request on, whatever their provider says and whatever secret they hold."""
    require(request.user, "user:manage", None)
    asked = await asked_by(request, people.acting)
    await people.remove(plane, request.user, user, asked.reason)
    return Response(await _shown(plane, request.user, user))


@post(
    "/users/{user:str}/restore",
    status_code=200,
    opt={
        "action": "user:manage",
        "where": "tenant",
        "owner": "tenant",
        "answers": Answers({200: UserShown}, refusals=("not_found", "conflict"), body=people.Acting),
    },
    summary="Let somebody in again",
)
async def restore(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], user: FromPath[str]
) -> Response[Any]:
    """With the roles that they had."""
    require(request.user, "user:manage", None)
    asked = await asked_by(request, people.acting)
    await people.restore(plane, request.user, user, asked.reason)
    return Response(await _shown(plane, request.user, user))


async def _shown(plane: Plane, who: Principal, user: str) -> dict[str, Any]:
    async with plane.transaction(who.tenant) as conn:
        row = await store.person(conn, who.tenant, user)
        if row is None:
            raise Refused("not_found", f"nobody here is called {user}"[:200])
        given = await store.roles(conn, who.tenant, MOST, whose=(row["issuer"], row["subject"]))
        groups = await store.mappings(conn, who.tenant, MOST, issuer=row["issuer"], names=row["groups"])
    told = [(*said.partition("@")[::2], "provider", None) for said in row["roles"]]
    told += [(one["role"], one["project"], "assigned", None) for one in given]
    told += [(one["role"], one["project"], "group", one["name"]) for one in groups]
    return _listed(row) | {
        "team": row["team"],
        "department": row["department"],
        "groups": row["groups"],
        "roles": [
            {"role": role, "project": project or None, "source": source, "group": group}
            for role, project, source, group in told
        ],
    }


def _listed(row: RowMapping) -> dict[str, Any]:
    return {
        "user": row["pseudonym"],
        "actor": f"{row['kind']}:{row['name']}@{row['domain']}",
        "issuer": row["issuer"],
        "subject": row["subject"],
        "kind": row["kind"],
        "state": row["state"],
        "added_at": timestamp(row["added_at"]),
        "seen_at": None if row["seen_at"] is None else timestamp(row["seen_at"]),
    }


HANDLERS = (users, user, add, remove, restore)
