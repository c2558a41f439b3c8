# SPDX-License-Identifier: Apache-2.0
"""C2SP `tlog-proof@v1`: a proof that a leaf is in a log, as text for tools that are not ours.

Lines: the format's name; `extra` and base64; `index` and the entry's place; the base64 hashes of the inclusion path,
lowest first; an empty line; the checkpoint, with whatever cosignatures it has. The format carries no leaf. A plane
writes the leaf's bytes as the extra data ("additional data necessary to reconstruct the record hash"), so that the file
suffices; a reader must not believe them until they hash into the tree. Strict: no other spelling is read. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from msgspec import Struct

from ledger.errors import CheckpointInvalid, EvidenceInvalid, UsageError
from ledger.merkle import HASH_BYTES

NAME = b"c2sp.org/tlog-proof@v1"
MAX_BYTES = 256 * 1024
_INDEX = re.compile(rb"index (0|[1-9][0-9]{0,18})")
_NOTE_LINES = 2  # the log's own signatures; those after them are cosignatures


class TlogProof(Struct, frozen=True):
    """The parts of such a file; `note` with all its signature lines, `extra` empty where the file has none."""

    index: int
    path: tuple[bytes, ...]
    note: bytes
    extra: bytes = b""


def looks_like_one(data: bytes) -> bool:
    """Whether a file claims to be of this format."""
    return data.startswith(NAME + b"\n")


def written(proof: TlogProof) -> bytes:
    """The bytes of a proof."""
    lines = [NAME]
    if proof.extra:
        lines.append(b"extra " + base64.b64encode(proof.extra))
    lines.append(b"index %d" % proof.index)
    lines += [base64.b64encode(found) for found in proof.path]
    return b"\n".join(lines) + b"\n\n" + proof.note


def parse(data: bytes) -> TlogProof:
    """Read a proof; UsageError where it is none at all, EvidenceInvalid where a line is not what the format wants."""
    if len(data) > MAX_BYTES:
        raise UsageError(f"a file of more than {MAX_BYTES} bytes; no proof is as large")
    if not looks_like_one(data):
        raise UsageError(f"not of the format {NAME.decode()}")
    head, gap, note = data.partition(b"\n\n")
    lines = head.split(b"\n")[1:]
    extra = b""
    if lines and lines[0].startswith(b"extra "):
        extra = _base64(lines.pop(0).removeprefix(b"extra "), "extra")
    found = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if found is None:
        raise EvidenceInvalid("tlog-proof: no line with the entry's index")
    if not gap or not note:
        raise EvidenceInvalid("tlog-proof: no checkpoint after an empty line")
    path = tuple(_base64(line, "a hash of the path") for line in lines)
    if any(len(part) != HASH_BYTES for part in path):
        raise EvidenceInvalid("tlog-proof: a hash that is not 32 bytes long")
    return TlogProof(int(found[1]), path, note, extra)


def own_note(note: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The log's note without the cosignatures, and their lines."""
    text, gap, signatures = note.partition(b"\n\n")
    *lines, end = signatures.split(b"\n")
    if not gap or not lines or end:
        raise CheckpointInvalid("no signature lines")
    try:
        own, others = lines[:_NOTE_LINES], tuple(line.decode() for line in lines[_NOTE_LINES:])
    except UnicodeDecodeError as error:
        raise CheckpointInvalid("not UTF-8") from error
    return text + gap + b"".join(line + b"\n" for line in own), others


def cosigned(note: bytes, cosignatures: Sequence[str]) -> bytes:
    """The note with cosignature lines after its own."""
    return note + "".join(f"{line}\n" for line in cosignatures).encode()


def _base64(text: bytes, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EvidenceInvalid(f"tlog-proof: {what}: bad base64") from error
    if not data or base64.b64encode(data) != text:
        raise EvidenceInvalid(f"tlog-proof: {what}: base64 that is empty or not canonical")
    return data
