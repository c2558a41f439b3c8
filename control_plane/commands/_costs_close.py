# SPDX-License-Identifier: Apache-2.0
"""`qcos costs close|statement|statements|allocate|allocation` (G7)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane, read, write

MONTHS = ("month", "state", "frozen_at", "closed_at", "statement")
BORNE = ("cost_center", "currency", "usage", "shared", "credit", "correction", "refund", "net")
SPLIT = ("pool", "by", "cost_center", "weight", "amount", "currency")
LIMIT_S = 900.0  # a month of a million lines is summed meanwhile
SEAL_S = 10.0
LOOK_S = 0.1


def register(costs: Any) -> None:
    """Add the commands."""
    close = costs.add_parser("close", help="close a month that is over, and sign its statement")
    close.add_argument("month", metavar="YYYY-MM", help="the month (UTC), after all before it")
    close.add_argument(
        "--reason", default="month end", metavar="TEXT", help="why; kept in the ledger; month end unless told"
    )
    close.add_argument("--dry-run", action="store_true", help="only say what the statement would say now")
    close.add_argument("--json", action="store_true", help="one document")
    close.set_defaults(run=_close)
    statements = costs.add_parser("statements", help="months that are closed")
    statements.add_argument("--json", action="store_true", help="one document")
    statements.set_defaults(run=_statements)
    statement = costs.add_parser("statement", help="fetch a closed month's signed statement")
    statement.add_argument("month", metavar="YYYY-MM", help="a closed month (UTC)")
    statement.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="where it goes")
    statement.add_argument(
        "--format",
        choices=("json", "csv"),
        default="json",
        help="json is signed, csv has its cost centres; json unless told",
    )
    statement.add_argument(
        "--lines", metavar="FILE", type=Path, help="the charged lines too, as `verify --lines` reads"
    )
    statement.add_argument("--json", action="store_true", help="one document")
    statement.set_defaults(run=_statement)
    allocate = costs.add_parser("allocate", help="who bears what of a month, shared costs split")
    allocate.add_argument("--month", metavar="YYYY-MM", required=True, help="open or closed (UTC)")
    allocate.add_argument("--json", action="store_true", help="one document")
    allocate.set_defaults(run=_allocate)
    allocation = costs.add_parser("allocation", help="the method by which shared costs are split").add_subparsers(
        title="commands", metavar="COMMAND", dest="method", required=True
    )
    change = allocation.add_parser("set", help="put a method in force for every open month")
    change.add_argument("file", metavar="FILE", type=Path, help="the method, as JSON")
    change.add_argument("--json", action="store_true", help="one document")
    change.set_defaults(run=_set)
    show = allocation.add_parser("show", help="the method in force")
    show.add_argument("--json", action="store_true", help="one document")
    show.set_defaults(run=_show)


def _close(arguments: argparse.Namespace) -> None:
    if arguments.dry_run:
        sums = _sums(arguments.month)
        _borne(arguments, sums)
        _note_of_nothing(arguments, sums["lines"]["count"])
        return
    asked = {"reason": arguments.reason}
    path = f"/api/v1/costs/months/{_month(arguments.month)}/close"
    closed = plane().ask("POST", path, asked, limit_s=LIMIT_S)
    _months(arguments, [closed], one=True)
    _note_of_nothing(arguments, closed["lines"])


def _note_of_nothing(arguments: argparse.Namespace, lines: int | None) -> None:
    """Of a month with no line: so it was meant, or it is a slip of the keys."""
    import sys

    if lines == 0 and not arguments.json:
        sys.stderr.write(f"Note: nothing was charged in {arguments.month}: its statement is of no lines\n")


def _statements(arguments: argparse.Namespace) -> None:
    _months(arguments, plane().ask("GET", "/api/v1/costs/months"), one=False)


def _statement(arguments: argparse.Namespace) -> None:
    from control_plane.errors import Refused

    if arguments.output == arguments.lines:
        raise Refused("usage", "--lines: the same file as --output")
    path, client = f"/api/v1/costs/months/{_month(arguments.month)}", plane()
    data = _waited(client, f"{path}/statement")
    written = {"file": str(arguments.output), "bytes": 0}
    if arguments.format == "csv":
        data = _csv(_sums(arguments.month)["cost_centers"])
    written["bytes"] = write(arguments.output, data)
    if arguments.lines is not None:
        lines = client.raw("GET", f"{path}/lines", limit_s=LIMIT_S)[1]
        written |= {"lines": str(arguments.lines), "lines_bytes": write(arguments.lines, lines)}
    _told(arguments, written)


def _allocate(arguments: argparse.Namespace) -> None:
    _borne(arguments, _sums(arguments.month))


def _set(arguments: argparse.Namespace) -> None:
    method = read(arguments.file)
    _method(arguments, plane().ask("PUT", "/api/v1/costs/allocation", method))


def _show(arguments: argparse.Namespace) -> None:
    _method(arguments, plane().ask("GET", "/api/v1/costs/allocation"))


def _method(arguments: argparse.Namespace, shown: dict[str, Any]) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(shown)
        return
    method = shown["method"]
    if method is None:
        tables.facts([("method", "none: shared costs stay unallocated")])
        return
    facts = [("method", f"{method['name']}, revision {method['revision']}"), ("sha256", shown["sha256"])]
    facts += [(f"pool {rule['pool']}", rule["by"]) for rule in method["rules"]]
    facts += [(f"project {project}", center) for project, center in sorted(method.get("defaults", {}).items())]
    tables.facts(facts)


def _borne(arguments: argparse.Namespace, sums: dict[str, Any]) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(sums)
        return
    rows = [[_named(row["cost_center"]), *(row[name] for name in BORNE[1:])] for row in sums["cost_centers"]]
    rows += [["total", *(total[name] for name in BORNE[1:])] for total in sums["totals"]]
    tables.table(BORNE, rows)
    split = [
        (
            *(pool["pool"], pool["by"] or "no rule", _named(part["cost_center"])),
            *(part["weight"], part["amount"], pool["currency"]),
        )
        for pool in sums["pools"]
        for part in pool["shares"]
    ]
    if split:
        tables.apart()
        tables.table(SPLIT, split)


def _months(arguments: argparse.Namespace, months: list[dict[str, Any]], *, one: bool) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(months[0] if one else months)
    else:
        tables.table(MONTHS, [[month[name] for name in MONTHS] for month in months])


def _named(cost_center: str | None) -> str:
    return "unallocated" if cost_center is None else cost_center


def _csv(rows: list[dict[str, Any]]) -> bytes:
    from finops import spreadsheet

    return spreadsheet.written(BORNE, ([row[name] for name in BORNE] for row in rows)).encode()


def _waited(client: Any, path: str) -> bytes:
    """The answer, once what was closed just now is stamped."""
    import time

    from control_plane.client import Answered

    until = time.monotonic() + SEAL_S
    while True:
        try:
            data: bytes = client.raw("GET", path, limit_s=LIMIT_S)[1]
        except Answered as refused:
            if refused.code != "evidence_pending" or time.monotonic() > until:
                raise
        else:
            return data
        time.sleep(LOOK_S)


def _sums(month: str) -> dict[str, Any]:
    path = f"/api/v1/costs/months/{_month(month)}"
    sums: dict[str, Any] = plane().ask("GET", path, limit_s=LIMIT_S)
    return sums


def _month(name: str) -> str:
    """The month as an address has it; PeriodInvalid for what is none, before anybody is asked."""
    from datetime import UTC, datetime

    from finops import spending

    spending.period(name, None, None, datetime.now(UTC))
    return name


def _told(arguments: argparse.Namespace, written: dict[str, Any]) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(written)
    else:
        tables.facts(list(written.items()))
