# SPDX-License-Identifier: Apache-2.0
"""Who signed what a node of the network said: the key in a libp2p peer id, and its signature. No directory, no network.

The peer id of an Ed25519 key is the key: base58 of the identity multihash over libp2p's protobuf of the public half.
`hal_drivers.p2p.identity` has the plane's own reading; an auditor's tool imports no driver, so this is one of its own,
held against that by a test.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import EvidenceInvalid

SIGNED_PREFIX = b"qcos-node-v1\n"
# Multihash "identity" of 36 bytes; in it the protobuf: field 1 (type) = 1 (Ed25519), field 2 (data) of 32 bytes.
_HEAD = bytes.fromhex("002408011220")
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_LETTERS = 52


def public_key(peer_id: str) -> bytes:
    """The 32 bytes of key in a peer id; EvidenceInvalid for anything that is not exactly one."""
    number = 0
    if len(peer_id) == _LETTERS and peer_id[0] == "1" and set(peer_id) <= set(_ALPHABET):
        for letter in peer_id:
            number = number * 58 + _ALPHABET.index(letter)
    size = len(_HEAD) + 32
    data = number.to_bytes(size, "big") if number < 1 << (8 * size) else b""
    # 52 letters and one leading 1 leave no second spelling: the multihash begins with one zero byte, then 0x24.
    if not data.startswith(_HEAD):
        raise EvidenceInvalid(f"{peer_id[:64]!r} is not the peer id of an Ed25519 key")
    return data[len(_HEAD) :]


def check_signature(peer_id: str, body: bytes, signature: bytes) -> None:
    """Return if the key in the peer id signed this body; raise EvidenceInvalid if not."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key(peer_id)).verify(signature, SIGNED_PREFIX + body)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise EvidenceInvalid(f"a signature that is not {peer_id}'s") from error
