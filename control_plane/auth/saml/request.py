# SPDX-License-Identifier: Apache-2.0
"""What the plane says to a provider, as addresses a browser is sent to and as its own metadata (SAML bindings 3.4).

Pure: identifiers, times and keys enter. Values reach the XML by lxml's escaping alone, never by pasting.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from control_plane.auth.saml.assertion import NameId
from control_plane.auth.saml.document import NAMES, Element
from control_plane.auth.saml.keys import OwnKey
from control_plane.auth.saml.schema import written

__all__ = ["Us", "login", "logout", "logout_answer", "our_metadata", "redirect"]

_RSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_POST: Final = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
_REDIRECT: Final = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
_PROTOCOL: Final = "urn:oasis:names:tc:SAML:2.0:protocol"
_SUCCESS: Final = "urn:oasis:names:tc:SAML:2.0:status:Success"


class Us(Struct, frozen=True):
    """The plane as one provider knows it."""

    entity_id: str
    acs: str
    logout: str


def login(us: Us, destination: str, *, identifier: str, now: float) -> bytes:
    """An AuthnRequest: the person signs in by whatever means the provider finds right."""
    root = _message("AuthnRequest", us, destination, identifier, now)
    root.set("AssertionConsumerServiceURL", us.acs)
    root.set("ProtocolBinding", _POST)
    return _bytes(root)


def logout(us: Us, destination: str, *, identifier: str, now: float, name: NameId, session: str | None) -> bytes:
    """A LogoutRequest for the subject of a login, as the provider itself named it."""
    root = _message("LogoutRequest", us, destination, identifier, now)
    root.set("NotOnOrAfter", written(now + 300))
    named = _child(root, "saml", "NameID")
    named.text = name.text
    said = {"Format": name.format, "NameQualifier": name.qualifier, "SPNameQualifier": name.for_plane}
    for key, value in said.items():
        if value is not None:
            named.set(key, value)
    if session is not None:
        _child(root, "samlp", "SessionIndex").text = session
    return _bytes(root)


def logout_answer(us: Us, destination: str, *, identifier: str, now: float, in_response_to: str) -> bytes:
    """A LogoutResponse: it is done."""
    root = _message("LogoutResponse", us, destination, identifier, now)
    root.set("InResponseTo", in_response_to)
    _child(_child(root, "samlp", "Status"), "samlp", "StatusCode").set("Value", _SUCCESS)
    return _bytes(root)


def redirect(address: str, kind: str, message: bytes, key: OwnKey | None, relay: str | None = None) -> str:
    """The address with the message in it, signed where there is a key; `kind` is SAMLRequest or SAMLResponse."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(message) + packer.flush()
    fields = {kind: base64.b64encode(packed).decode()}
    if relay is not None:
        fields["RelayState"] = relay
    query = urlencode(fields)
    if key is not None:
        query += "&" + urlencode({"SigAlg": _RSA_SHA256})
        signature = key.key.sign(query.encode(), padding.PKCS1v15(), hashes.SHA256())
        query += "&" + urlencode({"Signature": base64.b64encode(signature).decode()})
    return f"{address}{'&' if '?' in address else '?'}{query}"


def our_metadata(us: Us, keys: Sequence[OwnKey]) -> bytes:
    """What a provider's administrator reads in: every key may have signed, and the newest is to encrypt with."""
    from lxml import etree

    root = etree.Element(f"{{{NAMES['md']}}}EntityDescriptor", nsmap={"md": NAMES["md"], "ds": NAMES["ds"]})
    root.set("entityID", us.entity_id)
    descriptor = _child(root, "md", "SPSSODescriptor")
    descriptor.set("AuthnRequestsSigned", "true" if keys else "false")
    descriptor.set("WantAssertionsSigned", "true")
    descriptor.set("protocolSupportEnumeration", _PROTOCOL)
    for use, some in (("signing", keys), ("encryption", keys[-1:])):
        for one in some:
            described = _child(descriptor, "md", "KeyDescriptor")
            described.set("use", use)
            data = _child(_child(described, "ds", "KeyInfo"), "ds", "X509Data")
            der = one.certificate.public_bytes(Encoding.DER)
            _child(data, "ds", "X509Certificate").text = base64.b64encode(der).decode()
    service = _child(descriptor, "md", "SingleLogoutService")
    service.set("Binding", _REDIRECT)
    service.set("Location", us.logout)
    consumer = _child(descriptor, "md", "AssertionConsumerService")
    for name, value in {"Binding": _POST, "Location": us.acs, "index": "0", "isDefault": "true"}.items():
        consumer.set(name, value)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))


def _message(name: str, us: Us, destination: str, identifier: str, now: float) -> Element:
    from lxml import etree

    some = {"samlp": NAMES["samlp"], "saml": NAMES["saml"]}
    root = etree.Element(f"{{{NAMES['samlp']}}}{name}", nsmap=some)
    for key, value in {"ID": identifier, "Version": "2.0", "Destination": destination}.items():
        root.set(key, value)
    root.set("IssueInstant", written(now))
    _child(root, "saml", "Issuer").text = us.entity_id
    return root


def _child(parent: Element, prefix: str, name: str) -> Element:
    from lxml import etree

    return etree.SubElement(parent, f"{{{NAMES[prefix]}}}{name}")


def _bytes(root: Element) -> bytes:
    from lxml import etree

    return bytes(etree.tostring(root))
