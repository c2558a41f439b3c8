# SPDX-License-Identifier: Apache-2.0
"""`qcos costs credit|refund|correct|share` (G7)."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._plane import plane

_REASON = "why; kept in the ledger"
_SIGNED = "a decimal, such as 25.00 or -1.50"


def register(costs: Any) -> None:
    """Add the commands."""
    credit = costs.add_parser("credit", help="give a project a credit; no budget changes by it")
    _amount(credit, "a decimal, such as 25.00")
    credit.add_argument("--project", metavar="NAME", required=True, help="whose costs it lowers")
    credit.add_argument("--cost-center", metavar="NAME", help="else the project's default")
    _reason(credit, "credits", "amount", "currency", "project", "cost_center")
    refund = costs.add_parser("refund", help="give back what a job was charged; its budgets have as much again")
    refund.add_argument("job_id", metavar="JOB", help="its id")
    refund.add_argument("--amount", metavar="AMOUNT", help="else all that is left of the charge")
    _reason(refund, "refunds", "job_id", "amount")
    correct = costs.add_parser("correct", help="charge what was missing, or take off what was too much")
    _amount(correct, _SIGNED)
    whose = correct.add_mutually_exclusive_group(required=True)
    whose.add_argument("--job", metavar="JOB", dest="job_id", help="of one job")
    whose.add_argument("--project", metavar="NAME", help="of a project")
    correct.add_argument("--cost-center", metavar="NAME", help="of a project's correction; else its default")
    _reason(correct, "corrections", "amount", "currency", "job_id", "project", "cost_center")
    share = costs.add_parser("share", help="enter a cost that no job caused, to be split among cost centres")
    _amount(share, _SIGNED)
    share.add_argument("--pool", metavar="NAME", required=True, help="such as platform, support, subscription")
    share.add_argument("--provider", metavar="NAME", help="who bills it")
    _reason(share, "shared", "amount", "currency", "pool", "provider")


def _amount(command: argparse.ArgumentParser, said: str) -> None:
    command.add_argument("amount", metavar="AMOUNT", help=said)
    command.add_argument("currency", metavar="CURRENCY", help="such as USD")


def _reason(command: argparse.ArgumentParser, route: str, *names: str) -> None:
    command.add_argument("--reason", metavar="TEXT", required=True, help=_REASON)
    command.add_argument("--json", action="store_true", help="one document")
    command.set_defaults(run=_run, route=route, names=(*names, "reason"))


def _run(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    values = {name: getattr(arguments, name) for name in arguments.names}
    asked = {name: value for name, value in values.items() if value is not None}
    written = plane().ask("POST", f"/api/v1/costs/{arguments.route}", asked)
    if arguments.json:
        tables.document(written)
        return
    corrects = written.pop("corrects")
    facts = [(name, value) for name, value in written.items() if value is not None]
    facts += [("corrects", f"{corrects['entry_id']} of {corrects['month']}")] if corrects else []
    tables.facts(facts)
