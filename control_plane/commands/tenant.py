# SPDX-License-Identifier: Apache-2.0
"""`qcos tenant`: the caller's own tenant (G11)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane

_LIMIT_S = 600.0  # between two pieces of an export


def register(groups: Any) -> None:
    """Add the commands."""
    group = groups.add_parser("tenant", help="your tenant: limits, usage, everything that it owns")
    tenant = group.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    show = tenant.add_parser("show", help="its limits, and what counts against them now")
    show.set_defaults(run=_show)
    export = tenant.add_parser("export", help="everything that it owns, as one archive (docs/tenant-export.md)")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="a new file")
    export.add_argument("--reason", metavar="TEXT", required=True, help="kept in the ledger; name nobody in it")
    export.set_defaults(run=_export)
    check = tenant.add_parser("check", help="judge an export offline: whole, unchanged, and proven: valid or invalid")
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--trust", metavar="FILE", type=Path, required=True, help="delivered apart from the export")
    check.set_defaults(run=_check)
    for command in (show, export, check):
        command.add_argument("--json", action="store_true", help="one document")


def _show(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.commands import _tenants

    told = plane().ask("GET", "/api/v1/tenant")
    if arguments.json:
        tables.document(told)
    else:
        _tenants.show(told)


def _export(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    asking = plane()
    written = asking.download("/api/v1/tenant/export", {"reason": arguments.reason}, arguments.output, limit_s=_LIMIT_S)
    told = {"file": str(arguments.output), "bytes": written}
    if arguments.json:
        tables.document(told)
    else:
        tables.facts(list(told.items()))


def _check(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from control_plane import tables
    from control_plane.tenants.check import check
    from ledger.errors import UsageError

    try:
        trust = arguments.trust.read_bytes()
    except OSError as error:
        raise UsageError(f"{arguments.trust}: {error.strerror}") from error
    found = check(arguments.file, trust, datetime.now(UTC))
    if arguments.json:
        tables.document(found)
    else:
        tables.facts([(name, value) for name, value in found.items() if name != "faults"])
        tables.table(("file", "message"), [[one["file"], one["message"]] for one in found["faults"]])
    return 0 if found["verdict"] == "valid" else 1
