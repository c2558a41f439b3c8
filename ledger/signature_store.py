# SPDX-License-Identifier: Apache-2.0
"""What the sealer signed, the time-stamps over it, and the keys behind both; see `ledger.store`."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import rotation
from ledger.chain import PLANE, Level, scan_leaf
from ledger.succession import KIND, Succession, parse_succession


class StoredSignature(Struct, frozen=True):
    """A bundle's signatures, made by the sealer; both null where the level is `sealed`."""

    bundle_id: str
    tenant: str
    entry_id: str
    index: int
    level: Level
    pae_mu: bytes | None
    mldsa65: bytes | None
    pae_sha256: bytes | None
    p256: bytes | None


class StoredToken(Struct, frozen=True):
    """A time-stamp token and whose it is."""

    operator: str
    der: bytes


class StoredKey(Struct, frozen=True):
    """A public key of the sealer's; `public` is SubjectPublicKeyInfo DER."""

    key_id: str
    alg: str
    purpose: str
    public: bytes
    valid_from: datetime


_SIGNATURE_COLUMNS = """bundle_id::text, tenant, entry_id::text, "index", level, pae_mu, mldsa65, pae_sha256, p256"""
_SIGNATURE = text(f"SELECT {_SIGNATURE_COLUMNS} FROM ledger.signature WHERE bundle_id = CAST(:bundle_id AS uuid)")


async def signature(conn: AsyncConnection, bundle_id: str) -> StoredSignature | None:
    """What the sealer signed for a bundle; None until its entry is sealed, or if it was refused."""
    row = (await conn.execute(_SIGNATURE, {"bundle_id": bundle_id})).one_or_none()
    return StoredSignature(*row) if row else None


_TOKENS = text("""
    SELECT operator, der FROM ledger.token
    WHERE imprint = :imprint AND NOT EXISTS (SELECT 1 FROM ledger.unstamped WHERE imprint = :imprint)
    ORDER BY operator""")


async def tokens(conn: AsyncConnection, imprint: bytes) -> list[StoredToken]:
    """The time-stamp tokens over bytes whose SHA-256 is `imprint`; empty while any is awaited."""
    return [StoredToken(*row) for row in await conn.execute(_TOKENS, {"imprint": imprint})]


_UNSTAMPED = text("SELECT count(*), extract(epoch FROM now() - min(since))::float8 FROM ledger.unstamped")


async def unstamped(conn: AsyncConnection) -> tuple[int, float]:
    """How many tokens are awaited and for how many seconds the oldest (0 when none)."""
    count, age_s = (await conn.execute(_UNSTAMPED)).one()
    return count, age_s or 0.0


_SUCCESSIONS = text("""
    SELECT leaf FROM ledger.entry WHERE tenant = :plane AND kind = :kind ORDER BY tenant_index""")


async def successions(conn: AsyncConnection) -> list[Succession]:
    """How the log came to its name, oldest first; seen by the plane's own tenant and by those who see all."""
    rows = await conn.execute(_SUCCESSIONS, {"plane": PLANE, "kind": KIND})
    return [parse_succession(scan_leaf(bytes(leaf)).body) for leaf in rows.scalars()]


_ABOUT_KEYS = text("""
    SELECT kind, leaf FROM ledger.entry WHERE tenant = :plane AND kind = ANY(:kinds) ORDER BY tenant_index""")


class KeyHistory(Struct, frozen=True):
    """What the log tells of its keys and its name, oldest first; `entries` counts all of it, and only rises."""

    successions: tuple[Succession, ...] = ()
    rotations: tuple[rotation.Rotation, ...] = ()
    revoked: tuple[rotation.Revoked, ...] = ()
    entries: int = 0


async def key_history(conn: AsyncConnection) -> KeyHistory:
    """Read it; seen by the plane's own tenant and by those who see all."""
    kinds = [KIND, rotation.CREATED, rotation.ROTATED, rotation.REVOKED]
    rows = (await conn.execute(_ABOUT_KEYS, {"plane": PLANE, "kinds": kinds})).all()
    bodies = [(kind, scan_leaf(bytes(leaf)).body) for kind, leaf in rows]
    return KeyHistory(
        successions=tuple(parse_succession(body) for kind, body in bodies if kind == KIND),
        rotations=tuple(rotation.parse_rotation(body) for kind, body in bodies if kind == rotation.ROTATED),
        revoked=tuple(rotation.parse_revoked(body) for kind, body in bodies if kind == rotation.REVOKED),
        entries=len(bodies),
    )


_KEYS = text("""
    SELECT key_id, alg, purpose, coalesce(public, ''), coalesce(valid_from, to_timestamp(0))
    FROM ledger.key ORDER BY key_id, alg""")


async def keys(conn: AsyncConnection) -> list[StoredKey]:
    """The sealer's public keys, past ones included."""
    return [StoredKey(*row) for row in await conn.execute(_KEYS)]


_SIGNATURES = text(f'SELECT {_SIGNATURE_COLUMNS} FROM ledger.signature WHERE "index" >= :start AND "index" < :end')


async def signatures(conn: AsyncConnection, start: int, end: int) -> list[StoredSignature]:
    """The signatures of entries in [start, end)."""
    return [StoredSignature(*row) for row in await conn.execute(_SIGNATURES, {"start": start, "end": end})]
