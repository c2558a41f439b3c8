# SPDX-License-Identifier: Apache-2.0
"""Delegations: a part of one's own rights, for a while, in somebody else's hands (G13).

Enters who hands what to whom, why, and for how long. Leaves a secret that acts as the delegator within that scope:
what they may do at the moment of use, and no more. A delegate may hand on a part of it, until theirs ends and no
longer; what ends one ends all that hang on it. Its delegator sees it, and whoever may read the tenant's users.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from control_plane import administrative
from control_plane.auth import credentials
from control_plane.auth.access import ACTIONS, ALWAYS, UNDELEGATED, may, may_anywhere
from control_plane.auth.credentials import Credential, Issued
from control_plane.auth.errors import Forbidden
from control_plane.auth.principal import Principal, Scope, is_project
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.strict import Reason

__all__ = ["MOST_LINKS", "Delegating", "delegating", "grant", "listed", "revoke"]

MOST_LINKS: Final = 3
"""How often a right may be handed on."""
LONGEST_S: Final = 30 * 86_400

To = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[!-~]+$")]


class Delegating(Struct, frozen=True, forbid_unknown_fields=True):
    """What is handed to whom. `to` is the delegate's name in evidence: a robot's, a service's, no mail address."""

    to: To
    actions: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)]
    expires_in_s: Annotated[int, Meta(ge=1, le=LONGEST_S)]
    reason: Reason
    projects: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)] | None = None
    job: Name | None = None


delegating = msgspec.json.Decoder(Delegating)


async def grant(plane: Plane, who: Principal, asked: Delegating) -> tuple[Credential, Issued]:
    """Hand it over; what may be shown of it, and its secret. Forbidden where it isn't the caller's to hand on.

    Whether the caller sees `asked.job` is the caller's caller's to ask.
    """
    _check(who, asked)
    at = plane.now()
    until = at + dt.timedelta(seconds=asked.expires_in_s)
    scope = Scope(_sorted(asked.actions), _sorted(asked.projects), None if asked.job is None else (asked.job,))
    by = who.chain[-1].to if who.chain else who.actor
    async with plane.transaction(who.tenant) as conn:
        parent = None
        if _hangs(who) and who.credential is not None:
            parent = await credentials.find(conn, who.tenant, who.credential)
            if parent is None or parent.over(at) is not None:
                raise Refused("conflict", "what you came with has just ended")
            until = min(until, parent.expires_at)
        issued = await credentials.issue(
            conn,
            who,
            "delegation",
            at=at,
            expires_at=until,
            scope=scope,
            parent=None if parent is None else parent.id,
            about={"by": by, "to": asked.to, "reason": asked.reason},
        )
        body = {"delegation": issued.id, "to": asked.to, "expires_at": until.isoformat(), **_scope(scope)}
        await administrative.append(
            conn, administrative.entry(who, "identity:delegation:granted", body, asked.reason, at)
        )
        made = await credentials.find(conn, who.tenant, issued.id)
    assert made is not None
    return made, issued


async def listed(plane: Plane, who: Principal, *, everybody: bool) -> list[Credential]:
    """The caller's own, the newest first, or all of the tenant, which the caller must be allowed to read."""
    async with plane.transaction(who.tenant) as conn:
        if everybody:
            return await credentials.listed(conn, who.tenant, "delegation")
        held = await credentials.held(conn, who.tenant, who.issuer, who.subject, "delegation")
    return [one for one in held if _own(who, one)]


async def revoke(plane: Plane, who: Principal, delegation: str, reason: str | None) -> bool:
    """End it, and all that hang on it, at once; False where the caller has none of this id.

    One that has ended stays as it is, without a second entry.
    """
    at = plane.now()
    async with plane.transaction(who.tenant) as conn:
        found = await credentials.find(conn, who.tenant, delegation)
        if found is None or found.kind != "delegation" or not (_own(who, found) or may(who, "user:manage", None)):
            return False
        if found.over(at) is None and await credentials.revoke(conn, who.tenant, delegation, by=who.pseudonym, at=at):
            body = {"delegation": delegation, "to": found.about["to"]}
            told = administrative.entry(who, "identity:delegation:revoked", body, reason, at)
            await administrative.append(conn, told)
    return True


def _check(who: Principal, asked: Delegating) -> None:
    """Nobody hands on what they haven't, or what is nobody's to hand on."""
    if len(who.chain) >= MOST_LINKS:
        raise Refused("forbidden", f"a right is handed on {MOST_LINKS} times at most")
    for number, action in enumerate(asked.actions):
        if action not in ACTIONS or action == ALWAYS:
            raise _wrong(f"actions.{number}", "no action of this plane that could be handed on")
        if action in UNDELEGATED:
            raise Refused("forbidden", f"{action} is handed to nobody")
    for number, project in enumerate(asked.projects or ()):
        if not is_project(project):
            raise _wrong(f"projects.{number}", "no name of a project")
    scope = who.scope
    if scope is not None and scope.jobs is not None and asked.job not in scope.jobs:
        raise Refused("forbidden", "what you came with holds for one job alone")
    for action in asked.actions:
        if not may_anywhere(who, action):
            raise Forbidden(action)
        for project in asked.projects or ():
            if not may(who, action, project):
                raise Forbidden(action, project)


def _wrong(field: str, message: str) -> Refused:
    return Refused("request_invalid", f"{field}: {message}", errors=({"field": field, "message": message},))


def _hangs(who: Principal) -> bool:
    """Whether what the caller came with bounds what they hand on. A person's sign-in doesn't: the right is theirs."""
    return bool(who.chain) or who.scope is not None or who.via in ("key", "exchange")


def _own(who: Principal, one: Credential) -> bool:
    """Whether it is the caller's: their own person's, and for a delegate what they themselves handed on."""
    mine = (one.issuer, one.subject) == (who.issuer, who.subject)
    return mine and (not _hangs(who) or one.parent == who.credential)


def _sorted(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(set(names)))


def _scope(scope: Scope) -> dict[str, Any]:
    told: dict[str, Any] = {"actions": list(scope.actions or ())}
    if scope.projects is not None:
        told["projects"] = list(scope.projects)
    if scope.jobs is not None:
        told["job_id"] = scope.jobs[0]
    return told
