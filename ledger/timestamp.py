# SPDX-License-Identifier: Apache-2.0
"""RFC 3161 seen from the asker's and the verifier's side: requests, replies, and what a token proves.

Enters: digests, DER bytes, an `Authority` (the certificates that a trust file pins). Leaves: request
bytes, token bytes, or the time that a token proves. A token is accepted only if every bit of it is either
signed or fixed: strict DER, one signer, no unsigned attributes, no CRLs, the certificates byte-equal to
the pinned ones, the algorithm identifiers of the signer's own key. (`openssl ts -verify` alone lets bits
outside the signed parts vary.) The signature, the chain at the token's own time and the key purpose are
judged by rfc3161-client, chain and purpose once for an authority. Not here: sockets (`ledger.tsa_client`),
issuing (`ledger.tsa`), which tokens a bundle needs (`ledger.verify`). Pure, but that an authority remembers
what was judged of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

from ledger import cms
from ledger.errors import TimeUnavailable, TokenInvalid

if TYPE_CHECKING:
    from rfc3161_client import Verifier

MAX_TOKEN_BYTES = 64 * 1024  # a token with a long chain has 6 KB
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_SCHEMES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_TST_INFO = asn1.encode_der(cms.TST_INFO)
_NAMING, _NAMING_BEFORE = cms.SIGNING_CERTIFICATE_V2.dotted_string, cms.SIGNING_CERTIFICATE.dotted_string

Operator = Literal["self", "external"]
OPERATORS: tuple[Operator, ...] = ("self", "external")


class Stamped(Struct, frozen=True):
    """What a token says, before anyone asked whether it is true; `generated_at` as precise as the token."""

    imprint: bytes
    algorithm: str
    generated_at: datetime
    nonce: int | None
    policy: str


class Authority:
    """A time-stamping authority as a trust file pins it: its certificate first, then its chain to the root.

    Raises TokenInvalid when the certificates are not a chain that may stamp time.
    """

    def __init__(self, operator: Operator, name: str, certificates: Sequence[bytes]) -> None:
        if not certificates:
            raise TokenInvalid(f"authority {name}: no certificate")
        try:
            chain = [_readable(x509.load_der_x509_certificate(der)) for der in certificates]
        except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
            raise TokenInvalid(f"authority {name}: {error}") from error
        self.operator: Operator = operator
        self.name = name
        self.certificates = tuple(certificates)
        self._sound = _linked(chain) and all(_one_algorithm(der) for der in certificates)
        self._key, self._serial = chain[0].public_key(), chain[0].serial_number
        self._issuer = chain[0].issuer.public_bytes(Encoding.DER)
        self._window = (max(one.not_valid_before_utc for one in chain), min(one.not_valid_after_utc for one in chain))
        self._proven = False  # rfc3161-client has judged chain and purpose once: neither changes
        self._naming: bytes | None = None  # the attribute that was seen to name the certificate
        self._verifier = _verifier(chain)
        parts = [list(certificates), list(certificates[:-1]) or list(certificates), [certificates[0]]]
        self._embeddings = parts + [sorted(part) for part in parts]  # writers in use: chain order, or DER's

    def signed(self, token: cms.Token) -> bool:
        """Whether the token names this authority's certificate as its signer."""
        sid = _signer(token).sid
        return sid.serial_number == self._serial and cms.whole(sid.issuer) == self._issuer

    def check(self, token: cms.Token, digest: bytes, said: Stamped | None = None) -> None:
        """Raise TokenInvalid unless the token is this authority's, intact, and over the SHA-256 `digest`.

        `said` is what `read` found in this token, for a caller who has asked already.

        The first good token is judged by rfc3161-client. What it judged of the chain holds for each later one from
        within the validity of all its certificates: there the signature is checked here, and a bad one goes back to it.
        """
        if not self._sound:
            raise TokenInvalid("the certificates do not lead to a root, or one names two algorithms")
        embedded = [cms.whole(part) for part in token.content.certificates or ()]
        if embedded not in self._embeddings:
            raise TokenInvalid("the embedded certificates are not those of the trust file")
        _check_algorithms(token, self._key, low_s=self.operator == "self")
        self._check_attributes(token)
        if self._proven and self.signed(token) and self._signed_in_time(token, said or read(token), digest):
            return
        try:
            self._verifier.verify(decode_timestamp_response(_granted(token)), digest)
        except (VerificationError, ValueError) as error:
            raise TokenInvalid(f"token: {error}") from error
        except BaseException as error:
            # rfc3161-client panics over a certificate that OpenSSL can't read, and a panic is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise TokenInvalid("token: its certificates can't be read") from error
        self._proven = True

    def _signed_in_time(self, token: cms.Token, said: Stamped, digest: bytes) -> bool:
        """Whether the key signed it, over this digest, while every certificate of the chain was valid."""
        since, until = self._window
        if not since <= said.generated_at <= until or said.imprint != digest:
            return False
        signer = _signer(token)
        name, _ = cms.HASHES[signer.digest_algorithm.algorithm]
        signed, scheme = asn1.encode_der(signer.signed_attributes), _SCHEMES[name]
        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signer.signature, signed, ec.ECDSA(scheme))
            elif isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signer.signature, signed, padding.PKCS1v15(), scheme)
            else:
                return False
        except InvalidSignature:
            return False
        return True

    def _check_attributes(self, token: cms.Token) -> None:
        """RFC 3161 section 2.4.2: the signed attributes name the content type, digest and certificate."""
        signer = _signer(token)
        values: dict[str, bytes] = {}
        for attribute in signer.signed_attributes.as_list():
            parts = attribute.values.as_list()
            if len(parts) != 1 or attribute.type.dotted_string in values:
                raise TokenInvalid("token: a doubled signed attribute")
            values[attribute.type.dotted_string] = cms.whole(parts[0])
        digest = hashlib.new(cms.HASHES[signer.digest_algorithm.algorithm][0], token.content.content.content).digest()
        wanted = {cms.CONTENT_TYPE: _TST_INFO, cms.MESSAGE_DIGEST: asn1.encode_der(digest)}
        for kind, want in wanted.items():
            if values.get(kind.dotted_string) != want:
                raise TokenInvalid("token: signed attributes that are not of this content")
        naming = values.get(_NAMING, values.get(_NAMING_BEFORE))
        if naming is None or naming != self._naming:
            if not _names_certificate(values, self.certificates[0]):
                raise TokenInvalid("token: the signed attributes do not name the certificate")
            self._naming = naming


