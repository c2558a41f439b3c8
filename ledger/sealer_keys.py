# SPDX-License-Identifier: Apache-2.0
"""The four keys of a sealer: two that sign checkpoints, two that sign evidence; no key does both.

They lie in one folder by these names (`ledger.keyring`), and the sealer's process alone opens it.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from ledger.custody import PLAIN, Custody
from ledger.keyring import Keyring
from ledger.keys import ECDSA_P256, ED25519, EVIDENCE, LOG, ML_DSA_65, spki
from ledger.signer import Signer

NAMES = {  # name -> purpose, algorithm
    "log_ed25519": (LOG, ED25519),
    "log_mldsa65": (LOG, ML_DSA_65),
    "evidence_mldsa65": (EVIDENCE, ML_DSA_65),
    "evidence_p256": (EVIDENCE, ECDSA_P256),
}


class SealerKeys(Struct, frozen=True):
    """What only the sealer process holds."""

    log_ed25519: Signer
    log_mldsa65: Signer
    evidence_mldsa65: Signer
    evidence_p256: Signer


class Published(Struct, frozen=True):
    """A public key and what it is for; `public` is SubjectPublicKeyInfo DER."""

    purpose: str
    alg: str
    public: bytes


def create_sealer_keys(folder: Path, custody: Custody = PLAIN) -> None:
    """Make the keys that are not there yet; those that are there are left as they are."""
    ring = Keyring(folder, custody)
    for name, (_, alg) in NAMES.items():
        if not ring.has(name):
            ring.create(name, alg)


def load_sealer_keys(folder: Path, custody: Custody = PLAIN) -> SealerKeys:
    """The four keys of a folder; KeyInvalid names the one that cannot be used."""
    ring = Keyring(folder, custody)
    return SealerKeys(**{name: ring.load(name, alg) for name, (_, alg) in NAMES.items()})


def published(keys: SealerKeys) -> tuple[Published, ...]:
    """The public halves, each with its purpose."""
    return tuple(Published(purpose, alg, spki(getattr(keys, name).public)) for name, (purpose, alg) in NAMES.items())
