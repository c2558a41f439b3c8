# SPDX-License-Identifier: Apache-2.0
"""`qcos approvals list|show`, `approve`, `reject`."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._lasting import seconds
from control_plane.commands._plane import plane


def register(groups: Any) -> None:
    """Add the commands."""
    approvals = groups.add_parser("approvals", help="jobs that wait for a second person").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    listing = approvals.add_parser("list", help="what waits, newest first")
    listing.add_argument("--all", action="store_true", help="what was answered too")
    listing.add_argument("--limit", metavar="N", type=int, default=100)
    listing.add_argument("--json", action="store_true", help="one document")
    listing.set_defaults(run=_list)
    show = approvals.add_parser("show", help="what is to be approved, and what spoke against it")
    show.add_argument("job", metavar="JOB")
    show.add_argument("--json", action="store_true", help="one document")
    show.set_defaults(run=_show)
    approve = groups.add_parser("approve", help="let a job run that policy denied softly")
    approve.add_argument("job", metavar="JOB")
    approve.add_argument("--reason", metavar="TEXT", required=True, help="why; the ledger and the evidence keep it")
    approve.add_argument("--expires", metavar="TIME", default="24h", help="until when it may start: 90s, 30m, 24h, 7d")
    approve.add_argument("--json", action="store_true", help="one document")
    approve.set_defaults(run=_answer, verb="approve")
    reject = groups.add_parser("reject", help="end a job that waits for an approval")
    reject.add_argument("job", metavar="JOB")
    reject.add_argument("--reason", metavar="TEXT", required=True, help="why; the ledger and the evidence keep it")
    reject.add_argument("--json", action="store_true", help="one document")
    reject.set_defaults(run=_answer, verb="reject")


def _quoted(job: str) -> str:
    from urllib.parse import quote

    return quote(job, safe="")


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    wanted = "all" if arguments.all else "waiting"
    found = plane().ask("GET", f"/api/v1/approvals?state={wanted}&limit={arguments.limit}")
    if arguments.json:
        tables.document(found)
        return
    rows = [
        (
            one["job_id"],
            one["approval"]["state"],
            one["requested_by"],
            one["project"],
            ", ".join(one["approval"]["reasons"]),
            one["approval"]["wait_until"],
        )
        for one in found
    ]
    tables.table(("job", "approval", "requested by", "project", "reasons", "waits until"), rows)


def _show(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = plane().ask("GET", f"/api/v1/approvals/{_quoted(arguments.job)}")
    if arguments.json:
        tables.document(found)
        return
    _tell(found)


def _tell(found: dict[str, Any]) -> None:
    from control_plane import tables

    given = found["approval"]
    bound, answer = given.get("bound") or {}, given.get("answer") or {}
    tables.facts(
        [
            ("job", found["job_id"]),
            ("state", found["state"]),
            ("approval", given["state"]),
            ("requested by", found["requested_by"]),
            ("held", f"{found['held']} {found['currency']}"),
            ("waits until", given["wait_until"]),
            ("backend", bound.get("backend")),
            ("target", bound.get("target")),
            ("compiled", bound.get("compiled")),
            *(("source", source) for source in bound.get("sources", ())),
            ("answered by", answer.get("by")),
            ("reason", answer.get("reason")),
            ("expires", answer.get("expires_at")),
            ("used", given.get("used_at")),
        ]
    )
    rows = [(one["code"], one["level"], one["message"], one.get("fix")) for one in found["reasons"]]
    tables.table(("reason", "level", "message", "would pass"), rows)


def _answer(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    asked: dict[str, Any] = {"reason": arguments.reason}
    if arguments.verb == "approve":
        asked["expires_s"] = seconds("--expires", arguments.expires)
    client = plane()
    job = client.ask("POST", f"/api/v1/jobs/{_quoted(arguments.job)}/{arguments.verb}", asked, limit_s=60)
    if arguments.json:
        tables.document(job)
    else:
        _tell(client.ask("GET", f"/api/v1/approvals/{_quoted(arguments.job)}"))
