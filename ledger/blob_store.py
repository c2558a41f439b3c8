# SPDX-License-Identifier: Apache-2.0
"""Sealed blobs that entries commit to, and the tenants' keys that open them; see `ledger.store`."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.blob import SealedBlob

_BLOBS = text("""
    SELECT tenant, commitment, nonce, wrapped_key, ciphertext FROM ledger.blob
    WHERE tenant = :tenant AND commitment = ANY(:commitments) AND wrapped_key IS NOT NULL""")


async def blobs(conn: AsyncConnection, tenant: str, commitments: Collection[str]) -> dict[str, SealedBlob]:
    """Stored blobs by commitment; one that isn't there, or whose key is erased, is left out."""
    rows = await conn.execute(_BLOBS, {"tenant": tenant, "commitments": list(commitments)})
    return {row.commitment: SealedBlob(*row) for row in rows}


async def blob(conn: AsyncConnection, tenant: str, commitment: str) -> SealedBlob | None:
    """A stored blob; None if there is none or its key is erased."""
    return (await blobs(conn, tenant, (commitment,))).get(commitment)


_ERASE = text("SELECT ledger.erase(CAST(:commitments AS text[]))")
_WITH_KEYS = text("""
    SELECT commitment FROM ledger.blob
    WHERE tenant = :tenant AND commitment = ANY(:commitments) AND wrapped_key IS NOT NULL ORDER BY 1""")
_KEYLESS = text("SELECT count(*) FROM ledger.blob WHERE wrapped_key IS NULL")


async def erase(conn: AsyncConnection, commitments: Collection[str]) -> int:
    """Take keys and contents of the transaction's tenant's blobs for good; how many had one."""
    keys: int = (await conn.execute(_ERASE, {"commitments": list(commitments)})).scalar_one()
    return keys


async def with_keys(conn: AsyncConnection, tenant: str, commitments: Collection[str]) -> list[str]:
    """Those of the commitments whose blob still has its key."""
    rows = await conn.execute(_WITH_KEYS, {"tenant": tenant, "commitments": list(commitments)})
    return list(rows.scalars())


async def keyless(conn: AsyncConnection) -> int:
    """How many blobs have lost their key; for the audit role."""
    found: int = (await conn.execute(_KEYLESS)).scalar_one()
    return found


_TENANT_KEY = text("SELECT wrapped FROM ledger.tenant_key WHERE tenant = :tenant")
_PUT_TENANT_KEY = text("""
    INSERT INTO ledger.tenant_key (tenant, wrapped) VALUES (:tenant, :wrapped) ON CONFLICT DO NOTHING""")


async def tenant_key(conn: AsyncConnection, tenant: str) -> bytes | None:
    """A tenant's blob key as wrapped by the root key."""
    return (await conn.execute(_TENANT_KEY, {"tenant": tenant})).scalar_one_or_none()


async def tenant_keys(conn: AsyncConnection) -> list[bytes]:
    """Every tenant's wrapped key; for the audit role."""
    return [bytes(key) for key in (await conn.execute(text("SELECT wrapped FROM ledger.tenant_key"))).scalars()]


async def put_tenant_key(conn: AsyncConnection, tenant: str, wrapped: bytes) -> None:
    """Store a tenant's wrapped key unless it has one: read it back, another process may have been first."""
    await conn.execute(_PUT_TENANT_KEY, {"tenant": tenant, "wrapped": wrapped})
