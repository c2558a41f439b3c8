# SPDX-License-Identifier: Apache-2.0
"""The one value that says who asks, whatever way they came in (G13). Pure.

Enters: verified claims (`oidc`) and the plane's own assignments (`store`). Leaves: `Principal`. A role without a
project holds in every project of the tenant; `project_roles` hold in one. `pseudonym` is what the ledger names:
a keyed hash, so that the log, which is never rewritten, names nobody to those who lack the key. What narrows their
rights comes with them: a `Scope`, and, where they are somebody's delegate, the `chain` of who acts for whom.

The actor's domain is the tenant, unless the issuer's name for the person has a dotted mail domain of its own. A tenant
name holds no dot, so nobody can pose as a member of another tenant. That one name means one person inside a tenant is
the issuers' promise; `pseudonym` and (issuer, subject) rest on no such promise.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import re
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

__all__ = [
    "ROLES",
    "Assignment",
    "Link",
    "Principal",
    "Role",
    "Scope",
    "Via",
    "is_project",
    "is_tenant",
    "named",
    "parse_role",
    "pseudonym_of",
]

Role = Literal["quantum-admin", "quantum-engineer", "quantum-user", "auditor", "finops"]
ROLES: Final[frozenset[str]] = frozenset(("quantum-admin", "quantum-engineer", "quantum-user", "auditor", "finops"))

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9]([a-z0-9-]{0,62}))+")


class Assignment(Struct, frozen=True, forbid_unknown_fields=True):
    """One role of one person; `project` None = in every project of the tenant."""

    role: str
    project: str | None = None


Via: TypeAlias = Literal["oidc", "saml", "ldap", "key", "exchange", "session", "delegation"]
"""The way in which somebody came."""


class Scope(Struct, frozen=True, forbid_unknown_fields=True):
    """What narrows a right, and never gives one: these actions, in these projects, on these jobs alone; None is all."""

    actions: tuple[str, ...] | None = None
    projects: tuple[str, ...] | None = None
    jobs: tuple[str, ...] | None = None

    def allows(self, action: str) -> bool:
        """Whether the action is inside, in whatever project."""
        return self.actions is None or action in self.actions

    def reaches(self, project: str | None) -> bool:
        """Whether the project is inside; None is the whole tenant."""
        return self.projects is None or project in self.projects

    def within(self, other: Scope) -> Scope:
        """What both allow."""
        return Scope(
            _both(self.actions, other.actions), _both(self.projects, other.projects), _both(self.jobs, other.jobs)
        )


class Link(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a delegation: `by` handed a right to `to`, both as people read them."""

    delegation: str
    by: str
    to: str


class Principal(Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks. `subject` is the issuer's id of them; `name` and `domain` are for people to read.

    Somebody's delegate is that somebody with a `chain`, the outermost link first: the rights and the responsibility are
    the delegator's. `credential` is the id of the plane token that they came with.
    """

    subject: str
    name: str
    domain: str
    tenant: str
    issuer: str
    pseudonym: str
    roles: tuple[str, ...] = ()
    project_roles: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    team: str | None = None
    department: str | None = None
    kind: Literal["user", "service"] = "user"
    groups: tuple[str, ...] = ()
    via: Via = "oidc"
    credential: str | None = None
    scope: Scope | None = None
    chain: tuple[Link, ...] = ()
    acr: str | None = None
    amr: tuple[str, ...] = ()
    authenticated_at: dt.datetime | None = None
    asserted_at: dt.datetime | None = None
    """When their provider said all this."""

    @property
    def actor(self) -> str:
        """As evidence names them (G3): `user:NAME@DOMAIN`."""
        return f"{self.kind}:{self.called}"

    @property
    def called(self) -> str:
        """`NAME@DOMAIN`; no name has an @ in it."""
        return f"{self.name}@{self.domain}"

    def roles_in(self, project: str) -> tuple[str, ...]:
        """The roles that hold in `project`, sorted, the tenant-wide ones among them; none outside their scope."""
        if self.scope is not None and not self.scope.reaches(project):
            return ()
        return tuple(sorted({*self.roles, *self.project_roles.get(project, ())}))

    def holding(self, more: tuple[Assignment, ...]) -> Principal:
        """The same principal with `more` roles; unknown role names are left out."""
        known = [one for one in more if one.role in ROLES]
        wide = {*self.roles, *(one.role for one in known if one.project is None)}
        local: dict[str, set[str]] = {project: set(held) for project, held in self.project_roles.items()}
        for one in known:
            if one.project is not None:
                local.setdefault(one.project, set()).add(one.role)
        return msgspec.structs.replace(
            self,
            roles=tuple(sorted(wide)),
            project_roles={project: tuple(sorted(held)) for project, held in sorted(local.items())},
        )


def _both(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(name for name in one if name in other)


def is_tenant(name: str) -> bool:
    """Whether `name` may name a tenant. `_plane` may not: it is the plane's own."""
    return _TENANT.fullmatch(name) is not None


def is_project(name: str) -> bool:
    """Whether `name` may name a project."""
    return _PROJECT.fullmatch(name) is not None


def parse_role(text: str) -> Assignment | None:
    """`role` or `role@project` of a token. None for what this plane doesn't know: other systems' roles."""
    role, at, project = text.partition("@")
    if role not in ROLES or (at and not is_project(project)):
        return None
    return Assignment(role, project if at else None)


def named(text: str, *, tenant: str, subject: str) -> tuple[str, str]:
    """(name, domain) of the issuer's name for a person; an odd one is replaced by a hash of `subject`."""
    local, at, domain = text.rpartition("@")
    if at and _NAME.fullmatch(local) and len(domain) <= 253 and _DOMAIN.fullmatch(domain.lower()):
        return local, domain.lower()
    if _NAME.fullmatch(text):
        return text, tenant
    return "sub-" + hashlib.sha256(subject.encode()).hexdigest()[:16], tenant


def pseudonym_of(key: bytes, *, tenant: str, issuer: str, subject: str) -> str:
    """`a-` and 128 bits of HMAC-SHA256: the same person has the same name, and only `key` finds the person."""
    identity = json.dumps([tenant, issuer, subject]).encode()
    return "a-" + hmac.new(key, identity, hashlib.sha256).hexdigest()[:32]
