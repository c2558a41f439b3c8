# SPDX-License-Identifier: Apache-2.0
"""The form of what the plane itself gives out as a secret: a key, a token, a session, a delegation (G13, S1). Pure.

    qcos_KIND_TENANT.ID.SECRET

KIND tells a person, and a scanner of leaked secrets, what was found; TENANT, which holds no dot, says whose rows to
look in before anything is believed. SECRET is 256 random bits: the plane keeps its SHA-256 and nothing that gives it
back.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final, Literal, TypeAlias

from msgspec import Struct

__all__ = ["PREFIX", "Given", "Kind", "digest", "is_plane_token", "matches", "parse", "text_of"]

Kind: TypeAlias = Literal["key", "token", "session", "delegation"]
PREFIX: Final = "qcos_"
MAX_CHARS: Final = 160
_FORM = re.compile(
    r"qcos_(?P<kind>key|token|session|delegation)_(?P<tenant>[a-z0-9][a-z0-9_-]{0,62})"
    r"\.(?P<id>[0-9a-f]{24})\.(?P<secret>[A-Za-z0-9_-]{43})",
    re.ASCII,
)


class Given(Struct, frozen=True):
    """A secret as it came in, believed in nothing."""

    kind: Kind
    tenant: str
    id: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret (I10)."""
        return f"Given({self.kind} {self.id} of {self.tenant})"


def is_plane_token(text: str) -> bool:
    """Whether it means to be one of ours; a JWT never begins so."""
    return text.startswith(PREFIX)


def parse(text: str) -> Given | None:
    """The parts; None for what has another form."""
    found = _FORM.fullmatch(text) if len(text) <= MAX_CHARS else None
    return None if found is None else Given(**found.groupdict())  # type: ignore[arg-type]


def text_of(kind: Kind, tenant: str, id: str, secret: str) -> str:  # noqa: A002 - it is called that everywhere
    """What its holder gets, once."""
    return f"{PREFIX}{kind}_{tenant}.{id}.{secret}"


def digest(secret: str) -> bytes:
    """What is kept of it."""
    return hashlib.sha256(secret.encode()).digest()


def matches(secret: str, kept: bytes) -> bool:
    """Whether the secret is the one that was given out, told in constant time."""
    return hmac.compare_digest(digest(secret), kept)
