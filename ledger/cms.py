# SPDX-License-Identifier: Apache-2.0
"""The ASN.1 of RFC 3161 and RFC 5652 that time-stamping needs, as strict DER structs, and nothing else.

Optional parts that this project refuses (unsigned attributes, CRLs, unknown parameters) are left out on
purpose: what is not declared here does not decode. `decode` also re-encodes and compares, so one value
has one encoding. Not here: signatures, trust, time. Pure.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

from cryptography.hazmat import asn1
from cryptography.hazmat.asn1 import TLV, BitString, Default, Explicit, GeneralizedTime, Implicit, Null, SetOf
from cryptography.x509 import ObjectIdentifier

from ledger.errors import TokenInvalid

MOST_LEVELS: Final = 32
_CONSTRUCTED: Final = 0x20
_SEQUENCE: Final = b"\x30"
SIGNED_DATA: Final = ObjectIdentifier("1.2.840.113549.1.7.2")  # RFC 5652 section 5.1
TST_INFO: Final = ObjectIdentifier("1.2.840.113549.1.9.16.1.4")  # RFC 3161 section 2.4.2
CONTENT_TYPE: Final = ObjectIdentifier("1.2.840.113549.1.9.3")  # RFC 5652 section 11.1
MESSAGE_DIGEST: Final = ObjectIdentifier("1.2.840.113549.1.9.4")  # RFC 5652 section 11.2
SIGNING_CERTIFICATE: Final = ObjectIdentifier("1.2.840.113549.1.9.16.2.12")  # RFC 2634 section 5.4
SIGNING_CERTIFICATE_V2: Final = ObjectIdentifier("1.2.840.113549.1.9.16.2.47")  # RFC 5035 section 3
HASHES: Final = {  # RFC 5754 section 2; also the lengths of the imprints we stamp
    ObjectIdentifier("2.16.840.1.101.3.4.2.1"): ("sha256", 32),
    ObjectIdentifier("2.16.840.1.101.3.4.2.2"): ("sha384", 48),
    ObjectIdentifier("2.16.840.1.101.3.4.2.3"): ("sha512", 64),
}
SHA256: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
ECDSA_WITH_SHA256: Final = ObjectIdentifier("1.2.840.10045.4.3.2")  # RFC 5758 section 3.2: no parameters
RSA_ENCRYPTION: Final = ObjectIdentifier("1.2.840.113549.1.1.1")  # RFC 3370 section 3.2: NULL parameters
SIGNATURES: Final = {  # signature algorithm -> the digest it implies, None where it implies none
    ECDSA_WITH_SHA256: "sha256",
    ObjectIdentifier("1.2.840.10045.4.3.3"): "sha384",
    ObjectIdentifier("1.2.840.10045.4.3.4"): "sha512",
    RSA_ENCRYPTION: None,
    ObjectIdentifier("1.2.840.113549.1.1.11"): "sha256",
    ObjectIdentifier("1.2.840.113549.1.1.12"): "sha384",
    ObjectIdentifier("1.2.840.113549.1.1.13"): "sha512",
}


@asn1.sequence
class Algorithm:
    """AlgorithmIdentifier whose parameters are absent or NULL, which is all that the algorithms here take."""

    algorithm: ObjectIdentifier
    parameters: Null | None


@asn1.sequence
class Imprint:
    """MessageImprint (RFC 3161 section 2.4.1)."""

    hash_algorithm: Algorithm
    hashed_message: bytes


@asn1.sequence
class Request:
    """TimeStampReq (RFC 3161 section 2.4.1); `extensions` decodes so that it can be refused by name."""

    version: int
    message_imprint: Imprint
    policy: ObjectIdentifier | None
    nonce: int | None
    cert_req: Annotated[bool, Default(False)]
    extensions: Annotated[list[TLV] | None, Implicit(0)]


@asn1.sequence
class Accuracy:
    """Accuracy in whole seconds (RFC 3161 section 2.4.2)."""

    seconds: int


@asn1.sequence
class Info:
    """TSTInfo as our own authority writes it; tokens of others are read by rfc3161-client."""

    version: int
    policy: ObjectIdentifier
    message_imprint: Imprint
    serial_number: int
    gen_time: GeneralizedTime
    accuracy: Accuracy
    nonce: int | None


@asn1.sequence
class StatusInfo:
    """PKIStatusInfo (RFC 3161 section 2.4.2)."""

    status: int
    status_string: list[str] | None
    fail_info: BitString | None


@asn1.sequence
class Rejection:
    """TimeStampResp without a token."""

    status: StatusInfo


@asn1.sequence
class Grant:
    """TimeStampResp with its token."""

    status: StatusInfo
    token: TLV


@asn1.sequence
class IssuerAndSerial:
    """Which certificate signed (RFC 5652 section 10.2.4)."""

    issuer: TLV
    serial_number: int


@asn1.sequence
class Attribute:
    """One signed attribute."""

    type: ObjectIdentifier
    values: SetOf[TLV]


@asn1.sequence
class SignerInfo:
    """SignerInfo with signed attributes and, on purpose, no unsigned ones (RFC 5652 section 5.3)."""

    version: int
    sid: IssuerAndSerial
    digest_algorithm: Algorithm
    signed_attributes: Annotated[SetOf[Attribute], Implicit(0)]
    signature_algorithm: Algorithm
    signature: bytes


@asn1.sequence
class Content:
    """EncapsulatedContentInfo with its content inside."""

    type: ObjectIdentifier
    content: Annotated[bytes, Explicit(0)]


@asn1.sequence
class SignedData:
    """SignedData without CRLs; authorities in use do not sort the certificates, so they are a list here."""

    version: int
    digest_algorithms: SetOf[Algorithm]
    content: Content
    certificates: Annotated[list[TLV] | None, Implicit(0)]
    signer_infos: SetOf[SignerInfo]


@asn1.sequence
class Token:
    """TimeStampToken: a ContentInfo of SignedData."""

    type: ObjectIdentifier
    content: Annotated[SignedData, Explicit(0)]


@asn1.sequence
class EssCertIdV2:
    """The hash of the signer's certificate (RFC 5035 section 4); no algorithm means SHA-256."""

    hash_algorithm: Algorithm | None
    cert_hash: bytes
    issuer_serial: list[TLV] | None


