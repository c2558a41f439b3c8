# SPDX-License-Identifier: Apache-2.0
"""The sealer's private keys as files, and public keys as they are published.

A file is PKCS8 PEM, mode 0600, in a folder of mode 0700, written whole or not at all and never overwritten;
ML-DSA keys are their 32-byte seed (RFC 9881 section 6). A key file that others may read is refused, not
repaired: what was exposed stays exposed. Public keys travel as SubjectPublicKeyInfo DER. The four keys of a
sealer: two that sign checkpoints, two that sign evidence; no key does both. Reads and writes files and the
operating system's random source (through `generate`); no clock. Not here: key ids and validity, which are
rows of `ledger.key`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from msgspec import Struct

from ledger.errors import KeyInvalid

PrivateKey: TypeAlias = Ed25519PrivateKey | MLDSA65PrivateKey | ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = Ed25519PublicKey | MLDSA65PublicKey | ec.EllipticCurvePublicKey

ED25519, ML_DSA_65, ECDSA_P256 = "ed25519", "ml-dsa-65", "ecdsa-p256"  # `alg` of a published key
LOG, EVIDENCE = "log", "evidence"  # `purpose` of a published key


class SealerKeys(Struct, frozen=True):
    """What only the sealer process holds."""

    log_ed25519: Ed25519PrivateKey
    log_mldsa65: MLDSA65PrivateKey
    evidence_mldsa65: MLDSA65PrivateKey
    evidence_p256: ec.EllipticCurvePrivateKey


class Published(Struct, frozen=True):
    """A public key and what it is for; `public` is SubjectPublicKeyInfo DER."""

    purpose: str
    alg: str
    public: bytes


def create_sealer_keys(folder: Path) -> None:
    """Make the keys that are not there yet; existing files are left as they are."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made: dict[str, PrivateKey] = {
        "log_ed25519": Ed25519PrivateKey.generate(),
        "log_mldsa65": MLDSA65PrivateKey.generate(),
        "evidence_mldsa65": MLDSA65PrivateKey.generate(),
        "evidence_p256": ec.generate_private_key(ec.SECP256R1()),
    }
    for name, key in made.items():
        if not (folder / f"{name}.pem").exists():
            write_private(folder / f"{name}.pem", key)


def load_sealer_keys(folder: Path) -> SealerKeys:
    """The four keys of a folder; KeyInvalid names the file that cannot be used."""
    return SealerKeys(
        log_ed25519=_ed25519(folder / "log_ed25519.pem"),
        log_mldsa65=_mldsa65(folder / "log_mldsa65.pem"),
        evidence_mldsa65=_mldsa65(folder / "evidence_mldsa65.pem"),
        evidence_p256=_p256(folder / "evidence_p256.pem"),
    )


def published(keys: SealerKeys) -> tuple[Published, ...]:
    """The public halves, each with its purpose."""
    return (
        Published(LOG, ED25519, spki(keys.log_ed25519.public_key())),
        Published(LOG, ML_DSA_65, spki(keys.log_mldsa65.public_key())),
        Published(EVIDENCE, ML_DSA_65, spki(keys.evidence_mldsa65.public_key())),
        Published(EVIDENCE, ECDSA_P256, spki(keys.evidence_p256.public_key())),
    )


def spki(key: PublicKey) -> bytes:
    """A public key as SubjectPublicKeyInfo DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def parse_spki(data: bytes) -> PublicKey:
    """A public key of the three kinds that are used here, from exactly the bytes that `spki` writes."""
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyInvalid("not a public key") from error
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, ec.SECP256R1):
        raise KeyInvalid("an elliptic-curve key that is not P-256")
    if not isinstance(key, (Ed25519PublicKey, MLDSA65PublicKey, ec.EllipticCurvePublicKey)):
        raise KeyInvalid(f"a key of a kind that is not used here: {type(key).__name__}")
    if spki(key) != data:
        raise KeyInvalid("a public key in another encoding than DER")
    return key


def write_private(path: Path, key: PrivateKey) -> None:
    """Write a private key as a new file of mode 0600, durably; FileExistsError if there is one."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret(path, pem)


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


def _load(path: Path) -> object:
    try:
        return serialization.load_pem_private_key(read_secret(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: encrypted
        raise KeyInvalid(f"{path.name}: not an unencrypted PKCS8 key") from error


def _ed25519(path: Path) -> Ed25519PrivateKey:
    key = _load(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyInvalid(f"{path.name}: not an Ed25519 key")
    return key


def _mldsa65(path: Path) -> MLDSA65PrivateKey:
    key = _load(path)
    if not isinstance(key, MLDSA65PrivateKey):
        raise KeyInvalid(f"{path.name}: not an ML-DSA-65 key")
    return key


def _p256(path: Path) -> ec.EllipticCurvePrivateKey:
    key = _load(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyInvalid(f"{path.name}: not a P-256 key")
    return key
