# SPDX-License-Identifier: Apache-2.0
"""What a browser brings, and what it may not be made to bring: the session's cookie and forged requests (S1). Pure.

The cookie is `__Host-` (this host alone, its whole site, TLS or loopback), HttpOnly, and SameSite=Lax, so that a link
from elsewhere finds one signed in. What changes something must show that it comes from a page of this plane: by its
`Origin`, and by a word that only such a page knows. The word is drawn from the session's secret and says nothing of it.
A WebSocket is opened from this plane's own pages alone; browsers ask nobody's leave for those.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from litestar.datastructures import Cookie

from control_plane.auth.errors import CsrfRefused
from control_plane.auth.tokens import Kind

__all__ = [
    "BEGUN",
    "CSRF_FIELD",
    "CSRF_HEADER",
    "KIND",
    "SAFE",
    "SESSION",
    "cookie",
    "csrf_of",
    "demand_own_form",
    "demand_own_origin",
    "forgotten",
    "kept",
    "origins",
]

SESSION: Final = "__Host-qcos"
KIND: Final[tuple[Kind]] = ("session",)
"""What the cookie may bring: no key of a robot's."""
BEGUN: Final = "__Host-qcos-login"
"""The cookie of a login under way."""
CSRF_HEADER: Final = b"x-qcos-csrf"
CSRF_FIELD: Final = "csrf"
SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))


def cookie(headers: Iterable[tuple[bytes, bytes]], name: str) -> str | None:
    """The one cookie of this name; None where there is none, or several: which of them was meant?"""
    found: list[str] = []
    for key, value in headers:
        if key.lower() != b"cookie":
            continue
        for part in value.decode("latin-1").split(";"):
            given, _, text = part.strip().partition("=")
            if given == name:
                found.append(text)
    return found[0] if len(found) == 1 and found[0] else None


def kept(name: str, value: str, *, seconds: int) -> Cookie:
    """A cookie that this plane alone gets back."""
    return Cookie(name, value=value, max_age=seconds, secure=True, httponly=True, samesite="lax")


def forgotten(name: str) -> Cookie:
    """What makes a browser forget it."""
    return kept(name, "", seconds=0)


def csrf_of(session: str) -> str:
    """The word by which a page of this plane shows that it is one."""
    made = hmac.new(session.encode(), b"qcos-csrf/1", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def origins(url: str | None, host: bytes | None) -> frozenset[str]:
    """The origins of this plane's own pages: of its address where one is set, else of the host that was asked."""
    if url is not None and urlsplit(url).scheme in ("http", "https"):
        return frozenset({"{0.scheme}://{0.netloc}".format(urlsplit(url)).lower()})
    name = (host or b"").decode("latin-1").lower()
    return frozenset({f"http://{name}", f"https://{name}"}) if name else frozenset()


def demand_own_origin(headers: Mapping[bytes, bytes], own: Collection[str]) -> None:
    """CsrfRefused unless the request says that a page of this plane sent it."""
    origin = headers.get(b"origin")
    if origin is None or origin.decode("latin-1").lower() not in own:
        raise CsrfRefused


def demand_own_form(given: str | None, session: str) -> None:
    """CsrfRefused unless the word is the session's."""
    if not hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), csrf_of(session).encode()):
        raise CsrfRefused
