# SPDX-License-Identifier: Apache-2.0
"""What the sealer signs of a document about evidence (a PDF): a closed structure, checked, and its signed attributes.

Whoever makes the document writes an entry of kind `evidence:document:prepared` that says which bundle the document is
about, on which entry that rests, the digest of the bytes to be signed, and by which certificate. The sealer, who alone
holds the key, builds the CMS signed attributes (RFC 5652 section 5.3; PAdES: content type, digest, certificate and no
other) from that structure itself: it signs no bytes that came from elsewhere. It refuses what names evidence that this
tenant hasn't sealed, or another certificate. Pure. Not here: the PDF, which the sealer never sees; the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat import asn1
from msgspec import Struct

from ledger import cms
from ledger.canonical import sha256
from ledger.chain import Draft, EntryId, Hash, body_of
from ledger.errors import DocumentRefused

PREPARED = "evidence:document:prepared"
ISSUED = "evidence:document:issued"
REFUSED = "evidence:document:refused"
SEQUENCE, _DIRECTORY_NAME = 0x30, 0xA4  # tags; the second of a GeneralName (RFC 5280 section 4.2.1.6)
_DATA = x509.ObjectIdentifier("1.2.840.113549.1.7.1")  # RFC 5652 section 4


class Prepared(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of the entry: what is to be signed. All members are required and no other is allowed."""

    bundle_id: EntryId
    evidence_entry: EntryId
    digest: Hash  # SHA-256 of the document's signed byte ranges
    certificate: Hash  # SHA-256 of the signing certificate, DER


def read(draft: Draft) -> Prepared:
    """The structure of an entry of kind PREPARED; DocumentRefused for any other form."""
    try:
        asked = msgspec.json.decode(draft.body, type=Prepared)
    except msgspec.ValidationError as error:
        raise DocumentRefused(f"not the closed structure: {error}") from error
    if draft.commitments or draft.schema != 1:
        raise DocumentRefused("an entry with commitments, or of another schema")
    return asked


def check(asked: Prepared, draft: Draft, evidence: Draft | None, certificates: Sequence[bytes]) -> bytes:
    """The certificate (DER) under which it may be signed.

    DocumentRefused unless `evidence`, the sealed record that `asked` names, is the same tenant's and speaks of that
    bundle, and the certificate is one of the plane's own.
    """
    if evidence is None or evidence.tenant != draft.tenant:
        raise DocumentRefused("it rests on an entry that this tenant hasn't sealed")
    told = body_of(evidence).get("evidence")
    if not isinstance(told, dict) or told.get("bundle_id") != asked.bundle_id:
        raise DocumentRefused("that entry is not the evidence of this bundle")
    for certificate in certificates:
        if sha256(certificate) == asked.certificate:
            return certificate
    raise DocumentRefused("a certificate that is not of the plane's document key")


def signed_attributes(digest: str, certificate: bytes) -> bytes:
    """The SET OF that is signed (RFC 5652 section 5.4), DER, of a digest written `sha256:…`."""
    found = x509.load_der_x509_certificate(certificate)
    issuer = wrap(SEQUENCE, wrap(_DIRECTORY_NAME, found.issuer.public_bytes()))
    named = cms.EssCertIdV2(
        hash_algorithm=None,
        cert_hash=hashlib.sha256(certificate).digest(),
        issuer_serial=[asn1.decode_der(asn1.TLV, issuer), _tlv(found.serial_number)],
    )
    values = (
        (cms.CONTENT_TYPE, _DATA),
        (cms.MESSAGE_DIGEST, bytes.fromhex(digest.removeprefix("sha256:"))),
        (cms.SIGNING_CERTIFICATE_V2, cms.SigningCertificateV2(certs=[named], policies=None)),
    )
    return asn1.encode_der(asn1.SetOf([_attribute(kind, value) for kind, value in values]))


def _attribute(kind: x509.ObjectIdentifier, value: object) -> cms.Attribute:
    return cms.Attribute(type=kind, values=asn1.SetOf([_tlv(value)]))


def _tlv(value: object) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, asn1.encode_der(value))


def wrap(tag: int, content: bytes) -> bytes:
    """A constructed element around `content`, DER."""
    length = len(content)
    size = b"%c" % length if length < 128 else b"\x82" + length.to_bytes(2, "big")
    return b"%c" % tag + (b"\x81%c" % length if 128 <= length < 256 else size) + content
