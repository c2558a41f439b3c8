# SPDX-License-Identifier: Apache-2.0
"""Signing keys and used nonces in PostgreSQL. Each statement sees its transaction's tenant alone (I7)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.auth.principal import Principal
from control_plane.db import Query
from ledger.asker import Algorithm

REMEMBERED_S = 3600
"""How much longer a nonce is kept than its envelope is good: clocks of plane and database may differ by less."""


class SigningKey(Struct, frozen=True):
    """A key that somebody enrolled; it stands until it is revoked."""

    key_id: str
    name: str
    alg: Algorithm
    public: bytes
    issuer: str
    subject: str
    entry_id: str
    enrolled_at: dt.datetime
    revoked_at: dt.datetime | None = None

    def of(self, principal: Principal) -> bool:
        """Whether it is this principal's."""
        return (self.issuer, self.subject) == (principal.issuer, principal.subject)


_KEYS = (
    "SELECT key_id, name, alg, public, issuer, subject, entry_id::text AS entry_id, enrolled_at, revoked_at"
    " FROM auth.signing_key"
)
_ADD = text("""
    INSERT INTO auth.signing_key (tenant, key_id, name, alg, public, issuer, subject, entry_id, enrolled_at)
    VALUES (:tenant, :key_id, :name, :alg, :public, :issuer, :subject, CAST(:entry_id AS uuid), :at)
    ON CONFLICT DO NOTHING RETURNING key_id""")
_REVOKE = text("""
    UPDATE auth.signing_key SET revoked_at = :at
    WHERE tenant = :tenant AND key_id = :key_id AND revoked_at IS NULL RETURNING key_id""")
# A nonce that is used already leaves no row; old ones go a few at a time, as new ones come.
_USE = text("""
    WITH gone AS (DELETE FROM auth.nonce WHERE (tenant, key_id, nonce) IN (
        SELECT tenant, key_id, nonce FROM auth.nonce WHERE tenant = :tenant AND forget_at < clock_timestamp() LIMIT 16))
    INSERT INTO auth.nonce (tenant, key_id, nonce, forget_at)
    SELECT :tenant, k.key_id, :nonce, :forget_at FROM auth.signing_key k
    WHERE k.tenant = :tenant AND k.key_id = :key_id AND k.revoked_at IS NULL
    ON CONFLICT DO NOTHING RETURNING key_id""")


def found(key_id: str) -> Query:
    """The query for one key of the tenant, revoked or not."""
    return f"{_KEYS} WHERE key_id = %(key)s", {"key": key_id}


def own(principal: Principal) -> Query:
    """The query for all keys of a principal, newest first."""
    return (
        f"{_KEYS} WHERE issuer = %(issuer)s AND subject = %(subject)s ORDER BY enrolled_at DESC, key_id",
        {"issuer": principal.issuer, "subject": principal.subject},
    )


def key(row: dict[str, Any]) -> SigningKey:
    """A key as its query's row has it."""
    return SigningKey(**{**row, "public": bytes(row["public"])})


async def add(conn: AsyncConnection, tenant: str, one: SigningKey) -> bool:
    """Enrol a key; False where the tenant knows it already, whoever's it is."""
    values = {"tenant": tenant, "at": one.enrolled_at}
    values |= {
        name: getattr(one, name) for name in ("key_id", "name", "alg", "public", "issuer", "subject", "entry_id")
    }
    return (await conn.execute(_ADD, values)).first() is not None


async def revoke(conn: AsyncConnection, tenant: str, key_id: str, at: dt.datetime) -> bool:
    """From now on it signs nothing; False where that was so."""
    return (await conn.execute(_REVOKE, {"tenant": tenant, "key_id": key_id, "at": at})).first() is not None


async def use(conn: AsyncConnection, tenant: str, key_id: str, nonce: str, until: dt.datetime) -> bool:
    """Use a nonce up, in every process at once; False where it was used, or the key revoked meanwhile."""
    forget_at = until + dt.timedelta(seconds=REMEMBERED_S)
    values = {"tenant": tenant, "key_id": key_id, "nonce": nonce, "forget_at": forget_at}
    return (await conn.execute(_USE, values)).first() is not None
