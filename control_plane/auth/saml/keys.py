# SPDX-License-Identifier: Apache-2.0
"""The plane's own keys as a service provider: files of `QCOS_HOME/keys/saml`, made and rotated by command (G13).

They sign what the plane asks providers for and open assertions that are encrypted for it. Without any, requests go
unsigned and nothing encrypted can be read. Rotation overlaps: the new key is in the plane's metadata at once and opens
what it is used for; the oldest goes on signing until it is retired, once every provider has read the new metadata.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from msgspec import Struct

__all__ = ["MOST", "OwnKey", "add", "load", "retire", "told"]

BITS: Final = 3_072
VALID: Final = dt.timedelta(days=3_650)
"""Providers look at the key; few look at the dates. The administrator's rotation is what ends one."""
MOST: Final = 4


class OwnKey(Struct, frozen=True):
    """One key pair; `number` counts on, so that the order of rotation is plain."""

    number: int
    key: RSAPrivateKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        """Without the key (I10)."""
        return f"OwnKey({self.number})"

    @property
    def fingerprint(self) -> str:
        """As administrators of providers compare it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def load(folder: Path) -> tuple[OwnKey, ...]:
    """All of them, the oldest first. OSError, ValueError for a file that isn't ours."""
    paths = sorted(folder.glob("[0-9][0-9][0-9][0-9].pem"))
    return tuple(OwnKey(int(path.stem), *_pair(path.read_bytes())) for path in paths)


@lru_cache(MOST)
def _pair(pem: bytes) -> tuple[RSAPrivateKey, x509.Certificate]:
    """Proving that a key's numbers fit takes longer than all else of a login."""
    key = load_pem_private_key(pem, None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("no RSA key")  # noqa: TRY004 - a file of the wrong kind, not an argument
    return key, x509.load_pem_x509_certificate(pem)


def add(folder: Path, plane: str, at: dt.datetime) -> OwnKey:
    """Make the next one; it is in place, whole, before it has its name. ValueError where there are `MOST`."""
    there = load(folder)
    if len(there) >= MOST:
        raise ValueError(f"there are {MOST} keys: retire the oldest first")
    key = generate_private_key(65537, BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"QCOS {plane}"[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - dt.timedelta(minutes=5))
        .not_valid_after(at + VALID)
        .sign(key, hashes.SHA256())
    )
    made = OwnKey((there[-1].number if there else 0) + 1, key, certificate)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{made.number:04}.new"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(private + certificate.public_bytes(Encoding.PEM))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / f"{made.number:04}.pem")
    return made


def retire(folder: Path) -> OwnKey:
    """Remove the oldest, which the others then stand in for. ValueError where it is the last."""
    there = load(folder)
    if len(there) < 2:
        raise ValueError("the last key stays: make its follower first")
    (folder / f"{there[0].number:04}.pem").unlink()
    return there[0]


def told(keys: Sequence[OwnKey]) -> list[dict[str, Any]]:
    """What may be said of them, the oldest first."""
    return [
        {
            "number": one.number,
            "uses": ("signs and opens" if place == 0 else "opens") + ("; to encrypt with" if one is keys[-1] else ""),
            "not_after": f"{one.certificate.not_valid_after_utc:%Y-%m-%d}",
            "fingerprint": one.fingerprint,
        }
        for place, one in enumerate(keys)
    ]
