# SPDX-License-Identifier: Apache-2.0
"""The key that signs documents about evidence (PDFs), and the certificates that it is known by.

The private half lies with the sealer's keys; what others need is public and lies apart: the plane's own chain with its
root's revocation list (`own.pem`), and a request (`request.csr`) with which a customer's CA can certify the same key.
A chain file is PEM: the key's certificate first, then its chain to the root, and the revocation lists of all but the
root. The own chain says no more than the plane says of itself. Not here: which chain is used when.
"""

from __future__ import annotations

import itertools
import re
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from ledger import cms, keys
from ledger.custody import PLAIN, Custody
from ledger.documents import SEQUENCE, wrap
from ledger.errors import KeyInvalid
from ledger.issuer import issue, named
from ledger.keyring import Keyring
from ledger.signer import Signer

NAME = "document_p256"
OWN, REQUEST = "own.pem", "request.csr"
MAX_CHAIN_BYTES = 256 * 1024
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----\s*", re.DOTALL)


class DocumentChain(Struct, frozen=True):
    """A chain as DER, the key's own certificate first and the root last, and the revocation lists that go with it."""

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]


def create_document_keys(private: Path, public: Path, custody: Custody = PLAIN, *, name: str, now: datetime) -> None:
    """Make the key in the folder `private`, its own chain and request in `public`, unless they are there."""
    ring = Keyring(private, custody)
    public.mkdir(mode=0o700, parents=True, exist_ok=True)
    if ring.has(NAME) and (public / OWN).exists() and (public / REQUEST).exists():
        return
    # One without the others has signed nothing.
    ring.destroy(NAME)
    for half in (public / OWN, public / REQUEST):
        half.unlink(missing_ok=True)
    signer = ring.create(NAME, keys.ECDSA_P256)
    made = issue(signer.public, name, "document", now=now)
    keys.write_secret(public / OWN, made.pem() + x509.load_der_x509_crl(made.crl).public_bytes(Encoding.PEM))
    keys.write_secret(public / REQUEST, _request(signer, name))


def load_document_key(private: Path, custody: Custody = PLAIN) -> Signer:
    """The key of a folder; KeyInvalid says what is wrong with it."""
    return Keyring(private, custody).load(NAME, keys.ECDSA_P256)


def read_chain(path: Path) -> DocumentChain:
    """The chain in a PEM file.

    KeyInvalid unless it leads from a P-256 key's certificate, which may sign, to a root, and each certificate below the
    root has a revocation list of its issuer: without it nobody could judge the document years later.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CHAIN_BYTES + 1)
    except OSError as error:
        raise KeyInvalid(f"{path.name}: {error.strerror}") from error
    try:
        certificates = x509.load_pem_x509_certificates(data)
        crls = [x509.load_der_x509_crl(crl) for crl in crls_of(data)]
        for issued, issuer in zip(certificates, [*certificates[1:], certificates[-1]], strict=True):
            issued.verify_directly_issued_by(issuer)
        _check_leaf(certificates[0])
        for issued, issuer in itertools.pairwise(certificates):
            _check_listed(issued, issuer, crls)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise KeyInvalid(f"{path.name}: not a chain, leaf first and root last") from error
    return DocumentChain(
        tuple(part.public_bytes(Encoding.DER) for part in certificates),
        crls_of(data),
    )


def crls_of(data: bytes) -> tuple[bytes, ...]:
    """The revocation lists in a PEM file, DER; ValueError where one is malformed."""
    return tuple(x509.load_pem_x509_crl(block).public_bytes(Encoding.DER) for block in _BLOCK.findall(data))


def _request(signer: Signer, name: str) -> bytes:
    """A PKCS#10 request, PEM, for a key that may lie in an HSM: one of another key, with ours put in its place."""
    other = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(named(name)).sign(other, hashes.SHA256())
    body = made.tbs_certrequest_bytes.replace(keys.spki(other.public_key()), keys.spki(signer.public))  # of one length
    algorithm = asn1.encode_der(cms.Algorithm(algorithm=cms.ECDSA_WITH_SHA256, parameters=None))
    signature = asn1.encode_der(asn1.BitString(signer.sign(body), 0))
    der = wrap(SEQUENCE, body + algorithm + signature)
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


def _check_leaf(leaf: x509.Certificate) -> None:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyInvalid("the first certificate is not of a P-256 key")
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    if not (usage.digital_signature or usage.content_commitment):
        raise KeyInvalid("the first certificate may not sign documents (key usage)")


def _check_listed(
    issued: x509.Certificate, issuer: x509.Certificate, crls: list[x509.CertificateRevocationList]
) -> None:
    """The issuer's list is there, signed by it, and doesn't name the certificate."""
    key = issuer.public_key()
    lists = [crl for crl in crls if crl.issuer == issuer.subject]
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
        raise KeyInvalid("an issuer whose key is neither elliptic nor RSA")
    if not lists:
        raise KeyInvalid(f"no revocation list (X509 CRL) of {issuer.subject.rfc4514_string()}")
    for crl in lists:
        if not crl.is_signature_valid(key):
            raise KeyInvalid("a revocation list that its issuer didn't sign")
        if crl.get_revoked_certificate_by_serial_number(issued.serial_number) is not None:
            raise KeyInvalid(f"{issued.subject.rfc4514_string()} is revoked")
