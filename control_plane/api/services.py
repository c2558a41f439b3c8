# SPDX-License-Identifier: Apache-2.0
"""Service accounts, their keys, and the rules by which a CI system's tokens stand for them (G13, N17)."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct

from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Instant
from control_plane.auth.access import require
from control_plane.auth.credentials import Credential, Issued
from control_plane.auth.keys import pseudonym_key
from control_plane.auth.principal import Principal
from control_plane.auth.store import roles_of
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.services import account as accounts
from control_plane.services import acts, rules, store
from control_plane.services.account import ISSUER, GrantedRole
from ledger.canonical import timestamp

_READ, _MANAGE = "service:read", "service:manage"
SECRET = {"Cache-Control": "no-store"}


class ServiceListed(Struct, frozen=True):
    """A service account; `actor` is how evidence names it, `user` how the ledger and `roles/grant` do."""

    name: str
    actor: str
    user: str
    description: str
    created_at: Instant
    created_by: str
    removed_at: Instant | None


class ServiceShown(ServiceListed, frozen=True):
    """A service account with the roles that it was given."""

    issuer: str
    roles: tuple[GrantedRole, ...]


class KeyShown(Struct, frozen=True):
    """A key, but for what proves it; `state` is `standing`, `revoked` or `expired`."""

    key_id: str
    service: str
    state: str
    actions: tuple[str, ...] | None
    projects: tuple[str, ...] | None
    networks: tuple[str, ...] | None
    note: str
    created_at: Instant
    expires_at: Instant
    used_at: Instant | None
    revoked_at: Instant | None


class KeyMade(Struct, frozen=True):
    """A new key. `key` is shown in this answer and never again; `replaces` is the one that it follows."""

    key_id: str
    service: str
    key: str
    expires_at: Instant
    replaces: str | None = None
    replaces_expires_at: Instant | None = None


class RuleShown(Struct, frozen=True):
    """A workload rule."""

    rule_id: str
    issuer: str
    service: str
    claims: dict[str, str]
    actions: tuple[str, ...] | None
    projects: tuple[str, ...] | None
    lasts_s: int
    created_at: Instant
    created_by: str


@get(
    "/service-accounts",
    opt={"action": _READ, "where": "tenant", "answers": Answers({200: tuple[ServiceListed, ...]})},
    summary="List service accounts",
)
async def services(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Those of the tenant, by name; removed ones, too."""
    require(request.user, _READ, None)
    async with plane.transaction(request.user.tenant) as conn:
        found = await store.accounts(conn, request.user.tenant)
    return Response([_listed(plane, request.user.tenant, one) for one in found])


@post(
    "/service-accounts",
    status_code=201,
    opt={
        "action": _MANAGE,
        "where": "tenant",
        "answers": Answers({201: ServiceShown}, refusals=("conflict",), body=accounts.AccountAsked),
    },
    summary="Make a service account",
)
async def create(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """With its roles; a name is given once, also to one that was removed."""
    asked = await _asked(request, accounts.creating)
    made = await acts.create(plane, request.user, asked, pseudonym_key(plane.settings.home))
    return Response(await _shown(plane, request.user, made), status_code=201)


@get(
    "/service-accounts/{account:str}",
    opt={"action": _READ, "where": "tenant", "answers": Answers({200: ServiceShown}, refusals=("not_found",))},
    summary="Show a service account",
)
async def show(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], account: FromPath[str]
) -> Response[Any]:
    """Who it is and what it may do."""
    require(request.user, _READ, None)
    async with plane.transaction(request.user.tenant) as conn:
        found = await store.account(conn, request.user.tenant, account)
    if found is None:
        raise Refused("not_found", "no such service account")
    return Response(await _shown(plane, request.user, found))


@post(
    "/service-accounts/{account:str}/remove",
    status_code=200,
    opt={
        "action": _MANAGE,
        "where": "tenant",
        "answers": Answers({200: ServiceShown}, refusals=("not_found", "conflict"), body=accounts.Reasoned),
    },
    summary="Remove a service account",
)
async def remove(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], account: FromPath[str]
) -> Response[Any]:
    """For good: its keys and tokens end at once, its name is not given again."""
    asked = await _asked(request, accounts.reasoned)
    return Response(await _shown(plane, request.user, await acts.remove(plane, request.user, account, asked)))


@get(
    "/service-accounts/{account:str}/keys",
    opt={"action": _READ, "where": "tenant", "answers": Answers({200: tuple[KeyShown, ...]}, refusals=("not_found",))},
    summary="List a service account's keys",
)
async def keys(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], account: FromPath[str]
) -> Response[Any]:
    """The newest first, ended ones too, with when each was used last."""
    require(request.user, _READ, None)
    async with plane.transaction(request.user.tenant) as conn:
        found = await acts.keys(conn, request.user.tenant, account)
    return Response([_key(plane, one) for one in found])


@post(
    "/service-accounts/{account:str}/keys",
    status_code=201,
    opt={
        "action": _MANAGE,
        "where": "tenant",
        "answers": Answers({201: KeyMade}, refusals=("not_found", "conflict"), body=accounts.Keying),
    },
    summary="Make a key for a service account",
)
async def create_key(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], account: FromPath[str]
) -> Response[Any]:
    """The key is in this answer and nowhere else: the plane keeps its hash."""
    asked = await _asked(request, accounts.keying)
    issued = await acts.create_key(plane, request.user, account, asked, pseudonym_key(plane.settings.home))
    return Response(_made(account, issued), status_code=201, headers=SECRET)


