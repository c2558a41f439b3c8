# SPDX-License-Identifier: Apache-2.0
"""Who gets which answer where: route × role × relation, from the routes and the permission table (G13, I7, N13).

Enters: the app's routes, the permission table and the vocabulary of policies. Leaves: one `Cell` a question, and its
answer as the rules of `access` give it; `tests/tenants` puts each of them to a running plane. Pure but for reading the
routes.

What a route says of itself in its `opt`, beside `action`, which the door asks anywhere in the tenant:

- `owner`: whose the thing named by its path is: `project`, `tenant`, `plane` or `self` (the caller's own, as a session
  is), or None where the path names nothing of anybody's, as a month. By default it follows from the parameter's name
  (`OWNERS`); a name that isn't there must say it.
- `sees`: the action without which the thing doesn't exist for the caller, where it isn't `action`.
- `then`: the action that is asked for in the thing's project once it is seen, where it isn't `action`.
- `where`: `tenant` where the action must be held in the whole tenant, `project` where the request's body names the
  project in which it must be held.
- `absent`: the code for what isn't there, where that isn't `not_found`; with `where`, for a project without a budget.
- `credential`: a public route that takes credentials of its own kind alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import Struct

from control_plane.auth.access import PATH, PUBLIC, Permissions, may, may_anywhere, parse_permissions
from control_plane.auth.errors import RouteWithoutRule
from control_plane.auth.principal import ROLES, Assignment, Principal
from control_plane.codes import CODES

if TYPE_CHECKING:
    from litestar import Litestar

__all__ = ["CALLERS", "OWNERS", "Caller", "Cell", "Rights", "Rule", "cells", "rights", "rules"]

Owner = Literal["project", "tenant", "plane", "self"]
Relation = Literal["any", "own_project", "other_project", "own_tenant", "other_tenant", "own", "plane", "nobody"]

OWNERS: Final[dict[str, Owner]] = {
    "account": "tenant",
    "backend_id": "plane",
    "decision": "project",
    "entry": "project",
    "hold_id": "tenant",
    "job_id": "project",
    "node_id": "plane",
    "path": "plane",
    "peer_id": "plane",
    "plan_id": "project",
    "reservation_id": "project",
    "revision": "plane",
    "rule_id": "tenant",
}
"""Whose the thing is that a path parameter of this name names."""

_RELATIONS: Final[dict[Owner | Literal["body"] | None, tuple[Relation, ...]]] = {
    None: ("any",),
    "body": ("own_project", "other_project", "other_tenant", "nobody"),
    "project": ("own_project", "other_project", "other_tenant", "nobody"),
    "tenant": ("own_tenant", "other_tenant", "nobody"),
    "self": ("own", "own_tenant", "other_tenant", "nobody"),
    "plane": ("plane", "nobody"),
}
VOCABULARY: Final = "data/vocabulary.json"
_PARAMETER = re.compile(r"\{(\w+):?\w*\}")
_REACHED: Final[dict[Owner, tuple[Relation, ...]]] = {
    "project": ("own_project", "other_project"),
    "tenant": ("own_tenant",),
    "self": ("own",),
}
_OWN, _OTHER = "own", "other"


class Rule(Struct, frozen=True):
    """What one route says of itself. `status` is that of its good answer."""

    method: str
    path: str
    action: str
    status: int
    owner: Owner | None = None
    sees: str | None = None
    then: str | None = None
    where: Literal["tenant", "project"] | None = None
    absent: str | None = None
    credential: str | None = None

    @property
    def relations(self) -> tuple[Relation, ...]:
        """The relations in which a caller can stand to what the route is about."""
        if self.action == PUBLIC:
            return ("any",)
        return _RELATIONS["body" if self.where == "project" and self.owner is None else self.owner]


class Rights(Struct, frozen=True):
    """Who may do what: by the permission table, and, for what the policy engine decides, by its rules' vocabulary."""

    table: Permissions
    decided: dict[str, frozenset[str]]

    def may(self, who: Principal, action: str, project: str | None) -> bool:
        """Whether they may do it there; None asks for the tenant as a whole."""
        if action not in self.table.decided_by_policy:
            return may(who, action, project, self.table)
        held = who.roles if project is None else who.roles_in(project)
        return not self.decided.get(action, frozenset()).isdisjoint(held)

    def pass_the_door(self, who: Principal, action: str) -> bool:
        """Whether the guard lets them in."""
        return action in self.table.decided_by_policy or may_anywhere(who, action, self.table)


def rights(files: Mapping[str, bytes]) -> Rights:
    """What the files of these policies give to whom; ValueError where they can't be read."""
    vocabulary = msgspec.json.decode(files[VOCABULARY], type=dict[str, dict[str, Any]])["vocabulary"]
    decided = {action: frozenset(roles) for action, roles in vocabulary["actions"].items()}
    return Rights(parse_permissions(files[PATH]), decided)


