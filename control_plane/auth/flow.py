# SPDX-License-Identifier: Apache-2.0
"""A browser's login by authorization code and PKCE, as values (OpenID Connect Core 3.1, RFC 7636, 9207, 9700). Pure.

Enters: the issuer's metadata, our `[[oidc]]` table, what the browser brought back. Leaves: the address to send it to,
the request for the tokens, and the checks of what came back, or LoginFailed. `state` binds the answer to this browser,
the callback's own address and `iss` bind it to the provider that was asked (mix-up), `nonce` binds the ID token to
this login, PKCE the code. What is checked of the ID token here comes after its signature, issuer and times (`oidc`).

"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus

from msgspec import Struct

from control_plane.auth.claims import SignedClaims
from control_plane.auth.discovery import Metadata
from control_plane.auth.errors import IdentityUnavailable, LoginFailed
from control_plane.auth.providers import OidcIssuer

__all__ = [
    "BEGUN_S",
    "Begun",
    "Tokens",
    "answered",
    "authorization_url",
    "check_id",
    "check_logout",
    "next_of",
    "token_request",
    "tokens",
]

BEGUN_S: Final = 600
"""How long a browser may take at the provider."""
MOST_CHARS: Final = 16_384
_ERROR = re.compile(r"[a-z_]{1,64}")
_NEXT = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1023}|/")
_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
_AT_HASH = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


class Begun(Struct, frozen=True):
    """A login under way, as the browser that began it keeps it, sealed."""

    provider: str
    state: str
    nonce: str
    verifier: str
    next: str


class Tokens(Struct, frozen=True):
    """What a token endpoint gave; `expires_in_s` None where it doesn't say."""

    access_token: str
    id_token: str | None = None
    refresh_token: str | None = None
    expires_in_s: float | None = None

    def __repr__(self) -> str:
        """Without the secrets (I10)."""
        return "Tokens(…)"


def next_of(given: str | None) -> str:
    """Where to go after the login: an address of this plane, else the page of one's own account.

    Never another host's, however it is written: a login page that sends people anywhere is a tool for thieves.
    """
    return given if given and _NEXT.fullmatch(given) else "/auth"


def authorization_url(metadata: Metadata, table: OidcIssuer, callback: str, begun: Begun) -> str:
    """Where the browser goes to sign in."""
    from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

    if metadata.authorization_endpoint is None or metadata.token_endpoint is None:
        raise IdentityUnavailable
    return str(
        prepare_grant_uri(
            metadata.authorization_endpoint,
            table.client_id,
            "code",
            redirect_uri=callback,
            scope=table.scopes,
            state=begun.state,
            nonce=begun.nonce,
            code_challenge=create_s256_code_challenge(begun.verifier),
            code_challenge_method="S256",
            **({"resource": table.resource} if table.resource else {}),
        )
    )


def answered(parameters: Mapping[str, str], begun: Begun | None, provider: str, metadata: Metadata) -> str:
    """The code that the browser brought back from the provider that it was sent to."""
    if begun is None or begun.provider != provider or not _same(parameters.get("state"), begun.state):
        raise LoginFailed("state", "this browser began no such login, or too long ago: begin again")
    issuer = parameters.get("iss")
    if issuer is not None and issuer != metadata.issuer:
        raise LoginFailed("mixed_up", "the answer is another provider's")
    if issuer is None and metadata.names_itself:
        raise LoginFailed("mixed_up", "the answer doesn't name its provider, which this one always does")
    if "error" in parameters:
        error = parameters["error"] if _ERROR.fullmatch(parameters["error"]) else "an error"
        raise LoginFailed("refused", f"the provider answered {error}")
    code = parameters.get("code")
    if not code:
        raise LoginFailed("code", "the provider's answer has no code")
    return code


def token_request(
    metadata: Metadata, table: OidcIssuer, secret: str | None, begun: Begun, code: str, callback: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Fields and headers of the request that turns the code into tokens."""
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": callback,
        "code_verifier": begun.verifier,
        **({"resource": table.resource} if table.resource else {}),
    }
    client = table.client_id or ""
    if secret is None:
        return fields | {"client_id": client}, {}
    if "client_secret_basic" in metadata.token_auth or "client_secret_post" not in metadata.token_auth:
        # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
        pair = f"{quote_plus(client)}:{quote_plus(secret)}".encode()
        return fields, {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    return fields | {"client_id": client, "client_secret": secret}, {}


def tokens(status: int, data: bytes) -> Tokens:
    """What the token endpoint answered; LoginFailed where it refused, or gave something else."""
    said = _document(data)
    if status >= 500:
        raise IdentityUnavailable
    if status != 200:
        error = said.get("error")
        known = error if isinstance(error, str) and _ERROR.fullmatch(error) else "an error"
        raise LoginFailed("refused", f"the provider answered {known}")
    lasts = said.get("expires_in")
    if not _is_token(said.get("access_token")) or str(said.get("token_type")).lower() != "bearer":
        raise LoginFailed("tokens", "the provider gave no bearer token")
    return Tokens(
        access_token=said["access_token"],
        id_token=said["id_token"] if _is_token(said.get("id_token")) else None,
        refresh_token=said["refresh_token"] if _is_token(said.get("refresh_token")) else None,
        expires_in_s=float(lasts) if isinstance(lasts, int) and 0 < lasts < 2**31 else None,
    )


def check_logout(claims: SignedClaims, client_id: str) -> None:
    """LoginFailed unless a signed logout token is for this client (OpenID Connect Back-Channel Logout 2.6)."""
    audience, events = claims.get("aud"), claims.get("events")
    if client_id not in (audience if isinstance(audience, list) else [audience]):
        raise LoginFailed("audience", "the logout token is for another client")
    if not isinstance(events, dict) or _LOGOUT not in events or "nonce" in claims:
        raise LoginFailed("events", "the token is no logout token")


def check_id(claims: SignedClaims, alg: str, client_id: str, nonce: str, access_token: str) -> None:
    """LoginFailed unless a signed ID token is for this client and this login (OpenID Connect Core 3.1.3.7)."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences:
        raise LoginFailed("audience", "the ID token is for another client")
    party = claims.get("azp")
    if party is None and len(audiences) > 1:
        raise LoginFailed("audience", "the ID token is for several clients and doesn't say whom it was given to")
    if party is not None and party != client_id:
        raise LoginFailed("audience", "the ID token was given to another client")
    if not _same(claims.get("nonce"), nonce):
        raise LoginFailed("nonce", "the ID token is of another login")
    known = claims.get("at_hash")
    if known is not None and not _same(known, _half_hash(alg, access_token)):
        raise LoginFailed("at_hash", "the ID token came with another access token")


def _half_hash(alg: str, token: str) -> str:
    """OpenID Connect Core 3.1.3.6; EdDSA over Ed25519 hashes with SHA-512."""
    made = _AT_HASH.get(alg[-3:], hashlib.sha512)(token.encode()).digest()
    return base64.urlsafe_b64encode(made[: len(made) // 2]).rstrip(b"=").decode()


def _same(given: object, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_CHARS and value.isascii() and value.isprintable()


def _document(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) else {}
