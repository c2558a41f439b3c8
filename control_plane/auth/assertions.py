# SPDX-License-Identifier: Apache-2.0
"""A token by which a CI system vouches for a pipeline becomes verified claims, or is refused (G13, RFC 8693).

Enters: the token, the `[[oidc]]` tables with `workload = true`, their keys, the clock. Leaves: `Asserted`, or what
`oidc` raises. Such a token opens no door by itself: it is exchanged, once, for one of the plane's own; and no token of
an issuer of people is taken here, for the tables are apart. Its type may be any that CI systems use (`JWT`, none, or
`at+jwt`), so the audience is what says that it is meant for this plane.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct

from control_plane.auth.claims import LEEWAY_S, Rule, SignedClaims, check_times, choose, invalid, read
from control_plane.auth.http import Http
from control_plane.auth.jwks import Fetch, Keys, RemoteKeys
from control_plane.auth.oidc import signed
from control_plane.auth.providers import OidcIssuer

__all__ = ["LONGEST_S", "Asserted", "Assertions"]

LONGEST_S: Final = 86_400
"""The longest life of such a token: the memory of used ones is no longer."""
_TYPES: Final = frozenset(("", "jwt", "at+jwt", "application/at+jwt"))


class Asserted(Struct, frozen=True):
    """What an issuer has signed. `digest` is of the token's own id, so that it can be used up."""

    issuer: str
    tenant: str
    claims: SignedClaims
    digest: bytes
    forgotten_at: float
    """From when on the token is refused for its age, so that its digest need not be kept."""


class Assertions:
    """Recognises pipelines by their CI system. One a process and event loop; `close` it."""

    def __init__(
        self,
        issuers: Iterable[OidcIssuer],
        *,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.time,
        leeway_s: float = LEEWAY_S,
    ) -> None:
        """Only the tables of workloads count."""
        self._http = Http()
        self._clock, self._leeway_s = clock, leeway_s
        self._keys: dict[str, Keys] = {}
        self._rules: dict[str, list[Rule]] = {}
        for one in issuers:
            if not one.workload:
                continue
            if one.issuer not in self._keys:
                self._keys[one.issuer] = RemoteKeys(one.issuer, one.jwks_uri, fetch or self._http.fetch, clock)
            self._rules.setdefault(one.issuer, []).append(
                Rule(issuer=one.issuer, audience=one.audience, tenant=one.tenant)
            )

    def concerns(self, token: str) -> bool:
        """Whether it means to be a workload's; nothing of it is believed. One issuer may sign for people, too."""
        unverified = read(token, types=_TYPES)
        audience = unverified.claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        return any(rule.audience in named for rule in self._rules.get(unverified.issuer, ()))

    async def verify(self, token: str) -> Asserted:
        """The claims of this token. Unauthenticated or IdentityUnavailable, and nothing else."""
        unverified = read(token, types=_TYPES)
        keys = self._keys.get(unverified.issuer)
        if keys is None:
            raise invalid("issuer", "the token's issuer is none that this plane trusts for workloads")
        now = self._clock()
        expires = check_times(unverified.claims, now, self._leeway_s)
        if expires > now + LONGEST_S + self._leeway_s:
            raise invalid("too_long", "the token lasts longer than a day: a workload's is short-lived")
        claims = signed(token, unverified, await keys.matching(unverified.kid, unverified.alg))
        rule = choose(claims, self._rules[unverified.issuer])
        if rule.tenant is None:
            raise invalid("tenant", "the token names no tenant")
        return Asserted(
            issuer=rule.issuer,
            tenant=rule.tenant,
            claims=claims,
            digest=_digest(token, rule.issuer, claims),
            forgotten_at=expires + self._leeway_s,
        )

    async def close(self) -> None:
        """Ends fetches and kept connections."""
        for keys in self._keys.values():
            await keys.close()
        await self._http.close()


def _digest(token: str, issuer: str, claims: dict[str, Any]) -> bytes:
    """Of the token's `jti`, or of what was signed: a signature of ECDSA has a twin that verifies as well."""
    named = claims.get("jti")
    if isinstance(named, str) and named:
        return hashlib.sha256(f"jti\0{issuer}\0{named}".encode("utf-8", "surrogatepass")).digest()
    return hashlib.sha256(b"jws\0" + token.rpartition(".")[0].encode("ascii")).digest()
