# SPDX-License-Identifier: Apache-2.0
"""Who a peer is: an Ed25519 key, and the libp2p peer id that carries its public half (N14).

A peer id of such a key *is* the key: base58 of an identity multihash over libp2p's protobuf of the public key. So
:func:`verify` needs nothing but the id, no directory and no network, and evidence can be checked by a stranger. Enters:
key files, ids, bytes. Leaves: signatures and refusals. Imports no libp2p: nodes, plane and auditors share this.
"""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hal_drivers.p2p.errors import IdentityInvalid
from hal_drivers.p2p.wire import SIGNED_PREFIX, Signed

# Multihash "identity", 36 bytes long; then the protobuf: field 1 (type) = 1 (Ed25519), field 2 (data) of 32 bytes.
_HEAD = bytes.fromhex("0024080112" + "20")
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT = {letter: value for value, letter in enumerate(_ALPHABET)}
_ID_LENGTH = 52


class Identity:
    """A private key and what its peers call it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.peer_id = peer_id_of(key.public_key().public_bytes_raw())

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for the libp2p host of this process and for nobody else."""
        return self._key.private_bytes_raw()

    def sign(self, body: bytes) -> Signed:
        """The body with this key's signature over ``SIGNED_PREFIX + body``."""
        return Signed(node_id=self.peer_id, body=body, signature=self._key.sign(SIGNED_PREFIX + body))


def peer_id_of(public: bytes) -> str:
    """The peer id of 32 bytes of public key."""
    number = int.from_bytes(_HEAD + public, "big")
    letters = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    return "1" + "".join(reversed(letters))  # the leading zero byte of the multihash


def public_of(peer_id: str) -> bytes:
    """The public key in a peer id; IdentityInvalid for ids of other keys, in another spelling, or of none."""
    if len(peer_id) != _ID_LENGTH or not peer_id.startswith("1"):
        raise IdentityInvalid(f"{peer_id[:64]!r} is not the peer id of an Ed25519 key (12D3Koo…, 52 letters)")
    number = 0
    for letter in peer_id:
        if letter not in _DIGIT:
            raise IdentityInvalid(f"{peer_id!r} has a letter that base58 lacks")
        number = number * 58 + _DIGIT[letter]
    try:
        data = number.to_bytes(len(_HEAD) + 32, "big")
    except OverflowError:
        raise IdentityInvalid(f"{peer_id!r} is longer than a key") from None
    if not data.startswith(_HEAD) or peer_id_of(data[len(_HEAD) :]) != peer_id:
        raise IdentityInvalid(f"{peer_id!r} is not the peer id of an Ed25519 key")
    return data[len(_HEAD) :]


def verify(signed: Signed) -> None:
    """Return if the signature is that of the key in ``node_id``; raise IdentityInvalid if not."""
    try:
        _key_of(signed.node_id).verify(signed.signature, SIGNED_PREFIX + signed.body)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise IdentityInvalid(f"the signature is not that of {signed.node_id}") from None


@functools.lru_cache(maxsize=4_096)
def _key_of(peer_id: str) -> Ed25519PublicKey:
    """The key in a peer id; reading base58 takes longer than a signature. What is refused isn't kept."""
    return Ed25519PublicKey.from_public_bytes(public_of(peer_id))


def load(path: Path) -> Identity:
    """The identity in a key file: PKCS8 PEM, a file of the caller's that no one else may read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise IdentityInvalid(f"{path}: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise IdentityInvalid(f"{path}: mode {mode:04o}, must be 0600")
        pem = file.read(1 << 16)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: encrypted
        raise IdentityInvalid(f"{path}: not an unencrypted PKCS8 key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityInvalid(f"{path}: not an Ed25519 key")
    return Identity(key)


def make(path: Path) -> Identity:
    """The identity in that file, made first where there is none; it appears whole and durable, or not at all."""
    if path.exists():
        return load(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, path)  # unlike rename, fails where another process was quicker
    except FileExistsError:
        pass
    finally:
        part.unlink()
    return load(path)
