# SPDX-License-Identifier: Apache-2.0
"""Content kept beside the log: encrypted, committed to by a leaf, erasable without touching the tree.

A blob is AES-256-GCM over salt ‖ content under a key of its own, with tenant ‖ 0x00 ‖ commitment as
additional data; that key is wrapped (AES-KW, RFC 3394) by the tenant's key, and that by the root key of the
plane, a 32-byte file. Erasing the wrapped key (or a tenant's) erases content and salt together, and the
commitment then says nothing. Randomness enters as arguments; only `BlobKeys` and `fresh` touch files or the
operating system's random source.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from msgspec import Struct

from ledger.chain import SALT_BYTES, commitment
from ledger.errors import BlobInvalid, KeyInvalid
from ledger.keys import read_secret, write_secret

KEY_BYTES = 32
NONCE_BYTES = 12


class SealedBlob(Struct, frozen=True):
    """What is stored; only `commitment` may be shown to others than the tenant."""

    tenant: str
    commitment: str
    nonce: bytes
    wrapped_key: bytes
    ciphertext: bytes


def seal(content: bytes, *, tenant: str, tenant_key: bytes, salt: bytes, key: bytes, nonce: bytes) -> SealedBlob:
    """Encrypt content under a key that is used for nothing else; salt and key 32 random bytes, nonce 12."""
    if (len(salt), len(key), len(nonce)) != (SALT_BYTES, KEY_BYTES, NONCE_BYTES):
        raise BlobInvalid("a salt, key or nonce of the wrong length")
    committed = commitment(salt, content)
    ciphertext = AESGCM(key).encrypt(nonce, salt + content, _context(tenant, committed))
    return SealedBlob(tenant, committed, nonce, aes_key_wrap(tenant_key, key), ciphertext)


def fresh(content: bytes, *, tenant: str, tenant_key: bytes) -> tuple[SealedBlob, bytes]:
    """`seal` with random salt, key and nonce; the salt too, for what the writer must prove with it."""
    salt = os.urandom(SALT_BYTES)
    sealed = seal(
        content,
        tenant=tenant,
        tenant_key=tenant_key,
        salt=salt,
        key=os.urandom(KEY_BYTES),
        nonce=os.urandom(NONCE_BYTES),
    )
    return sealed, salt


def open_blob(sealed: SealedBlob, tenant_key: bytes) -> tuple[bytes, bytes]:
    """(salt, content) of a blob; BlobInvalid if anything about it changed or its key is erased."""
    try:
        key = aes_key_unwrap(tenant_key, sealed.wrapped_key)
        plain = AESGCM(key).decrypt(sealed.nonce, sealed.ciphertext, _context(sealed.tenant, sealed.commitment))
    except (InvalidUnwrap, InvalidTag, ValueError) as error:
        raise BlobInvalid(f"{sealed.commitment} does not open with this tenant's key") from error
    salt, content = plain[:SALT_BYTES], plain[SALT_BYTES:]
    if len(salt) != SALT_BYTES or commitment(salt, content) != sealed.commitment:
        raise BlobInvalid(f"{sealed.commitment} holds other content than was committed")
    return salt, content


class BlobKeys:
    """The root key of a plane's blobs; API and workers hold it, the sealer does not."""

    def __init__(self, root: bytes) -> None:
        if len(root) != KEY_BYTES:
            raise KeyInvalid(f"blob root key: {len(root)} bytes, must be {KEY_BYTES}")
        self._root = root

    @classmethod
    def load(cls, path: Path) -> BlobKeys:
        """Read the key file (QCOS_HOME/keys/blob/root); KeyInvalid if it is missing or others may read it."""
        return cls(read_secret(path))

    @staticmethod
    def create(path: Path) -> None:
        """Make the key file if there is none."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            write_secret(path, os.urandom(KEY_BYTES))

    def new_tenant_key(self) -> bytes:
        """A fresh tenant key, wrapped; only the wrapped form is stored."""
        return aes_key_wrap(self._root, os.urandom(KEY_BYTES))

    def tenant_key(self, wrapped: bytes) -> bytes:
        """Unwrap a stored tenant key; BlobInvalid if it was made under another root."""
        try:
            return aes_key_unwrap(self._root, wrapped)
        except (InvalidUnwrap, ValueError) as error:
            raise BlobInvalid("the tenant's key does not open with this root key") from error


def _context(tenant: str, committed: str) -> bytes:
    return tenant.encode() + b"\x00" + committed.encode()
