# SPDX-License-Identifier: Apache-2.0
"""`qcos ledger verify|replay`: the register judged on the plane's machine, as the audit role (I4, I6); and proofs."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands import _ledger_proof


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
    replay.add_argument("--json", action="store_true", help="one document")
    replay.set_defaults(run=_replay)
    _ledger_proof.register(ledger)


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
            tables.facts([(f"entry {failure['index']}", failure["reason"])])
    return 0 if report["ok"] else 1


def _replay(arguments: argparse.Namespace) -> int:
    import asyncio

    from control_plane import auditing, tables

    report = asyncio.run(auditing.replay(compare=arguments.compare))
    if arguments.json:
        tables.document(report)
    else:
        tables.facts([(name, value) for name, value in report.items() if name != "differences" and value is not None])
        for line in report["differences"]:
            tables.facts([("difference", line)])
    return 1 if report["differences"] else 0
