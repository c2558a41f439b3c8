# SPDX-License-Identifier: Apache-2.0
"""An encrypted assertion is opened, and read with the same care as what came in clear (XML Encryption 1.1).

The key comes by RSA-OAEP alone: PKCS #1 v1.5 answers questions of who asks often enough. Contents are AES in GCM or,
because providers still send it, CBC. CBC proves nothing, so until the signature inside is verified every fault is one
and the same refusal, and a login's request is used up by the first try (`store.take`): there is no second question.

The toolkit's own decryption isn't used: it would parse what it decrypts before anything could look at the bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import quoteattr

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from control_plane.auth.saml.document import NAMES, Element, find, parsed
from control_plane.auth.saml.refusals import SamlRefused

__all__ = ["opened"]

_XENC = NAMES["xenc"]
_XENC11 = "http://www.w3.org/2009/xmlenc11#"
_CBC: Final = {f"{_XENC}aes{bits}-cbc": bits // 8 for bits in (128, 192, 256)}
_GCM: Final = {f"{_XENC11}aes{bits}-gcm": bits // 8 for bits in (128, 192, 256)}
_TRANSPORTS: Final = frozenset((f"{_XENC}rsa-oaep-mgf1p", f"{_XENC11}rsa-oaep"))
_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    f"{NAMES['ds']}sha1": hashes.SHA1,
    f"{_XENC}sha256": hashes.SHA256,
    f"{_XENC}sha512": hashes.SHA512,
    f"{_XENC11}mgf1sha1": hashes.SHA1,
    f"{_XENC11}mgf1sha256": hashes.SHA256,
    f"{_XENC11}mgf1sha512": hashes.SHA512,
}


def opened(encrypted: Element, keys: Sequence[RSAPrivateKey]) -> Element:
    """The one assertion within an `EncryptedAssertion`, as a document of its own."""
    data = _one(encrypted, "xenc:EncryptedData")
    method = str(_one(data, "xenc:EncryptionMethod").get("Algorithm"))
    if method not in _CBC and method not in _GCM:
        raise SamlRefused("algorithm")
    carriers = find(data, "ds:KeyInfo/xenc:EncryptedKey") or find(encrypted, "xenc:EncryptedKey")
    if len(carriers) != 1:
        raise SamlRefused("decryption")
    transport = _transport(carriers[0])
    secret, wanted = _value(carriers[0]), _value(data)
    for key in keys:
        try:
            plain = _decrypt(method, key.decrypt(secret, transport), wanted)
            root = parsed(_within(encrypted, plain))
        except (ValueError, InvalidTag, SamlRefused):
            continue
        if len(root) == 1 and root[0].tag == f"{{{NAMES['saml']}}}Assertion":
            return root[0]
    raise SamlRefused("decryption")


def _within(encrypted: Element, plain: bytes) -> bytes:
    """The plain text in the names that were in force where it stood, for the signature inside was made there."""
    names = "".join(
        f" xmlns{':' + prefix if prefix else ''}={quoteattr(uri)}" for prefix, uri in encrypted.nsmap.items()
    )
    return f"<within{names}>".encode() + plain + b"</within>"


def _transport(carrier: Element) -> padding.OAEP:
    method = _one(carrier, "xenc:EncryptionMethod")
    if method.get("Algorithm") not in _TRANSPORTS:
        raise SamlRefused("algorithm")
    digest = method.findall(f"{{{NAMES['ds']}}}DigestMethod")
    mask = method.findall(f"{{{_XENC11}}}MGF")
    if len(digest) > 1 or len(mask) > 1 or len(method) != len(digest) + len(mask):
        raise SamlRefused("algorithm")
    return padding.OAEP(mgf=padding.MGF1(_hash(mask)), algorithm=_hash(digest), label=None)


def _hash(named: list[Element]) -> hashes.HashAlgorithm:
    if not named:
        return hashes.SHA1()  # noqa: S303 - the standard's default; OAEP doesn't rest on its collisions
    found = _HASHES.get(str(named[0].get("Algorithm")))
    if found is None:
        raise SamlRefused("algorithm")
    return found()


def _decrypt(method: str, key: bytes, data: bytes) -> bytes:
    if len(key) != (_CBC.get(method) or _GCM[method]):
        raise ValueError("key")
    if method in _GCM:
        return AESGCM(key).decrypt(data[:12], data[12:], None)
    opener = Cipher(AES(key), CBC(data[:16])).decryptor()
    plain = opener.update(data[16:]) + opener.finalize()
    if not plain or not 1 <= plain[-1] <= 16:  # XML Encryption pads with anything, and says how much in the last octet
        raise ValueError("padding")
    return plain[: -plain[-1]]


def _value(element: Element) -> bytes:
    text = _one(element, "xenc:CipherData/xenc:CipherValue").text or ""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise SamlRefused("decryption") from None


def _one(element: Element, path: str) -> Element:
    found = find(element, path)
    if len(found) != 1:
        raise SamlRefused("decryption")
    return found[0]
