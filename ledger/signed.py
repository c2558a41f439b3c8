# SPDX-License-Identifier: Apache-2.0
"""The sealer's signatures over evidence: how they are made, logged, and how a stored row of them is checked again.

`full` is ML-DSA-65 and ECDSA P-256 (low s), `standard` ML-DSA-65, both over the DSSE PAE of the Statement;
`sealed` has none. A row keeps what suffices to check each signature without the Statement, which is the
tenant's: mu, the message representative of FIPS 204 (algorithm 7, line 6; empty context), and SHA-256. Each
signature is logged by itself too, as Rekor does, in the order ECDSA, ML-DSA-65. Pure: keys enter as values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey, MLDSAMuHasher
from msgspec import Struct

from ledger.chain import Evidence
from ledger.errors import KeyInvalid
from ledger.keys import parse_spki, spki
from ledger.predicate import pae
from ledger.rekor import ML_DSA_65, P256, HashedRekord, KeyDetails
from ledger.sealer_keys import SealerKeys

_PREHASHED = ec.ECDSA(utils.Prehashed(hashes.SHA256()))


class Signed(Struct, frozen=True):
    """What is stored for one bundle, and the records of it that the log has; nothing for level `sealed`."""

    pae_mu: bytes | None = None
    mldsa65: bytes | None = None
    pae_sha256: bytes | None = None
    p256: bytes | None = None
    records: tuple[HashedRekord, ...] = ()


class EvidenceSigner:
    """Signs statements as their evidence level asks: ML-DSA-65 over the DSSE PAE, `full` with ECDSA P-256 as
    well.
    """

    def __init__(self, keys: SealerKeys) -> None:
        self._keys = keys
        public = keys.evidence_mldsa65.public
        assert isinstance(public, MLDSA65PublicKey)  # as the keyring has loaded it
        self._mldsa65_public = public
        self._mldsa65_spki = spki(public)
        self._p256_spki = spki(keys.evidence_p256.public)

    def sign(self, evidence: Evidence) -> Signed:
        """The signatures of one bundle; none for level `sealed`."""
        if evidence.level == "sealed":
            return Signed()
        message = pae(evidence.statement)
        mu, digest = message_representative(self._mldsa65_public, message), hashlib.sha256(message).digest()
        mldsa65 = self._keys.evidence_mldsa65.sign(message)
        twin = HashedRekord(digest=digest, signature=mldsa65, key_details=ML_DSA_65, public=self._mldsa65_spki)
        if evidence.level == "standard":
            return Signed(pae_mu=mu, mldsa65=mldsa65, records=(twin,))
        p256 = self._keys.evidence_p256.sign(message)
        classical = HashedRekord(digest=digest, signature=p256, key_details=P256, public=self._p256_spki)
        return Signed(mu, mldsa65, digest, p256, (classical, twin))


def message_representative(public: MLDSA65PublicKey, message: bytes) -> bytes:
    """Mu of a message under an ML-DSA key with empty context (FIPS 204, algorithm 7, line 6)."""
    hasher = MLDSAMuHasher(public)
    hasher.update(message)
    return hasher.finalize()


class EvidenceKeys:
    """The public evidence keys of a log, present and past."""

    def __init__(self, publics: Iterable[bytes]) -> None:
        self._mldsa65: list[MLDSA65PublicKey] = []
        self._p256: list[ec.EllipticCurvePublicKey] = []
        self._publics: dict[KeyDetails, list[bytes]] = {ML_DSA_65: [], P256: []}
        for public in publics:
            try:
                key = parse_spki(public)
            except KeyInvalid:
                continue  # signs nothing; that its row was changed is for whoever compares it with its entry
            if isinstance(key, MLDSA65PublicKey):
                self._mldsa65.append(key)
                self._publics[ML_DSA_65].append(public)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                self._p256.append(key)
                self._publics[P256].append(public)

    def publics(self, details: KeyDetails) -> list[bytes]:
        """The SubjectPublicKeyInfo of each key of this kind."""
        return self._publics[details]

    def mldsa65_good(self, signature: bytes, mu: bytes) -> bool:
        """Whether one of the keys made this signature over this message representative."""
        for key in self._mldsa65:
            try:
                key.verify_mu(signature, mu)
            except (InvalidSignature, ValueError):
                continue
            return True
        return False

    def p256_good(self, signature: bytes, digest: bytes) -> bool:
        """Whether one of the keys made this signature over this SHA-256 digest."""
        for key in self._p256:
            try:
                key.verify(signature, digest, _PREHASHED)
            except (InvalidSignature, ValueError):
                continue
            return True
        return False
