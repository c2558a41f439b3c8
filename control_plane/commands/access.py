# SPDX-License-Identifier: Apache-2.0
"""`qcos access matrix`: who gets which answer on which route, from the code; asks no plane."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(groups: Any) -> None:
    """Add the command."""
    access = groups.add_parser("access", help="who may do what").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    matrix = access.add_parser("matrix", help="route x role x whose it is -> answer, of this program; asks no plane")
    matrix.add_argument("--policies", metavar="FOLDER", help="by the permissions of these policies; those shipped")
    matrix.add_argument("--json", action="store_true", help="one document: a cell a question")
    matrix.set_defaults(run=_matrix)


def _matrix(arguments: argparse.Namespace) -> None:
    import msgspec

    from control_plane import tables
    from control_plane.app import routes
    from control_plane.auth.matrix import CALLERS, cells, rules

    found = list(cells(rules(routes()), _rights(arguments.policies)))
    if arguments.json:
        tables.document(msgspec.to_builtins(found))
        return
    heading = ("method", "route", "whose", *(_name(one.role, one.held) for one in CALLERS))
    rows: dict[tuple[str, str, str], list[str]] = {}
    for cell in found:
        rows.setdefault((cell.method, cell.path, cell.relation), []).append(str(cell.status))
    tables.table(heading, [(*key, *answers) for key, answers in rows.items()])


def _rights(folder: str | None) -> Any:
    from control_plane.auth.matrix import rights
    from control_plane.errors import Refused
    from control_plane.policy.folder import read
    from control_plane.policy.revision import load

    if folder is None:
        return rights(load().files)
    try:
        return rights(read(Path(folder)).files)
    except (KeyError, ValueError) as error:
        raise Refused("unusable_input", f"{folder}: {error}") from None


def _name(role: str, held: str | None) -> str:
    return f"{role}@project" if held == "project" else role
