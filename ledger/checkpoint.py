# SPDX-License-Identifier: Apache-2.0
"""The signed head of the log: a C2SP checkpoint (tlog-checkpoint) as a C2SP signed note with two signature
lines.

Text: origin, size in decimal, base64 root, each with a newline. Then an empty line and the lines
`— NAME BASE64(4-byte key hash ‖ signature)`, NAME = origin. Both sign the text as it stands:
Ed25519 (type 0x01, hash SHA-256(name ‖ 0x0a ‖ 0x01 ‖ key)) and ML-DSA-65 (type 0xff followed by
`ML_DSA_65_TYPE`, empty context, hash SHA-256(name ‖ 0x0a ‖ 0xff ‖ type ‖ key)); docs/evidence-format.md
section 4 is for other tools. A checkpoint of ours has exactly these two lines, Ed25519 first, no extension
lines; cosignatures are kept apart. Pure: keys enter as values, no clock, no I/O.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from msgspec import Struct

from ledger.errors import CheckpointInvalid
from ledger.keys import parse_spki, spki

if TYPE_CHECKING:
    from ledger.signer import Signer

ED25519_TYPE = b"\x01"
ML_DSA_65_TYPE = b"\xffurn:qcos:signed-note:ml-dsa-65:v1"
MAX_NOTE_BYTES = 20_000  # two lines and room for a few witnesses
_SIZES = {ED25519_TYPE: 64, ML_DSA_65_TYPE: 3309}  # signature bytes
_ORIGIN = re.compile(r"[!-*,-~]{1,200}", re.ASCII)  # printable, no space, no plus (signed-note)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_DASH = "\u2014 "


class NoteLine(Struct, frozen=True):
    """One signature line; `key_hash` only hints at a key, the signature decides."""

    name: str
    key_hash: bytes
    signature: bytes


class Checkpoint(Struct, frozen=True):
    """A parsed checkpoint; nothing about it is verified yet."""

    origin: str
    size: int
    root: bytes
    text: bytes
    lines: tuple[NoteLine, ...]


class Verifier(Struct, frozen=True):
    """A log key as a note sees it: `check(signature, text)` raises InvalidSignature."""

    name: str
    key_hash: bytes
    kind: bytes
    check: Callable[[bytes, bytes], None]


def key_hash(name: str, kind: bytes, public: bytes) -> bytes:
    """The four bytes that name a key in a signature line."""
    return full_key_hash(name, kind, public)[:4]


def full_key_hash(name: str, kind: bytes, public: bytes) -> bytes:
    """The hash that those four bytes begin."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()


def ed25519_verifier(origin: str, public: Ed25519PublicKey) -> Verifier:
    """The verifier of a checkpoint's first line."""
    return Verifier(origin, key_hash(origin, ED25519_TYPE, public.public_bytes_raw()), ED25519_TYPE, public.verify)


def mldsa65_verifier(origin: str, public: MLDSA65PublicKey) -> Verifier:
    """The verifier of a checkpoint's second line."""
    return Verifier(origin, key_hash(origin, ML_DSA_65_TYPE, public.public_bytes_raw()), ML_DSA_65_TYPE, public.verify)


def verifiers(origin: str, publics: Iterable[bytes]) -> tuple[Verifier, ...]:
    """The verifiers of a log's public keys (SPKI DER); keys of other kinds sign no checkpoint and are left
    out.
    """
    found = []
    for public in publics:
        key = parse_spki(public)
        if isinstance(key, Ed25519PublicKey):
            found.append(ed25519_verifier(origin, key))
        elif isinstance(key, MLDSA65PublicKey):
            found.append(mldsa65_verifier(origin, key))
    return tuple(found)


def text(origin: str, size: int, root: bytes) -> bytes:
    """The bytes that both lines sign."""
    if _ORIGIN.fullmatch(origin) is None:
        raise CheckpointInvalid(f"not usable as an origin: {origin!r:.60}")
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode()


