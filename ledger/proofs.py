# SPDX-License-Identifier: Apache-2.0
"""Proof documents (docs/evidence-format.md section 11): what an outsider keeps of a log that it can't read.

Three kinds, each canonical JSON, closed, with the signed note that it rests on:

- `Inclusion`: an entry's leaf and its path to the root of a checkpoint.
- `Consistency`: a smaller tree is the beginning of a larger one. The smaller comes with its note where one was signed.
- `Completeness`: a tenant's entries from its first on, each leaf naming the hash of the one before, and the path of the
  last: nothing of that tenant is missing up to there, and of others nothing shows but hashes on the path.

Enters: leaves, paths, notes. Leaves: bytes of a document, and the struct read back from exactly those bytes. Not here:
judging one (`ledger.proved`), building paths from tiles (`ledger.export`). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ledger import canonical
from ledger.bundle import Fold
from ledger.errors import NotCanonical, UsageError
from ledger.predicate import Closed, Text, decode

MAX_PROOF_BYTES = 256 * 1024 * 1024  # a tenant's whole history may be in it
INCLUSION: Literal["urn:qcos:proof:inclusion:v1"] = "urn:qcos:proof:inclusion:v1"
CONSISTENCY: Literal["urn:qcos:proof:consistency:v1"] = "urn:qcos:proof:consistency:v1"
COMPLETENESS: Literal["urn:qcos:proof:completeness:v1"] = "urn:qcos:proof:completeness:v1"
# Members are sorted, and no bundle or trust file has this one first.
_BEGINS = re.compile(rb"\s*\{\s*\"checkpoint\"\s*:")

Path = Annotated[tuple[bytes, ...], Meta(max_length=128)]
Place = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Inclusion(Closed, frozen=True, kw_only=True):
    """One entry of the log. `fold` where a record is proven that the entry stands for, among others."""

    type: Literal["urn:qcos:proof:inclusion:v1"] = INCLUSION
    index: Place
    leaf: bytes
    path: Path
    checkpoint: str
    fold: Fold | UnsetType = UNSET


class Head(Closed, frozen=True, kw_only=True):
    """The smaller tree; `checkpoint` is its signed note, null where that size was never signed."""

    size: Place
    root: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    checkpoint: str | None


class Consistency(Closed, frozen=True, kw_only=True):
    """The tree of `checkpoint` begins with that of `old`."""

    type: Literal["urn:qcos:proof:consistency:v1"] = CONSISTENCY
    old: Head
    path: Path
    checkpoint: str


class Completeness(Closed, frozen=True, kw_only=True):
    """A tenant's entries from 0 on; `records` has, by index of the entry that folds them, what such an entry states."""

    type: Literal["urn:qcos:proof:completeness:v1"] = COMPLETENESS
    tenant: Text
    entries: tuple[bytes, ...]
    records: dict[str, tuple[bytes, ...]]
    path: Path
    checkpoint: str


Document: TypeAlias = Inclusion | Consistency | Completeness
_KINDS: Mapping[str, msgspec.json.Decoder[Document]] = {
    INCLUSION: msgspec.json.Decoder(Inclusion),
    CONSISTENCY: msgspec.json.Decoder(Consistency),
    COMPLETENESS: msgspec.json.Decoder(Completeness),
}


class _Kind(msgspec.Struct, frozen=True):
    type: str


_kind = msgspec.json.Decoder(_Kind)


def document(found: Document) -> bytes:
    """The bytes of a proof document."""
    return canonical.dumps(msgspec.to_builtins(found))


def looks_like_one(data: bytes) -> bool:
    """Whether a file begins as a proof document does; what it is worth is seen when it is read."""
    return _BEGINS.match(data) is not None


def parse_document(data: bytes) -> Document:
    """The document of a file's bytes.

    UsageError if it is too large or of no known type, EvidenceInvalid naming a member that is wrong, NotCanonical if
    the bytes are not the canonical form.
    """
    if len(data) > MAX_PROOF_BYTES:
        raise UsageError(f"a file of more than {MAX_PROOF_BYTES} bytes; no proof is as large")
    try:
        kind = _kind.decode(data).type
    except (ValueError, RecursionError) as error:
        raise UsageError("not a proof document: JSON with a member type is wanted") from error
    if kind not in _KINDS:
        raise UsageError(f"not a proof of a known type: {kind[:60]!r}")
    found = decode(_KINDS[kind], data, "proof")
    if document(found) != data:
        raise NotCanonical("the file is not in canonical form (RFC 8785)")
    return found


def completeness(
    tenant: str,
    entries: Sequence[bytes],
    records: Mapping[int, Sequence[bytes]],
    path: Sequence[bytes],
    checkpoint: str,
) -> Completeness:
    """The document over a tenant's leaves, in their order."""
    return Completeness(
        tenant=tenant,
        entries=tuple(entries),
        records={str(index): tuple(rows) for index, rows in records.items()},
        path=tuple(path),
        checkpoint=checkpoint,
    )
