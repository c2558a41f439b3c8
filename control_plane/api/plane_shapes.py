# SPDX-License-Identifier: Apache-2.0
"""What a plane says of itself and of its caller. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from control_plane.auth.principal import Link, Scope, Via


class Caller(Struct, frozen=True):
    """Who the caller is here, how they came, and what they may do where: `scope` narrows what the roles allow, and
    `acting` says who acts for them, the first delegation first.
    """

    subject: str
    actor: str
    tenant: str
    roles: tuple[str, ...]
    project_roles: dict[str, tuple[str, ...]]
    projects: tuple[str, ...]
    team: str | None
    department: str | None
    kind: Literal["user", "service"]
    groups: tuple[str, ...]
    via: Via
    credential: str | None
    scope: Scope | None
    acting: tuple[Link, ...]


class Dependency(Struct, frozen=True):
    """One thing that a job needs; `code` where a fault has a stable one."""

    ok: bool
    detail: str
    code: str | None = None


class Readiness(Struct, frozen=True):
    """Whether a job could be admitted, run, sealed and stamped now."""

    ready: bool
    checks: dict[str, Dependency]


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"]


class Root(Struct, frozen=True):
    """Name, version and where to go."""

    name: str
    version: str
    api: str
    openapi: str
