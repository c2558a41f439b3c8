# SPDX-License-Identifier: Apache-2.0
"""Projects of the tenant (G13): created, changed, closed, opened again."""

from __future__ import annotations

from typing import Any, Literal

from litestar import Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct
from sqlalchemy import RowMapping

from control_plane.accounts import people, projects, store
from control_plane.api import bookmark
from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Instant
from control_plane.auth.access import may, require, visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from ledger.canonical import timestamp

_CHANGE = ("not_found", "conflict")


class ProjectShown(Struct, frozen=True):
    """A project; a closed one takes no new jobs."""

    project: str
    cost_center: str | None
    state: Literal["open", "closed"]
    created_at: Instant


@get(
    "/projects",
    opt={
        "action": "project:read",
        "query": ("cursor", "limit"),
        "answers": Answers({200: tuple[ProjectShown, ...]}, headers=bookmark.TOLD),
    },
    summary="List projects, by name",
)
async def listed(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    limit: bookmark.Limit = bookmark.PAGE,
    cursor: bookmark.Bookmark = None,
) -> Response[Any]:
    """A page of those that the caller may see."""
    seen, after = visible(request.user, "project:read"), bookmark.read(cursor, 1)
    named = None if seen is None else sorted(seen)
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.projects(
            conn, request.user.tenant, limit + 1, after=after[0] if after else None, named=named
        )
    return Response([_shown(row) for row in rows[:limit]], headers=bookmark.following(rows, limit, "project"))


@get(
    "/projects/{project:str}",
    opt={
        "action": "project:read",
        "owner": "project",
        "answers": Answers({200: ProjectShown}, refusals=("not_found",)),
    },
    summary="Show a project",
)
async def show(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], project: FromPath[str]
) -> Response[Any]:
    """One that the caller may see."""
    rows = []
    if may(request.user, "project:read", project):
        async with plane.transaction(request.user.tenant) as conn:
            rows = list(await store.projects(conn, request.user.tenant, 1, named=(project,)))
    if not rows:
        raise _unknown(project)
    return Response(_shown(rows[0]))


@post(
    "/projects",
    status_code=201,
    opt={
        "action": "project:manage",
        "where": "tenant",
        "answers": Answers({201: ProjectShown}, refusals=("conflict",), body=projects.Creating),
    },
    summary="Create a project",
)
async def create(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """It takes jobs once it has a budget."""
    require(request.user, "project:manage", None)
    asked = await asked_by(request, projects.creating)
    return Response(_shown(await projects.create(plane, request.user, asked)), status_code=201)


@patch(
    "/projects/{project:str}",
    opt={
        "action": "project:manage",
        "owner": "project",
        "sees": "project:read",
        "then": "project:manage",
        "answers": Answers({200: ProjectShown}, refusals=("not_found",), body=projects.Changing),
    },
    summary="Change a project",
)
async def change(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], project: FromPath[str]
) -> Response[Any]:
    """What the body leaves out stays."""
    _managed(request.user, project)
    asked = await asked_by(request, projects.changing)
    return Response(_shown(await projects.set_project(plane, request.user, project, asked)))


@post(
    "/projects/{project:str}/close",
    status_code=200,
    opt={
        "action": "project:manage",
        "owner": "project",
        "sees": "project:read",
        "then": "project:manage",
        "answers": Answers({200: ProjectShown}, refusals=_CHANGE, body=people.Acting),
    },
    summary="Close a project",
)
async def close(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], project: FromPath[str]
) -> Response[Any]:
    """It takes no new jobs and windows; what waits or runs goes on, and what it has done stays."""
    _managed(request.user, project)
    asked = await asked_by(request, people.acting)
    return Response(_shown(await projects.close(plane, request.user, project, asked.reason)))


@post(
    "/projects/{project:str}/reopen",
    status_code=200,
    opt={
        "action": "project:manage",
        "owner": "project",
        "sees": "project:read",
        "then": "project:manage",
        "answers": Answers({200: ProjectShown}, refusals=_CHANGE, body=people.Acting),
    },
    summary="Open a closed project again",
)
async def reopen(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], project: FromPath[str]
) -> Response[Any]:
    """It takes jobs again."""
    _managed(request.user, project)
    asked = await asked_by(request, people.acting)
    return Response(_shown(await projects.reopen(plane, request.user, project, asked.reason)))


def _managed(who: Principal, project: str) -> None:
    """Forbidden, or `not_found` for a project that the caller may not even see."""
    if not may(who, "project:manage", project) and not may(who, "project:read", project):
        raise _unknown(project)
    require(who, "project:manage", project)


def _unknown(project: str) -> Refused:
    return Refused("not_found", f"no project {project}"[:200])


def _shown(row: RowMapping) -> dict[str, Any]:
    return {name: row[name] for name in ("project", "cost_center", "state")} | {
        "created_at": timestamp(row["created_at"])
    }


HANDLERS = (listed, show, create, change, close, reopen)
