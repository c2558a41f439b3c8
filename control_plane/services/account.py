# SPDX-License-Identifier: Apache-2.0
"""What a service account is, as values: its principal, what may be asked for it, and within which bounds. Pure."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from control_plane.auth.access import Action
from control_plane.auth.errors import Forbidden
from control_plane.auth.principal import Principal, Role, Scope, pseudonym_of
from control_plane.auth.source import MOST_NETWORKS, network
from control_plane.errors import Refused
from control_plane.strict import Reason

__all__ = [
    "ISSUER",
    "AccountAsked",
    "GrantedRole",
    "Keying",
    "Name",
    "Reasoned",
    "Rotating",
    "narrowed",
    "networks_of",
    "principal",
]

ISSUER: Final = "urn:qcos:service"
"""The issuer of every service account: the plane itself."""
DAY_S: Final = 86_400

Name = Annotated[
    str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9-]*$", description="Small letters, digits, -.")
]
ProjectName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Projects = Annotated[tuple[ProjectName, ...], Meta(min_length=1, max_length=64)]
Actions = Annotated[tuple[Action, ...], Meta(min_length=1, max_length=64)]
Networks = Annotated[
    tuple[Annotated[str, Meta(min_length=2, max_length=64)], ...], Meta(min_length=1, max_length=MOST_NETWORKS)
]
Lasting = Annotated[int, Meta(ge=60, le=366 * DAY_S, description="Seconds.")]
Text = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]


class GrantedRole(Struct, frozen=True, forbid_unknown_fields=True):
    """A role, in one project or in all of the tenant's."""

    role: Role
    project: ProjectName | None = None


class AccountAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """A service account that is asked for; to give it roles wants `user:manage`, too."""

    name: Name
    reason: Reason
    description: Text = ""
    roles: Annotated[tuple[GrantedRole, ...], Meta(max_length=64)] = ()


class Keying(Struct, frozen=True, forbid_unknown_fields=True):
    """A key that is asked for: until when, for which actions, in which projects, from which networks; null = any."""

    reason: Reason
    expires_s: Lasting = 90 * DAY_S
    actions: Actions | None = None
    projects: Projects | None = None
    networks: Networks | None = None
    note: Text = ""


class Rotating(Struct, frozen=True, forbid_unknown_fields=True):
    """A key in another's place, for as long as that was made for; the old one stands for `overlap_s` more."""

    reason: Reason
    overlap_s: Annotated[int, Meta(ge=0, le=30 * DAY_S, description="Seconds.")] = DAY_S
    expires_s: Lasting | None = None


class Reasoned(Struct, frozen=True, forbid_unknown_fields=True):
    """Why somebody decided so."""

    reason: Reason


creating = msgspec.json.Decoder(AccountAsked)
keying = msgspec.json.Decoder(Keying)
rotating = msgspec.json.Decoder(Rotating)
reasoned = msgspec.json.Decoder(Reasoned)


def principal(tenant: str, name: str, pseudonym_key: bytes) -> Principal:
    """Who the account is: `service:NAME@TENANT`. Its roles are assignments, which each request looks up anew."""
    return Principal(
        subject=name,
        name=name,
        domain=tenant,
        tenant=tenant,
        issuer=ISSUER,
        pseudonym=pseudonym_of(pseudonym_key, tenant=tenant, issuer=ISSUER, subject=name),
        kind="service",
        via="key",
    )


def narrowed(who: Principal, actions: tuple[str, ...] | None, projects: tuple[str, ...] | None) -> Scope | None:
    """The scope that is asked for, None where it is none. Forbidden where it is wider than what `who` came with."""
    own = who.scope or Scope()
    for wanted, held in ((actions, own.actions), (projects, own.projects)):
        if held is not None and (wanted is None or not set(wanted) <= set(held)):
            raise Forbidden("a key wider than your own")
    if actions is None and projects is None:
        return None
    return Scope(
        actions=None if actions is None else tuple(sorted(set(actions))),
        projects=None if projects is None else tuple(sorted(set(projects))),
    )


def networks_of(asked: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The networks in one spelling. Refused `request_invalid`, naming the one at fault."""
    if asked is None:
        return None
    found = set()
    for number, one in enumerate(asked):
        try:
            found.add(str(network(one)))
        except ValueError as error:
            field = f"networks[{number}]"
            raise Refused(
                "request_invalid", f"{field}: {error}", errors=({"field": field, "message": str(error)},)
            ) from None
    return tuple(sorted(found))
