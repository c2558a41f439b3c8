# SPDX-License-Identifier: Apache-2.0
"""What an anchor is, and what it says of a log: the Protocol, and the comparison of what it holds with the database.

An anchor keeps signed notes as they stand. It judges none: what it holds is believed only where the log's own keys
signed it (`contradicts` is given verified heads), so that whoever can write into an anchor can't accuse an honest log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from ledger import checkpoint, outside
from ledger.errors import CheckpointInvalid

MAX_READ = 1000  # newest heads of one anchor that are compared


class Anchor(Protocol):
    """A place that keeps notes; calls may block and MUST NOT be made inside a transaction.

    Both raise AnchorAway where the place can't be reached or doesn't keep what it is given.
    """

    def put(self, note: bytes) -> str:
        """Keep a note, and say where it lies; returns once it can't be taken back. A second time changes nothing."""

    def heads(self) -> list[bytes]:
        """The notes that it holds, largest first, at most `MAX_READ`; of two under one name the one that came first."""


class Difference(Struct, frozen=True):
    """Why an anchor and the database are not one history; `code` is one of `ledger.outside.CONFLICT`."""

    code: str
    size: int
    detail: str


def verified(notes: Iterable[bytes], keys: Sequence[checkpoint.Verifier]) -> list[checkpoint.Checkpoint]:
    """The heads among them that the log signed; anything else that somebody put there says nothing of the log."""
    found = []
    for note in notes:
        try:
            found.append(checkpoint.verify(note, keys))
        except CheckpointInvalid:
            continue
    return found


def contradicts(
    held: Iterable[checkpoint.Checkpoint], stored: dict[int, checkpoint.Checkpoint], newest: int
) -> Difference | None:
    """The first thing that an anchor's heads hold against the database's; `stored` has those of the same sizes."""
    for head in held:
        ours = stored.get(head.size)
        if head.size > newest:
            told = f"it holds {head.size} entries of {head.origin}, the database {newest}"
            return Difference(outside.ROLLBACK, head.size, told)
        if ours is None or ours.origin != head.origin:
            told = f"it holds a checkpoint of {head.size} entries of {head.origin} that the database doesn't have"
            return Difference(outside.ROLLBACK, head.size, told)
        if ours.root != head.root:
            return Difference(outside.FORK, head.size, f"it holds another tree of {head.size} entries of {head.origin}")
    return None


def file_name(head: checkpoint.Checkpoint) -> str:
    """What a head is called where it lies: names sort as sizes do."""
    return f"{head.size:019d}.note"
