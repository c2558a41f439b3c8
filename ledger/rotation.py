# SPDX-License-Identifier: Apache-2.0
"""Keys that follow keys: what the entry `ledger:key:rotated` says, who signs it, and where each key's word ends.

A rotation has one place in the log: M, the size of the checkpoint under which its entry is sealed. Ended keys speak for
positions up to M and begun keys for those above; the position of a checkpoint is its size, that of evidence its entry's
index + 1. So no position has two sets of keys, and none has none. Old keys sign the checkpoint of size M, new ones each
larger one. The statement is signed by every key that ends and every key that begins, each over the same bytes: nobody
who holds only the old keys makes keys of their own the new ones, nor does anybody pass off keys that they don't hold.
Pure; not here: making keys and sealing the entry (`ledger.rotating`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from msgspec import Meta, Struct

from ledger.canonical import dumps, sha256
from ledger.chain import PLANE, Draft, Hash, Number, Skimmed
from ledger.errors import KeyInvalid, LeafInvalid
from ledger.keys import parse_spki, spki
from ledger.signer import Signer
from ledger.succession import Origin

ROTATED, RETIRED, REVOKED, CREATED = (
    "ledger:key:rotated",
    "ledger:key:retired",
    "ledger:key:revoked",
    "ledger:key:created",
)
CONTEXT = b"urn:qcos:key-rotation:v1\n"
Purpose = Literal["log", "evidence"]
Text = Annotated[str, Meta(min_length=1, max_length=500)]


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    """A key of a rotation."""

    key_id: Text
    alg: Text
    public_sha256: Hash


class Statement(Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed: which keys end and which begin, and where."""

    request: Text
    purpose: Purpose
    origin: Origin
    size: Number
    at: Text
    ended: tuple[Named, ...]
    begun: tuple[Named, ...]

    def signed(self) -> bytes:
        """The bytes that every key of it signs."""
        return CONTEXT + dumps(msgspec.to_builtins(self))


class Rotation(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of the entry; `signatures` are in the order of `ended`, then `begun`."""

    statement: Statement
    signatures: tuple[bytes, ...]

    def body(self) -> dict[str, Any]:
        """The body of the entry."""
        signatures = [base64.b64encode(made).decode() for made in self.signatures]
        return {"statement": msgspec.to_builtins(self.statement), "signatures": signatures}

    @property
    def keys(self) -> tuple[Named, ...]:
        """Those that end, then those that begin."""
        return (*self.statement.ended, *self.statement.begun)


class Revoked(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `ledger:key:revoked`: the name that stands in trust files, from when it proves nothing, and why."""

    id: Text
    at: Text
    reason: Text

    def body(self) -> dict[str, Any]:
        """The body of the entry."""
        return {"id": self.id, "at": self.at, "reason": self.reason}


def sign(statement: Statement, signers: Sequence[Signer]) -> Rotation:
    """The rotation, signed by each of its keys; `signers` in the order of `Rotation.keys`."""
    message = statement.signed()
    return Rotation(statement, tuple(signer.sign(message) for signer in signers))


def named(key_id: str, signer: Signer) -> Named:
    """A key as a rotation names it."""
    return Named(key_id, signer.alg, sha256(spki(signer.public)))


def rotates(record: Draft | Skimmed) -> bool:
    """Whether an entry claims to be a rotation."""
    return record.kind == ROTATED and record.tenant == PLANE


def parse_rotation(body: bytes | msgspec.Raw) -> Rotation:
    """Read the body of such an entry; LeafInvalid for any other."""
    try:
        return msgspec.json.decode(body, type=Rotation)
    except msgspec.MsgspecError as error:
        raise LeafInvalid(f"{ROTATED}: {error}") from error


def parse_revoked(body: bytes | msgspec.Raw) -> Revoked:
    """Read the body of a revocation; LeafInvalid for any other."""
    try:
        return msgspec.json.decode(body, type=Revoked)
    except msgspec.MsgspecError as error:
        raise LeafInvalid(f"{REVOKED}: {error}") from error


def check(found: Rotation, publics: Mapping[str, bytes]) -> None:
    """Raise LeafInvalid unless each key has signed; `publics` are the log's keys (SPKI) by their hash."""
    said = found.statement
    if not said.ended or sorted(key.alg for key in said.ended) != sorted(key.alg for key in said.begun):
        raise LeafInvalid("what begins is not of the kinds of what ends")
    if len(found.signatures) != len(found.keys) or len({key.public_sha256 for key in found.keys}) != len(found.keys):
        raise LeafInvalid("not one signature by each key, or a key twice")
    message = said.signed()
    for key, signature in zip(found.keys, found.signatures, strict=True):
        public = publics.get(key.public_sha256)
        if public is None:
            raise LeafInvalid(f"the log has published no such key: {key.key_id} ({key.alg})")
        try:
            _verify(public, signature, message)
        except (InvalidSignature, KeyInvalid) as error:
            raise LeafInvalid(f"not signed by {key.key_id} ({key.alg})") from error


def speaks(rotations: Iterable[tuple[int, bool, bool]], position: int) -> bool:
    """Whether a key speaks for a position: for each rotation (size, ends it, begins it) it has its side."""
    return all((position <= size or not ended) and (position > size or not begun) for size, ended, begun in rotations)


def _verify(public: bytes, signature: bytes, message: bytes) -> None:
    key = parse_spki(public)
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, Ed25519PublicKey | MLDSA65PublicKey):
        key.verify(signature, message)
    else:
        raise KeyInvalid("a key that signs no log or evidence")
