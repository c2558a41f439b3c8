# SPDX-License-Identifier: Apache-2.0
"""Delegations (G13): handed out, listed, ended."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from control_plane.accounts import delegations
from control_plane.api.bodies import asked_by
from control_plane.api.jobs import find
from control_plane.api.shapes import Answers, Instant
from control_plane.auth.access import require
from control_plane.auth.credentials import Credential
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from ledger.canonical import timestamp


class DelegationShown(Struct, frozen=True):
    """A part of somebody's rights in other hands; `parent` is the secret that it was handed on with."""

    id: str
    state: Literal["active", "expired", "revoked"]
    by: str
    to: str
    actions: tuple[str, ...]
    projects: tuple[str, ...] | None
    job_id: str | None
    reason: str
    parent: str | None
    created_at: Instant
    expires_at: Instant
    used_at: Instant | None


class DelegationGranted(DelegationShown, frozen=True):
    """With its secret, which is told this once."""

    token: str


@post(
    "/delegations",
    status_code=201,
    opt={
        "action": "delegation:own",
        "answers": Answers({201: DelegationGranted}, ("not_found", "conflict"), body=delegations.Delegating),
    },
    summary="Hand a part of one's rights to somebody",
)
async def grant(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Whoever holds the token acts for the caller, within this scope and the caller's rights of that moment."""
    asked = await asked_by(request, delegations.delegating)
    if asked.job is not None:
        await find(plane, request.user, asked.job, "job:read")
    made, issued = await delegations.grant(plane, request.user, asked)
    return Response(_shown(plane, made) | {"token": issued.text}, status_code=201)


@get(
    "/delegations",
    opt={"action": "delegation:own", "query": ("whose",), "answers": Answers({200: tuple[DelegationShown, ...]})},
    summary="List delegations, newest first",
)
async def listed(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    whose: Annotated[
        Literal["own", "all"], QueryParameter(description="The caller's, or the tenant's (user:read).")
    ] = "own",
) -> Response[Any]:
    """A thousand at most, those that have ended too."""
    if whose == "all":
        require(request.user, "user:read", None)
    found = await delegations.listed(plane, request.user, everybody=whose == "all")
    return Response([_shown(plane, one) for one in found])


@delete(
    "/delegations/{delegation_id:str}",
    status_code=204,
    opt={
        "action": "delegation:own",
        "owner": "self",
        "query": ("reason",),
        "answers": Answers({204: None}, ("not_found",)),
    },
    summary="End a delegation",
)
async def revoke(
    delegation_id: FromPath[str],
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    reason: Annotated[str | None, QueryParameter(max_length=1000, pattern=r"^[^\x00]*$")] = None,
) -> Response[None]:
    """At once, in every process, with all that was handed on from it; a job of it that waits doesn't run."""
    if not await delegations.revoke(plane, request.user, delegation_id, reason or None):
        raise Refused("not_found", "you have no such delegation")
    return Response(None, status_code=204)


def _shown(plane: Plane, one: Credential) -> dict[str, Any]:
    over, scope = one.over(plane.now()), one.scope
    assert scope is not None
    return {
        "id": one.id,
        "state": over or "active",
        "by": one.about["by"],
        "to": one.about["to"],
        "actions": list(scope.actions or ()),
        "projects": None if scope.projects is None else list(scope.projects),
        "job_id": None if scope.jobs is None else scope.jobs[0],
        "reason": one.about["reason"],
        "parent": one.parent,
        "created_at": timestamp(one.created_at),
        "expires_at": timestamp(one.expires_at),
        "used_at": None if one.used_at is None else timestamp(one.used_at),
    }


HANDLERS = (grant, listed, revoke)
