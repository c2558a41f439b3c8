# SPDX-License-Identifier: Apache-2.0
"""`qcos delegate`, `qcos delegations`: a part of one's own rights in other hands, for a while (G13)."""

from __future__ import annotations

import argparse
import re
from typing import Any

from control_plane.commands._plane import plane

_FIELDS = ("id", "state", "to", "actions", "projects", "job_id", "expires_at")
_SPAN = re.compile(r"(?P<number>[1-9][0-9]{0,8})(?P<unit>[smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def register(groups: Any) -> None:
    """Add the commands."""
    hand = groups.add_parser("delegate", help="hand a part of your rights to a robot or a job, for a while")
    hand.add_argument("to", metavar="NAME", help="what evidence calls the delegate; no mail address")
    hand.add_argument(
        "--action",
        metavar="ACTION",
        action="append",
        required=True,
        help="as docs/guide-admin.md lists them; repeatable",
    )
    hand.add_argument(
        "--project", metavar="PROJECT", action="append", help="in it alone; repeatable; else in all of yours"
    )
    hand.add_argument("--job", metavar="JOB", help="for requests about this job alone")
    hand.add_argument("--for", dest="span", metavar="SPAN", required=True, help="30m, 8h, 7d; at most 30d")
    hand.add_argument("--reason", metavar="TEXT", required=True, help="kept in the ledger; name nobody in it")
    hand.set_defaults(run=_delegate)
    verbs = groups.add_parser("delegations", help="what was handed over").add_subparsers(
        title="commands", metavar="COMMAND", dest="action_", required=True
    )
    listing = verbs.add_parser("list", help="yours, the newest first")
    listing.add_argument("--all", action="store_true", help="those of the whole tenant")
    listing.set_defaults(run=_list)
    end = verbs.add_parser("revoke", help="end one at once, with all that was handed on from it")
    end.add_argument("delegation", metavar="ID")
    end.add_argument("--reason", metavar="TEXT", help="kept in the ledger; name nobody in it")
    end.set_defaults(run=_revoke)
    for command in (hand, listing, end):
        command.add_argument("--json", action="store_true", help="one document")


def _delegate(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.errors import Refused

    span = _SPAN.fullmatch(arguments.span)
    if span is None:
        raise Refused("usage", f"--for {arguments.span}: wanted a number and s, m, h or d, as in 8h")
    asked = {
        "to": arguments.to,
        "actions": arguments.action,
        "projects": arguments.project,
        "job": arguments.job,
        "expires_in_s": int(span["number"]) * _UNITS[span["unit"]],
        "reason": arguments.reason,
    }
    done = plane().ask("POST", "/api/v1/delegations", asked)
    if arguments.json:
        tables.document(done)
    else:
        tables.facts(
            [(name, _plain(done[name])) for name in ("id", "to", "actions", "projects", "expires_at", "token")]
        )


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    rows = plane().ask("GET", f"/api/v1/delegations{'?whose=all' if arguments.all else ''}")
    if arguments.json:
        tables.document(rows)
    else:
        tables.table(_FIELDS, [[_plain(row[name]) for name in _FIELDS] for row in rows])


def _revoke(arguments: argparse.Namespace) -> None:
    from urllib.parse import quote

    from control_plane import tables

    path = f"/api/v1/delegations/{quote(arguments.delegation, safe='')}"
    reason = f"?reason={quote(arguments.reason, safe='')}" if arguments.reason else ""
    plane().ask("DELETE", path + reason)
    done = {"id": arguments.delegation, "state": "revoked"}
    if arguments.json:
        tables.document(done)
    else:
        tables.facts(list(done.items()))


def _plain(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value
