# SPDX-License-Identifier: Apache-2.0
"""What a witness may cosign: the checks of C2SP tlog-witness ("add-checkpoint"), in its order, with its status codes.

Enters: the bytes of a request, the logs that the witness was told of, and what it has seen of that log. Leaves:
`Grown`, the head that may be cosigned once it is kept, or `Refused` with the HTTP status, the reason, and, where the
log signed what it never should have, the kind of incident. A note counts only with both
signatures of its log; lines of others in it are left out. A smaller head than the one seen gets no signature and is an
incident (`rollback`), as are another root of the same size (`fork`) and a larger head without a proof that it grew
(`unproven`). Pure.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from ledger import checkpoint, merkle
from ledger.errors import CheckpointInvalid, ProofInvalid

MAX_REQUEST_BYTES = 32 * 1024
MAX_PROOF = 63  # "The client MUST NOT send more than 63 consistency proof lines"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)
Kind = Literal["fork", "rollback", "unproven", "ended"]


class Log(Struct, frozen=True):
    """A log that is witnessed: its origin, the verifiers of its checkpoints, the origin that it goes on from."""

    origin: str
    verifiers: tuple[checkpoint.Verifier, ...]
    after: str | None = None


class Seen(Struct, frozen=True):
    """The largest head of a log that was cosigned: its note with the log's two lines, and our own line."""

    note: bytes
    line: str

    @property
    def head(self) -> checkpoint.Checkpoint:
        """What the note states."""
        return checkpoint.parse(self.note)


class Grown(Struct, frozen=True):
    """A head that may be cosigned, and its note with the log's lines alone."""

    head: checkpoint.Checkpoint
    note: bytes


class Refused(Struct, frozen=True):
    """Why there is no cosignature. `size` is told on a conflict; `note` is kept where there is an incident."""

    status: int
    detail: str
    size: int | None = None
    kind: Kind | None = None
    note: bytes = b""
    proof: tuple[bytes, ...] = ()


Judged: TypeAlias = Grown | Refused


class _Request(Struct, frozen=True):
    old: int
    proof: tuple[bytes, ...]
    note: bytes


def origin_in(body: bytes) -> str | None:
    """The origin of the checkpoint in a request, if it can be read at all; nothing of it is verified."""
    parsed = _parse(body)
    try:
        return None if isinstance(parsed, Refused) else checkpoint.parse(parsed.note).origin
    except CheckpointInvalid:
        return None


def judge(body: bytes, logs: Mapping[str, Log], seen: Seen | None) -> Judged:
    """What becomes of a request; `seen` is the newest head of its origin that this witness has cosigned."""
    asked = _parse(body)
    if isinstance(asked, Refused):
        return asked
    try:
        found = checkpoint.parse(asked.note)
    except CheckpointInvalid as error:
        return Refused(400, f"checkpoint: {error}")
    if (log := logs.get(found.origin)) is None:
        return Refused(404, "a log that this witness was not told of")
    note = own_lines(found)
    try:
        head = checkpoint.verify(note, log.verifiers)
    except CheckpointInvalid as error:
        return Refused(403, str(error))
    return _history(asked, head, note, seen)


def own_lines(found: checkpoint.Checkpoint) -> bytes:
    """The note with the lines under the log's own name alone: what witnesses added is no part of what it signed."""
    lines = "".join(checkpoint.write_line(line) + "\n" for line in found.lines if line.name == found.origin)
    return found.text + b"\n" + lines.encode()


def _history(asked: _Request, head: checkpoint.Checkpoint, note: bytes, seen: Seen | None) -> Judged:
    before = seen.head if seen is not None else None
    if asked.old > head.size:
        return Refused(400, f"old {asked.old} is more than the checkpoint's {head.size}")
    if before is not None and before.size == head.size and before.root != head.root:
        return Refused(422, f"another tree of {head.size} entries was cosigned before", kind="fork", note=note)
    if before is not None and head.size < before.size:
        told = f"a head of {head.size} entries after one of {before.size}"
        return Refused(409, told, size=before.size, kind="rollback", note=note)
    size = before.size if before is not None else 0
    if asked.old != size:
        return Refused(409, f"old {asked.old}, seen {size}", size=size)
    if head.size == 0 and head.root != merkle.EMPTY_ROOT:
        return Refused(422, "a root that isn't that of no entries", kind="fork", note=note)
    if before is None or size == 0:
        return Refused(422, "a proof from nothing") if asked.proof else Grown(head, note)
    try:
        merkle.verify_consistency(old=size, new=head.size, old_root=before.root, new_root=head.root, path=asked.proof)
    except ProofInvalid as error:
        return Refused(422, f"consistency: {error}", kind="unproven", note=note, proof=asked.proof)
    return Grown(head, note)


def _parse(body: bytes) -> _Request | Refused:
    if len(body) > MAX_REQUEST_BYTES:
        return Refused(400, f"a request of {len(body)} bytes")
    top, gap, note = body.partition(b"\n\n")
    try:
        first, *rest = top.decode("ascii").split("\n")
    except UnicodeDecodeError:
        return Refused(400, "not ASCII before the checkpoint")
    old = _OLD.fullmatch(first)
    if not gap or old is None or len(rest) > MAX_PROOF:
        return Refused(400, "not the lines of add-checkpoint: old SIZE, up to 63 hashes, an empty line, a checkpoint")
    try:
        proof = tuple(checkpoint.base64_bytes(line) for line in rest)
    except CheckpointInvalid:
        return Refused(400, "a hash that isn't base64")
    if any(len(found) != merkle.HASH_BYTES for found in proof):
        return Refused(400, "a hash that isn't 32 bytes long")
    return _Request(int(old[1]), proof, note)


def request(old: int, proof: tuple[bytes, ...], note: bytes) -> bytes:
    """The body of an add-checkpoint request."""
    return b"".join([b"old %d\n" % old, *(b64encode(found) + b"\n" for found in proof), b"\n", note])