def request(digest: bytes, nonce: int) -> bytes:
    """A TimeStampReq for a SHA-256 digest, asking for the certificate; `nonce` is 64 bits of the caller's."""
    imprint = cms.Imprint(hash_algorithm=_algorithm(cms.SHA256), hashed_message=digest)
    return asn1.encode_der(
        cms.Request(version=1, message_imprint=imprint, policy=None, nonce=nonce, cert_req=True, extensions=None)
    )


def token_of(response: bytes, *, digest: bytes, nonce: int) -> bytes:
    """The token of a TimeStampResp to `request(digest, nonce)`.

    TimeUnavailable when the authority refused, TokenInvalid when what it granted answers another request.
    Whether the signature is good is the verifier's question: the asker holds no trust file.
    """
    try:
        rejection = asn1.decode_der(cms.Rejection, response)
    except ValueError:
        grant = cms.decode(cms.Grant, response, what="time-stamp response")
    else:
        raise TimeUnavailable(f"refused with status {rejection.status.status}: {_failure(rejection.status)}")
    if grant.status.status not in (0, 1):  # granted, grantedWithMods
        raise TimeUnavailable(f"refused with status {grant.status.status}: {_failure(grant.status)}")
    der = cms.whole(grant.token)
    stamped = read(parse(der))
    if stamped.imprint != digest or stamped.algorithm != "sha256":
        raise TokenInvalid("the token stamps another digest")
    if stamped.nonce != nonce:
        raise TokenInvalid("the token answers another request (nonce)")
    return der


def parse(der: bytes) -> cms.Token:
    """The token's structure, strictly; TokenInvalid for any other form."""
    if len(der) > MAX_TOKEN_BYTES:
        raise TokenInvalid(f"a token of {len(der)} bytes")
    token = cms.decode(cms.Token, der, what="token")
    data, signer = token.content, _signer(token)
    if token.type != cms.SIGNED_DATA or data.content.type != cms.TST_INFO:
        raise TokenInvalid("token: not a signed TSTInfo")
    if data.version != 3 or signer.version != 1:  # RFC 5652 section 5.1 and 5.3, for this content and signer id
        raise TokenInvalid("token: wrong version")
    digests = data.digest_algorithms.as_list()
    if not data.certificates:
        raise TokenInvalid("token: no certificate inside")
    if len(digests) != 1 or asn1.encode_der(digests[0]) != asn1.encode_der(signer.digest_algorithm):
        raise TokenInvalid("token: digest algorithms that are not the signer's")
    return token


def read(token: cms.Token) -> Stamped:
    """What a well-formed token says."""
    try:
        info = decode_timestamp_response(_granted(token)).tst_info
        imprint = info.message_imprint
        kind = cms.HASHES.get(imprint.hash_algorithm, ("unknown", 0))
        return Stamped(
            imprint=imprint.message,
            algorithm=kind[0],
            generated_at=info.gen_time.astimezone(UTC),
            nonce=info.nonce,
            policy=info.policy.dotted_string,
        )
    except ValueError as error:
        raise TokenInvalid(f"token: {error}") from error


