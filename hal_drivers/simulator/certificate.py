# SPDX-License-Identifier: Apache-2.0
"""The certificate of a served simulator: made at its first start, self-signed, for the names that it is reached by.

Who connects is given the file itself as `ca`, so it vouches for itself and for nobody else. A certificate that is there
is used as it is; one that doesn't name the host that is to be served is refused, not replaced, because the planes that
pin it would all be cut off.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 825


class CertificateUnusable(Exception):
    """The files can't be used; the text says which and why."""


def prepare(certificate: Path, key: Path, hosts: Iterable[str]) -> None:
    """Make both files where neither is there; raises CertificateUnusable."""
    names = list(dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1", socket.gethostname()]))
    if certificate.exists() != key.exists():
        raise CertificateUnusable(f"of {certificate} and {key} only one is there")
    if not certificate.exists():
        _make(certificate, key, names)
        return
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise CertificateUnusable(f"{certificate}: {type(error).__name__}") from None
    if found.not_valid_after_utc <= dt.datetime.now(dt.UTC):
        raise CertificateUnusable(f"{certificate} has expired; remove it and its key, and give planes the new one")
    missing = [host for host in hosts if _name(host) not in list(named)]
    if missing:
        raise CertificateUnusable(
            f"{certificate} doesn't name {missing[0]}; remove it and its key, and give planes the new one"
        )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _make(certificate: Path, key: Path, names: list[str]) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"qcos simulator {names[0]}"[:64])])
    now = dt.datetime.now(dt.UTC)
    own = x509.SubjectKeyIdentifier.from_public_key(public)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        .sign(private, hashes.SHA256())
    )
    secret(
        key,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def secret(path: Path, data: bytes) -> None:
    """Write a new file that its owner alone reads."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
