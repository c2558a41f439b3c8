# SPDX-License-Identifier: Apache-2.0
"""Tenants and people by the thousand in a development plane, and access tokens of theirs signed by its own issuer."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any

from joserfc import jwt
from msgspec import Struct

from bench.plane import Plane
from control_plane.auth.issuer import AUDIENCE, IDENTITY
from control_plane.auth.keys import issuer_key


class People(Struct, frozen=True):
    """So many tenants with so many people each; everybody has a role of the token's and one that the plane gave."""

    tenants: int
    each: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.tenants * self.each

    def settle(self, plane: Plane) -> None:
        """Write their rows, as the superuser: nobody waits for a hundred thousand acts of an administrator."""
        with plane.superuser() as conn:
            for statement in _ROWS:
                conn.execute(
                    statement.encode(), {"tenants": self.tenants, "each": self.each, "issuer": IDENTITY}, prepare=False
                )

    def some(self, number: int) -> list[tuple[str, str]]:
        """(tenant, subject) of some of them, spread over all; the same ones each time."""
        chosen = random.Random(8).sample(range(self.total), min(number, self.total))  # noqa: S311 - a choice, no secret
        return [(f"bench-{one % self.tenants}", f"person-{one // self.tenants}") for one in chosen]


_ROWS = (
    """
    INSERT INTO auth.tenant (tenant) SELECT 'bench-' || t FROM generate_series(0, %(tenants)s - 1) t
    """,
    """
    INSERT INTO auth.assignment (tenant, issuer, subject, project, role)
    SELECT 'bench-' || t, %(issuer)s, 'person-' || p, 'bench', 'quantum-user'
    FROM generate_series(0, %(tenants)s - 1) t, generate_series(0, %(each)s - 1) p
    """,
    """
    INSERT INTO auth.person (tenant, issuer, subject, pseudonym, name, domain)
    SELECT 'bench-' || t, %(issuer)s, 'person-' || p, 'a-' || t || '-' || p, 'person-' || p, 'bench-' || t
    FROM generate_series(0, %(tenants)s - 1) t, generate_series(0, %(each)s - 1) p
    """,
    "ANALYZE auth.tenant, auth.assignment, auth.person",
)


class Issuer:
    """Signs for a plane what its own development issuer would."""

    def __init__(self, plane: Plane) -> None:
        self._key: Any = issuer_key(plane.home)
        self._issuer = f"{plane.status['url']}/issuer"

    def token(self, tenant: str, subject: str) -> str:
        """A fresh access token, which no process has seen."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": "bench",
            "jti": str(uuid.uuid4()),
            "iat": now,
            "exp": now + 3600,
            "preferred_username": subject,
            "tenant": tenant,
            "roles": ["quantum-engineer@bench"],
        }
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self._key.thumbprint()}
        return jwt.encode(header, claims, self._key, algorithms=["ES256"])
