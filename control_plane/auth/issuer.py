# SPDX-License-Identifier: Apache-2.0
"""A small OIDC issuer for the development users; profile `dev` only.

Enters: a user's name, the time. Leaves: an RFC 9068 access token, discovery and key documents. The API mounts them
under `/issuer` and trusts the key in its own process (`trusted`). Whoever may ask for a token is decided by
`keys.dev_login_is`, before. Deliberately not here: passwords, browser login, refresh tokens, registration.

The token's `iss` is the plane's present address, as discovery demands; principals name the issuer `IDENTITY`, since the
port may differ at each start and a person must stay the same person in the ledger.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from joserfc import jwt
from msgspec import Struct

from control_plane.auth.claims import Rule
from control_plane.auth.keys import demand_dev, issuer_key
from control_plane.errors import Refused

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

__all__ = ["AUDIENCE", "IDENTITY", "PATH", "TOKEN_S", "DevUser", "Issued", "LocalIssuer", "dev_users"]

AUDIENCE: Final = "qcos"
IDENTITY: Final = "urn:qcos:issuer:dev"
PATH: Final = "/issuer"
TOKEN_S: Final = 28_800
"""A working day: nobody signs in twice in one sitting, and a forgotten token is dead tomorrow."""
_CLIENT = "qcos-cli"


class DevUser(Struct, frozen=True, forbid_unknown_fields=True):
    """One development user of `dev_users.json`; `roles` as a token lists them."""

    name: str
    tenant: str
    roles: tuple[str, ...]
    team: str
    department: str


class _Users(Struct, frozen=True, forbid_unknown_fields=True):
    users: tuple[DevUser, ...]


class Issued(Struct, frozen=True):
    """A token and until when it lasts."""

    subject: str
    access_token: str
    expires_at: datetime


@cache
def dev_users() -> dict[str, DevUser]:
    """The development users by name."""
    data = Path(__file__).with_name("dev_users.json").read_bytes()
    return {user.name: user for user in msgspec.json.decode(data, type=_Users).users}


class LocalIssuer:
    """The issuer of one plane."""

    def __init__(self, key: ECKey, url: str) -> None:
        self._key = key
        self._kid = key.thumbprint()
        self.issuer = url.rstrip("/") + PATH

    @classmethod
    def opened(cls, home: Path, *, url: str, profile: str) -> LocalIssuer:
        """The issuer of this home, reached at the API's `url`. SettingInvalid in any profile but `dev`."""
        demand_dev(profile)
        return cls(issuer_key(home), url)

    def discovery(self) -> dict[str, Any]:
        """OpenID Provider metadata, cut to what this issuer does (OIDC Discovery section 3, RFC 8414)."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks.json",
            "token_endpoint": f"{self.issuer}/token",
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def jwks(self) -> dict[str, Any]:
        """The public key set (RFC 7517)."""
        return {"keys": [{**self._key.as_dict(private=False), "kid": self._kid, "use": "sig", "alg": "ES256"}]}

    def trusted(self) -> tuple[Rule, bytes]:
        """For `Authenticator(local=…)`: this issuer's rule and keys. The signed claim `tenant` names the tenant."""
        rule = Rule(issuer=self.issuer, audience=AUDIENCE, tenant=None, identity=IDENTITY)
        return rule, json.dumps(self.jwks()).encode()

    def issue(self, user: str, *, now: datetime) -> Issued:
        """An access token for a development user (RFC 9068 section 2). Refused `request_invalid` for anyone else."""
        known = dev_users().get(user)
        if known is None:
            raise Refused("request_invalid", f"user: the development users are {', '.join(sorted(dev_users()))}")
        start = now.astimezone(UTC).replace(microsecond=0)
        expires = start + timedelta(seconds=TOKEN_S)
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": known.name,
            "client_id": _CLIENT,
            "jti": str(uuid.uuid4()),
            "iat": int(start.timestamp()),
            "exp": int(expires.timestamp()),
            "preferred_username": known.name,
            "tenant": known.tenant,
            "roles": list(known.roles),
            "team": known.team,
            "department": known.department,
        }
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self._kid}
        token = jwt.encode(header, claims, self._key, algorithms=["ES256"])
        return Issued(subject=known.name, access_token=token, expires_at=expires)
