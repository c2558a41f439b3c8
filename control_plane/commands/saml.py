# SPDX-License-Identifier: Apache-2.0
"""`qcos saml`: the plane's own keys as a SAML service provider; on the plane's machine (G13)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(groups: Any) -> None:
    """Add the commands."""
    group = groups.add_parser("saml", help="on the plane's machine: its own keys as a SAML service provider")
    saml = group.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    keys = saml.add_parser("keys", help="sign requests to providers, open what they encrypt")
    acts = keys.add_subparsers(title="commands", metavar="COMMAND", dest="act", required=True)
    listing = acts.add_parser("list", help="each key: what it is used for, its fingerprint and its end")
    listing.set_defaults(run=_list)
    add = acts.add_parser("add", help="make one; beside another it is that one's follower, used once that is retired")
    add.set_defaults(run=_add)
    retire = acts.add_parser("retire", help="remove the oldest, once every provider has read the plane's new metadata")
    retire.set_defaults(run=_retire)
    for command in (listing, add, retire):
        command.add_argument("--json", action="store_true", help="one document")


def _folder() -> tuple[Path, str]:
    from control_plane.settings import located

    settings = located()
    return settings.home / "keys" / "saml", settings.plane


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.auth.saml import keys

    rows = keys.told(keys.load(_folder()[0]))
    if arguments.json:
        tables.document(rows)
    else:
        fields = ("number", "uses", "not_after", "fingerprint")
        tables.table(fields, [[row[name] for name in fields] for row in rows])


def _add(arguments: argparse.Namespace) -> None:
    import datetime as dt

    from control_plane.auth.saml import keys

    folder, plane = _folder()
    _done(arguments, lambda: keys.add(folder, plane, dt.datetime.now(dt.UTC)), "added")


def _retire(arguments: argparse.Namespace) -> None:
    from control_plane.auth.saml import keys

    folder, _ = _folder()
    _done(arguments, lambda: keys.retire(folder), "retired")


def _done(arguments: argparse.Namespace, act: Any, word: str) -> None:
    from control_plane import tables
    from control_plane.errors import Refused

    try:
        one = act()
    except ValueError as error:
        raise Refused("conflict", str(error)) from error
    done = {word: one.number, "fingerprint": one.fingerprint}
    if arguments.json:
        tables.document(done)
    else:
        tables.facts(list(done.items()))
