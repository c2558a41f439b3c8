# SPDX-License-Identifier: Apache-2.0
"""Bytes of a stranger become an XML document with nothing in it that SAML doesn't need. Pure.

In any well-formed document `<!` begins a document type, an entity, a comment or a CDATA section, and `<?` a processing
instruction; character data can't hold them. So one look at the bytes, before any parser, refuses entities, external
references, style sheets, and comments, which a signature doesn't cover and which split a name in two for some readers.
That look is sound because the bytes must be UTF-8: no other encoding hides the signs.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final, TypeAlias

from control_plane.auth.saml.refusals import SamlRefused

Element: TypeAlias = Any
"""lxml's, which has no types of its own."""

__all__ = ["MAX_BYTES", "NAMES", "Element", "canonical", "decoded", "find", "parsed", "text_of"]

MAX_BYTES: Final = 256 * 1024
"""Room for a person with some thousand groups, twice over."""
_MAX_DEPTH: Final = 48
_MAX_ELEMENTS: Final = 8_192

NAMES: Final = {
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
    "xenc": "http://www.w3.org/2001/04/xmlenc#",
}
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,255}")
_DECLARATION = re.compile(rb"\A<\?xml\s[^<>?]*\?>")
_ENCODING = re.compile(rb"encoding\s*=\s*[\"']([^\"']*)[\"']")
_BLANK = re.compile(r"[ \t\r\n]+")


def decoded(text: str) -> bytes:
    """The bytes of a form's field or a parameter: base64, in lines or not."""
    if len(text) > 2 * MAX_BYTES:
        raise SamlRefused("too_large")
    try:
        return base64.b64decode(_BLANK.sub("", text), validate=True)
    except (binascii.Error, ValueError):
        raise SamlRefused("not_base64") from None


def parsed(raw: bytes) -> Element:
    """The root of a document. SamlRefused, and nothing else, for whatever isn't one of the narrow kind."""
    _look(raw)
    from onelogin.saml2.xml_utils import OneLogin_Saml2_XML as Xml

    try:
        root: Element = Xml.to_etree(raw)
    except (SyntaxError, ValueError, LookupError):
        raise SamlRefused("not_xml") from None
    _bound(root)
    return root


def _look(raw: bytes) -> None:
    if len(raw) > MAX_BYTES:
        raise SamlRefused("too_large")
    declaration = _DECLARATION.match(raw)
    body = raw[declaration.end() :] if declaration else raw
    encoding = _ENCODING.search(declaration.group()) if declaration else None
    if encoding is not None and encoding.group(1).lower() not in (b"utf-8", b"us-ascii", b"ascii"):
        raise SamlRefused("not_xml")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SamlRefused("not_xml") from None
    if b"<?" in body:
        raise SamlRefused("processing_instruction")
    if b"<!--" in body:
        raise SamlRefused("comment")
    if b"<!" in body:
        raise SamlRefused("dtd")


def _bound(root: Element) -> None:
    """One name for one element: a reference that two could mean is how a signature is carried to another."""
    seen: set[str] = set()
    level, count = [root], 0
    for _ in range(_MAX_DEPTH):
        for one in level:
            if one.get(_XML_ID) is not None:  # a second kind of identifier, which only some readers follow
                raise SamlRefused("identifiers")
            for name in ("ID", "Id", "id"):
                value = one.get(name)
                if value is None:
                    continue
                if value in seen or not _IDENTIFIER.fullmatch(value):
                    raise SamlRefused("identifiers")
                seen.add(value)
        count += len(level)
        level = [child for one in level for child in one]
        if not level:
            return
        if count + len(level) > _MAX_ELEMENTS:
            break
    raise SamlRefused("too_large")


def find(element: Element, path: str) -> list[Element]:
    """The elements at `path`, in the names of `NAMES`; steps are children, never descendants."""
    return list(element.findall(path, NAMES))


def text_of(element: Element, longest: int) -> str | None:
    """The element's text as a whole; None where it is empty, long, not plain, or holds elements.

    Control characters and lone surrogates would reach logs, SQL and canonical JSON.
    """
    if len(element):
        return None
    text = (element.text or "").strip()
    return text if 0 < len(text) <= longest and text.isprintable() else None


def canonical(element: Element) -> bytes:
    """The element by exclusive canonicalisation without comments: the bytes that a signature over it covers."""
    from lxml import etree

    return bytes(etree.tostring(element, method="c14n", exclusive=True, with_comments=False, with_tail=False))
