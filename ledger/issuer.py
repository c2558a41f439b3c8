# SPDX-License-Identifier: Apache-2.0
"""Certificates of the plane's own making: a root, one certificate under it, and the list of what it revoked.

Enters: a public key, a name, a time, a purpose. Leaves: its chain (DER, its own first) and a revocation list. The
root's key signs these two things and is then forgotten, so nobody can make a second certificate under it: what is to
be revoked later is revoked by the trust file, and the list, which offline verifiers of long-lived signatures demand,
is empty for as long as the certificate lasts. What such a chain says is self-issued. Not here: writing files.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from ledger.errors import KeyInvalid
from ledger.keys import PublicKey

VALIDITY = timedelta(days=3650)
Purpose = Literal["root", "time", "document"]


class Issued(Struct, frozen=True):
    """The certificates of a key, its own first, and the revocation list of their root, DER."""

    chain: tuple[bytes, bytes]
    crl: bytes

    def pem(self) -> bytes:
        """The certificates as PEM."""
        return b"".join(x509.load_der_x509_certificate(part).public_bytes(Encoding.PEM) for part in self.chain)


def issue(public: PublicKey, name: str, purpose: Literal["time", "document"], *, now: datetime) -> Issued:
    """Certify a P-256 key under this name for this purpose, from `now` on for ten years."""
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise KeyInvalid("only a P-256 key is certified")
    root_key = ec.generate_private_key(ec.SECP256R1())
    leaf, root = certify(public, root_key, purpose, now=now, name=name)
    start, end = root.not_valid_before_utc, root.not_valid_after_utc
    crl = (
        x509.CertificateRevocationListBuilder(issuer_name=root.subject, last_update=start, next_update=end)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    chain = leaf.public_bytes(Encoding.DER), root.public_bytes(Encoding.DER)
    return Issued(chain, crl.public_bytes(Encoding.DER))


def certify(
    public: ec.EllipticCurvePublicKey,
    root_key: ec.EllipticCurvePrivateKey,
    purpose: Literal["time", "document"],
    *,
    now: datetime,
    name: str,
    validity: timedelta = VALIDITY,
) -> tuple[x509.Certificate, x509.Certificate]:
    """The certificate of a key, and of the root that signs it."""
    root_name, leaf_name = named(f"{name} root"), named(name)
    window = now.astimezone(UTC).replace(microsecond=0), validity
    root = _certificate(root_name, root_name, root_key.public_key(), root_key, window, "root")
    return _certificate(leaf_name, root_name, public, root_key, window, purpose), root


def named(common: str) -> x509.Name:
    """A distinguished name of one part; X.520 allows it 64 characters."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    window: tuple[datetime, timedelta],
    purpose: Purpose,
) -> x509.Certificate:
    """A root, or what may stamp time (RFC 3161 section 2.3: critical, that purpose alone), or sign documents."""
    root = purpose == "root"
    usage = {"digital_signature": not root, "content_commitment": purpose == "document"}
    usage |= {"key_cert_sign": root, "crl_sign": root}
    never = "key_encipherment data_encipherment key_agreement encipher_only decipher_only"
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(window[0])
        .not_valid_after(window[0] + window[1])
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage, **dict.fromkeys(never.split(), False)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if purpose == "time":
        only = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(only, critical=True)
    return builder.sign(signer, hashes.SHA256())
