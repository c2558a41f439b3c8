# SPDX-License-Identifier: Apache-2.0
"""What a browser keeps for the plane and may neither read nor change: a login under way (S1).

Sealed with AES-256-GCM under a key drawn from the pseudonym key, which all processes and machines of a plane share. The
purpose and the end of its time are bound in: nothing sealed for one thing opens as another, or later.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

__all__ = ["Sealer"]

MOST_CHARS = 3_500  # of the 4,096 bytes that browsers give a cookie
T = TypeVar("T", bound=Struct)


class Sealer:
    """Seals and opens for one purpose."""

    def __init__(self, pseudonym_key: bytes, purpose: str) -> None:
        self._purpose = purpose.encode()
        derived = HKDF(SHA256(), 32, salt=None, info=b"qcos-sealed/1\0" + self._purpose).derive(pseudonym_key)
        self._box = AESGCM(derived)

    def seal(self, value: Struct, until: float) -> str:
        """As text for a cookie, good until then (Unix seconds)."""
        nonce, end = os.urandom(12), int(until).to_bytes(8)
        sealed = self._box.encrypt(nonce, msgspec.json.encode(value), end)
        return base64.urlsafe_b64encode(nonce + end + sealed).rstrip(b"=").decode()

    def open(self, text: str | None, kind: type[T], now: float) -> T | None:
        """What was sealed; None for anything else, and for what is too old."""
        if not text or len(text) > MOST_CHARS:
            return None
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            nonce, end, sealed = data[:12], data[12:20], data[20:]
            value = msgspec.json.decode(self._box.decrypt(nonce, sealed, end), type=kind)
        except (binascii.Error, ValueError, InvalidTag):
            return None
        return value if now < int.from_bytes(end) else None