@asn1.sequence
class SigningCertificateV2:
    """The signed attribute that pins the certificate."""

    certs: list[EssCertIdV2]
    policies: list[TLV] | None


@asn1.sequence
class EssCertId:
    """The older form, by SHA-1 (RFC 2634 section 5.4.1), which authorities still write."""

    cert_hash: bytes
    issuer_serial: list[TLV] | None


@asn1.sequence
class SigningCertificate:
    """The older signed attribute."""

    certs: list[EssCertId]
    policies: list[TLV] | None


@asn1.sequence
class Certificate:
    """The three parts of a certificate (RFC 5280 section 4.1), as they stand."""

    body: TLV
    algorithm: TLV
    signature: TLV


@asn1.sequence
class _Parts:
    parts: list[TLV]


_T = TypeVar("_T")


def decode(kind: type[_T], data: bytes, *, what: str) -> _T:
    """One struct from DER; TokenInvalid for anything that its encoding would not reproduce bit for bit."""
    try:
        value = asn1.decode_der(kind, data)
        same = asn1.encode_der(value) == data
    except (ValueError, OverflowError) as error:
        raise TokenInvalid(f"{what}: {error}") from error
    if not same:
        raise TokenInvalid(f"{what}: not DER")
    return value


def parts(der: bytes, *, what: str) -> list[bytes]:
    """The elements within a constructed one; TokenInvalid unless they are DER."""
    inner = asn1.encode_der(_SEQUENCE + der[1:])
    return [whole(part) for part in decode(_Parts, _SEQUENCE + inner[1:], what=what).parts]


def well_formed(der: bytes, *, what: str, level: int = 0) -> None:
    """TokenInvalid unless the bytes are one element of DER, its tag below 31, and so is all that lies in it."""
    tag = decode(TLV, der, what=what).tag_bytes
    if len(tag) != 1 or level > MOST_LEVELS:
        raise TokenInvalid(f"{what}: a long tag, or nested too deep")
    if tag[0] & _CONSTRUCTED:
        for part in parts(der, what=what):
            well_formed(part, what=what, level=level + 1)


def whole(part: TLV) -> bytes:
    """The encoding of one element, tag and length included."""
    return asn1.encode_der(part)
