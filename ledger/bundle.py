# SPDX-License-Identifier: Apache-2.0
"""The bundle file: a predicate's fields on top, beside `signatures`, `proof` and `contents`, canonical JSON.

Enters: a predicate and what was made over it. Leaves: the file's bytes, and the struct parsed back.
The Statement is rebuilt from the file's own fields, so there is no second copy of it that could disagree.
Parsing re-encodes and compares, so that one bundle has one byte string. Not here: whether any of it is true
(`ledger.verify`), keys, clocks, I/O. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ledger import canonical
from ledger.errors import EvidenceInvalid, NotCanonical, UsageError
from ledger.predicate import (
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    Closed,
    Count,
    Predicate,
    decode,
    pae,
    parse_statement,
    statement_bytes,
)

__all__ = [
    "MAX_CARRIED_BYTES",
    "MAX_COSIGNATURES",
    "MAX_FILE_BYTES",
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "Bundle",
    "Enrolment",
    "Fold",
    "Predicate",
    "Proof",
    "Signatures",
    "Stamp",
    "assemble",
    "choose_carried",
    "pae",
    "parse_bundle",
    "parse_statement",
    "statement_bytes",
]

MAX_FILE_BYTES = 16 * 1024 * 1024  # artefacts take 1 MB at most; the rest is slack for long histories
MAX_COSIGNATURES = 16
MAX_CARRIED_BYTES = 1_000_000  # all artefacts of one file together (contracts.md); larger ones go by hash


class Stamp(Closed, frozen=True):
    """A time-stamp token (RFC 3161 TimeStampToken, DER) and whose it is."""

    operator: Literal["self", "external"]
    token: bytes


class Signatures(Closed, frozen=True):
    """What was made over the statement's PAE, and the tokens over that (or over the checkpoint)."""

    qcos_signature: bytes | None
    ecdsa_p256_signature: bytes | None
    timestamp_authority: Annotated[tuple[Stamp, ...], Meta(max_length=16)]


class Fold(Closed, frozen=True):
    """The record that commits to the statement, and its place in the tree that the entry states (`ledger.fold`)."""

    record: bytes
    index: Count
    path: Annotated[tuple[bytes, ...], Meta(max_length=64)]


class Enrolment(Closed, frozen=True):
    """The entry by which the asker's key was enrolled, and its place under the same checkpoint."""

    leaf: bytes
    path: Annotated[tuple[bytes, ...], Meta(max_length=64)]


class Proof(Closed, frozen=True):
    """The entry that commits to the statement, and its place under a signed checkpoint.

    `fold` is there where the entry stands for many records, one of which commits to the statement; `cosignatures`
    where witnesses cosigned the checkpoint: their lines (`ledger.cosignature`), sorted; `enrolment` where the record
    has an `envelope`.
    """

    leaf: bytes
    path: Annotated[tuple[bytes, ...], Meta(max_length=64)]
    checkpoint: str
    statement_salt: bytes
    fold: Fold | UnsetType = UNSET
    cosignatures: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_COSIGNATURES)] | UnsetType = UNSET
    enrolment: Enrolment | UnsetType = UNSET


class Bundle(Predicate, frozen=True, kw_only=True):
    """The file: the predicate's own fields, and what proves them."""

    signatures: Signatures
    proof: Proof
    contents: dict[str, bytes]

    def predicate(self) -> Predicate:
        """The record without its proofs, which is what was signed."""
        return Predicate(**{name: getattr(self, name) for name in Predicate.__struct_fields__})


_bundle = msgspec.json.Decoder(Bundle)


def assemble(
    predicate: Predicate,
    *,
    signatures: Signatures,
    proof: Proof,
    contents: Mapping[str, bytes],
    only: frozenset[str] | None = None,
) -> bytes:
    """The bundle file. `timestamp_authority` must be in the order that `ledger.verify` demands.

    That order: tokens over `qcos_signature`, then over `ecdsa_p256_signature`, then over the checkpoint;
    within each `self` before `external`, then by their bytes.
    `contents` must hold exactly the artefacts that the predicate calls carried; with `only`, those of them that it
    names: such an extract proves what it has, and passes for a bundle only where `ledger.verify` is told so.
    """
    carried = {artefact.name for artefact in predicate.artefacts if artefact.carried}
    carried = carried if only is None else carried & only
    if carried != set(contents):
        raise EvidenceInvalid(f"contents {sorted(contents)} where the predicate carries {sorted(carried)}")
    fields: dict[str, Any] = {name: getattr(predicate, name) for name in Predicate.__struct_fields__}
    file = Bundle(**fields, signatures=signatures, proof=proof, contents=dict(contents))
    return canonical.dumps(msgspec.to_builtins(file))


def choose_carried(sizes: Sequence[tuple[str, int]]) -> frozenset[str]:
    """Which of (name, size in bytes), most important first, a file carries: each that still fits in 1 MB."""
    room, chosen = MAX_CARRIED_BYTES, []
    for name, size in sizes:
        if size <= room:
            chosen.append(name)
            room -= size
    return frozenset(chosen)


def parse_bundle(data: bytes) -> Bundle:
    """The bundle of a file's bytes.

    UsageError if it is too large or no JSON object; EvidenceInvalid, naming the member, if its fields are not
    exactly those of a known version; NotCanonical if the bytes are not the canonical form. Re-encoding the
    parsed value and comparing also refuses doubled keys, other spellings of a number or text, and base64 with
    spare bits or spaces.
    """
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"a file of {len(data)} bytes; a bundle has at most {MAX_FILE_BYTES}")
    if not data.lstrip(b" \t\r\n").startswith(b"{"):
        raise UsageError("not a JSON object")
    bundle = decode(_bundle, data, "bundle")
    if canonical.dumps_closed(bundle, (*bundle.environment, *bundle.provenance, *bundle.contents)) != data:
        raise NotCanonical("the file is not in canonical form (RFC 8785)")
    return bundle
