# SPDX-License-Identifier: Apache-2.0
"""A log that goes on under another origin, because entries that were sealed under the first are lost.

A database restored from an older backup holds entries 0 to M-1 of a log whose head N > M was seen outside. Going on
under its origin would sign a second tree for sizes above M: a fork. So a log of a new origin begins on those M entries.
Its first own entry, at index M, alone in its batch, of kind `ledger:log:created` and under no tenant, names the head
that was lost, what of it was kept, who restored and why; its checkpoints are signed with the new origin from there on.
Entries, tiles, tenants' chains and checkpoints up to M stay what they were, under the old origin. Not here: writing it
(`ledger.sealer`), the walk that checks it (`ledger.audit`). Pure.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ledger import checkpoint
from ledger.chain import PLANE, Draft, Hash, Number, Skimmed
from ledger.errors import CheckpointInvalid, LeafInvalid

KIND = "ledger:log:created"
MAX_REASON = 500

Origin = Annotated[str, Meta(pattern=r"^[!-*,-~]{1,200}\Z")]
Root = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Head(Struct, frozen=True, forbid_unknown_fields=True):
    """A state of a log: `root` in hex, `checkpoint` the hash of its signed note."""

    origin: Origin
    size: Number
    root: Root
    checkpoint: Hash


class Succession(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of the first entry: `previous` is the newest head known of the log that ended, `kept` what is left of it."""

    origin: Origin
    previous: Head
    kept: Head
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON)]
    operator: Annotated[str, Meta(min_length=1, max_length=200)]
    backup_created_at: Annotated[str, Meta(max_length=40)]

    def body(self) -> dict[str, Any]:
        """The body of the entry."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body


def head_of(note: bytes) -> Head:
    """The head that a signed note states; its signatures are not looked at."""
    found = checkpoint.parse(note)
    return Head(found.origin, found.size, found.root.hex(), checkpoint.note_hash(note))


def origin_of(note: bytes) -> str:
    """The origin of a note; empty where it can't be read."""
    try:
        return checkpoint.parse(note).origin
    except CheckpointInvalid:
        return ""


def begins(record: Draft | Skimmed) -> bool:
    """Whether an entry claims to begin a log."""
    return record.kind == KIND and record.tenant == PLANE


def parse_succession(body: bytes | msgspec.Raw) -> Succession:
    """Read the body of such an entry; LeafInvalid for any other."""
    try:
        return msgspec.json.decode(body, type=Succession)
    except msgspec.MsgspecError as error:
        raise LeafInvalid(f"{KIND}: {error}") from error


def check_succession(found: Succession, *, before: Head | None, first: bool, origins: frozenset[str]) -> None:
    """Raise LeafInvalid unless a log may begin like this after the checkpoint `before`; `origins` are those so far."""
    if not first:
        raise LeafInvalid("a log begins inside a batch")
    if before is None or found.kept != before:
        raise LeafInvalid("what it says was kept is not the log before it")
    if found.previous.origin == before.origin and found.previous.size < before.size:
        raise LeafInvalid("the head that it names is behind what was kept of that log")
    if found.origin in origins:
        raise LeafInvalid("its origin was used before")
