# SPDX-License-Identifier: Apache-2.0
"""A provider's answer, judged: response bytes, what was expected, the time → what the provider asserts. Pure.

Numbered in `verify`, each step refuses with a reason of its own (`refusals.REASONS`). What is asserted is read from the
canonical bytes that the assertion's own signature covers, parsed anew: a second assertion, a comment in a name or a
moved element can't be read, because it isn't there. A signed response around it isn't enough; one that is there must
hold.

Not here: whether the answer was used before, and whether this browser asked (`store`), for those need a database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from msgspec import Struct

from control_plane.auth.saml import assertion, signature
from control_plane.auth.saml.assertion import Asserted
from control_plane.auth.saml.decryption import opened
from control_plane.auth.saml.document import NAMES, Element, find, parsed, text_of
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.auth.saml.schema import follows
from control_plane.auth.saml.signature import Certificate

__all__ = ["Expected", "verify"]

_SUCCESS: Final = "urn:oasis:names:tc:SAML:2.0:status:Success"
_RESPONSE = f"{{{NAMES['samlp']}}}Response"
_ASSERTION = f"{{{NAMES['saml']}}}Assertion"
_ENCRYPTED = f"{{{NAMES['saml']}}}EncryptedAssertion"


class Expected(Struct, frozen=True, kw_only=True):
    """What an answer must say. `in_response_to` None: nobody asked, and the provider may send unasked."""

    issuer: str
    certificates: tuple[Certificate, ...]
    audience: str
    destination: str
    in_response_to: str | None
    attributes: frozenset[str] = frozenset()
    keys: tuple[RSAPrivateKey, ...] = ()
    encrypted: bool = False
    leeway_s: float = 10.0


def verify(raw: bytes, expected: Expected, now: float) -> Asserted:
    """What the provider asserts. Raises nothing but SamlRefused, whatever the bytes are."""
    # 1. A document of the narrow kind, by the schema, before anything in it counts.
    root = parsed(raw)
    if root.tag != _RESPONSE or root.get("Version") != "2.0":
        raise SamlRefused("not_saml")
    if not follows(root, "protocol"):
        raise SamlRefused("schema")
    # 2. The envelope: these values aren't signed everywhere, so they may refuse and never allow.
    _envelope(root, expected)
    # 3. One assertion, in its one place.
    holder = _only(root)
    certificates = signature.valid_at(expected.certificates, now)
    # 4. A signature of the whole must hold where there is one.
    whole = bool(find(root, "ds:Signature"))
    if whole:
        signature.covered(root, certificates)
    if signature.signatures_in(root) > whole + len(find(root, "saml:Assertion/ds:Signature")):
        raise SamlRefused("signature_form")
    # 5. The assertion's own signature, and from here on nothing but the bytes that it covers.
    covered = _covered(holder, expected, certificates)
    return assertion.read(
        parsed(covered),
        issuer=expected.issuer,
        audience=expected.audience,
        recipient=expected.destination,
        in_response_to=expected.in_response_to,
        attributes=expected.attributes,
        now=now,
        leeway_s=expected.leeway_s,
    )


def _envelope(root: Element, expected: Expected) -> None:
    issuers = find(root, "saml:Issuer")
    if issuers and text_of(issuers[0], 1024) != expected.issuer:
        raise SamlRefused("issuer")
    if root.get("Destination") != expected.destination:
        raise SamlRefused("destination")
    if root.get("InResponseTo") != expected.in_response_to:
        raise SamlRefused("unsolicited" if root.get("InResponseTo") is None else "in_response_to")
    codes = find(root, "samlp:Status/samlp:StatusCode")
    if len(codes) != 1 or codes[0].get("Value") != _SUCCESS:
        raise SamlRefused("status")


def _only(root: Element) -> Element:
    found = find(root, "saml:Assertion") + find(root, "saml:EncryptedAssertion")
    if len(found) != 1 or sum(1 for name in (_ASSERTION, _ENCRYPTED) for _ in root.iter(name)) != 1:
        raise SamlRefused("assertions")
    return found[0]


def _covered(holder: Element, expected: Expected, certificates: Sequence[Certificate]) -> bytes:
    if holder.tag == _ASSERTION:
        if expected.encrypted:
            raise SamlRefused("unencrypted")
        return signature.covered(holder, certificates)
    inner = opened(holder, expected.keys)
    try:
        if not follows(inner, "assertion") or signature.signatures_in(inner) != 1:
            raise SamlRefused("decryption")
        return signature.covered(inner, certificates)
    except SamlRefused:
        # One refusal for all that a changed ciphertext can bring about: telling them apart would answer questions.
        raise SamlRefused("decryption") from None
