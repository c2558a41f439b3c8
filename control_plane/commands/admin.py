# SPDX-License-Identifier: Apache-2.0
"""`qcos admin`: what only the plane's machine may do, because nobody could ask the API for it (G13)."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands import _readers, _tenants


def register(groups: Any) -> None:
    """Add the commands."""
    group = groups.add_parser("admin", help="on the plane's machine: the first administrator, tenants, readers")
    admin = group.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    first = admin.add_parser("bootstrap", help="name a tenant's first administrator; refused where there is one")
    first.add_argument("--issuer", metavar="ISSUER", required=True, help="as the settings name it")
    first.add_argument("--subject", metavar="SUBJECT", required=True, help="the person, as their token's sub has them")
    first.add_argument("--tenant", metavar="TENANT", help="where the issuer speaks for more than one")
    first.add_argument("--reason", metavar="TEXT", default="the first administrator", help="kept in the ledger")
    first.add_argument("--again", action="store_true", help="although there is one: they are gone; the ledger has it")
    first.add_argument("--home", metavar="HOME", help=argparse.SUPPRESS)
    first.add_argument("--json", action="store_true", help="one document")
    first.set_defaults(run=_bootstrap)
    _tenants.add(admin)
    _readers.add(admin)


def _bootstrap(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane import tables
    from control_plane.accounts.bootstrap import bootstrap
    from control_plane.settings import located

    done = asyncio.run(
        bootstrap(
            located({"home": arguments.home}),
            issuer=arguments.issuer,
            subject=arguments.subject,
            tenant=arguments.tenant,
            reason=arguments.reason,
            again=arguments.again,
        )
    )
    if arguments.json:
        tables.document(done)
    else:
        tables.facts([(name, done[name]) for name in ("subject", "issuer", "tenant", "role", "user")])
