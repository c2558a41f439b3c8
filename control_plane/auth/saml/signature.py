# SPDX-License-Identifier: Apache-2.0
"""What a provider's signature covers, and nothing else (SAML 2.0 core section 5.4, W3C XML Signature best practices).

Enters: an element that must be signed, the provider's certificates. Leaves: the element's canonical bytes without the
signature; whoever wants to know something reads those bytes anew, so that no other part of the message can answer.

One form is taken: a signature that is a child of what it signs, one reference to that element's own identifier, the
transforms `enveloped` and exclusive canonicalisation in this order, and algorithms of `METHODS` and `DIGESTS`. That
leaves no XPath, XSLT, external reference, second reference or object to be clever with, no HMAC whose key would be a
public certificate, and no SHA-1. A key that comes with the message is never used: the metadata's certificates are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from control_plane.auth.saml.document import NAMES, Element, canonical, find
from control_plane.auth.saml.refusals import SamlRefused

__all__ = ["DIGESTS", "METHODS", "Certificate", "covered", "signatures_in", "valid_at"]

_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_PSS = "http://www.w3.org/2007/05/xmldsig-more#"
METHODS: Final = frozenset(
    (
        *(f"{_MORE}{key}-sha{bits}" for key in ("rsa", "ecdsa") for bits in (256, 384, 512)),
        *(f"{_PSS}sha{bits}-rsa-MGF1" for bits in (256, 384, 512)),
    )
)
DIGESTS: Final = frozenset((f"{NAMES['xenc']}sha256", f"{_MORE}sha384", f"{NAMES['xenc']}sha512"))
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_ENVELOPED = f"{NAMES['ds']}enveloped-signature"
_SIGNATURE = f"{{{NAMES['ds']}}}Signature"
_PARTS = ("SignedInfo", "SignatureValue", "KeyInfo")


class Certificate(Struct, frozen=True):
    """A provider's signing certificate, and the Unix seconds between which it counts."""

    pem: str
    not_before: float
    not_after: float


def valid_at(certificates: Sequence[Certificate], now: float) -> tuple[Certificate, ...]:
    """Those that count at `now`; SamlRefused where none does."""
    found = tuple(one for one in certificates if one.not_before <= now <= one.not_after)
    if not found:
        raise SamlRefused("certificates")
    return found


def signatures_in(root: Element) -> int:
    """How many signatures there are anywhere: each must be one that `covered` is asked for."""
    return sum(1 for _ in root.iter(_SIGNATURE))


def covered(element: Element, certificates: Sequence[Certificate]) -> bytes:
    """The canonical bytes of `element` without its signature, once one of `certificates` has signed exactly them."""
    own = find(element, "ds:Signature")
    if not own:
        raise SamlRefused("unsigned")
    if len(own) != 1:
        raise SamlRefused("signature_form")
    _form(own[0], element.get("ID"))
    _verify(own[0], element, certificates)
    bare = copy.deepcopy(element)
    for one in find(bare, "ds:Signature"):
        bare.remove(one)
    return canonical(bare)


def _form(signature: Element, identifier: str | None) -> None:
    if tuple(part.tag for part in signature) not in (
        tuple(f"{{{NAMES['ds']}}}{name}" for name in _PARTS[:count]) for count in (2, 3)
    ):
        raise SamlRefused("signature_form")
    method = _one(signature, "ds:SignedInfo/ds:SignatureMethod")
    reference = _one(signature, "ds:SignedInfo/ds:Reference")
    digest = _one(reference, "ds:DigestMethod")
    transforms = find(reference, "ds:Transforms/ds:Transform")
    if _algorithm(_one(signature, "ds:SignedInfo/ds:CanonicalizationMethod")) != _EXCLUSIVE:
        raise SamlRefused("signature_form")
    if not identifier or reference.get("URI") != f"#{identifier}" or reference.get("Type") is not None:
        raise SamlRefused("signature_form")
    if [_algorithm(one) for one in transforms] != [_ENVELOPED, _EXCLUSIVE]:
        raise SamlRefused("signature_form")
    if _algorithm(method) not in METHODS or _algorithm(digest) not in DIGESTS or len(method) or len(digest):
        raise SamlRefused("algorithm")


def _one(element: Element, path: str) -> Element:
    found = find(element, path)
    if len(found) != 1:
        raise SamlRefused("signature_form")
    return found[0]


def _algorithm(element: Element) -> str:
    return str(element.get("Algorithm") or "")


def _verify(signature: Element, element: Element, certificates: Sequence[Certificate]) -> None:
    import xmlsec
    from onelogin.saml2.utils import OneLogin_Saml2_Utils as Toolkit

    root = element.getroottree().getroot()
    xmlsec.tree.add_ids(root, ["ID"])
    if not any(Toolkit.validate_node_sign(signature, root, cert=one.pem) for one in certificates):
        raise SamlRefused("signature")
