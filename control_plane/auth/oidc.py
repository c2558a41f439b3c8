# SPDX-License-Identifier: Apache-2.0
"""A bearer token becomes a `Principal`, or is refused (G13, N13; issue: OIDC from any configured issuer).

Enters: the token, the configured issuers, their keys, the clock. Leaves: a `Principal`, or Unauthenticated (401), or
IdentityUnavailable (503). Nothing else is ever raised for a token, whatever its bytes: no 500 and no allow.

A token that was verified is remembered by its SHA-256, for `REMEMBER_S` at most, until it expires, its issuer's keys
change, or `CACHE_SIZE` others came; so a warm request costs a hash and a look-up. Rights given by this
plane are *not* remembered here: `rights.enrich` adds them on every request, so that taking one away works at once.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from msgspec import Struct

from control_plane.auth.claims import (
    ALGORITHMS,
    LEEWAY_S,
    Rule,
    SignedClaims,
    Unverified,
    check_times,
    choose,
    invalid,
    principal,
    read,
)
from control_plane.auth.http import Http
from control_plane.auth.jwks import Fetch, Keys, KnownKeys, PublicKey, RemoteKeys
from control_plane.auth.principal import Principal
from control_plane.auth.providers import OidcIssuer, check

__all__ = ["CACHE_SIZE", "REMEMBER_S", "Authenticator", "rule_of", "signed"]

CACHE_SIZE: Final = 4_096
REMEMBER_S: Final = 300
"""Longest memory of one token: checking it anew is what lets its issuer's keys grow old and be fetched again."""


class _Trust(Struct, frozen=True):
    rules: tuple[Rule, ...]
    keys: Keys


class _Remembered(Struct, frozen=True):
    principal: Principal
    until: float
    trust: _Trust
    generation: int


class _Registry(jws.JWSRegistry):
    """joserfc's own bounds, widened to those of `claims`; unknown header names are allowed (RFC 7515 section 4)."""

    max_header_length = 2_048

    def get_alg(self, name: str) -> JWSAlgModel:
        """The one allowed algorithm. Without joserfc's warning that `EdDSA` may mean two curves: here it means one."""
        if name not in (self.allowed or ()) or name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


class Authenticator:
    """Recognises people by their issuers. One a process and event loop; `close` it."""

    def __init__(
        self,
        issuers: Iterable[OidcIssuer],
        *,
        pseudonym_key: bytes,
        local: tuple[Rule, bytes] | None = None,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.time,
        leeway_s: float = LEEWAY_S,
    ) -> None:
        """`local` is the development issuer's rule and keys, trusted without HTTP. SettingInvalid names a bad one."""
        self._http = Http()
        self._clock = clock
        self._leeway_s = leeway_s
        self._pseudonym_key = pseudonym_key
        self._trusted = _trusted(tuple(issuers), fetch or self._http.fetch, clock)
        if local is not None:
            rule, jwks = local
            if rule.issuer in self._trusted:
                raise ValueError(f"oidc.issuer = {rule.issuer!r}: that is the development issuer's own name")
            self._trusted[rule.issuer] = _Trust(rules=(rule,), keys=KnownKeys(jwks))
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    async def authenticate(self, token: str) -> Principal:
        """Who holds this bare token (`claims.bearer` takes it from a header). Cheap when the token was seen before."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = self._clock()
        known = self._remembered.get(digest)
        if known is not None and now < known.until and known.generation == known.trust.keys.generation:
            self._remembered.move_to_end(digest)
            return known.principal
        self._remembered.pop(digest, None)
        found = await self._verify(token, now)
        self._remembered[digest] = found
        if len(self._remembered) > CACHE_SIZE:
            self._remembered.popitem(last=False)
        return found.principal

    async def signed(self, token: str, issuer: str, types: frozenset[str]) -> tuple[SignedClaims, str]:
        """Claims and algorithm of another kind of token, by exactly this configured issuer, in its time.

        Whom it is for and what it may be used for is the caller's to check: an ID token is no access token.
        """
        unverified = read(token, types)
        if unverified.issuer != issuer or issuer not in self._trusted:
            raise invalid("issuer", "the token is another issuer's")
        check_times(unverified.claims, self._clock(), self._leeway_s)
        keys = await self._trusted[issuer].keys.matching(unverified.kid, unverified.alg)
        return signed(token, unverified, keys), unverified.alg

    def person(self, claims: SignedClaims, table: OidcIssuer) -> Principal:
        """Who signed claims of this table's issuer describe."""
        return principal(claims, rule_of(table), self._pseudonym_key)

    async def _verify(self, token: str, now: float) -> _Remembered:
        unverified = read(token)
        trust = self._trusted.get(unverified.issuer)
        if trust is None:
            raise invalid("issuer", "the token's issuer is none that this plane trusts")
        expires = check_times(unverified.claims, now, self._leeway_s) + self._leeway_s
        keys = await trust.keys.matching(unverified.kid, unverified.alg)
        # Read after the keys were chosen: a set that changes while this token is checked makes the memory void.
        generation = trust.keys.generation
        claims = signed(token, unverified, keys)
        who = principal(claims, choose(claims, trust.rules), self._pseudonym_key)
        until = min(expires, now + REMEMBER_S)
        return _Remembered(principal=who, until=until, trust=trust, generation=generation)

    async def close(self) -> None:
        """Ends fetches and kept connections."""
        for trust in self._trusted.values():
            await trust.keys.close()
        await self._http.close()


def signed(token: str, unverified: Unverified, keys: tuple[PublicKey, ...]) -> SignedClaims:
    """The claims, once one of `keys` has signed exactly these bytes with exactly the announced algorithm."""
    if not keys:
        raise invalid("key_unknown", "the token's key is none of the issuer's")
    registry = _Registry(algorithms=[unverified.alg], strict_check_header=False)
    for one in keys:
        try:
            jws.deserialize_compact(token, one.key, registry=registry)
        except (JoseError, ValueError, TypeError, RecursionError):
            continue
        return SignedClaims(unverified.claims)
    raise invalid("signature", "the token's signature is not its issuer's")


def _trusted(issuers: tuple[OidcIssuer, ...], fetch: Fetch, clock: Callable[[], float]) -> dict[str, _Trust]:
    """Issuers by name. One issuer may serve several tenants, each with an audience of its own."""
    check(issuers)
    trusted: dict[str, _Trust] = {}
    for one in issuers:
        if one.workload:  # a pipeline's token is exchanged (`assertions`), and opens no door by itself
            continue
        before = trusted.get(one.issuer)
        keys = before.keys if before else RemoteKeys(one.issuer, one.jwks_uri, fetch, clock)
        trusted[one.issuer] = _Trust(rules=(*(before.rules if before else ()), rule_of(one)), keys=keys)
    return trusted


def rule_of(one: OidcIssuer) -> Rule:
    """What the tokens of a table's issuer must say."""
    return Rule(
        issuer=one.issuer,
        audience=one.audience,
        tenant=one.tenant,
        roles_claim=one.roles_claim,
        groups_claim=one.groups_claim,
    )
