# SPDX-License-Identifier: Apache-2.0
"""May this principal do this, there? One table as data, one guard for every route (G13, S1, I5).

Enters: a `Principal`, an action, a project. Leaves: yes or no, or which projects. The table is `data/permissions.json`
of the policies in force, put here by whatever learns of a push: role → actions; what anyone signed in may do; and what
the policy engine decides and records instead of the door (`job:submit`, so that a refused submission has its decision
and its evidence). Until a process knows the policies in force, nobody may do anything there.

A route names its action in `opt={"action": "job:read"}`, or `"public"`. `check_routes` keeps a plane from starting
with a route that names none. The guard asks whether the action is held *anywhere* in the tenant; a handler narrows to
the project at hand with `require` or `visible`. Other tenants' rows never get this far: row-level security (I7).
Pure but for the one table of the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec
from msgspec import Struct

from control_plane.auth.errors import Forbidden, RouteWithoutRule, Unauthenticated
from control_plane.auth.principal import ROLES, Principal
from control_plane.errors import QcosError
from control_plane.policy.decision import PolicyUnavailable

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.connection import ASGIConnection
    from litestar.handlers.base import BaseRouteHandler

__all__ = [
    "ACTIONS",
    "PUBLIC",
    "Action",
    "Permissions",
    "admits",
    "check_routes",
    "guard",
    "may",
    "may_anywhere",
    "parse_permissions",
    "permissions",
    "put_in_force",
    "require",
    "visible",
    "within",
]

Action = Literal[
    "account:own",
    "accounting:read",
    "backend:read",
    "budget:read",
    "budget:set",
    "cost:manage",
    "cost:read",
    "delegation:own",
    "evidence:read",
    "job:approve",
    "job:cancel",
    "job:hold",
    "job:read",
    "job:settle",
    "job:submit",
    "ledger:checkpoint",
    "ledger:read",
    "network:enroll",
    "network:propose",
    "network:read",
    "policy:push",
    "policy:read",
    "project:manage",
    "project:read",
    "rates:accept",
    "rates:push",
    "rates:read",
    "reservation:cancel",
    "reservation:create",
    "reservation:read",
    "result:read",
    "retention:erase",
    "retention:hold",
    "retention:read",
    "service:manage",
    "service:read",
    "tenant:export",
    "tenant:manage",
    "tenant:read",
    "trust:read",
    "user:manage",
    "user:read",
    "whoami",
]
ACTIONS: Final[frozenset[str]] = frozenset(get_args(Action))
PUBLIC: Final = "public"
PATH: Final = "data/permissions.json"
DECIDED: Final[frozenset[str]] = frozenset({"job:approve", "job:submit", "reservation:create"})
"""The actions that the policy engine decides: no other may pass the door without a role."""


UNDELEGATED: Final[frozenset[str]] = frozenset(
    ("account:own", "job:approve", "policy:push", "service:manage", "user:manage")
)
"""What nobody hands on: what is a person's own, a second person's yes, and what makes or widens rights."""
ALWAYS: Final = "whoami"
"""What no scope takes away."""


class Permissions(Struct, frozen=True, forbid_unknown_fields=True):
    """The permission table. `decided_by_policy` lists actions that pass the door and meet the policy engine."""

    signed_in: frozenset[str]
    decided_by_policy: frozenset[str]
    roles: dict[str, frozenset[str]]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    permissions: Permissions


def parse_permissions(data: bytes) -> Permissions:
    """The table from its file. ValueError if it names an unknown role or action, or leaves one out (fail closed)."""
    table = _read(data)
    if not table.decided_by_policy <= DECIDED:
        raise ValueError(f"permissions: no policy decides {sorted(table.decided_by_policy - DECIDED)}")
    if table.roles.keys() != ROLES:
        raise ValueError(f"permissions: roles {sorted(table.roles.keys() ^ ROLES)} are unknown or missing")
    named = table.signed_in | table.decided_by_policy | frozenset().union(*table.roles.values())
    if named != ACTIONS:
        raise ValueError(f"permissions: actions {sorted(named ^ ACTIONS)} are unknown or granted to nobody")
    return table


def tolerated(data: bytes) -> Permissions:
    """The table of policies that are in force already: what this program doesn't know of is left out, and what they
    don't know of is granted to nobody. ValueError for another shape.
    """
    table = _read(data)
    return Permissions(
        signed_in=table.signed_in & ACTIONS,
        decided_by_policy=table.decided_by_policy & DECIDED,
        roles={role: table.roles.get(role, frozenset()) & ACTIONS for role in ROLES},
    )


def _read(data: bytes) -> Permissions:
    return msgspec.json.decode(data, type=_File).permissions


class _InForce:
    """One process serves one plane."""

    table: Permissions | None = None


def put_in_force(table: Permissions) -> None:
    """From now on this is who may do what in this process."""
    _InForce.table = table


def permissions() -> Permissions:
    """The table in force; PolicyUnavailable where this process doesn't know it yet."""
    if _InForce.table is None:
        raise PolicyUnavailable("this process doesn't know the policies in force yet")
    return _InForce.table


