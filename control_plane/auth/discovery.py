# SPDX-License-Identifier: Apache-2.0
"""What an issuer says of itself: OpenID Connect Discovery 1.0, RFC 8414, RFC 8628, RFC 9207. `parse` is pure.

Enters: the configured issuer, a way to fetch. Leaves: `Metadata`, or ValueError for a document that isn't this issuer's
or names an address that may not be spoken to. What the document doesn't name, the issuer doesn't offer. Kept for
`MAX_AGE_S`, served up to `STALE_S` while the issuer is away, and after a failure nothing is tried for `PAUSE_S`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from control_plane.auth.addresses import reachable
from control_plane.auth.errors import IdentityUnavailable

__all__ = ["Discovery", "Metadata", "parse", "place"]

MAX_AGE_S: Final = 600
STALE_S: Final = 3_600
PAUSE_S: Final = 2
_MOST_WORDS = 256


class Metadata(Struct, frozen=True):
    """The part of an issuer's metadata that this plane and its commands use; None where it offers no such thing."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    revocation_endpoint: str | None = None
    end_session_endpoint: str | None = None
    names_itself: bool = False
    """`iss` comes with each authorization response (RFC 9207), so an answer without it is another's."""
    token_auth: tuple[str, ...] = ("client_secret_basic",)
    scopes: tuple[str, ...] = ()


def place(issuer: str) -> str:
    """Where the document lies (OIDC Discovery section 4)."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def parse(data: bytes, issuer: str) -> Metadata:
    """The document of exactly this issuer; ValueError for any other (OIDC Discovery section 4.3)."""
    try:
        said = json.loads(data)
    except RecursionError:
        raise ValueError("no metadata") from None
    if not isinstance(said, dict) or said.get("issuer") != issuer:
        raise ValueError("the metadata is another issuer's")
    keys = _address(said, "jwks_uri")
    if keys is None:
        raise ValueError("the metadata names no jwks_uri")
    return Metadata(
        issuer=issuer,
        jwks_uri=keys,
        authorization_endpoint=_address(said, "authorization_endpoint"),
        token_endpoint=_address(said, "token_endpoint"),
        device_authorization_endpoint=_address(said, "device_authorization_endpoint"),
        revocation_endpoint=_address(said, "revocation_endpoint"),
        end_session_endpoint=_address(said, "end_session_endpoint"),
        names_itself=said.get("authorization_response_iss_parameter_supported") is True,
        token_auth=_words(said, "token_endpoint_auth_methods_supported") or ("client_secret_basic",),
        scopes=_words(said, "scopes_supported") or (),
    )


def _address(said: Mapping[str, Any], name: str) -> str | None:
    address = said.get(name)
    if address is None:
        return None
    if not isinstance(address, str) or not reachable(address):
        raise ValueError(f"the metadata names no usable {name}")
    return address


def _words(said: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    listed = said.get(name)
    if not isinstance(listed, list) or len(listed) > _MOST_WORDS:
        return None
    return tuple(one for one in listed if isinstance(one, str))


class Discovery:
    """One issuer's metadata over HTTP. For one event loop."""

    def __init__(self, issuer: str, fetch: Callable[[str], Awaitable[bytes]], clock: Callable[[], float]) -> None:
        self._issuer, self._fetch, self._clock = issuer, fetch, clock
        self._found: Metadata | None = None
        self._fetched = self._failed = float("-inf")
        self._lock = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """What the issuer says of itself; IdentityUnavailable where that can't be had."""
        if self._clock() - self._fetched > MAX_AGE_S:
            async with self._lock:
                if self._clock() - self._fetched > MAX_AGE_S and self._clock() - self._failed >= PAUSE_S:
                    await self._try()
        if self._found is None or self._clock() - self._fetched > STALE_S:
            raise IdentityUnavailable
        return self._found

    async def _try(self) -> None:
        try:
            self._found = parse(await self._fetch(place(self._issuer)), self._issuer)
        except (OSError, TimeoutError, ValueError):
            self._failed = self._clock()
        else:
            self._fetched = self._clock()
