# SPDX-License-Identifier: Apache-2.0
"""The rules of an access token, without keys, clock or network (RFC 9068, RFC 7519, RFC 8725). Pure.

Enters: what stood after `Bearer`, one issuer's rule, the time. Leaves: `Unverified`, then, once `oidc` has checked the
signature, a `Principal`. Order matters and is `oidc`'s: `read` → `check_times` → signature → `choose` → `principal`.

Refused on sight, before any key is looked for: more than `MAX_TOKEN_CHARS`, other than three parts, a JSON name twice,
NaN, an algorithm outside `ALGORITHMS` (all asymmetric: no `none`, and no HMAC whose key would be a public key), a type
other than `at+jwt` (an ID token is no access token), and any header that brings or points to a key.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NewType

from msgspec import Struct, structs

from control_plane.auth.errors import Unauthenticated
from control_plane.auth.principal import Assignment, Principal, is_tenant, named, parse_role, pseudonym_of

__all__ = [
    "ACCESS",
    "ALGORITHMS",
    "ID",
    "LEEWAY_S",
    "LOGOUT",
    "MAX_TOKEN_CHARS",
    "Rule",
    "SignedClaims",
    "Unverified",
    "bearer",
    "check_times",
    "choose",
    "invalid",
    "principal",
    "read",
]

ALGORITHMS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
)
LEEWAY_S: Final = 10
"""Seconds by which the issuer's clock may be off, for exp, nbf and iat alike (RFC 8725 names none)."""
MAX_TOKEN_CHARS: Final = 16_384
"""Room for an issuer that lists a few hundred groups; a request line of this size still fits uvicorn's limits."""
_MAX_HEADER_CHARS = 2_048
_MAX_ROLES = 512
_MAX_GROUPS = 1_024
_MAX_GROUP_CHARS = 1_024  # a distinguished name is a group's name, too
_LAST_MOMENT = 253_402_300_800  # the end of the year 9999
ACCESS: Final = frozenset(("at+jwt", "application/at+jwt"))
"""The types of an access token."""
ID: Final = frozenset(("jwt", "application/jwt", ""))
"""The types of an ID token; most name none. What else tells it from other tokens is its audience and nonce."""
LOGOUT: Final = frozenset(("logout+jwt", "application/logout+jwt", "jwt"))
"""The types of a logout token (OpenID Connect Back-Channel Logout 2.4); older issuers call it a JWT."""
# A key that comes with the token proves only that its writer has a key (RFC 8725 section 3.10). `crit` names
# extensions, of which this plane knows none, so RFC 7515 section 4.1.11 refuses it; `b64` and `zip` change the payload.
_FORBIDDEN_HEADERS = frozenset(("jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"))

SignedClaims = NewType("SignedClaims", "dict[str, Any]")
"""Claims whose signature has been checked. Only `oidc` makes one."""


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """What one configured issuer's tokens must say.

    `tenant` None: the signed claim `tenant` says (the local issuer only). `identity` is how principals name the issuer,
    where its address may move; else they name the address.
    """

    issuer: str
    audience: str
    tenant: str | None
    roles_claim: str = "roles"
    identity: str | None = None
    groups_claim: str = "groups"


class Unverified(Struct, frozen=True):
    """A token taken apart and believed in nothing."""

    alg: str
    kid: str | None
    issuer: str
    claims: dict[str, Any]


def invalid(reason: str, detail: str) -> Unauthenticated:
    """`token_invalid` for `reason`; `detail` must be a constant (I10)."""
    return Unauthenticated("token_invalid", reason, detail)


def bearer(header: str | None) -> str:
    """The token of an Authorization header (RFC 6750 section 2.1); Unauthenticated if there is none."""
    if not header or not header.strip():
        raise Unauthenticated("token_missing", "no_header", "sign in first: this needs a bearer token")
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("token_missing", "other_scheme", "only bearer tokens are accepted")
    token = token.strip(" ")
    if not token:
        raise Unauthenticated("token_missing", "empty", "the bearer token is empty")
    return token


def read(token: str, types: frozenset[str] = ACCESS) -> Unverified:
    """A compact JWS of one of these types taken apart. Raises nothing but Unauthenticated, whatever `token` is."""
    if len(token) > MAX_TOKEN_CHARS:
        raise invalid("too_large", f"the token is longer than {MAX_TOKEN_CHARS} characters")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts) or not token.isascii():
        raise invalid("not_a_jws", "the token is no signed JWT in compact form")
    if len(parts[0]) > _MAX_HEADER_CHARS:
        raise invalid("too_large", f"the token's header is longer than {_MAX_HEADER_CHARS} characters")
    alg, kid = _header(_object(parts[0]), types)
    claims = _object(parts[1])
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise invalid("issuer", "the token names no issuer")
    return Unverified(alg=alg, kid=kid, issuer=issuer, claims=claims)


def _header(header: Mapping[str, Any], types: frozenset[str]) -> tuple[str, str | None]:
    if not _FORBIDDEN_HEADERS.isdisjoint(header):
        raise invalid("header", "the token's header brings a key or an extension, which this plane never follows")
    kind, alg, kid = header.get("typ"), header.get("alg"), header.get("kid")
    if kind is None and "" in types:
        kind = ""
    if not isinstance(kind, str) or kind.lower() not in types:
        wanted = "its type must be at+jwt (RFC 9068)" if types is ACCESS else "it is of another type"
        raise invalid("type", f"the token is none of the kind that is wanted here: {wanted}")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise invalid("algorithm", "the token's algorithm is none that this plane accepts")
    if kid is not None and (not isinstance(kid, str) or len(kid) > 256):
        raise invalid("key_unknown", "the token's key id is none of the issuer's")
    return alg, kid


