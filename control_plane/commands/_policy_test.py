# SPDX-License-Identifier: Apache-2.0
"""`qcos policy test`: the tests of a folder of rules, and how much of the rules they reach."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(actions: Any) -> None:
    """Add the command."""
    test = actions.add_parser("test", help="run a folder's tests, with the coverage of each package")
    test.add_argument("folder", metavar="FOLDER", type=Path, help="one that qcos policy init made")
    test.add_argument("--coverage", metavar="N", type=float, default=100.0, help="percent of rules to be reached; 100")
    test.add_argument("--json", action="store_true", help="one document")
    test.set_defaults(run=_test)


def _test(arguments: argparse.Namespace) -> None:
    import asyncio

    import msgspec

    from control_plane import tables
    from control_plane.errors import Refused
    from control_plane.policy import folder, shape, testing
    from control_plane.policy.choice import find_opa
    from control_plane.settings import located

    if not 0 <= arguments.coverage <= 100:
        raise Refused("usage", f"--coverage {arguments.coverage:g}: from 0 to 100")
    read = folder.read(arguments.folder)
    opa = find_opa(located().opa_bin)
    if opa is None:
        raise Refused("tool_missing", "opa runs the tests, and none is here; make tools gets it, QCOS_OPA_BIN names it")
    faults = [*read.faults, *shape.faults(read.files)]
    found = testing.Tested((), None, tuple(faults), ()) if faults else asyncio.run(testing.tested(read.files, opa))
    short = found.coverage is not None and found.coverage < arguments.coverage
    wanting = found.unreached if short else ()
    told = [*found.failures, *wanting]
    ran = sum(one.tests for one in found.packages)
    if not found.failures and not ran:
        raise Refused("policy_refused", f"{arguments.folder}: no tests; they stand in qcos/PACKAGE/FILE_test.rego")
    if arguments.json:
        plain = msgspec.to_builtins(found)
        tables.document(
            {"ok": not told, "tests": ran, "wanted": arguments.coverage, **plain, "tools": {"opa": str(opa)}}
        )
    else:
        _show(found, [str(fault) for fault in told])
    if told:
        more = f" (the first of {len(told)})" if len(told) > 1 else ""
        raise Refused("policy_refused", f"{told[0]}{more}")


def _show(found: Any, told: list[str]) -> None:
    import sys

    from control_plane import tables

    rows = [(one.name, one.tests, one.failed, _percent(one.coverage)) for one in found.packages]
    whole = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows), _percent(found.coverage))
    if rows:
        tables.table(("package", "tests", "failed", "coverage %"), [*rows, whole])
    sys.stdout.writelines(f"{line}\n" for line in told)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:g}"
