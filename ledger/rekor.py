# SPDX-License-Identifier: Apache-2.0
"""The second type of leaf: the body of a Rekor v2 entry, `hashedrekord` 0.0.2, as stock Sigstore verifiers want it.

Enters: the leaf's bytes, and the bytes that were signed. Leaves: a `HashedRekord`, or why it is none
(docs/evidence-format.md section 2). For a DSSE envelope the signed bytes are its PAE: digest and signature are
both over that (rekor-v2-spec section 6.1.4), never over the payload. Invariant: one record has one leaf: RFC 8785,
no member but those of the specification, base64 and DER in their one form, s in the lower half; so no two leaves
say the same. A record vouches for nothing by itself: the key in it is the record's own word, and the caller holds
it against the trust file. Pure. Not here: who writes such leaves (`ledger.batch`), and Sigstore's bundles.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from msgspec import Struct

from ledger.canonical import loads
from ledger.errors import EvidenceUnbound, KeyInvalid, LeafInvalid, NotCanonical
from ledger.keys import parse_spki
from ledger.timestamp import low_s

KeyDetails = Literal["PKIX_ECDSA_P256_SHA_256", "ML_DSA_65"]
P256: Literal["PKIX_ECDSA_P256_SHA_256"] = "PKIX_ECDSA_P256_SHA_256"
ML_DSA_65: Literal["ML_DSA_65"] = "ML_DSA_65"
ML_DSA_65_BYTES = 3309  # FIPS 204 table 2
DIGEST_BYTES = 32


class HashedRekord(Struct, frozen=True, kw_only=True):
    """What a record says: this key (SubjectPublicKeyInfo) made this signature over bytes of this SHA-256 digest."""

    digest: bytes
    signature: bytes
    key_details: KeyDetails
    public: bytes


class _Closed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every member is required and no other is allowed; bytes are base64."""


class _Data(_Closed, frozen=True):
    algorithm: Literal["SHA2_256"]
    digest: bytes


class _PublicKey(_Closed, frozen=True):
    raw_bytes: bytes = msgspec.field(name="rawBytes")


class _Verifier(_Closed, frozen=True):
    key_details: KeyDetails = msgspec.field(name="keyDetails")
    public_key: _PublicKey = msgspec.field(name="publicKey")


class _Signature(_Closed, frozen=True):
    content: bytes
    verifier: _Verifier


class _Record(_Closed, frozen=True):
    data: _Data
    signature: _Signature


class _Spec(_Closed, frozen=True):
    hashed_rekord: _Record = msgspec.field(name="hashedRekordV002")


class _Body(_Closed, frozen=True):
    api_version: Literal["0.0.2"] = msgspec.field(name="apiVersion")
    kind: Literal["hashedrekord"]
    spec: _Spec


_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def leaf_of(record: HashedRekord) -> bytes:
    """The one leaf that says this; that it is sound is for who calls."""
    verifier = _Verifier(key_details=record.key_details, public_key=_PublicKey(raw_bytes=record.public))
    written = _Record(
        data=_Data(algorithm="SHA2_256", digest=record.digest),
        signature=_Signature(content=record.signature, verifier=verifier),
    )
    return _encode(_Body(api_version="0.0.2", kind="hashedrekord", spec=_Spec(hashed_rekord=written)))


def parse_hashedrekord(leaf: bytes) -> HashedRekord:
    """Read a leaf; NotCanonical for another spelling, LeafInvalid for other members or values.

    LeafInvalid also where key, key details and signature can't belong together.
    """
    loads(leaf, what="hashedrekord")
    try:
        body = _decode(leaf)
    except msgspec.ValidationError as error:
        raise LeafInvalid(f"hashedrekord: {error}") from error
    if _encode(body) != leaf:
        raise NotCanonical("hashedrekord: base64 with spare bits or without its padding")
    record = body.spec.hashed_rekord
    found = HashedRekord(
        digest=record.data.digest,
        signature=record.signature.content,
        key_details=record.signature.verifier.key_details,
        public=record.signature.verifier.public_key.raw_bytes,
    )
    if len(found.digest) != DIGEST_BYTES:
        raise LeafInvalid(f"hashedrekord: a digest of {len(found.digest)} bytes")
    key = _key(found)
    if isinstance(key, ec.EllipticCurvePublicKey):
        _check_form(found.signature)
    elif len(found.signature) != ML_DSA_65_BYTES:
        raise LeafInvalid(f"hashedrekord: an ML-DSA-65 signature of {len(found.signature)} bytes")
    return found


def verify_hashedrekord(record: HashedRekord, signed: bytes) -> None:
    """Raise EvidenceUnbound unless the record is about these bytes: their digest, and a good signature over them.

    `signed` are the bytes themselves; for a DSSE envelope its PAE. Pure ML-DSA signs them, not their digest.
    """
    if hashlib.sha256(signed).digest() != record.digest:
        raise EvidenceUnbound("hashedrekord: the digest is not that of these bytes")
    key = _key(record)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(record.signature, signed, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(record.signature, signed)
    except InvalidSignature as error:
        raise EvidenceUnbound("hashedrekord: the signature over these bytes was not made by the key named") from error


def _key(record: HashedRekord) -> ec.EllipticCurvePublicKey | MLDSA65PublicKey:
    try:
        key = parse_spki(record.public)
    except KeyInvalid as error:
        raise LeafInvalid(f"hashedrekord: {error}") from error
    wanted = ec.EllipticCurvePublicKey if record.key_details == P256 else MLDSA65PublicKey
    if not isinstance(key, wanted) or not isinstance(key, (ec.EllipticCurvePublicKey, MLDSA65PublicKey)):
        raise LeafInvalid(f"hashedrekord: the key is not {record.key_details}")
    return key


def _check_form(signature: bytes) -> None:
    """One form of an ECDSA signature: DER, s in the lower half, or anyone could write a second record of it."""
    try:
        unique = low_s(signature) == signature
    except ValueError as error:
        raise LeafInvalid("hashedrekord: not a DER signature") from error
    if not unique:
        raise LeafInvalid("hashedrekord: an ECDSA signature not in its one form (DER, low s)")
