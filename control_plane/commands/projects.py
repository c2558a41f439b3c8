# SPDX-License-Identifier: Apache-2.0
"""`qcos projects`: created, changed, closed, opened again (G13)."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._plane import plane

_SHOWN = ("project", "state", "cost_center", "created_at")


def register(groups: Any) -> None:
    """Add the commands."""
    group = groups.add_parser("projects", help="the tenant's projects")
    projects = group.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    listing = projects.add_parser("list", help="those that you may see, by name")
    listing.set_defaults(run=_list)
    create = projects.add_parser("create", help="a new project; it takes jobs once it has a budget (qcos budget set)")
    create.set_defaults(run=_create)
    change = projects.add_parser("set", help="change a project")
    change.set_defaults(run=_set)
    close = projects.add_parser("close", help="take no new jobs; what waits or runs goes on")
    close.set_defaults(run=_act, verb="close")
    reopen = projects.add_parser("reopen", help="take jobs again")
    reopen.set_defaults(run=_act, verb="reopen")
    for command in (create, change, close, reopen):
        command.add_argument("project", metavar="PROJECT")
        command.add_argument("--reason", metavar="TEXT", required=True, help="kept in the ledger; name nobody in it")
    create.add_argument("--cost-center", metavar="NAME", help="where its costs are booked")
    change.add_argument(
        "--cost-center", metavar="NAME", required=True, help="where its costs are booked; '' for nowhere"
    )
    for command in (listing, create, change, close, reopen):
        command.add_argument("--json", action="store_true", help="one document")


def _list(arguments: argparse.Namespace) -> None:
    from control_plane.commands import _people

    _people.listing(arguments, "/api/v1/projects", _SHOWN)


def _create(arguments: argparse.Namespace) -> None:
    asked = {"project": arguments.project, "reason": arguments.reason, "cost_center": arguments.cost_center or None}
    _tell(arguments, "POST", "", asked)


def _set(arguments: argparse.Namespace) -> None:
    asked = {"reason": arguments.reason, "cost_center": arguments.cost_center or None}
    _tell(arguments, "PATCH", f"/{_quoted(arguments)}", asked)


def _act(arguments: argparse.Namespace) -> None:
    _tell(arguments, "POST", f"/{_quoted(arguments)}/{arguments.verb}", {"reason": arguments.reason})


def _quoted(arguments: argparse.Namespace) -> str:
    from urllib.parse import quote

    return quote(arguments.project, safe="")


def _tell(arguments: argparse.Namespace, method: str, path: str, asked: dict[str, Any]) -> None:
    from control_plane.commands import _people

    _people.told(arguments, plane().ask(method, f"/api/v1/projects{path}", asked), _SHOWN)
