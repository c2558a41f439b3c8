# SPDX-License-Identifier: Apache-2.0
"""`qcos service rule add|list|remove`: whose pipelines stand for which service account."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from control_plane.commands._lasting import seconds
from control_plane.commands._plane import plane

_PATH = "/api/v1/workload-rules"
_FIELDS = ("rule_id", "service", "issuer", "claims", "actions", "projects", "lasts_s")


def register(service: Any) -> None:
    """Add the commands."""
    from control_plane.commands.service import documented, reasoned, scoped

    rule = service.add_parser("rule", help="which pipelines stand for which account").add_subparsers(
        title="commands", metavar="COMMAND", dest="verb", required=True
    )
    add = rule.add_parser("add", help="let pipelines with these claims be the account")
    add.add_argument("name", metavar="NAME", help="the service account")
    add.add_argument("--issuer", metavar="URL", required=True, help="of an [[oidc]] table with workload = true")
    add.add_argument(
        "--claim",
        metavar="NAME=VALUE",
        action="append",
        required=True,
        help="what the token claims; * stops at / and :, ** at nothing; may be repeated",
    )
    add.add_argument("--lasts", metavar="TIME", default="15m", help="for how long its tokens stand (15m)")
    scoped(add)
    add.set_defaults(run=_add)
    listing = rule.add_parser("list", help="the rules, the oldest first")
    listing.set_defaults(run=_list)
    remove = rule.add_parser("remove", help="take a rule away, with the tokens that it gave")
    remove.add_argument("rule", metavar="RULE", help="its id, as `list` shows it")
    remove.set_defaults(run=_remove)
    reasoned([add, remove])
    documented([add, listing, remove])


def _add(arguments: argparse.Namespace) -> None:
    from control_plane.commands.service import told
    from control_plane.errors import Refused

    claims: dict[str, str] = {}
    for text in arguments.claim:
        name, equals, value = text.partition("=")
        if not equals or name in claims:
            raise Refused("usage", f"--claim {text}: wanted NAME=VALUE, each name once")
        claims[name] = value
    asked = {
        "issuer": arguments.issuer,
        "account": arguments.name,
        "claims": claims,
        "lasts_s": seconds("--lasts", arguments.lasts),
        "actions": arguments.actions,
        "projects": arguments.project,
        "reason": arguments.reason,
    }
    told(arguments, _FIELDS, plane().ask("POST", _PATH, asked))


def _list(arguments: argparse.Namespace) -> None:
    from control_plane.commands.service import shown

    shown(arguments, _FIELDS, plane().ask("GET", _PATH))


def _remove(arguments: argparse.Namespace) -> None:
    from control_plane.commands.service import told

    path = f"{_PATH}/{quote(arguments.rule, safe='')}/remove"
    told(arguments, ("rule_id", "service"), plane().ask("POST", path, {"reason": arguments.reason}))
