# SPDX-License-Identifier: Apache-2.0
"""`qcos retention`: what may go and when, legal holds, erasure, and the names behind pseudonyms (G12)."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from control_plane.commands._plane import plane

HOLD = ("hold_id", "scope", "placed_at", "placed_by", "reason")
DUE = ("job_id", "project", "until", "held_by")
ACTOR = ("pseudonym", "actor", "jobs", "first", "last")


def register(groups: Any) -> None:
    """Add the commands."""
    retention = groups.add_parser("retention", help="retention, legal holds and erasure").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    due = retention.add_parser("due", help="jobs whose retention is over; nothing is erased by asking")
    due.add_argument("--within", metavar="DAYS", default="0", help="what will go within so many days")
    due.set_defaults(run=_due)
    holds = retention.add_parser("holds", help="legal holds that stand")
    holds.add_argument("--released", action="store_true", help="those that ended too")
    holds.set_defaults(run=_holds)
    hold = retention.add_parser("hold", help="place a legal hold: what it covers is not erased")
    hold.add_argument("scope", metavar="SCOPE", help="tenant, project:NAME, job:ID or actor:PSEUDONYM")
    hold.set_defaults(run=_hold)
    release = retention.add_parser("release", help="release a legal hold")
    release.add_argument("hold", metavar="HOLD")
    release.set_defaults(run=_release)
    erase = retention.add_parser("erase", help="erase a job's contents for good")
    erase.add_argument("job", metavar="JOB")
    erase.add_argument("--early", action="store_true", help="although its retention is not over")
    erase.set_defaults(run=_erase)
    actors = retention.add_parser("actors", help="whom the ledger's pseudonyms stand for")
    actors.set_defaults(run=_actors)
    forget = retention.add_parser("forget", help="erase a person's name: their pseudonym stands for nobody then")
    forget.add_argument("actor", metavar="ACTOR", help="user:NAME@DOMAIN, or a pseudonym")
    forget.set_defaults(run=_forget)
    for command in (hold, release, erase, forget):
        command.add_argument("--reason", metavar="TEXT", required=True, help="kept in the ledger; name nobody in it")
    for command in (due, holds, hold, release, erase, actors, forget):
        command.add_argument("--json", action="store_true", help="one document")


def _due(arguments: argparse.Namespace) -> None:
    within = quote(arguments.within, safe="")
    _list(arguments, DUE, plane().ask("GET", f"/api/v1/retention/due?within_days={within}"))


def _holds(arguments: argparse.Namespace) -> None:
    ended = "?released=true" if arguments.released else ""
    fields = (*HOLD, "released_at") if ended else HOLD
    _list(arguments, fields, plane().ask("GET", f"/api/v1/retention/holds{ended}"))


def _hold(arguments: argparse.Namespace) -> None:
    asked = {"scope": arguments.scope, "reason": arguments.reason}
    _list(arguments, HOLD, [plane().ask("POST", "/api/v1/retention/holds", asked)])


def _release(arguments: argparse.Namespace) -> None:
    path = f"/api/v1/retention/holds/{quote(arguments.hold, safe='')}/release"
    _list(arguments, (*HOLD, "released_at"), [plane().ask("POST", path, {"reason": arguments.reason})])


def _erase(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    asked = {"reason": arguments.reason, "early": arguments.early}
    told = plane().ask("POST", f"/api/v1/jobs/{quote(arguments.job, safe='')}/erase", asked)
    if arguments.json:
        tables.document(told)
    else:
        tables.facts([("job", told["job_id"]), ("contents erased", told["keys"]), ("at", told["at"])])


def _actors(arguments: argparse.Namespace) -> None:
    _list(arguments, ACTOR, plane().ask("GET", "/api/v1/actors"))


def _forget(arguments: argparse.Namespace) -> None:
    asked = {"actor": arguments.actor, "reason": arguments.reason}
    _list(arguments, ("pseudonym", "jobs"), plane().ask("POST", "/api/v1/actors/forget", asked))


def _list(arguments: argparse.Namespace, fields: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(rows)
    else:
        tables.table(fields, [[row[name] for name in fields] for row in rows])
