# SPDX-License-Identifier: Apache-2.0
"""Who the provider is: its metadata file becomes an `Idp` (SAML 2.0 metadata). Pure.

The file is the administrator's word and is trusted as such, but read with the care of a stranger's. It is never
fetched: what a plane trusts doesn't change because a server elsewhere says so. Certificates outside their validity
don't count; weak keys never do. The schema isn't asked: common providers describe other protocols of theirs in the same
file.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from control_plane.auth.addresses import reachable
from control_plane.auth.saml.document import Element, find, parsed
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.auth.saml.schema import moment
from control_plane.auth.saml.signature import Certificate

__all__ = ["Idp", "MetadataUnusable", "read"]

REDIRECT: Final = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
_PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)  # people's files have them, and nothing here is signed
_SHORTEST_RSA = 2_048
_SHORTEST_EC = 256


class Idp(Struct, frozen=True, kw_only=True):
    """A provider: its name, where logins and logouts go, and what it signs with."""

    entity_id: str
    login_url: str
    logout_url: str | None
    logout_answer_url: str | None
    certificates: tuple[Certificate, ...]
    valid_until: float | None
    wants_signed: bool


class MetadataUnusable(Exception):
    """What is wanted of the file, in words for its administrator."""


def read(raw: bytes, entity_id: str | None = None) -> Idp:
    """The provider of a file; `entity_id` chooses where the file has several."""
    try:
        root = parsed(_COMMENT.sub(b"", raw))
    except SamlRefused as error:
        raise MetadataUnusable(f"SAML 2.0 metadata: {error.reason}") from None
    entity, descriptor = _chosen(root, entity_id)
    signing = [one for one in find(descriptor, "md:KeyDescriptor") if one.get("use") in (None, "signing")]
    certificates = tuple(
        _certificate(text.text or "")
        for one in signing
        for text in find(one, "ds:KeyInfo/ds:X509Data/ds:X509Certificate")
    )
    if not certificates:
        raise MetadataUnusable("metadata with a signing certificate of the provider")
    login = _service(descriptor, "SingleSignOnService")
    if login is None:
        raise MetadataUnusable("metadata with a SingleSignOnService by HTTP-Redirect")
    logout = _service(descriptor, "SingleLogoutService")
    return Idp(
        entity_id=str(entity.get("entityID")),
        login_url=_address(login.get("Location")),
        logout_url=None if logout is None else _address(logout.get("Location")),
        logout_answer_url=None
        if logout is None
        else _address(logout.get("ResponseLocation") or logout.get("Location")),
        certificates=certificates,
        valid_until=min((at for at in map(_until, (root, entity, descriptor)) if at is not None), default=None),
        wants_signed=descriptor.get("WantAuthnRequestsSigned") in ("true", "1"),
    )


def _chosen(root: Element, entity_id: str | None) -> tuple[Element, Element]:
    entities = [root] if root.tag.endswith("}EntityDescriptor") else list(root.iter("{*}EntityDescriptor"))
    found = [
        (entity, descriptor)
        for entity in entities
        for descriptor in find(entity, "md:IDPSSODescriptor")
        if _PROTOCOL in str(descriptor.get("protocolSupportEnumeration")).split()
        and entity_id in (None, entity.get("entityID"))
    ]
    if len(found) != 1:
        wanted = "exactly one SAML 2.0 identity provider" if entity_id is None else f"the one provider {entity_id}"
        raise MetadataUnusable(f"metadata with {wanted}, not {len(found)} of them")
    return found[0]


def _service(descriptor: Element, name: str) -> Element | None:
    return next((one for one in find(descriptor, f"md:{name}") if one.get("Binding") == REDIRECT), None)


def _address(text: str | None) -> str:
    if not text or not reachable(text) or not text.isascii() or not text.isprintable():
        raise MetadataUnusable("metadata whose addresses are https, or http on this machine")
    return text


def _until(element: Element) -> float | None:
    try:
        return moment(element.get("validUntil"))
    except SamlRefused:
        raise MetadataUnusable("metadata whose validUntil is a time in UTC") from None


def _certificate(text: str) -> Certificate:
    try:
        found = x509.load_der_x509_certificate(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):
        raise MetadataUnusable("metadata whose certificates can be read") from None
    key = found.public_key()
    strong = (isinstance(key, RSAPublicKey) and key.key_size >= _SHORTEST_RSA) or (
        isinstance(key, EllipticCurvePublicKey) and key.key_size >= _SHORTEST_EC
    )
    if not strong:
        raise MetadataUnusable(f"signing keys of RSA with {_SHORTEST_RSA} bits, or of a curve with {_SHORTEST_EC}")
    return Certificate(
        pem=found.public_bytes(Encoding.PEM).decode(),
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
    )