def may(principal: Principal, action: str, project: str | None, table: Permissions | None = None) -> bool:
    """Whether `action` is allowed in `project`; None asks for the whole tenant, which only tenant-wide roles give.

    By the table in force, or by another one. A scope narrows it; for what anybody signed in may do no project counts.
    """
    table = table or permissions()
    if not within(principal, action):
        return False
    if principal.scope is not None and action not in table.signed_in and not principal.scope.reaches(project):
        return False
    held = principal.roles if project is None else principal.roles_in(project)
    return action in table.signed_in or any(action in table.roles.get(role, ()) for role in held)


def within(principal: Principal, action: str) -> bool:
    """Whether what the principal came with lets them do this at all, whatever their roles."""
    if action in UNDELEGATED and principal.chain:
        return False
    return principal.scope is None or action == ALWAYS or principal.scope.allows(action)


def _places(principal: Principal) -> frozenset[str]:
    """The projects that a role or a scope names."""
    named = () if principal.scope is None else principal.scope.projects or ()
    return frozenset((*principal.project_roles, *named))


def may_anywhere(principal: Principal, action: str, table: Permissions | None = None) -> bool:
    """Whether `action` is allowed in the tenant as a whole or in at least one project."""
    return any(may(principal, action, project, table) for project in (None, *_places(principal)))


def visible(principal: Principal, action: str) -> frozenset[str] | None:
    """The projects in which `action` is allowed: None = every project of the tenant, empty = none."""
    if may(principal, action, None):
        return None
    return frozenset(project for project in _places(principal) if may(principal, action, project))


def require(principal: Principal, action: str, project: str | None) -> None:
    """Forbidden unless `may`. Handlers that must hide a row's existence answer 404 instead."""
    if not may(principal, action, project):
        raise Forbidden(action, project)


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The one Litestar guard. Reads the route's action and `scope["user"]`; refuses what it can't find.

    Async though it waits for nothing: Litestar would wrap a plain function, and `check_routes` looks for this one.
    """
    try:
        _let_in(connection, handler)
    except QcosError as refused:
        # Litestar closes a WebSocket without a word; the door answers with what it finds here.
        connection.scope.setdefault("state", {})["refused"] = refused
        raise


def _let_in(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    action = handler.opt.get("action")
    if action == PUBLIC or _is_automatic_options(handler):
        return
    principal = connection.scope.get("user")
    if not isinstance(principal, Principal):
        raise Unauthenticated("token_missing", "no_principal", "sign in first: this needs a bearer token")
    # `check_routes` has seen every route at start; a route added later has no rule and stays shut.
    if action not in ACTIONS:
        raise Forbidden("this route, which has no rule")
    if not admits(principal, action, connection.path_params.get("job_id")):
        raise Forbidden(action)


def admits(principal: Principal, action: str, job_id: str | None = None) -> bool:
    """Whether a request for this passes the door: it is allowed somewhere, or policy decides it.

    To whoever came with what is bound to jobs, nothing is theirs to ask but what is asked of one of them by its id.
    """
    bound = None if principal.scope is None or action == ALWAYS else principal.scope.jobs
    if bound is not None and job_id not in bound:
        return False
    decided = action in permissions().decided_by_policy and within(principal, action)
    return decided or may_anywhere(principal, action)


def check_routes(app: Litestar) -> None:
    """RouteWithoutRule unless every handler names `public` or a known action and stands behind `guard`.

    Litestar's own OPTIONS answers and mounted OpenAPI pages count as routes: they need a rule, or to be switched off.
    """
    for route in app.routes:
        handlers = getattr(route, "route_handlers", None) or [route.route_handler]  # type: ignore[union-attr]
        for handler in handlers:
            _check_handler(route.path, handler)


def _check_handler(path: str, handler: BaseRouteHandler) -> None:
    action = handler.opt.get("action")
    if action is None and _is_automatic_options(handler):
        return
    if action != PUBLIC and action not in ACTIONS:
        raise RouteWithoutRule(f"route {path} ({handler.handler_name}): opt['action'] = {action!r} is no rule")
    if action != PUBLIC and guard not in handler.resolve_guards():
        raise RouteWithoutRule(f"route {path} ({handler.handler_name}): stands behind no guard")


def _is_automatic_options(handler: BaseRouteHandler) -> bool:
    """Litestar adds to each path an OPTIONS handler that lists the methods and reads nothing."""
    methods = getattr(handler, "http_methods", None)
    return methods == {"OPTIONS"} and handler.fn.__module__.startswith("litestar.")
