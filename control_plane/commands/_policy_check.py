# SPDX-License-Identifier: Apache-2.0
"""`qcos policy check`: may these files be put in force, and if not, which line is why."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(actions: Any) -> None:
    """Add the command."""
    check = actions.add_parser("check", help="format, strict check, lint, schemas, dialect and self-test of a folder")
    check.add_argument("folder", metavar="FOLDER", type=Path, help="one that qcos policy init made")
    check.add_argument("--json", action="store_true", help="one document")
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    import asyncio
    import sys

    from control_plane import tables
    from control_plane.errors import Refused
    from control_plane.policy import folder, trial
    from control_plane.policy.choice import find_opa, find_regal
    from control_plane.settings import located

    read = folder.read(arguments.folder)
    opa, regal = find_opa(located().opa_bin), find_regal()
    found = asyncio.run(trial.examine(read.files, opa, regal, folder.regal_config(arguments.folder)))
    faults = read.faults + found.faults
    skipped = [*found.skipped, *([] if regal else ["regal lint: no regal here (make tools gets it)"])]
    revision = found.policies.revision if found.policies and not faults else None
    if arguments.json:
        tables.document(
            {
                "ok": not faults,
                "revision": revision,
                "faults": [
                    {"path": one.path, "line": one.line, "rule": one.rule, "message": one.message} for one in faults
                ],
                "tools": {"opa": opa and str(opa), "regal": regal and str(regal)},
                "skipped": skipped,
            }
        )
    else:
        for fault in faults:
            sys.stdout.write(f"{fault}\n")
        for line in skipped:
            tables.facts([("skipped", line)])
        if revision:
            tables.facts([("checked", f"{len(read.files)} files"), ("revision", revision)])
    if faults:
        more = f" (the first of {len(faults)})" if len(faults) > 1 else ""
        raise Refused("policy_refused", f"{faults[0]}{more}")
