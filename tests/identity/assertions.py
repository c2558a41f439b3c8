# SPDX-License-Identifier: Apache-2.0
"""A provider that says anything: SAML responses signed here, sound or bent, for what no real provider would send.

Signing is done with lxml's canonical form and cryptography, and not with the libraries that the plane verifies with.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import secrets
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
DS = "http://www.w3.org/2000/09/xmldsig#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = f"{DS}enveloped-signature"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = f"{XENC}sha256"
Element: TypeAlias = Any  # lxml's, which has no types
_HASHES: dict[str, Any] = {SHA256: hashes.SHA256, f"{DS}sha1": hashes.SHA1}


def stamp(at: float) -> str:
    """A time as messages have it."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Provider:
    """A key, its certificate, and the name under which it signs."""

    def __init__(self, entity_id: str, at: float, *, days: int = 3650, bits: int = 2048) -> None:
        self.entity_id, self.at = entity_id, at
        self.key: RSAPrivateKey = generate_private_key(65537, bits)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a provider of tests")])
        start = dt.datetime.fromtimestamp(at, dt.UTC) - dt.timedelta(days=1)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=days))
            .sign(self.key, hashes.SHA256())
        )

    def pem(self) -> tuple[bytes, bytes]:
        """The private key and the certificate, as another program's provider reads them."""
        private = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return private, self.certificate.public_bytes(Encoding.PEM)

    def metadata(self, *, login: str = "https://idp.example/sso", logout: str = "https://idp.example/slo") -> str:
        """What an administrator would put into the plane's folder."""
        der = base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()
        binding = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
        return (
            f'<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="{DS}"'
            f' entityID="{self.entity_id}"><md:IDPSSODescriptor protocolSupportEnumeration="{SAMLP}">'
            f'<md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{der}</ds:X509Certificate>'
            f"</ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
            f'<md:SingleLogoutService Binding="{binding}" Location="{logout}"/>'
            f'<md:SingleSignOnService Binding="{binding}" Location="{login}"/>'
            f"</md:IDPSSODescriptor></md:EntityDescriptor>"
        )

    def assertion(
        self,
        *,
        audience: str,
        recipient: str,
        request: str | None,
        subject: str = "alice@corp.example",
        identifier: str = "_assertion",
        issuer: str | None = None,
        made: float = 0,
        before: float = -30,
        after: float = 300,
        confirmed_until: float = 300,
        session: str = "_session",
        session_ends: float | None = 3600,
        signed_in: float = -5,
        attributes: dict[str, list[str]] | None = None,
        name_id: str = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
        extra_condition: str = "",
        extra: str = "",
        subject_xml: str | None = None,
    ) -> Element:
        """An assertion; times are seconds from `at`."""
        asked = "" if request is None else f' InResponseTo="{request}"'
        values = "".join(
            f'<saml:Attribute Name="{name}">'
            + "".join(f'<saml:AttributeValue xsi:type="xs:string">{one}</saml:AttributeValue>' for one in listed)
            + "</saml:Attribute>"
            for name, listed in (attributes or {}).items()
        )
        ends = "" if session_ends is None else f' SessionNotOnOrAfter="{stamp(self.at + session_ends)}"'
        named = subject_xml or f'<saml:NameID Format="{name_id}">{subject}</saml:NameID>'
        text = (
            f'<saml:Assertion xmlns:saml="{SAML}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
            f' xmlns:xs="http://www.w3.org/2001/XMLSchema" ID="{identifier}" Version="2.0"'
            f' IssueInstant="{stamp(self.at + made)}"><saml:Issuer>{issuer or self.entity_id}</saml:Issuer>'
            f"<saml:Subject>{named}"
            f'<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData'
            f'{asked} NotOnOrAfter="{stamp(self.at + confirmed_until)}" Recipient="{recipient}"/>'
            f"</saml:SubjectConfirmation></saml:Subject>"
            f'<saml:Conditions NotBefore="{stamp(self.at + before)}" NotOnOrAfter="{stamp(self.at + after)}">'
            f"<saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience></saml:AudienceRestriction>"
            f"{extra_condition}</saml:Conditions>"
            f'<saml:AuthnStatement AuthnInstant="{stamp(self.at + signed_in)}" SessionIndex="{session}"{ends}>'
            f"<saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password"
            f"ProtectedTransport</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
            + (f"<saml:AttributeStatement>{values}</saml:AttributeStatement>" if values else "")
            + f"{extra}</saml:Assertion>"
        )
        return etree.fromstring(text)

    def response(
        self,
        *contents: Element,
        destination: str,
        request: str | None,
        issuer: str | None = None,
        status: str = "urn:oasis:names:tc:SAML:2.0:status:Success",
    ) -> Element:
        """The envelope around assertions, encrypted or not."""
        asked = "" if request is None else f' InResponseTo="{request}"'
        root = etree.fromstring(
            f'<samlp:Response xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" ID="_response" Version="2.0"'
            f' IssueInstant="{stamp(self.at)}" Destination="{destination}"{asked}>'
            f"<saml:Issuer>{issuer or self.entity_id}</saml:Issuer>"
            f'<samlp:Status><samlp:StatusCode Value="{status}"/></samlp:Status></samlp:Response>'
        )
        for one in contents:
            root.append(one)
        return root

    def sign(
        self,
        element: Element,
        *,
        method: str = RSA_SHA256,
        digest: str = SHA256,
        transforms: tuple[str, ...] = (ENVELOPED, EXCLUSIVE),
        uri: str | None = None,
        key: bytes | None = None,
        extra: str = "",
    ) -> Element:
        """Put a signature behind the element's issuer; with `key` by HMAC, as a confused verifier might take it."""
        hashing = _HASHES[digest]
        covered = base64.b64encode(_hash(hashing, etree.tostring(element, method="c14n", exclusive=True))).decode()
        listed = "".join(f'<ds:Transform Algorithm="{one}"/>' for one in transforms)
        where = f"#{element.get('ID')}" if uri is None else uri
        signature = etree.fromstring(
            f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{EXCLUSIVE}"/>'
            f'<ds:SignatureMethod Algorithm="{method}"/><ds:Reference URI="{where}"><ds:Transforms>{listed}'
            f'</ds:Transforms><ds:DigestMethod Algorithm="{digest}"/><ds:DigestValue>{covered}</ds:DigestValue>'
            f"</ds:Reference></ds:SignedInfo><ds:SignatureValue/>{self._key_info()}{extra}</ds:Signature>"
        )
        signed = etree.tostring(signature[0], method="c14n", exclusive=True)
        if key is None:
            value = self.key.sign(signed, padding.PKCS1v15(), hashes.SHA1() if "sha1" in method else hashes.SHA256())
        else:
            value = hmac.new(key, signed, hashlib.sha256).digest()
        signature[1].text = base64.b64encode(value).decode()
        element.insert(1, signature)
        return element

    def _key_info(self) -> str:
        der = base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()
        return f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{der}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"


