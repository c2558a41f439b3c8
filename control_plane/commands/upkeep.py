# SPDX-License-Identifier: Apache-2.0
"""`qcos migrate`: what an operator does to a plane's database while the plane is down."""

from __future__ import annotations

import argparse
from typing import Any


def register(groups: Any) -> None:
    """Add the command."""
    migrate = groups.add_parser("migrate", help="bring the schema of a stopped plane to a revision")
    migrate.add_argument("--to", metavar="REVISION", default="head", help="by default the newest, as qcos up does")
    migrate.add_argument("--json", action="store_true", help="one document")
    migrate.set_defaults(run=_migrate)


def _migrate(arguments: argparse.Namespace) -> int:
    from control_plane import tables, upkeep
    from control_plane.settings import located

    done = upkeep.migrated(located(), arguments.to)
    if arguments.json:
        tables.document({"before": done.before, "after": done.after})
    else:
        tables.facts([("before", done.before or "empty"), ("after", done.after or "empty")])
    return 0