def _object(part: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (binascii.Error, ValueError, RecursionError):
        # `from None`: a decoding error carries the token's bytes (I10).
        raise invalid("not_json", "a part of the token is no plain JSON object") from None
    if not isinstance(value, dict):
        raise invalid("not_json", "a part of the token is no plain JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two parsers may read a repeated name differently (RFC 7519 section 4), so there may be none."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("repeated name")
    return value


def _no_constant(_: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")


def check_times(claims: Mapping[str, Any], now: float, leeway_s: float = LEEWAY_S) -> float:
    """Exp as Unix seconds. Done before any key is fetched: an expired token must not make the plane call its issuer."""
    expires = _seconds(claims, "exp")
    if expires is None:
        raise invalid("expiry_missing", "the token has no expiry")
    if expires <= now - leeway_s:
        raise Unauthenticated("token_expired", "expired", "the token has expired: sign in again")
    for name in ("nbf", "iat"):
        start = _seconds(claims, name)
        if start is not None and start > now + leeway_s:
            raise invalid("not_yet_valid", "the token is not valid yet")
    return expires


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    # An integer beyond 2^53 has no exact float, and no honest clock.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**53) < value < 2**53:
        raise invalid("time", "a time in the token is no number of seconds")
    return float(value)


def choose(claims: SignedClaims, rules: Sequence[Rule]) -> Rule:
    """The one rule whose audience the token names exactly. A token for two of an issuer's tenants is for neither."""
    audience = claims.get("aud")
    named_audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(named_audiences, list) or not all(isinstance(one, str) for one in named_audiences):
        raise invalid("audience", "the token names no audience")
    matching = [rule for rule in rules if rule.audience in named_audiences]
    if len(matching) != 1:
        raise invalid("audience", "the token is not for this plane")
    return matching[0]


def principal(claims: SignedClaims, rule: Rule, pseudonym_key: bytes) -> Principal:
    """Who the signed claims say, by `rule`."""
    subject = _text(claims, "sub", 255)
    if not subject:
        raise invalid("subject", "the token names no subject")
    tenant = rule.tenant if rule.tenant is not None else (_text(claims, "tenant", 63) or "")
    if not is_tenant(tenant):
        raise invalid("tenant", "the token names no tenant")
    issuer = rule.identity or rule.issuer
    name, domain = named(_text(claims, "preferred_username", 255) or subject, tenant=tenant, subject=subject)
    found = Principal(
        subject=subject,
        name=name,
        domain=domain,
        tenant=tenant,
        issuer=issuer,
        pseudonym=pseudonym_of(pseudonym_key, tenant=tenant, issuer=issuer, subject=subject),
        team=_text(claims, "team", 128),
        department=_text(claims, "department", 128),
        # RFC 9068 section 2.2: with no resource owner involved, the subject is the client itself.
        kind="service" if claims.get("client_id") == subject else "user",
    )
    found = structs.replace(
        found,
        groups=_groups(claims, rule.groups_claim),
        acr=_plain(claims.get("acr")),
        amr=_methods(claims.get("amr")),
        authenticated_at=_moment(claims, "auth_time") or _moment(claims, "iat"),
        asserted_at=_moment(claims, "iat"),
    )
    return found.holding(_roles(claims, rule.roles_claim))


def _text(claims: Mapping[str, Any], name: str, longest: int) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    # Control characters and lone surrogates would reach logs, SQL and canonical JSON.
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise invalid("claim", f"the token's claim {name} is no plain text of at most {longest} characters")
    return value


def _plain(value: Any) -> str | None:
    """A short word of the issuer's; what is no such word proves nothing, and a rule that asks for one denies."""
    return value if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable() else None


def _methods(value: Any) -> tuple[str, ...]:
    """How they proved who they are (RFC 8176)."""
    listed = value[:16] if isinstance(value, list) else ()
    return tuple(sorted({word for word in map(_plain, listed) if word is not None}))


def _moment(claims: Mapping[str, Any], name: str) -> dt.datetime | None:
    seconds = _seconds(claims, name)
    if seconds is None or not 0 <= seconds < _LAST_MOMENT:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _groups(claims: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """The provider's groups of the person, whole or not at all: half of a list would give rights by chance."""
    listed = _listed(claims, path)
    if listed is None:
        return ()
    if not isinstance(listed, list) or len(listed) > _MAX_GROUPS:
        raise invalid("groups", f"the token's groups are no list of at most {_MAX_GROUPS} names")
    if not all(isinstance(one, str) and 0 < len(one) <= _MAX_GROUP_CHARS and one.isprintable() for one in listed):
        raise invalid("groups", f"the token's groups are no plain names of at most {_MAX_GROUP_CHARS} characters")
    return tuple(sorted(set(listed)))


def _listed(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, or at this path: Keycloak nests `realm_access.roles`."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _roles(claims: Mapping[str, Any], path: str) -> tuple[Assignment, ...]:
    value = _listed(claims, path)
    if value is None:
        return ()
    listed = value.split() if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > _MAX_ROLES or not all(isinstance(one, str) for one in listed):
        raise invalid("roles", f"the token's roles are no list of at most {_MAX_ROLES} names")
    return tuple(role for role in map(parse_role, listed) if role is not None)
