# SPDX-License-Identifier: Apache-2.0
"""An issuer's public keys: fetched, kept, and fetched again when it rotates them (G13).

Enters: an issuer's address, or a key set at hand. Leaves: the keys that fit a token's `kid` and `alg`, or
IdentityUnavailable. Keys come from the configured address and nowhere else; a `kid` is only ever compared.

Kept keys serve `MAX_AGE_S`, then a fetch runs in the background; if the issuer stays away they serve up to `STALE_S`,
since a key that was good an hour ago beats a plane that is down with its issuer. An unknown `kid` causes a fetch, so
that a rotation shows at once, but only `UNKNOWN_BURST` times and then once in `UNKNOWN_EVERY_S`: forged ids must not
turn the plane into a hammer on its issuer. After a failure nothing is tried for `PAUSE_S`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key
from msgspec import Struct

from control_plane.auth import discovery
from control_plane.auth.errors import IdentityUnavailable

__all__ = ["Keys", "KnownKeys", "PublicKey", "RemoteKeys", "parse_jwks", "select"]

MAX_AGE_S: Final = 600
STALE_S: Final = 3_600
PAUSE_S: Final = 2
UNKNOWN_BURST: Final = 5
UNKNOWN_EVERY_S: Final = 10
_MAX_KEYS = 64
# 2,048 bits of modulus are 342 base64url characters; 8,192 bits are 1,366: more would only burn time.
_RSA_CHARS = range(342, 1_367)
_SHAPE = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA", "Ed25519"),
}

Fetch = Callable[[str], Awaitable[bytes]]
"""GET of an address: the body, or OSError, TimeoutError or ValueError. `http.Http.fetch` is the real one."""


class PublicKey(Struct, frozen=True):
    """One key and the algorithms that it may check."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: RSAKey | ECKey | OKPKey


class Keys(Protocol):
    """Where a token's key is looked up. `generation` changes whenever the set does, so that caches can tell."""

    @property
    def generation(self) -> int:
        """Another number whenever the set is another."""
        ...

    async def matching(self, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """The keys that may have signed; empty where none is known."""
        ...

    async def close(self) -> None:
        """End what is being fetched."""
        ...


def parse_jwks(data: bytes) -> tuple[PublicKey, ...]:
    """The usable keys of a JWK Set; ValueError if there is none. What isn't understood is skipped (RFC 7517, 5)."""
    try:
        listed = json.loads(data)["keys"]
    except (KeyError, TypeError, RecursionError):
        raise ValueError("no JWK set") from None
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise ValueError("no JWK set, or too many keys")
    found = tuple(key for key in map(_usable, listed) if key is not None)
    if not found:
        raise ValueError("no usable key")
    return found


def _usable(jwk: Any) -> PublicKey | None:
    if not isinstance(jwk, dict) or "d" in jwk or "k" in jwk or jwk.get("use", "sig") != "sig":
        return None
    operations, kid, alg = jwk.get("key_ops", ["verify"]), jwk.get("kid"), jwk.get("alg")
    if not isinstance(operations, list) or "verify" not in operations or not isinstance(kid, str | None):
        return None
    shape = "RSA" if jwk.get("kty") == "RSA" else jwk.get("crv")
    if not isinstance(shape, str) or shape not in _SHAPE:
        return None
    if shape == "RSA" and len(str(jwk.get("n"))) not in _RSA_CHARS:
        return None
    algorithms = tuple(one for one in _SHAPE[shape] if alg in (None, one))
    try:
        key = import_key({name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk})
    except (JoseError, ValueError, TypeError):
        return None
    if not algorithms or not isinstance(key, RSAKey | ECKey | OKPKey):
        return None
    return PublicKey(kid=kid, algorithms=algorithms, key=key)


def select(keys: tuple[PublicKey, ...], kid: str | None, alg: str) -> tuple[PublicKey, ...]:
    """The keys that a token may have been signed with. Without a `kid` only an issuer with one key is unambiguous."""
    if kid is None and len(keys) > 1:
        return ()
    return tuple(one for one in keys if (kid is None or one.kid == kid) and alg in one.algorithms)


class KnownKeys:
    """Keys at hand, without a network: the local issuer's, inside the process that verifies."""

    generation = 0

    def __init__(self, data: bytes) -> None:
        self._keys = parse_jwks(data)

    async def matching(self, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """As `Keys`."""
        return select(self._keys, kid, alg)

    async def close(self) -> None:
        """Nothing is open."""


class RemoteKeys:
    """One issuer's keys over HTTP, found by discovery unless `jwks_uri` says where. For one event loop."""

    def __init__(self, issuer: str, jwks_uri: str | None, fetch: Fetch, clock: Callable[[], float]) -> None:
        self.generation = 0
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        self._fetch = fetch
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._body = b""
        self._fetched = self._failed = float("-inf")
        self._attempts = 0
        self._unknown_left = float(UNKNOWN_BURST)
        self._unknown_at = clock()
        self._lock = asyncio.Lock()
        self._background: asyncio.Task[bool] | None = None

    async def matching(self, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """As `Keys`. IdentityUnavailable if the keys can't be had, or can't be asked whether `kid` is new."""
        age = self._clock() - self._fetched
        if age > STALE_S:
            await self._load_or_refuse()
        elif age > MAX_AGE_S and (self._background is None or self._background.done()):
            self._background = asyncio.create_task(self._load())
        found = select(self._keys, kid, alg)
        if found:
            return found
        if self._may_ask_again():
            await self._load_or_refuse()
            return select(self._keys, kid, alg)
        if self._failed > self._fetched:
            raise IdentityUnavailable
        return ()

    async def _load_or_refuse(self) -> None:
        if not await self._load():
            raise IdentityUnavailable

    async def _load(self) -> bool:
        """Whether a fresh set is there now. Those who wait for a fetch that is under way share its outcome."""
        seen = self._attempts
        async with self._lock:
            if self._attempts == seen and self._clock() - self._failed >= PAUSE_S:
                await self._try()
            return self._fetched >= self._failed

    async def _try(self) -> None:
        try:
            body = await self._fetch(self._jwks_uri or await self._discovered())
            keys = parse_jwks(body)
        except (OSError, TimeoutError, ValueError, RecursionError):
            self._failed = self._clock()
        else:
            if body != self._body:
                self._keys, self._body = keys, body
                self.generation += 1
            self._fetched = self._clock()
            self._failed = float("-inf")
        # Not in a `finally`: a caller who is cancelled has found out nothing, and the next one must ask itself.
        self._attempts += 1

    async def _discovered(self) -> str:
        """The key set's address from the issuer's metadata."""
        return discovery.parse(await self._fetch(discovery.place(self._issuer)), self._issuer).jwks_uri

    async def close(self) -> None:
        """Ends a fetch in the background."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)

    def _may_ask_again(self) -> bool:
        now = self._clock()
        gained = max(0.0, now - self._unknown_at) / UNKNOWN_EVERY_S
        self._unknown_left = min(float(UNKNOWN_BURST), self._unknown_left + gained)
        self._unknown_at = now
        if self._unknown_left < 1:
            return False
        self._unknown_left -= 1
        return True
