# SPDX-License-Identifier: Apache-2.0
"""`qcos admin reader`: logins with which a tool for reports reads a tenant's costs; on the plane's machine (G7, I7)."""

from __future__ import annotations

import argparse
from typing import Any


def add(admin: Any) -> None:
    """Add the commands below `qcos admin`."""
    group = admin.add_parser("reader", help="logins of the database for reports, a tenant each")
    reader = group.add_subparsers(title="commands", metavar="COMMAND", dest="act", required=True)
    create = reader.add_parser("create", help="a login that reads the tenant's views for reports, or a new password")
    create.add_argument("-o", "--output", metavar="FILE", required=True, help="a new file for its password, 0600")
    create.set_defaults(run=_create)
    drop = reader.add_parser("drop", help="end the tenant's login at once")
    drop.set_defaults(run=_drop)
    for command in (create, drop):
        command.add_argument("tenant", metavar="TENANT")
        command.add_argument("--reason", metavar="TEXT", required=True, help="kept in the ledger; name nobody in it")
        command.add_argument("--home", metavar="HOME", help=argparse.SUPPRESS)
        command.add_argument("--json", action="store_true", help="one document")


def _create(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from control_plane.tenants import readers

    file = Path(arguments.output).absolute()
    _tell(arguments, lambda plane, reason: readers.create(plane, arguments.tenant, reason, file))


def _drop(arguments: argparse.Namespace) -> None:
    from control_plane.tenants import readers

    _tell(arguments, lambda plane, reason: readers.drop(plane, arguments.tenant, reason))


def _tell(arguments: argparse.Namespace, act: Any) -> None:
    import asyncio

    from control_plane import tables
    from control_plane.commands import _tenants
    from control_plane.settings import load
    from control_plane.tenants import acts

    reason = _tenants.reason_of(arguments)

    async def run() -> dict[str, Any]:
        async with acts.opened(load({"home": arguments.home})) as plane:
            done: dict[str, Any] = await act(plane, reason)
            return done

    done = asyncio.run(run())
    if arguments.json:
        tables.document(done)
    else:
        tables.facts(list(done.items()))
