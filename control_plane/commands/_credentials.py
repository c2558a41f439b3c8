# SPDX-License-Identifier: Apache-2.0
"""`qcos backends credential set|list|remove`: on the machine of the worker that drives the backend, and only there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(backends: Any) -> None:
    """Add the commands below `backends`."""
    group = backends.add_parser("credential", help="what this machine's workers sign in to backends with")
    kinds = group.add_subparsers(title="commands", metavar="COMMAND", dest="what", required=True)
    put = kinds.add_parser("set", help="keep a credential, encrypted; it is never shown again")
    put.add_argument("name", metavar="NAME", help="as a backend's setting `credential` names it")
    put.add_argument("--from-file", metavar="FILE", default="-", help="where it is read from; - is standard input")
    put.set_defaults(run=_set)
    listing = kinds.add_parser("list", help="names and dates")
    listing.set_defaults(run=_list)
    remove = kinds.add_parser("remove", help="forget one")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=_remove)
    for command in (put, listing, remove):
        command.add_argument("--home", metavar="HOME", help=argparse.SUPPRESS)
        command.add_argument("--json", action="store_true", help="one document")


def _kept(arguments: argparse.Namespace) -> Any:
    from control_plane.credentials import Credentials
    from control_plane.settings import located

    return Credentials(located({"home": arguments.home}).home)


def _set(arguments: argparse.Namespace) -> None:
    import datetime as dt

    named = _kept(arguments).put(arguments.name, _secret(arguments.from_file), dt.datetime.now(dt.UTC))
    _tell(arguments, [named], f"{named.name} is kept; workers use it from now on")


def _secret(source: str) -> bytes:
    import getpass
    import sys

    from control_plane.errors import Refused

    if source == "-" and sys.stdin.isatty():
        return getpass.getpass("credential: ").encode()
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise Refused("unusable_input", f"{source}: {error.strerror}") from None
    return data.rstrip(b"\r\n")


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = _kept(arguments).names()
    if arguments.json:
        tables.document([{"name": named.name, "set_at": named.set_at} for named in found])
    else:
        tables.table(("credential", "set"), [(named.name, named.set_at) for named in found])


def _remove(arguments: argparse.Namespace) -> None:
    _kept(arguments).remove(arguments.name)
    _tell(arguments, [], f"{arguments.name} is forgotten")


def _tell(arguments: argparse.Namespace, named: list[Any], line: str) -> None:
    import sys

    from control_plane import tables

    if arguments.json:
        shown = [{"name": one.name, "set_at": one.set_at} for one in named]
        tables.document(shown[0] if shown else {"removed": arguments.name})
    elif sys.stdout.isatty():
        sys.stdout.write(f"{line}\n")
