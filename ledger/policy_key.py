# SPDX-License-Identifier: Apache-2.0
"""The key that signs policy bundles: its private half lies with the sealer's keys, its public half apart, as PEM.

The public half is what OPA's configuration holds, and what each process of the plane checks a revision by.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from ledger.custody import PLAIN, Custody
from ledger.errors import KeyInvalid
from ledger.keyring import Keyring
from ledger.keys import ECDSA_P256, write_secret
from ledger.signer import Signer

NAME = "policy_p256"
PUBLIC = "public.pem"


def create_policy_key(private: Path, public: Path, custody: Custody = PLAIN) -> None:
    """Make the key in the folder `private` and its public half in `public`, unless they are there."""
    ring = Keyring(private, custody)
    public.mkdir(mode=0o700, parents=True, exist_ok=True)
    if ring.has(NAME) and (public / PUBLIC).exists():
        return
    (public / PUBLIC).unlink(missing_ok=True)  # of a key that is gone
    signer = ring.load(NAME, ECDSA_P256) if ring.has(NAME) else ring.create(NAME, ECDSA_P256)
    write_secret(public / PUBLIC, signer.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def load_policy_key(private: Path, custody: Custody = PLAIN) -> Signer | None:
    """The key of the sealer's folder; None where this sealer signs no policies."""
    ring = Keyring(private, custody)
    return ring.load(NAME, ECDSA_P256) if ring.has(NAME) else None


def public_key(folder: Path) -> ec.EllipticCurvePublicKey:
    """The public half in its folder; KeyInvalid where it can't be read."""
    try:
        found = load_pem_public_key((folder / PUBLIC).read_bytes())
    except (OSError, ValueError) as error:
        raise KeyInvalid(f"{folder / PUBLIC}: not a public key: {error}") from error
    if not isinstance(found, ec.EllipticCurvePublicKey):
        raise KeyInvalid(f"{folder / PUBLIC}: not an {ECDSA_P256} key")
    return found
