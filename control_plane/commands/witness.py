# SPDX-License-Identifier: Apache-2.0
"""`qcos witness`: see each head of a plane's log, and cosign one history of it; on another machine than the plane's.

Needs the base install alone. `check` exits 1 where a log did what it never should have, or the witness forgot what it
saw: a monitor needs nothing else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.custody import Custody
    from ledger.trust import Trust
    from ledger.witness.folder import Folder
    from ledger.witness.server import Server

ADDRESS = "127.0.0.1:8471"
_HELP = "see each head of a log and cosign one history of it"


def register(groups: Any) -> None:
    """Add the commands."""
    command = groups.add_parser("witness", help=_HELP, description=f"{_HELP[0].upper()}{_HELP[1:]}.")
    witness = command.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    init = witness.add_parser("init", help="make a witness: a key and an empty state, in a new folder")
    init.add_argument(
        "-o", "--output", metavar="FOLDER", type=Path, required=True, help="a folder that isn't there yet"
    )
    init.add_argument("--name", metavar="NAME", help="what its lines bear, a URL without https://; made up otherwise")
    init.add_argument("--passphrase-file", metavar="FILE", type=Path, help="what encrypts its key; plain without it")
    init.add_argument("--pkcs11-module", metavar="FILE", type=Path, help="keep the key in an HSM: its library")
    init.add_argument("--pkcs11-token", metavar="LABEL", help="the HSM's token")
    init.add_argument("--pin-file", metavar="FILE", type=Path, help="the token's PIN")
    trust = witness.add_parser("trust", help="take up logs and keys of a newer trust file; nothing is taken away")
    for parser in (init, trust):
        parser.add_argument(
            "--log-trust", metavar="FILE", type=Path, required=True, help="the log's keys, from qcos trust export"
        )
    run = witness.add_parser("run", help="cosign what is submitted (C2SP tlog-witness) until stopped")
    run.add_argument(
        "--listen", metavar="HOST:PORT", default=ADDRESS, help=f"{ADDRESS} without it; port 0 takes a free one"
    )
    show = witness.add_parser("show", help="its name and key, and what it has seen")
    check = witness.add_parser("check", help="exit 1 if a log was caught, or what was seen of one is lost")
    resume = witness.add_parser("resume", help="tell a witness that has lost its state where it was")
    resume.add_argument(
        "--note", metavar="FILE", type=Path, required=True, help="a checkpoint with its own line, or a bundle with one"
    )
    for parser in (trust, run, show, check, resume):
        parser.add_argument("folder", metavar="FOLDER", type=Path)
    judge = witness.add_parser("judge", help="what a file of incidents/ proves, to whoever trusts the log's keys")
    judge.add_argument("file", metavar="FILE", type=Path)
    judge.add_argument("--trust", metavar="FILE", type=Path, required=True, help="the plane's trust file")
    for parser, command_of in (
        (init, _init),
        (trust, _trust),
        (run, _run),
        (show, _show),
        (check, _check),
        (resume, _resume),
        (judge, _judge),
    ):
        parser.add_argument("--json", action="store_true", help="one document")
        parser.set_defaults(run=command_of)


def _init(arguments: argparse.Namespace) -> None:
    from ledger.canonical import timestamp
    from ledger.witness.folder import Folder

    name = arguments.name or _made_up()
    folder = Folder.make(
        arguments.output,
        name=name,
        trust=_trusted(arguments.log_trust),
        at=timestamp(_now()),
        custody=_custody(arguments),
    )
    _told(arguments, folder)
    if not arguments.json:
        sys.stdout.write(
            f"\nStart it:                   qcos witness run {arguments.output}\n"
            "In the plane's qcos.toml:\n\n"
            f'[[witness]]\nurl = "http://{ADDRESS}"\npublic = "{_document(folder)["vkey"]}"\n'
        )


def _custody(arguments: argparse.Namespace) -> Custody:
    """Who keeps the key; without a word of it a plain file, in a folder that is the witness's own."""
    from control_plane.errors import Refused
    from ledger.custody import PLAIN, Custody

    module, token, pin = arguments.pkcs11_module, arguments.pkcs11_token, arguments.pin_file
    phrase = arguments.passphrase_file.absolute() if arguments.passphrase_file else None
    if not (module or token or pin):
        return PLAIN if phrase is None else Custody(passphrase_file=phrase)
    if not (module and token and pin):
        raise Refused("usage", "--pkcs11-module, --pkcs11-token and --pin-file are given together")
    return Custody(
        backend="pkcs11", module=module.absolute(), token=token, pin_file=pin.absolute(), passphrase_file=phrase
    )


def _trust(arguments: argparse.Namespace) -> None:
    folder = _open(arguments)
    with folder.hold():
        folder.tell(_trusted(arguments.log_trust))
    _told(arguments, folder)


