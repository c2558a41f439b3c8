# SPDX-License-Identifier: Apache-2.0
"""`qcos users`: the tenant's people, who is awaited, and who is shut out (G13)."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._people import WORDS
from control_plane.commands._plane import plane

_LISTED = ("user", "actor", "issuer", "subject", "state", "seen_at")


def register(groups: Any) -> None:
    """Add the commands."""
    group = groups.add_parser("users", help="the tenant's people: who they are, what they hold, who is shut out")
    users = group.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    listing = users.add_parser("list", help="everybody who was here or is awaited, by name")
    listing.add_argument("--state", choices=("active", "removed"))
    listing.set_defaults(run=_list)
    show = users.add_parser("show", help="one of them: groups, and each role with what gives it")
    show.set_defaults(run=_show)
    add = users.add_parser("add", help="know of somebody before they come, so that they can be given roles")
    add.add_argument("--issuer", metavar="ISSUER", required=True, help="as the settings name it")
    add.add_argument("--subject", metavar="SUBJECT", required=True, help="as their token's sub has them")
    add.set_defaults(run=_add)
    remove = users.add_parser("remove", help="shut somebody out from their next request on")
    remove.set_defaults(run=_act, verb="remove")
    restore = users.add_parser("restore", help="let somebody in again, with the roles they had")
    restore.set_defaults(run=_act, verb="restore")
    for command in (show, remove, restore):
        command.add_argument("user", metavar="USER", help=WORDS)
    for command in (add, remove, restore):
        command.add_argument("--reason", metavar="TEXT", required=True, help="kept in the ledger; name nobody in it")
    for command in (listing, show, add, remove, restore):
        command.add_argument("--json", action="store_true", help="one document")


def _list(arguments: argparse.Namespace) -> None:
    from control_plane.commands import _people

    state = f"?state={arguments.state}" if arguments.state else ""
    _people.listing(arguments, f"/api/v1/users{state}", _LISTED, "&" if state else "?")


def _show(arguments: argparse.Namespace) -> None:
    from control_plane.commands import _people

    asking = plane()
    user = _people.named(asking, arguments.user)["user"]
    _tell(arguments, asking.ask("GET", f"/api/v1/users/{user}"))


def _add(arguments: argparse.Namespace) -> None:

    asked = {"issuer": arguments.issuer, "subject": arguments.subject, "reason": arguments.reason}
    _tell(arguments, plane().ask("POST", "/api/v1/users", asked))


def _act(arguments: argparse.Namespace) -> None:
    from control_plane.commands import _people

    asking = plane()
    user = _people.named(asking, arguments.user)["user"]
    _tell(arguments, asking.ask("POST", f"/api/v1/users/{user}/{arguments.verb}", {"reason": arguments.reason}))


def _tell(arguments: argparse.Namespace, shown: dict[str, Any]) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(shown)
        return
    tables.facts(
        [
            *((name, shown[name]) for name in (*_LISTED, "team", "department")),
            ("groups", ", ".join(shown["groups"])),
            *(("role", _role(one)) for one in shown["roles"]),
        ]
    )


def _role(one: dict[str, Any]) -> str:
    where = f" in {one['project']}" if one["project"] else ""
    by = {"assigned": "", "group": f", by group {one['group']}", "provider": ", by the provider"}
    return f"{one['role']}{where}{by[one['source']]}"
