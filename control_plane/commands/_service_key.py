# SPDX-License-Identifier: Apache-2.0
"""`qcos service key create|list|rotate|revoke`."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._lasting import seconds
from control_plane.commands._plane import plane

_FIELDS = ("key_id", "state", "actions", "projects", "networks", "expires_at", "used_at", "note")


def register(service: Any) -> None:
    """Add the commands."""
    from control_plane.commands.service import documented, reasoned, scoped

    key = service.add_parser("key", help="keys of service accounts").add_subparsers(
        title="commands", metavar="COMMAND", dest="verb", required=True
    )
    create = key.add_parser("create", help="make a key; it is shown once")
    scoped(create)
    create.add_argument("--network", metavar="CIDR", action="append", help="only from there; may be repeated")
    create.add_argument("--expires", metavar="TIME", default="90d", help="until when it stands: 12h, 90d (default)")
    create.add_argument("--note", metavar="TEXT", default="", help="where it lies, for whoever rotates it")
    create.set_defaults(run=_create)
    listing = key.add_parser("list", help="keys, the newest first, and when each was used last")
    listing.set_defaults(run=_list)
    rotate = key.add_parser("rotate", help="a new key in another's place; both stand for the overlap")
    rotate.add_argument("--overlap", metavar="TIME", default="24h", help="how long the old one still stands (24h)")
    rotate.add_argument("--expires", metavar="TIME", help="until when the new one stands (as long as the old one did)")
    rotate.set_defaults(run=_rotate)
    revoke = key.add_parser("revoke", help="end a key at once")
    revoke.set_defaults(run=_revoke)
    for command in (create, listing, rotate, revoke):
        command.add_argument("name", metavar="NAME", help="the service account")
    for command in (rotate, revoke):
        command.add_argument("key", metavar="KEY", help="its id, as `list` shows it")
    reasoned([create, rotate, revoke])
    documented([create, listing, rotate, revoke])


def _create(arguments: argparse.Namespace) -> None:
    from control_plane.commands.service import path_of

    asked: dict[str, Any] = {
        "reason": arguments.reason,
        "expires_s": seconds("--expires", arguments.expires),
        "actions": arguments.actions,
        "projects": arguments.project,
        "networks": arguments.network,
        "note": arguments.note,
    }
    _made(arguments, plane().ask("POST", path_of(arguments.name, "keys"), asked))


def _list(arguments: argparse.Namespace) -> None:
    from control_plane.commands.service import path_of, shown

    shown(arguments, _FIELDS, plane().ask("GET", path_of(arguments.name, "keys")))


def _rotate(arguments: argparse.Namespace) -> None:
    from control_plane.commands.service import path_of

    asked: dict[str, Any] = {
        "reason": arguments.reason,
        "overlap_s": seconds("--overlap", arguments.overlap),
        "expires_s": None if arguments.expires is None else seconds("--expires", arguments.expires),
    }
    _made(arguments, plane().ask("POST", path_of(arguments.name, "keys", arguments.key, "rotate"), asked))


def _revoke(arguments: argparse.Namespace) -> None:
    from control_plane.commands.service import path_of, told

    path = path_of(arguments.name, "keys", arguments.key, "revoke")
    told(arguments, ("key_id", "state", "revoked_at"), plane().ask("POST", path, {"reason": arguments.reason}))


def _made(arguments: argparse.Namespace, made: dict[str, Any]) -> None:
    from control_plane.commands.service import told

    fields = ["key_id", "service", "key", "expires_at"]
    told(arguments, [*fields, *(["replaces", "replaces_expires_at"] if made["replaces"] else [])], made)
