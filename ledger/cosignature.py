# SPDX-License-Identifier: Apache-2.0
"""What a witness adds to a checkpoint: a C2SP cosignature (tlog-cosignature) of type 0x06, ML-DSA-44.

A line of a signed note, `— NAME BASE64(4-byte key id ‖ timestamp ‖ signature)`: NAME is the cosigner's, the key id is
SHA-256(NAME ‖ 0x0a ‖ 0x06 ‖ key)[:4] ("Format"), the timestamp u64 seconds, the signature 2420 bytes with empty
context over the structure `cosigned_message` ("ML-DSA-44 signed message") of the whole tree: start 0, end its size. It
says: at that time this was the largest tree of that origin that the cosigner had seen, and it is consistent with all
that it had seen before. A timestamp of zero, which says less, is refused, and so is start > 0, which no checkpoint has.
The message holds origin, size and root of the checkpoint and not its signature lines. Public keys travel as vkeys
(signed-note, "Verifier keys") or SubjectPublicKeyInfo. Pure: time and keys enter as values.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from msgspec import Struct

from ledger import checkpoint
from ledger.checkpoint import Checkpoint, NoteLine
from ledger.errors import CosignatureInvalid, KeyInvalid

ML_DSA_44_TYPE = b"\x06"
SIGNATURE_BYTES = 2420
MAX_TIMESTAMP = 253_402_300_799  # the year 9999, the last that any of our times can name; C2SP allows 2^63 - 1
_LABEL = b"subtree/v1\n\0"
_TIME = struct.Struct(">Q")
_TREE = struct.Struct(">QQ")


class Witness(Struct, frozen=True):
    """Name and key of a cosigner: both are in what it signs."""

    name: str
    public: MLDSA44PublicKey

    @property
    def key_hash(self) -> bytes:
        """The four bytes that name the key in a line."""
        return checkpoint.key_hash(self.name, ML_DSA_44_TYPE, self.public.public_bytes_raw())


class Cosignature(Struct, frozen=True):
    """A parsed line; nothing about it is verified yet. `timestamp` in seconds since 1970."""

    name: str
    key_hash: bytes
    timestamp: int
    signature: bytes

    @property
    def at(self) -> datetime:
        """The time that the cosigner says."""
        return datetime.fromtimestamp(self.timestamp, UTC)


def message(name: str, timestamp: int, head: Checkpoint) -> bytes:
    """The bytes that a cosigner signs: `cosigned_message` of tlog-cosignature."""
    if not 0 < timestamp <= MAX_TIMESTAMP:
        raise CosignatureInvalid(f"a timestamp of {timestamp}")
    return b"".join(
        (_LABEL, _short(name), _TIME.pack(timestamp), _short(head.origin), _TREE.pack(0, head.size), head.root)
    )


def cosign(witness: Witness, head: Checkpoint, timestamp: int, sign: Callable[[bytes], bytes]) -> str:
    """The line, without its newline. Who calls it MUST have checked and stored the checkpoint before."""
    made = sign(message(witness.name, timestamp, head))
    return checkpoint.write_line(NoteLine(witness.name, witness.key_hash, _TIME.pack(timestamp) + made))


def parse(line: str) -> Cosignature:
    """Read a line; the same meaning in other bytes is refused."""
    found = checkpoint.parse_line(line)
    if len(found.signature) != _TIME.size + SIGNATURE_BYTES:
        raise CosignatureInvalid(f"a signature of {len(found.signature)} bytes is no ML-DSA-44 cosignature")
    (timestamp,) = _TIME.unpack_from(found.signature)
    if not 0 < timestamp <= MAX_TIMESTAMP:
        raise CosignatureInvalid(f"a timestamp of {timestamp}")
    return Cosignature(found.name, found.key_hash, timestamp, found.signature[_TIME.size :])


def verify(found: Cosignature, head: Checkpoint, witness: Witness) -> None:
    """CosignatureInvalid unless the witness made it over this head."""
    if (found.name, found.key_hash) != (witness.name, witness.key_hash):
        raise CosignatureInvalid(f"a cosignature of {found.name}, not of {witness.name}")
    try:
        witness.public.verify(found.signature, message(found.name, found.timestamp, head))
    except InvalidSignature as error:
        raise CosignatureInvalid(f"not a cosignature of {witness.name} over this checkpoint") from error


def spki(key: MLDSA44PublicKey) -> bytes:
    """The public key as SubjectPublicKeyInfo DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def parse_spki(data: bytes) -> MLDSA44PublicKey:
    """A cosigner's key, from exactly the bytes that `spki` writes."""
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyInvalid("not a public key") from error
    if not isinstance(key, MLDSA44PublicKey) or spki(key) != data:
        raise KeyInvalid("not an ML-DSA-44 key in DER")
    return key


def vkey(witness: Witness) -> str:
    """Name and key in one line of text, as C2SP tools take them: NAME+HEX OF KEY ID+BASE64(type ‖ key)."""
    material = base64.b64encode(ML_DSA_44_TYPE + witness.public.public_bytes_raw()).decode()
    return f"{witness.name}+{witness.key_hash.hex()}+{material}"


def parse_vkey(text: str) -> Witness:
    """The cosigner that a vkey names; KeyInvalid for another type, and where name, id and key don't fit together."""
    name, _, rest = text.partition("+")
    hint, _, encoded = rest.partition("+")
    try:
        material = base64.b64decode(encoded, validate=True)
        if material[:1] != ML_DSA_44_TYPE:
            raise KeyInvalid("a vkey of a type that isn't 0x06 (ML-DSA-44 cosignatures)")
        witness = Witness(name, MLDSA44PublicKey.from_public_bytes(material[1:]))
    except (binascii.Error, ValueError) as error:
        raise KeyInvalid("not a vkey: NAME+KEY ID+BASE64") from error
    if not checkpoint.usable_name(name) or vkey(witness) != text:
        raise KeyInvalid(f"not the vkey of {name:.60} that it says, which would have the id {hint:.8}")
    return witness


def _short(text: str) -> bytes:
    data = text.encode()
    if not 0 < len(data) < 256:
        raise CosignatureInvalid(f"a name of {len(data)} bytes")
    return bytes([len(data)]) + data
