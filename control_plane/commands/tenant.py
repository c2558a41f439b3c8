# SPDX-License-Identifier: Apache-2.0
"""`qcos tenant`: the caller's own tenant (G11)."""

from __future__ import annotations

import argparse
from typing import Any


def register(groups: Any) -> None:
    """Add the commands."""
    group = groups.add_parser("tenant", help="your tenant: limits, usage, everything that it owns")
    tenant = group.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    show = tenant.add_parser("show", help="its limits, and what counts against them now")
    show.set_defaults(run=_show)
    show.add_argument("--json", action="store_true", help="one document")


def _show(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.client import Client
    from control_plane.commands import _tenants
    from control_plane.settings import located

    told = Client(located().home).ask("GET", "/api/v1/tenant")
    if arguments.json:
        tables.document(told)
    else:
        _tenants.show(told)
