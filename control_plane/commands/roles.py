# SPDX-License-Identifier: Apache-2.0
"""`qcos roles`, `qcos groups`: what this plane gives to people, and to all whom a provider's group holds (G13)."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._people import WORDS
from control_plane.commands._plane import plane

_GIVEN = ("user", "issuer", "subject", "role", "project")
_MAPPED = ("issuer", "group", "role", "project")
_ROLES = ("auditor", "finops", "quantum-admin", "quantum-engineer", "quantum-user")


def register(groups: Any) -> None:
    """Add the commands."""
    given = groups.add_parser("roles", help="roles that this plane gives to people").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    roles = given.add_parser("list", help="what was given; qcos users show has what tokens and groups give, too")
    roles.set_defaults(run=_roles)
    grant = given.add_parser("grant", help="give a role; it counts from their next request on")
    grant.set_defaults(run=_give, verb="grant")
    revoke = given.add_parser("revoke", help="take a role; it counts from their next request on")
    revoke.set_defaults(run=_give, verb="revoke")
    for command in (grant, revoke):
        command.add_argument("user", metavar="USER", help=f"{WORDS}; with --issuer the subject of somebody new")
        command.add_argument("role", metavar="ROLE", choices=_ROLES, help=", ".join(_ROLES))
        command.add_argument("--issuer", metavar="ISSUER", help="as the settings name it")
    mapped = groups.add_parser("groups", help="roles that a provider's groups give").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    listing = mapped.add_parser("list", help="what groups give")
    listing.set_defaults(run=_groups)
    put = mapped.add_parser("map", help="let a group give a role to all whom it holds")
    put.set_defaults(run=_map, verb="map")
    end = mapped.add_parser("unmap", help="let it give the role no more")
    end.set_defaults(run=_map, verb="unmap")
    for command in (put, end):
        command.add_argument("group", metavar="GROUP", help="as the provider names it")
        command.add_argument("role", metavar="ROLE", choices=_ROLES, help=", ".join(_ROLES))
        command.add_argument("--issuer", metavar="ISSUER", required=True, help="as the settings name it")
    for command in (grant, revoke, put, end):
        command.add_argument("--project", metavar="PROJECT", help="in it alone; else in all of the tenant")
        command.add_argument("--reason", metavar="TEXT", required=True, help="kept in the ledger; name nobody in it")
    for command in (roles, listing):
        command.add_argument("--project", metavar="PROJECT", help="in it alone")
    for command in (roles, grant, revoke, listing, put, end):
        command.add_argument("--json", action="store_true", help="one document")


def _roles(arguments: argparse.Namespace) -> None:
    _listing(arguments, "/api/v1/roles", _GIVEN)


def _groups(arguments: argparse.Namespace) -> None:
    _listing(arguments, "/api/v1/groups", _MAPPED)


def _listing(arguments: argparse.Namespace, path: str, fields: tuple[str, ...]) -> None:
    from urllib.parse import quote

    from control_plane.commands import _people

    project = f"?project={quote(arguments.project, safe='')}" if arguments.project else ""
    _people.listing(arguments, f"{path}{project}", fields, "&" if project else "?")


def _give(arguments: argparse.Namespace) -> None:
    from control_plane.commands import _people

    asking = plane()
    asked = _people.named(asking, arguments.user, arguments.issuer) | _asked(arguments)
    _people.told(arguments, asking.ask("POST", f"/api/v1/roles/{arguments.verb}", asked), _GIVEN)


def _map(arguments: argparse.Namespace) -> None:
    from control_plane.commands import _people

    asked = {"issuer": arguments.issuer, "group": arguments.group} | _asked(arguments)
    _people.told(arguments, plane().ask("POST", f"/api/v1/groups/{arguments.verb}", asked), _MAPPED)


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"role": arguments.role, "project": arguments.project, "reason": arguments.reason}