def _hash(algorithm: Any, data: bytes) -> bytes:
    found = hashes.Hash(algorithm())
    found.update(data)
    return found.finalize()


def encrypted(plain: bytes, key: RSAPublicKey, *, cipher: str = "gcm", transport: str = "oaep") -> Element:
    """An `EncryptedAssertion` over exactly these bytes."""
    secret = secrets.token_bytes(32)
    if cipher == "gcm":
        method, nonce = f"{XENC11}aes256-gcm", secrets.token_bytes(12)
        data = nonce + AESGCM(secret).encrypt(nonce, plain, None)
    else:
        method, vector, short = f"{XENC}aes256-cbc", secrets.token_bytes(16), 16 - len(plain) % 16
        opener = Cipher(AES(secret), CBC(vector)).encryptor()
        data = vector + opener.update(plain + bytes(short - 1) + bytes([short])) + opener.finalize()
    if transport == "oaep":
        carried, name = (
            key.encrypt(secret, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)),
            f"{XENC}rsa-oaep-mgf1p",
        )
    else:
        carried, name = key.encrypt(secret, padding.PKCS1v15()), f"{XENC}rsa-1_5"
    return etree.fromstring(
        f'<saml:EncryptedAssertion xmlns:saml="{SAML}" xmlns:xenc="{XENC}" xmlns:ds="{DS}">'
        f'<xenc:EncryptedData Type="{XENC}Element"><xenc:EncryptionMethod Algorithm="{method}"/><ds:KeyInfo>'
        f'<xenc:EncryptedKey><xenc:EncryptionMethod Algorithm="{name}"/><xenc:CipherData><xenc:CipherValue>'
        f"{base64.b64encode(carried).decode()}</xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo>"
        f"<xenc:CipherData><xenc:CipherValue>{base64.b64encode(data).decode()}</xenc:CipherValue></xenc:CipherData>"
        f"</xenc:EncryptedData></saml:EncryptedAssertion>"
    )
