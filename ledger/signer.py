# SPDX-License-Identifier: Apache-2.0
"""What signs: one Protocol for every private key of the ledger, and the keys that lie in this process's memory.

A signer has an algorithm, a public half, and `sign(message)`. Each algorithm has one form of signature: Ed25519 as in
RFC 8032, ML-DSA pure with an empty context (FIPS 204), ECDSA P-256 over SHA-256 as DER with s in the lower half. Who
asks a signer neither knows nor can tell where the private half lies; where it lies is `ledger.keyring`. Signers may
be used by several threads at a time.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey

from ledger.errors import KeyInvalid
from ledger.keys import ECDSA_P256, ED25519, ML_DSA_44, ML_DSA_65, PublicKey
from ledger.timestamp import low_s

PrivateKey: TypeAlias = Ed25519PrivateKey | MLDSA44PrivateKey | MLDSA65PrivateKey | ec.EllipticCurvePrivateKey


class Signer(Protocol):
    """A private key, wherever it lies."""

    @property
    def alg(self) -> str:
        """The algorithm, as a published key names it."""

    @property
    def public(self) -> PublicKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """The signature over the message, in its algorithm's one form.

        KeyInvalid where the key can't be reached any more; never anything but a good signature.
        """


class Held:
    """A signer whose private key lies in this process's memory."""

    def __init__(self, private: PrivateKey) -> None:
        """KeyInvalid for a key of a kind that is not used here."""
        self._private = private
        self.alg = algorithm(private)
        self.public: PublicKey = private.public_key()

    def sign(self, message: bytes) -> bytes:
        """The signature over the message."""
        if isinstance(self._private, ec.EllipticCurvePrivateKey):
            return low_s(self._private.sign(message, ec.ECDSA(hashes.SHA256())))
        return self._private.sign(message)


def generate(alg: str) -> PrivateKey:
    """A fresh private key from the operating system's random source."""
    match alg:
        case "ed25519":
            return Ed25519PrivateKey.generate()
        case "ml-dsa-44":
            return MLDSA44PrivateKey.generate()
        case "ml-dsa-65":
            return MLDSA65PrivateKey.generate()
        case "ecdsa-p256":
            return ec.generate_private_key(ec.SECP256R1())
    raise KeyInvalid(f"no such algorithm: {alg}")


def algorithm(private: object) -> str:
    """What a private key is called; KeyInvalid for one of a kind that is not used here."""
    match private:
        case Ed25519PrivateKey():
            return ED25519
        case MLDSA44PrivateKey():
            return ML_DSA_44
        case MLDSA65PrivateKey():
            return ML_DSA_65
        case ec.EllipticCurvePrivateKey() if isinstance(private.curve, ec.SECP256R1):
            return ECDSA_P256
    raise KeyInvalid(f"a key of a kind that is not used here: {type(private).__name__}")
