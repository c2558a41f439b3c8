# SPDX-License-Identifier: Apache-2.0
"""`qcos ledger verify|replay`: the register judged on the plane's machine, as the audit role (I4, I6); and proofs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands import _ledger_follow, _ledger_proof


def register(groups: Any) -> None:
    """Add the commands."""
    ledger = groups.add_parser("ledger", help="verify, replay and prove the register").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    verify = ledger.add_parser("verify", help="re-verify every entry, tile, checkpoint and signature")
    verify.add_argument("--json", action="store_true", help="one document")
    verify.set_defaults(run=_verify)
    replay = ledger.add_parser("replay", help="fold all entries into the state of jobs and budgets")
    replay.add_argument("--compare", action="store_true", help="hold every row against the fold")
    replay.add_argument("--from", metavar="SNAPSHOT", dest="start", type=Path, help="go on from a snapshot's file")
    replay.add_argument("--at", metavar="SIZE", type=int, help="up to the checkpoint of this size")
    replay.add_argument("--state", action="store_true", help="write the canonical state (with -o)")
    replay.add_argument("-o", "--output", metavar="FILE", type=Path, help="where --state writes it")
    replay.add_argument("--json", action="store_true", help="one document")
    replay.set_defaults(run=_replay)
    snapshot = ledger.add_parser("snapshot", help="keep the state that the register tells, its hash in the ledger")
    snapshot.add_argument("--json", action="store_true", help="one document")
    snapshot.set_defaults(run=_snapshot)
    _ledger_proof.register(ledger)
    _ledger_follow.register(ledger)


def _verify(arguments: argparse.Namespace) -> int:
    import asyncio

    from control_plane import auditing, tables

    report = asyncio.run(auditing.verify())
    if arguments.json:
        tables.document(report)
    else:
        verdict = "sound" if report["ok"] else "BROKEN"
        tables.facts([("ledger", verdict), ("entries", report["checked"]), ("root", report["root"])])
        for failure in report["failures"]:
            where = "ledger" if failure["index"] is None else f"entry {failure['index']}"
            tables.facts([(where, failure["reason"])])
        for held in report.get("anchors", ()):
            tables.facts([(f"anchor {held['name']}", held["detail"])])
    return 0 if report["ok"] else 1


def _replay(arguments: argparse.Namespace) -> int:
    import asyncio

    from control_plane import auditing, tables
    from control_plane.errors import Refused

    if arguments.state != (arguments.output is not None):
        raise Refused("usage", "--state and -o FILE go together")
    if arguments.compare and arguments.at is not None:
        raise Refused("usage", "--compare holds the rows of now against the whole ledger: not with --at")
    report = asyncio.run(
        auditing.replay(compare=arguments.compare, start=arguments.start, size=arguments.at, state=arguments.output)
    )
    if arguments.json:
        tables.document(report)
    else:
        tables.facts([(name, value) for name, value in report.items() if name != "differences" and value is not None])
        for line in report["differences"]:
            tables.facts([("difference", line)])
    return 1 if report["differences"] else 0


def _snapshot(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane import auditing, tables

    made = asyncio.run(auditing.snapshot_made())
    if arguments.json:
        tables.document(made)
    else:
        tables.facts(list(made.items()))