def _run(arguments: argparse.Namespace) -> None:
    import logging
    import signal
    import threading

    from control_plane.errors import Refused
    from ledger.witness.server import Cosigner, Server

    folder = _open(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    with folder.hold():
        try:
            server = Server(_address(arguments.listen), Cosigner(folder, _now))
        except OSError as error:
            raise Refused("port_in_use", f"{arguments.listen}: {error.strerror}") from None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        with server:
            _serving(arguments, folder, server)
            server.serve_forever(poll_interval=0.2)


def _serving(arguments: argparse.Namespace, folder: Folder, server: Server) -> None:
    import os

    from control_plane import tables

    host, port = str(server.server_address[0]), server.server_address[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if arguments.json:
        tables.document(_document(folder) | {"url": url, "pid": os.getpid()})
    else:
        sys.stdout.write(f"{folder.about.name} cosigns at {url}; {len(folder.incidents())} incidents so far\n")
    for origin in server.cosigner.lost():
        sys.stderr.write(f"witness_state_lost: what was seen of {origin} is lost; qcos witness resume mends it\n")
    sys.stdout.flush()


def _show(arguments: argparse.Namespace) -> None:
    _told(arguments, _open(arguments))


def _check(arguments: argparse.Namespace) -> int:
    folder = _open(arguments)
    _told(arguments, folder)
    document = _document(folder)
    return 1 if document["incidents"] or any(log["lost"] for log in document["logs"]) else 0


def _resume(arguments: argparse.Namespace) -> None:
    from ledger import checkpoint, cosignature
    from ledger.errors import UsageError
    from ledger.witness.rules import Seen, own_lines

    folder = _open(arguments)
    found = checkpoint.parse(_note_in(arguments.note))
    lines = [checkpoint.write_line(line) for line in found.lines if line.key_hash == folder.witness.key_hash]
    if not lines:
        raise UsageError(f"{arguments.note} bears no line of {folder.about.name}")
    cosignature.parse(lines[0])
    with folder.hold():
        folder.resume(Seen(own_lines(found), lines[0]))
    _told(arguments, folder)


def _judge(arguments: argparse.Namespace) -> int:
    from control_plane import tables
    from ledger.errors import CheckpointInvalid, CosignatureInvalid
    from ledger.witness import incident

    found, trust = incident.parse(_read(arguments.file)), _trusted(arguments.trust)
    try:
        says = incident.judge(found, [by for _, by in trust.log], [known.by for known in trust.witnesses])
    except (CheckpointInvalid, CosignatureInvalid) as error:
        document = {"proven": False, "says": str(error)}
    else:
        document = {"proven": True, "says": says}
    if arguments.json:
        tables.document(document)
    else:
        tables.facts([("proven" if document["proven"] else "NOT PROVEN", document["says"])])
    return 0 if document["proven"] else 1


def _told(arguments: argparse.Namespace, folder: Folder) -> None:
    from control_plane import tables

    document = _document(folder)
    if arguments.json:
        tables.document(document)
        return
    tables.facts([("name", document["name"]), ("key", document["vkey"])])
    for log in document["logs"]:
        state = "LOST: qcos witness resume" if log["lost"] else "nothing cosigned yet"
        if log["size"] is not None:
            state = f"{log['size']} entries, cosigned {log['cosigned_at']}, root {log['root']}"
        tables.facts([(log["origin"], state + (f", goes on from {log['after']}" if log["after"] else ""))])
    for found in document["incidents"]:
        tables.facts(
            [(found["kind"].upper(), f"{found['origin']} at {found['at']}: {found['detail']}; {found['file']}")]
        )


def _document(folder: Folder) -> dict[str, Any]:
    from base64 import b64encode

    from ledger import cosignature
    from ledger.errors import StateLost

    logs: list[dict[str, Any]] = []
    for log in folder.logs.values():
        told: dict[str, Any] = {"origin": log.origin, "after": log.after, "lost": False}
        try:
            seen = folder.seen(log.origin)
        except StateLost:
            seen, told["lost"] = None, True
        at = cosignature.parse(seen.line).at if seen is not None else None
        told["size"] = seen.head.size if seen is not None else None
        told["root"] = seen.head.root.hex() if seen is not None else None
        told["cosigned_at"] = f"{at:%Y-%m-%dT%H:%M:%SZ}" if at is not None else None
        logs.append(told)
    return {
        "name": folder.about.name,
        "vkey": cosignature.vkey(folder.witness),
        "public": b64encode(cosignature.spki(folder.witness.public)).decode(),
        "folder": str(folder.path),
        "logs": logs,
        "incidents": _incidents(folder),
    }


def _incidents(folder: Folder) -> Sequence[dict[str, Any]]:
    from ledger.errors import UsageError
    from ledger.witness import incident

    found = []
    for path in folder.incidents():
        try:
            told = incident.parse(path.read_bytes())
        except UsageError as error:
            found.append({"file": str(path), "kind": "unreadable", "origin": "", "at": "", "detail": str(error)})
        else:
            found.append(
                {"file": str(path), "kind": told.kind, "origin": told.origin, "at": told.at, "detail": told.detail}
            )
    return found


def _open(arguments: argparse.Namespace) -> Folder:
    from ledger.witness.folder import Folder

    return Folder(arguments.folder)


def _trusted(path: Path) -> Trust:
    from ledger.trust import parse_trust

    return parse_trust(_read(path))


def _note_in(path: Path) -> bytes:
    """The checkpoint of a file, with the lines of witnesses: a note as it stands, or what a bundle carries."""
    from msgspec import UNSET

    from ledger.bundle import parse_bundle

    data = _read(path)
    if not data.startswith(b"{"):
        return data
    proof = parse_bundle(data).proof
    lines = () if proof.cosignatures is UNSET else proof.cosignatures
    return "".join((proof.checkpoint, *(f"{line}\n" for line in lines))).encode()


def _read(path: Path) -> bytes:
    from ledger.bundle import MAX_FILE_BYTES
    from ledger.errors import UsageError

    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _address(text: str) -> tuple[str, int]:
    from control_plane.errors import Refused

    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Refused("usage", f"--listen HOST:PORT, not {text}")
    return host.strip("[]"), int(port)


def _made_up() -> str:
    """A name that nobody else has: a host's own may be anything, and a witness needs no address."""
    import secrets

    return f"witness/{secrets.token_hex(6)}"


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)