def sign(origin: str, size: int, root: bytes, *, ed25519: Signer, mldsa65: Signer) -> bytes:
    """The whole signed note. The sealer alone MUST call this on live data, once for each size."""
    body = text(origin, size, root)
    hints = (by.key_hash for by in verifiers(origin, (spki(ed25519.public), spki(mldsa65.public))))
    signed = zip(hints, (ed25519.sign(body), mldsa65.sign(body)), strict=True)
    lines = "".join(write_line(NoteLine(origin, hint, made)) + "\n" for hint, made in signed)
    return body + b"\n" + lines.encode()


def parse(note: bytes) -> Checkpoint:
    """Read a checkpoint of ours; the same meaning in other bytes is refused."""
    if len(note) > MAX_NOTE_BYTES:
        raise CheckpointInvalid(f"a note of {len(note)} bytes")
    body, gap, signatures = note.partition(b"\n\n")
    if not gap or not signatures.endswith(b"\n"):
        raise CheckpointInvalid("no signature lines")
    try:
        fields = body.decode().split("\n")
        lines = tuple(parse_line(line) for line in signatures.decode()[:-1].split("\n"))
    except UnicodeDecodeError as error:
        raise CheckpointInvalid("not UTF-8") from error
    if len(fields) != 3:
        raise CheckpointInvalid(f"{len(fields)} lines of text; a checkpoint has three")
    origin, size, root_text = fields
    if _ORIGIN.fullmatch(origin) is None or _DECIMAL.fullmatch(size) is None:
        raise CheckpointInvalid("a malformed origin or size")
    root = base64_bytes(root_text)
    if len(root) != hashlib.sha256().digest_size:
        raise CheckpointInvalid("a root that is not 32 bytes long")
    return Checkpoint(origin, int(size), root, body + b"\n", lines)


def verify(note: bytes, verifiers: Sequence[Verifier]) -> Checkpoint:
    """The checkpoint, once each of its lines is a good signature by one of the verifiers.

    It must have exactly one Ed25519 and one ML-DSA-65 line, in this order, of the same origin. Several keys
    of a kind (rotation) may be given. CheckpointInvalid otherwise, saying which line failed.
    """
    found = parse(note)
    if len(found.lines) != len(_SIZES):
        raise CheckpointInvalid(f"{len(found.lines)} signature lines; a checkpoint has {len(_SIZES)}")
    for line, (kind, label) in zip(
        found.lines, ((ED25519_TYPE, "Ed25519"), (ML_DSA_65_TYPE, "ML-DSA-65")), strict=True
    ):
        if line.name != found.origin or len(line.signature) != _SIZES[kind]:
            raise CheckpointInvalid(f"{label} line: not of this log")
        known = [
            key for key in verifiers if key.kind == kind and key.key_hash == line.key_hash and key.name == found.origin
        ]
        if not known:
            raise CheckpointInvalid(f"{label} line: by no known key of {found.origin}")
        if not any(_good(key, line.signature, found.text) for key in known):
            raise CheckpointInvalid(f"{label} line: bad signature")
    return found


def note_hash(note: bytes) -> str:
    """`sha256:` of the whole note: what `prev_checkpoint` holds and what a time-stamp of it covers."""
    return "sha256:" + hashlib.sha256(note).hexdigest()


def _good(key: Verifier, signature: bytes, body: bytes) -> bool:
    try:
        key.check(signature, body)
    except InvalidSignature:
        return False
    return True


def usable_name(name: str) -> bool:
    """Whether a signed note may bear the name: no space, no plus, printable."""
    return _ORIGIN.fullmatch(name) is not None


def write_line(line: NoteLine) -> str:
    """A signature line, without its newline."""
    return f"{_DASH}{line.name} {base64.b64encode(line.key_hash + line.signature).decode()}"


def parse_line(line: str) -> NoteLine:
    """Read a signature line; the same meaning in other bytes is refused."""
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    data = base64_bytes(encoded) if space and line.startswith(_DASH) else b""
    if len(data) <= 4 or not usable_name(name):
        raise CheckpointInvalid("a malformed signature line")
    return NoteLine(name, data[:4], data[4:])


def base64_bytes(encoded: str) -> bytes:
    """The bytes of base64 in its one form; CheckpointInvalid for any other text."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointInvalid("bad base64") from error
    if base64.b64encode(data).decode() != encoded:  # spare bits of the last character
        raise CheckpointInvalid("base64 that is not canonical")
    return data
