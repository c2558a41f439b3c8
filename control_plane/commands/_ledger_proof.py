# SPDX-License-Identifier: Apache-2.0
"""`qcos ledger proof` and `qcos ledger entries`: over the API, with the rights of whoever is signed in (G5, I7)."""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane

PAGE = 500


def register(ledger: Any) -> None:
    """Add the two commands."""
    proof = ledger.add_parser(
        "proof",
        help="prove an entry, that the log only grew (--from), or a tenant's whole history (--complete)",
        description="A proof that `qcos verify FILE --trust FILE` judges offline.",
    )
    proof.add_argument(
        "entry", metavar="ENTRY", nargs="?", help="an entry's index or id, or a job's id: its last entry"
    )
    proof.add_argument("--at", metavar="SIZE", type=_size, help="under the checkpoint of this size, not the newest")
    proof.add_argument(
        "--from", metavar="SIZE|FILE", dest="old", help="the smaller size, or a checkpoint kept in a file"
    )
    proof.add_argument("--to", metavar="SIZE", type=_size, dest="new", help="the larger size; without it the newest")
    proof.add_argument("--complete", action="store_true", help="all of the tenant's own entries, none missing")
    proof.add_argument("-o", "--output", metavar="FILE", type=Path, help="the proof; without it standard output")
    proof.add_argument("--json", action="store_true", help="one document")
    proof.set_defaults(run=_proof)
    entries = ledger.add_parser("entries", help="list the tenant's own entries")
    entries.add_argument(
        "--from", metavar="NUMBER", dest="start", type=_size, default=0, help="from the tenant's NUMBER on"
    )
    entries.add_argument("--limit", metavar="COUNT", type=_size, default=100)
    entries.add_argument("--json", action="store_true", help="one document")
    entries.set_defaults(run=_entries)


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _proof(arguments: argparse.Namespace) -> None:
    from control_plane.errors import Refused

    wanted = [arguments.entry is not None, arguments.old is not None, arguments.complete]
    if sum(wanted) != 1:
        raise Refused("usage", "one of ENTRY, --from SIZE and --complete says what is to be proven")
    if (arguments.at is not None and arguments.old is not None) or (
        arguments.new is not None and arguments.old is None
    ):
        raise Refused("usage", "--to goes with --from, --at with an entry or --complete")
    if arguments.entry is not None:
        data = _inclusion(arguments.entry, arguments.at)
    elif arguments.complete:
        data = _complete(arguments.at)
    else:
        data = _consistency(arguments.old, arguments.new)
    _write(arguments, data)


def _inclusion(entry: str, size: int | None) -> bytes:
    from urllib.parse import quote

    query = "" if size is None else f"?size={size}"
    data: bytes = plane().raw("GET", f"/api/v1/ledger/entries/{quote(entry, safe='')}/proof{query}")[1]
    return data


def _consistency(old: str, new: int | None) -> bytes:
    """From a size, or from a note that somebody kept: then the proof carries that note, not the plane's of today."""
    from control_plane.errors import Refused
    from ledger import checkpoint, proofs
    from ledger.errors import LedgerError

    kept: bytes | None = None
    size = old
    if not (old.isascii() and old.isdigit()):
        try:
            kept = Path(old).read_bytes()
            size = str(checkpoint.parse(kept).size)
        except OSError as error:
            raise Refused("unusable_input", f"{old}: {error.strerror}; --from takes a size or a file") from None
        except LedgerError as error:
            raise Refused("unusable_input", f"{old}: {error}") from None
    query = f"?from={int(size)}" + ("" if new is None else f"&to={new}")
    data: bytes = plane().raw("GET", f"/api/v1/ledger/consistency{query}")[1]
    if kept is None:
        return data
    found = proofs.parse_document(data)
    if not isinstance(found, proofs.Consistency):
        raise Refused("internal", "the plane answers with another proof than the one asked for")
    head = checkpoint.parse(kept)
    said = proofs.Head(size=head.size, root=head.root.hex(), checkpoint=kept.decode())
    return proofs.document(proofs.Consistency(old=said, path=found.path, checkpoint=found.checkpoint))


def _complete(size: int | None) -> bytes:
    """The tenant's entries up to the checkpoint, from pages; the last one's path from the plane."""
    from control_plane.errors import Refused
    from ledger import proofs

    client = plane()
    query = "" if size is None else f"?size={size}"
    note = client.raw("GET", f"/api/v1/ledger/checkpoint{query}")[1].decode()
    head = int(note.split("\n")[1])
    leaves: list[bytes] = []
    records: dict[int, tuple[bytes, ...]] = {}
    last, start = -1, 0
    while True:
        page = client.ask("GET", f"/api/v1/ledger/entries?from={start}&limit={PAGE}")
        for one in page:
            if one["index"] >= head:
                break
            leaves.append(base64.b64decode(one["leaf"]))
            last = one["index"]
            if one["kind"] == "ledger:entries:folded":
                records[last] = tuple(map(base64.b64decode, one["records"]))
        start += len(page)
        if not page or page[-1]["index"] >= head:
            break
    if last < 0:
        raise Refused("not_in_log", f"the tenant has no entry among the first {head}")
    path = json.loads(client.raw("GET", f"/api/v1/ledger/entries/{last}/proof?size={head}")[1])["path"]
    tenant = json.loads(leaves[0])["tenant"]
    found = proofs.completeness(tenant, leaves, records, [base64.b64decode(part) for part in path], note)
    return proofs.document(found)


def _entries(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    count = min(max(arguments.limit, 1), 1000)
    rows = plane().ask("GET", f"/api/v1/ledger/entries?from={arguments.start}&limit={count}")
    if arguments.json:
        tables.document(rows)
    else:
        names = ("index", "tenant_index", "entry_id", "kind")
        tables.table(names, [[row[name] for name in names] for row in rows])


def _write(arguments: argparse.Namespace, data: bytes) -> None:
    import sys

    from control_plane import tables
    from control_plane.errors import Refused

    if arguments.output is None:
        sys.stdout.write(data.decode() + "\n")
        return
    try:
        arguments.output.write_bytes(data)
    except OSError as error:
        raise Refused("unusable_input", f"{arguments.output}: {error.strerror}") from None
    found = json.loads(data)
    size = int(found["checkpoint"].split("\n")[1])
    written = {"file": str(arguments.output), "bytes": len(data), "type": found["type"], "size": size}
    if arguments.json:
        tables.document(written)
    else:
        tables.facts(list(written.items()))
