# SPDX-License-Identifier: Apache-2.0
"""`qcos keys`: what signs, where it lies, and what becomes of it; on the plane's machine (G12)."""

from __future__ import annotations

import argparse
from typing import Any

_FIELDS = ("id", "purpose", "valid_from", "valid_until", "revoked", "private")


def register(groups: Any) -> None:
    """Add the commands."""
    group = groups.add_parser("keys", help="the plane's signing keys: made, encrypted, listed, rotated, revoked")
    keys = group.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    init = keys.add_parser("init", help="make the keys that aren't there yet, where [keys] says")
    init.set_defaults(run=_init)
    listing = keys.add_parser("list", help="each key: since when, until when, revoked or not, and where it lies")
    listing.set_defaults(run=_list)
    encrypt = keys.add_parser("encrypt", help="encrypt key files that nothing encrypts, under the passphrase of [keys]")
    encrypt.set_defaults(run=_encrypt)
    revoke = keys.add_parser("revoke", help="say that a key proves nothing from a moment on; trust files carry it")
    revoke.add_argument("id", metavar="ID", help="as qcos keys list has it, or its beginning for both algorithms")
    revoke.add_argument("--at", metavar="TIME", help="such as 2026-11-21T08:00:00.000Z (now)")
    revoke.add_argument(
        "--reason", metavar="TEXT", required=True, help="compromised, superseded, ceased; a colon and more may follow"
    )
    revoke.set_defaults(run=_revoke)
    rotate = keys.add_parser("rotate", help="new keys follow old ones, by an entry that both sign; the plane goes on")
    rotate.add_argument("purpose", choices=("log", "evidence"))
    rotate.add_argument("--archive", action="store_true", help="keep the old private keys, which are destroyed else")
    rotate.set_defaults(run=_rotate)
    for command in (init, listing, encrypt, revoke, rotate):
        command.add_argument("--json", action="store_true", help="one document")


def _init(arguments: argparse.Namespace) -> None:
    from control_plane import custodian, parts, tables
    from control_plane.settings import load

    settings = load()
    parts.make_keys(settings)
    folder = settings.home / "keys"
    made = {
        f"{name}/{key}": custodian.where(folder / name, key) for name, keys in custodian.FOLDERS.items() for key in keys
    }
    if arguments.json:
        tables.document(made)
    else:
        tables.facts(list(made.items()))


def _list(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane import custodian, tables
    from control_plane.settings import located

    settings = located()
    found = asyncio.run(custodian.told(settings))
    rows = custodian.listed(settings, found)
    if arguments.json:
        tables.document({"trust_version": found.version, "keys": rows})
        return
    shown = [row | {"revoked": "; ".join(f"{one['at']} {one['reason']}" for one in row["revoked"])} for row in rows]
    tables.table(_FIELDS, [["" if row[name] is None else row[name] for name in _FIELDS] for row in shown])


def _encrypt(arguments: argparse.Namespace) -> None:
    from control_plane import custodian, tables
    from control_plane.settings import located

    done = custodian.encrypt(located())
    if arguments.json:
        tables.document({"encrypted": done})
    else:
        tables.facts([("encrypted", ", ".join(done) or "nothing: no key file was plain")])


def _revoke(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane import custodian, tables
    from control_plane.settings import located

    done = asyncio.run(custodian.revoke(located(), arguments.id, arguments.at, arguments.reason))
    if arguments.json:
        tables.document(done)
    else:
        tables.facts([(name, ", ".join(value) if isinstance(value, list) else value) for name, value in done.items()])


def _rotate(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane import custodian, tables
    from control_plane.settings import located

    done = asyncio.run(custodian.rotate(located(), arguments.purpose, archive=arguments.archive))
    if arguments.json:
        tables.document(done)
    else:
        tables.facts([(name, ", ".join(value) if isinstance(value, list) else value) for name, value in done.items()])