class Caller(Struct, frozen=True):
    """Who asks: a role held in one project (`own_project`) or in the whole tenant; `none` has no role, `anonymous` no
    credentials, `service` is a service account with the role quantum-user.
    """

    role: str
    held: Literal["project", "tenant"] | None

    def principal(self) -> Principal | None:
        """Somebody like that."""
        if self.role == "anonymous":
            return None
        kind: Literal["user", "service"] = "service" if self.role == "service" else "user"
        who = Principal(self.role, self.role, "t", "t", "urn:matrix", "a-0", kind=kind)
        role = "quantum-user" if self.role == "service" else self.role
        return who.holding((Assignment(role, _OWN if self.held == "project" else None),))


CALLERS: Final = (
    Caller("anonymous", None),
    Caller("none", None),
    *(Caller(role, held) for role in (*sorted(ROLES), "service") for held in ("project", "tenant")),
)


class Cell(Struct, frozen=True):
    """One question and its answer.

    `allowed` has the status of the route's good answer: what is wrong with the request itself is said afterwards.
    `refused` says that it is refused, `hidden` that there is nothing: both look the same for a stranger's and nobody's.
    """

    method: str
    path: str
    action: str
    role: str
    held: Literal["project", "tenant"] | None
    relation: Relation
    answer: Literal["public", "allowed", "refused", "hidden"]
    status: int
    code: str | None = None


def rules(app: Litestar) -> list[Rule]:
    """What each route says of itself, by path and method. RouteWithoutRule for one whose thing is nobody's."""
    found = []
    for route in app.routes:
        for handler in getattr(route, "route_handlers", None) or [route.route_handler]:  # type: ignore[union-attr]
            methods = getattr(handler, "http_methods", {"WEBSOCKET"})
            if methods == {"OPTIONS"}:  # Litestar's own: which methods there are
                continue
            found += [_rule(method, route.path, handler) for method in methods]
    return sorted(found, key=lambda one: (one.path, one.method))


def _rule(method: str, path: str, handler: Any) -> Rule:
    told = {
        name: handler.opt[name]
        for name in ("owner", "sees", "then", "where", "absent", "credential")
        if name in handler.opt
    }
    plain = _PARAMETER.sub(r"{\1}", path)
    names = _PARAMETER.findall(path)
    if names and handler.opt["action"] != PUBLIC and "owner" not in told:
        if names[0] not in OWNERS:  # what follows lies within the first
            raise RouteWithoutRule(
                f"route {plain}: whose is {{{names[0]}}}? opt['owner'] says it: project, tenant, plane, self or None"
            )
        told["owner"] = OWNERS[names[0]]
    status = 101 if method == "WEBSOCKET" else handler.status_code
    return Rule(method=method, path=plain, action=handler.opt["action"], status=status, **told)


def cells(found: list[Rule], given: Rights) -> Iterator[Cell]:
    """Every cell of the matrix under what policies give to whom."""
    for rule in found:
        for relation in rule.relations:
            for caller in CALLERS:
                answer, status, code = _answer(rule, caller.principal(), relation, given)
                yield Cell(
                    rule.method, rule.path, rule.action, caller.role, caller.held, relation, answer, status, code
                )


_Answer = tuple[Literal["public", "allowed", "refused", "hidden"], int, str | None]
_FORBIDDEN: Final[_Answer] = ("refused", 403, "forbidden")
_DENIED: Final[_Answer] = ("refused", 403, "policy_denied")


def _answer(rule: Rule, who: Principal | None, relation: Relation, given: Rights) -> _Answer:
    if rule.action == PUBLIC:
        if rule.credential is None:
            return ("public", rule.status, None)
        return ("refused", 401, "token_missing" if who is None else "token_invalid")
    if who is None:
        return ("refused", 401, "token_missing")
    if not given.pass_the_door(who, rule.action):
        return _FORBIDDEN
    if rule.where == "tenant" and not given.may(who, rule.action, None):
        return _FORBIDDEN
    return _in_place(rule, who, relation, given)


def _in_place(rule: Rule, who: Principal, relation: Relation, given: Rights) -> _Answer:
    """The answer of a handler that narrows to the place at hand."""
    absent = rule.absent or "not_found"
    hidden: _Answer = ("hidden", CODES[absent].status, absent)
    # In a body, a stranger's project or nobody's is one where the caller has the rights of the whole tenant alone.
    project = {"own_project": _OWN, "other_project": _OTHER}.get(relation)
    if rule.owner in ("project", "tenant", "self") and relation not in _REACHED[rule.owner]:
        return hidden
    if rule.owner == "plane" and relation == "nobody":
        return hidden
    if rule.owner == "project" and not given.may(who, rule.sees or rule.action, project):
        return hidden
    asked = rule.then or rule.action
    if (rule.owner == "project" or rule.where == "project") and not given.may(who, asked, project):
        return _DENIED if asked in given.table.decided_by_policy else _FORBIDDEN
    if rule.where == "project" and project is None and rule.absent is not None:
        return ("refused", CODES[rule.absent].status, rule.absent)
    return ("allowed", rule.status, None)
