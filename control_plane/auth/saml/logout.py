# SPDX-License-Identifier: Apache-2.0
"""Logout messages of a provider, brought by a browser's redirect (SAML bindings 3.4, profiles 4.4). Pure.

Enters the query as it was sent, octet for octet, for the signature is over its escaped form. Unsigned ones are refused:
anybody could sign anybody out. ECDSA signatures are two numbers side by side, as XML has them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final, Literal
from urllib.parse import unquote_plus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509 import load_pem_x509_certificate
from msgspec import Struct

from control_plane.auth.saml.assertion import NameId, age, name_id, session_index
from control_plane.auth.saml.document import MAX_BYTES, NAMES, Element, decoded, find, parsed, text_of
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.auth.saml.request import Us
from control_plane.auth.saml.schema import follows, moment
from control_plane.auth.saml.signature import Certificate, valid_at

__all__ = ["Answered", "Asked", "brought", "read_answer", "read_request"]

Kind = Literal["SAMLRequest", "SAMLResponse"]
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_FIELDS: Final = ("SAMLRequest", "SAMLResponse", "RelayState", "SigAlg", "Signature")
_MOST_RELAY: Final = 1_024
_SUCCESS: Final = "urn:oasis:names:tc:SAML:2.0:status:Success"


class Asked(Struct, frozen=True):
    """The provider wants these sessions ended: all of that name's where it names none."""

    identifier: str
    name: NameId
    sessions: tuple[str, ...]
    relay: str | None


class Answered(Struct, frozen=True):
    """The provider has ended its own session, or not."""

    in_response_to: str | None
    done: bool


def brought(query: str, certificates: Sequence[Certificate], now: float) -> tuple[Kind, Element, str | None]:
    """The kind of the message in a query, its root, and the relay state that an answer repeats; verified."""
    raw: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name in raw:
            raise SamlRefused("signature_form")
        if name in _FIELDS:
            raw[name] = value
    kinds: list[Kind] = [kind for kind in ("SAMLRequest", "SAMLResponse") if kind in raw]
    if len(kinds) != 1:
        raise SamlRefused("not_saml")
    kind = kinds[0]
    if "Signature" not in raw or "SigAlg" not in raw:
        raise SamlRefused("unsigned")
    over = "&".join(f"{name}={raw[name]}" for name in (kind, "RelayState", "SigAlg") if name in raw)
    _verify(over.encode(), unquote_plus(raw["SigAlg"]), decoded(unquote_plus(raw["Signature"])), certificates, now)
    relay = unquote_plus(raw["RelayState"]) if "RelayState" in raw else None
    if relay is not None and len(relay) > _MOST_RELAY:
        raise SamlRefused("too_large")
    return kind, parsed(_unpacked(decoded(unquote_plus(raw[kind])))), relay


def _unpacked(packed: bytes) -> bytes:
    packer = zlib.decompressobj(-15)
    try:
        found = packer.decompress(packed, MAX_BYTES)
    except zlib.error:
        raise SamlRefused("not_xml") from None
    if packer.unconsumed_tail or not packer.eof:
        raise SamlRefused("too_large")
    return found


def _verify(over: bytes, method: str, signature: bytes, certificates: Sequence[Certificate], now: float) -> None:
    family, _, hashing = method.removeprefix(_MORE).partition("-")
    if not method.startswith(_MORE) or hashing not in _HASHES or family not in ("rsa", "ecdsa"):
        raise SamlRefused("algorithm")
    algorithm = _HASHES[hashing]()
    for one in valid_at(certificates, now):
        key = load_pem_x509_certificate(one.pem.encode()).public_key()
        try:
            if family == "rsa" and isinstance(key, RSAPublicKey):
                key.verify(signature, over, padding.PKCS1v15(), algorithm)
                return
            if family == "ecdsa" and isinstance(key, EllipticCurvePublicKey):
                half = len(signature) // 2
                pair = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
                key.verify(encode_dss_signature(*pair), over, ECDSA(algorithm))
                return
        except InvalidSignature:
            continue
    raise SamlRefused("signature")


def read_request(root: Element, relay: str | None, us: Us, issuer: str, now: float, leeway_s: float) -> Asked:
    """A provider's LogoutRequest."""
    _envelope(root, "LogoutRequest", us, issuer, now, leeway_s)
    until = moment(root.get("NotOnOrAfter"))
    if until is not None and until <= now - leeway_s:
        raise SamlRefused("expired")
    sessions = tuple(session_index(text_of(one, 255)) for one in find(root, "samlp:SessionIndex"))
    if None in sessions:
        raise SamlRefused("authentication")
    return Asked(
        identifier=str(root.get("ID")),
        name=name_id(root, us.entity_id),
        sessions=tuple(one for one in sessions if one is not None),
        relay=relay,
    )


def read_answer(root: Element, us: Us, issuer: str, now: float, leeway_s: float) -> Answered:
    """A provider's LogoutResponse."""
    _envelope(root, "LogoutResponse", us, issuer, now, leeway_s)
    codes = find(root, "samlp:Status/samlp:StatusCode")
    return Answered(root.get("InResponseTo"), len(codes) == 1 and codes[0].get("Value") == _SUCCESS)


def _envelope(root: Element, name: str, us: Us, issuer: str, now: float, leeway_s: float) -> None:
    if root.tag != f"{{{NAMES['samlp']}}}{name}" or root.get("Version") != "2.0":
        raise SamlRefused("not_saml")
    if not follows(root, "protocol"):
        raise SamlRefused("schema")
    issuers = find(root, "saml:Issuer")
    if len(issuers) != 1 or text_of(issuers[0], 1_024) != issuer:
        raise SamlRefused("issuer")
    if root.get("Destination") != us.logout:
        raise SamlRefused("destination")
    age(moment(root.get("IssueInstant")), now, leeway_s)