@post(
    "/service-accounts/{account:str}/keys/{service_key:str}/rotate",
    status_code=201,
    opt={
        "action": _MANAGE,
        "where": "tenant",
        "answers": Answers({201: KeyMade}, refusals=("not_found", "conflict"), body=accounts.Rotating),
    },
    summary="Rotate a key of a service account",
)
async def rotate_key(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    account: FromPath[str],
    service_key: FromPath[str],
) -> Response[Any]:
    """A new key as narrow as the old one, which stands for the overlap and then ends."""
    asked = await _asked(request, accounts.rotating)
    home = plane.settings.home
    issued, old = await acts.rotate_key(plane, request.user, account, service_key, asked, pseudonym_key(home))
    more = {"replaces": service_key, "replaces_expires_at": timestamp(old.expires_at)}
    return Response(_made(account, issued) | more, status_code=201, headers=SECRET)


@post(
    "/service-accounts/{account:str}/keys/{service_key:str}/revoke",
    status_code=200,
    opt={
        "action": _MANAGE,
        "where": "tenant",
        "answers": Answers({200: KeyShown}, refusals=("not_found", "conflict"), body=accounts.Reasoned),
    },
    summary="Revoke a key of a service account",
)
async def revoke_key(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    account: FromPath[str],
    service_key: FromPath[str],
) -> Response[Any]:
    """It opens nothing from the answer on, in any process."""
    asked = await _asked(request, accounts.reasoned)
    return Response(_key(plane, await acts.revoke_key(plane, request.user, account, service_key, asked)))


@get(
    "/workload-rules",
    opt={"action": _READ, "where": "tenant", "answers": Answers({200: tuple[RuleShown, ...]})},
    summary="List workload rules",
)
async def workload_rules(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Whose pipelines stand for which service account, the oldest first."""
    require(request.user, _READ, None)
    async with plane.transaction(request.user.tenant) as conn:
        found = await store.rules(conn, request.user.tenant)
    return Response([_rule(one) for one in found])


@post(
    "/workload-rules",
    status_code=201,
    opt={
        "action": _MANAGE,
        "where": "tenant",
        "answers": Answers({201: RuleShown}, refusals=("not_found", "conflict"), body=rules.Ruling),
    },
    summary="Add a workload rule",
)
async def add_rule(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Tokens of the issuer with these claims may be exchanged for the account's."""
    asked = await _asked(request, rules.ruling)
    return Response(_rule(await rules.add(plane, request.user, asked)), status_code=201)


@post(
    "/workload-rules/{rule_id:str}/remove",
    status_code=200,
    opt={
        "action": _MANAGE,
        "where": "tenant",
        "answers": Answers({200: RuleShown}, refusals=("not_found",), body=accounts.Reasoned),
    },
    summary="Remove a workload rule",
)
async def remove_rule(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], rule_id: FromPath[str]
) -> Response[Any]:
    """The tokens that it gave end at once."""
    asked = await _asked(request, accounts.reasoned)
    return Response(_rule(await rules.remove(plane, request.user, rule_id, asked)))


async def _asked(request: Request[Principal, Any, Any], decoder: Any) -> Any:
    require(request.user, _MANAGE, None)
    return await asked_by(request, decoder)


def _listed(plane: Plane, tenant: str, one: store.Account) -> dict[str, Any]:
    who = accounts.principal(tenant, one.account, pseudonym_key(plane.settings.home))
    return {
        "name": one.account,
        "actor": who.actor,
        "user": who.pseudonym,
        "description": one.description,
        "created_at": timestamp(one.created_at),
        "created_by": one.created_by,
        "removed_at": _instant(one.removed_at),
    }


async def _shown(plane: Plane, who: Principal, one: store.Account) -> dict[str, Any]:
    async with plane.transaction(who.tenant) as conn:
        held = await roles_of(conn, who.tenant, ISSUER, one.account)
    return _listed(plane, who.tenant, one) | {
        "issuer": ISSUER,
        "roles": [msgspec.structs.asdict(role) for role in held],
    }


def _key(plane: Plane, one: Credential) -> dict[str, Any]:
    return {
        "key_id": one.id,
        "service": one.subject,
        "state": one.over(plane.now()) or "standing",
        "actions": None if one.scope is None else one.scope.actions,
        "projects": None if one.scope is None else one.scope.projects,
        "networks": one.networks,
        "note": one.about.get("note", ""),
        "created_at": timestamp(one.created_at),
        "expires_at": timestamp(one.expires_at),
        "used_at": _instant(one.used_at),
        "revoked_at": _instant(one.revoked_at),
    }


def _made(name: str, issued: Issued) -> dict[str, Any]:
    return {
        "key_id": issued.id,
        "service": name,
        "key": issued.text,
        "expires_at": timestamp(issued.expires_at),
        "replaces": None,
        "replaces_expires_at": None,
    }


def _rule(one: store.Rule) -> dict[str, Any]:
    return {
        "rule_id": one.rule_id,
        "issuer": one.issuer,
        "service": one.account,
        "claims": one.claims,
        "actions": None if one.scope is None else one.scope.actions,
        "projects": None if one.scope is None else one.scope.projects,
        "lasts_s": one.lasts_s,
        "created_at": timestamp(one.created_at),
        "created_by": one.created_by,
    }


def _instant(at: Any) -> str | None:
    return None if at is None else timestamp(at)


HANDLERS = (
    services,
    create,
    show,
    remove,
    keys,
    create_key,
    rotate_key,
    revoke_key,
    workload_rules,
    add_rule,
    remove_rule,
)
