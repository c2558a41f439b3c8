# SPDX-License-Identifier: Apache-2.0
"""Public keys as they are published, and secret files as they lie on a disk.

A public key travels as SubjectPublicKeyInfo DER. A secret file has mode 0600, is written whole or not at all and never
overwritten; one that others may read is refused, not repaired: what was exposed stays exposed. Not here: private keys
(`ledger.keyring`), key ids and validity, which are rows of `ledger.key`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey

from ledger.errors import KeyInvalid

PublicKey: TypeAlias = Ed25519PublicKey | MLDSA44PublicKey | MLDSA65PublicKey | ec.EllipticCurvePublicKey

# `alg` of a published key; ML-DSA-44 is a witness's.
ED25519, ML_DSA_44, ML_DSA_65, ECDSA_P256 = "ed25519", "ml-dsa-44", "ml-dsa-65", "ecdsa-p256"
LOG, EVIDENCE = "log", "evidence"  # `purpose` of a published key


def spki(key: PublicKey) -> bytes:
    """A public key as SubjectPublicKeyInfo DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def parse_spki(data: bytes) -> PublicKey:
    """A public key of a kind that is used here, from exactly the bytes that `spki` writes."""
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyInvalid("not a public key") from error
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, ec.SECP256R1):
        raise KeyInvalid("an elliptic-curve key that is not P-256")
    if not isinstance(key, Ed25519PublicKey | MLDSA44PublicKey | MLDSA65PublicKey | ec.EllipticCurvePublicKey):
        raise KeyInvalid(f"a key of a kind that is not used here: {type(key).__name__}")
    if spki(key) != data:
        raise KeyInvalid("a public key in another encoding than DER")
    return key


def write_secret(path: Path, data: bytes) -> None:
    """Write bytes as a new file of mode 0600 that appears whole; FileExistsError if there is one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, path)  # unlike rename, fails where a key already is
    finally:
        part.unlink()
    sync_folder(path.parent)


def read_secret(path: Path) -> bytes:
    """The bytes of a secret file; KeyInvalid if it is missing, a link, or open to group or others."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise KeyInvalid(f"{path.name}: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise KeyInvalid(f"{path.name}: mode {mode:04o}, must be 0600")
        return file.read()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
