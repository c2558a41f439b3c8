# SPDX-License-Identifier: Apache-2.0
"""`qcos signing-key create|enroll|list|revoke`: keys with which you sign what you ask for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

ALGORITHMS = {"ed25519": "Ed25519", "ml-dsa-44": "ML-DSA-44", "ml-dsa-65": "ML-DSA-65", "ml-dsa-87": "ML-DSA-87"}


def register(groups: Any) -> None:
    """Add the commands."""
    keys = groups.add_parser("signing-key", help="keys with which you sign requests").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    create = keys.add_parser("create", help="make a key here and enrol it")
    create.add_argument("--alg", choices=tuple(ALGORITHMS), default="ml-dsa-65", help="ml-dsa-65 where nothing is said")
    create.add_argument("--name", metavar="NAME", default="qcos", help="for you to read")
    create.add_argument("--json", action="store_true", help="one document")
    create.set_defaults(run=_create)
    enroll = keys.add_parser("enroll", help="enrol a key that you have")
    enroll.add_argument("file", metavar="FILE", type=Path, help="a private JWK; with --proof a public one")
    enroll.add_argument("--proof", metavar="FILE", type=Path, help="an enrol envelope, of a key that stays elsewhere")
    enroll.add_argument("--name", metavar="NAME", default="qcos", help="for you to read")
    enroll.add_argument("--json", action="store_true", help="one document")
    enroll.set_defaults(run=_enroll)
    listing = keys.add_parser("list", help="your keys, newest first")
    listing.add_argument("--json", action="store_true", help="one document")
    listing.set_defaults(run=_list)
    revoke = keys.add_parser("revoke", help="from now on a key signs nothing")
    revoke.add_argument("key", metavar="KEY")
    revoke.add_argument("--reason", metavar="TEXT", required=True, help="the ledger keeps it")
    revoke.add_argument("--json", action="store_true", help="one document")
    revoke.set_defaults(run=_revoke)


def _client() -> tuple[Any, Path]:
    from control_plane.client import Client
    from control_plane.settings import located

    home = located().home
    return Client(home), home


def _create(arguments: argparse.Namespace) -> None:
    from control_plane import signer

    _enroll_here(arguments, signer.made(ALGORITHMS[arguments.alg]))  # type: ignore[arg-type]


def _enroll(arguments: argparse.Namespace) -> None:
    from control_plane import signer

    jwk = _read(arguments.file)
    if arguments.proof is None:
        _enroll_here(arguments, signer.read_jwk(jwk))
        return
    from control_plane.errors import Refused
    from ledger.asker import b64

    try:
        proof = arguments.proof.read_bytes()
    except OSError as error:
        raise Refused("unusable_input", f"{arguments.proof}: {error.strerror}") from None
    text = proof.strip().decode() if proof.count(b".") == 2 and proof.isascii() else b64(proof)
    client, _ = _client()
    asked = {"name": arguments.name, "jwk": jwk, "proof": text}
    _tell(arguments, client.ask("POST", "/api/v1/account/signing-keys", asked), None)


def _enroll_here(arguments: argparse.Namespace, one: Any) -> None:
    """Prove the key, enrol it, and keep it where `--sign` finds it."""
    import json

    from control_plane import signer
    from control_plane.errors import QcosError

    client, home = _client()
    told = client.ask("GET", "/api/v1/account/signing-keys")
    proof = one.envelope("enroll", json.dumps(told["holder"]).encode(), told["audience"]).decode()
    asked = {"name": arguments.name, "jwk": one.key.jwk(), "proof": proof}
    # Kept first: a key that was enrolled and isn't anywhere would be of no use, one that wasn't is harmless.
    path, new = signer.keep(home, one, told["audience"], told["holder"]["subject"])
    try:
        shown = client.ask("POST", "/api/v1/account/signing-keys", asked)
    except QcosError:
        if new:
            signer.forget(home, one.key.id)
        raise
    _tell(arguments, shown, path)


def _tell(arguments: argparse.Namespace, shown: dict[str, Any], path: Path | None) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(shown | ({"file": str(path)} if path is not None else {}))
        return
    pairs = [("key", shown["key_id"]), ("name", shown["name"]), ("algorithm", shown["alg"])]
    pairs += [("enrolled", shown["enrolled_at"])] + ([("file", str(path))] if path is not None else [])
    tables.facts(pairs)


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    client, _ = _client()
    found = client.ask("GET", "/api/v1/account/signing-keys")
    if arguments.json:
        tables.document(found["keys"])
        return
    rows = [(one["key_id"], one["name"], one["alg"], one["enrolled_at"], one["revoked_at"]) for one in found["keys"]]
    tables.table(("key", "name", "algorithm", "enrolled", "revoked"), rows)


def _revoke(arguments: argparse.Namespace) -> None:
    from urllib.parse import quote

    from control_plane import signer, tables

    client, home = _client()
    path = f"/api/v1/account/signing-keys/{quote(arguments.key, safe='')}/revoke"
    shown = client.ask("POST", path, {"reason": arguments.reason})
    signer.forget(home, arguments.key)
    if arguments.json:
        tables.document(shown)
    else:
        tables.facts([("key", shown["key_id"]), ("revoked", shown["revoked_at"])])


def _read(path: Path) -> dict[str, Any]:
    import json

    from control_plane.errors import Refused

    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise Refused("unusable_input", f"{path}: {error.strerror}") from None
    except ValueError:
        raise Refused("unusable_input", f"{path}: not a JWK") from None
    if not isinstance(found, dict):
        raise Refused("unusable_input", f"{path}: not a JWK")
    return found
