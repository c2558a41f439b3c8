# SPDX-License-Identifier: Apache-2.0
"""`qcos service create|list|show|remove`; keys, rules and a pipeline's login are in the modules beside."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from control_plane.commands._plane import plane

PATH = "/api/v1/service-accounts"
_FIELDS = ("name", "actor", "description", "created_at", "removed_at")


def register(groups: Any) -> None:
    """Add the commands."""
    from control_plane.commands import _service_key, _service_login, _service_rule

    service = groups.add_parser("service", help="service accounts of pipelines and robots").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    create = service.add_parser("create", help="make a service account")
    create.add_argument("name", metavar="NAME", help="small letters, digits, -; given once")
    create.add_argument("--description", metavar="TEXT", default="", help="what it is for")
    create.add_argument("--role", metavar="ROLE[@PROJECT]", action="append", default=[], help="may be repeated")
    create.set_defaults(run=_create)
    listing = service.add_parser("list", help="service accounts by name; removed ones too")
    listing.set_defaults(run=_list)
    show = service.add_parser("show", help="who an account is, and its roles")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_show)
    remove = service.add_parser("remove", help="remove an account for good, with its keys and tokens")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=_remove)
    reasoned([create, remove])
    documented([create, listing, show, remove])
    _service_key.register(service)
    _service_rule.register(service)
    _service_login.register(service)


def reasoned(commands: Sequence[Any]) -> None:
    """What changes something says why."""
    for command in commands:
        command.add_argument("--reason", metavar="TEXT", required=True, help="why; the ledger keeps it")


def documented(commands: Sequence[Any]) -> None:
    """Every command has a form for programs."""
    for command in commands:
        command.add_argument("--json", action="store_true", help="one document")


def scoped(command: Any) -> None:
    """What narrows a right."""
    command.add_argument("--project", metavar="NAME", action="append", help="only in this project; may be repeated")
    command.add_argument(
        "--action", dest="actions", metavar="ACTION", action="append", help="only this, as job:submit; may be repeated"
    )


def path_of(*parts: str) -> str:
    """An address below that of service accounts."""
    return "/".join((PATH, *(quote(part, safe="") for part in parts)))


def shown(arguments: argparse.Namespace, fields: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Rows for people, or the document."""
    from control_plane import tables

    if arguments.json:
        tables.document(rows)
    else:
        tables.table(fields, [[cell(row[name]) for name in fields] for row in rows])


def told(arguments: argparse.Namespace, fields: Sequence[str], row: dict[str, Any]) -> None:
    """One thing for people, or the document."""
    from control_plane import tables

    if arguments.json:
        tables.document(row)
    else:
        tables.facts([(name.replace("_", " "), cell(row[name])) for name in fields])


def cell(value: Any) -> Any:
    """Lists and claims in one cell."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in sorted(value.items()))
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _create(arguments: argparse.Namespace) -> None:
    roles = []
    for text in arguments.role:
        role, _, project = text.partition("@")
        roles.append({"role": role, "project": project or None})
    asked = {"name": arguments.name, "description": arguments.description, "roles": roles, "reason": arguments.reason}
    _tell(arguments, plane().ask("POST", PATH, asked))


def _list(arguments: argparse.Namespace) -> None:
    shown(arguments, _FIELDS, plane().ask("GET", PATH))


def _show(arguments: argparse.Namespace) -> None:
    _tell(arguments, plane().ask("GET", path_of(arguments.name)))


def _remove(arguments: argparse.Namespace) -> None:
    _tell(arguments, plane().ask("POST", path_of(arguments.name, "remove"), {"reason": arguments.reason}))


def _tell(arguments: argparse.Namespace, found: dict[str, Any]) -> None:
    held = [one["role"] + (f"@{one['project']}" if one["project"] else "") for one in found["roles"]]
    row = found if arguments.json else found | {"roles": held}
    told(arguments, ("name", "actor", "user", "description", "roles", "created_at", "removed_at"), row)