def low_s(signature: bytes) -> bytes:
    """The same P-256 signature in its one form: DER, s in the lower half."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, P256_ORDER - s))


def _readable(certificate: x509.Certificate) -> x509.Certificate:
    """The certificate, each part of it read: they are read late, and rfc3161-client panics over one that can't be.

    What no library here understands lies in it as DER all the same (RFC 5280 section 4.2).
    """
    if certificate.version is not x509.Version.v3:
        raise TokenInvalid("a certificate that is not of version 3")
    for part in (certificate.issuer, certificate.subject, certificate.public_key()):
        del part
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.UnrecognizedExtension):
            cms.well_formed(extension.value.value, what=f"extension {extension.oid.dotted_string}")
    return certificate


def _linked(chain: Sequence[x509.Certificate]) -> bool:
    """Whether each names its issuer byte for byte (RFC 5280 section 7.1): OpenSSL passes over case and white space."""
    subjects = {one.subject.public_bytes(Encoding.DER) for one in chain}
    return all(one.issuer.public_bytes(Encoding.DER) in subjects for one in chain)


def _one_algorithm(certificate: bytes) -> bool:
    """Whether it is signed as it says within what is signed (RFC 5280 section 4.1.1.2); nobody checks a root's."""
    read = cms.decode(cms.Certificate, certificate, what="certificate")
    _version, _serial, algorithm, *_ = cms.parts(cms.whole(read.body), what="certificate")
    return algorithm == cms.whole(read.algorithm)


def _verifier(chain: Sequence[x509.Certificate]) -> Verifier:
    builder = VerifierBuilder(tsa_certificate=chain[0], intermediates=list(chain[1:-1]), roots=[chain[-1]], nonce=None)
    return builder.build()


def _signer(token: cms.Token) -> cms.SignerInfo:
    signers = token.content.signer_infos.as_list()
    if len(signers) != 1:
        raise TokenInvalid("token: not exactly one signer")
    return signers[0]


def _check_algorithms(token: cms.Token, key: object, *, low_s: bool) -> None:
    """No algorithm identifier may vary: it must be what this key and digest have."""
    signer = _signer(token)
    digest = cms.HASHES.get(signer.digest_algorithm.algorithm)
    if digest is None:
        raise TokenInvalid("token: unknown digest algorithm")
    algorithm = signer.signature_algorithm
    implied = cms.SIGNATURES.get(algorithm.algorithm, "unknown")
    if implied not in (None, digest[0]):
        raise TokenInvalid("token: a signature algorithm that does not go with its digest")
    if isinstance(key, ec.EllipticCurvePublicKey):
        elliptic = algorithm.algorithm.dotted_string.startswith("1.2.840.10045.4.3.")
        if not elliptic or algorithm.parameters is not None:
            raise TokenInvalid("token: not the signature algorithm of the authority's key")
        _check_ecdsa_form(signer.signature, low_s=low_s)
    elif isinstance(key, rsa.RSAPublicKey):
        if not algorithm.algorithm.dotted_string.startswith("1.2.840.113549.1.1.") or algorithm.parameters is None:
            raise TokenInvalid("token: not the signature algorithm of the authority's key")
    else:
        raise TokenInvalid("token: the authority's key is neither elliptic nor RSA")


def _check_ecdsa_form(signature: bytes, *, low_s: bool) -> None:
    try:
        r, s = decode_dss_signature(signature)
    except ValueError as error:
        raise TokenInvalid("token: the signature is not DER") from error
    if encode_dss_signature(r, s) != signature:
        raise TokenInvalid("token: the signature is not DER")
    if low_s and s > P256_ORDER // 2:
        raise TokenInvalid("token: s in the upper half")


def _names_certificate(values: dict[str, bytes], certificate: bytes) -> bool:
    newer = values.get(cms.SIGNING_CERTIFICATE_V2.dotted_string)
    if newer is not None:
        ids = cms.decode(cms.SigningCertificateV2, newer, what="signingCertificateV2").certs
        named = ids[0].hash_algorithm if ids else None
        kind = cms.HASHES.get(named.algorithm if named else cms.SHA256)
        return bool(ids) and kind is not None and hashlib.new(kind[0], certificate).digest() == ids[0].cert_hash
    older = values.get(cms.SIGNING_CERTIFICATE.dotted_string)
    if older is None:
        return False
    first = cms.decode(cms.SigningCertificate, older, what="signingCertificate").certs[:1]
    # SHA-1 is no danger here: the trust file pins the certificate's bytes.
    return bool(first) and hashlib.sha1(certificate, usedforsecurity=False).digest() == first[0].cert_hash


def _algorithm(oid: x509.ObjectIdentifier) -> cms.Algorithm:
    return cms.Algorithm(algorithm=oid, parameters=asn1.Null())


def granted(token: bytes) -> bytes:
    """A TimeStampResp around a token, as other tools take it; its certificates in the order that DER wants of a SET."""
    return _granted(parse(token))


def _granted(token: cms.Token) -> bytes:
    """A TimeStampResp around a token for rfc3161-client: certificates, which nothing signs, sorted."""
    parts = [cms.whole(part) for part in token.content.certificates or ()]
    if parts != sorted(parts):
        data = replace(token.content, certificates=[asn1.decode_der(asn1.TLV, part) for part in sorted(parts)])
        token = replace(token, content=data)
    granted = cms.StatusInfo(status=0, status_string=None, fail_info=None)
    return asn1.encode_der(cms.Grant(status=granted, token=asn1.decode_der(asn1.TLV, asn1.encode_der(token))))


def _failure(status: cms.StatusInfo) -> str:
    return "; ".join(status.status_string or ()) or "no reason given"
