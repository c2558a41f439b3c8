# SPDX-License-Identifier: Apache-2.0
"""Encrypted blobs of a tenant: what the ledger commits to and nobody without keys can read (decision 2).

API and workers hold the root key; the sealer doesn't. A blob is written in the transaction of the entry that
commits to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import ledger.blob_store
from control_plane.db import transaction
from control_plane.errors import Refused
from ledger.blob import BlobKeys, SealedBlob, fresh, open_blob


class Sealed(Struct, frozen=True):
    """A blob to be stored, and the salt in it; its commitment is what an entry commits to."""

    blob: SealedBlob
    salt: bytes

    @property
    def commitment(self) -> str:
        """SHA-256(salt ‖ content)."""
        return self.blob.commitment


class Opened(Struct, frozen=True):
    """A blob's salt and content; SHA-256(salt ‖ content) is its commitment."""

    salt: bytes
    content: bytes


class Vault:
    """Seals and opens blobs; keeps each tenant's unwrapped key in memory."""

    def __init__(self, keys: BlobKeys) -> None:
        """Hold the root key of this plane."""
        self._keys = keys
        self._tenants: dict[str, bytes] = {}

    async def unlock(self, conn: AsyncConnection, tenant: str) -> bytes:
        """The tenant's key, made at its first use; `conn` sees that tenant."""
        known = self._tenants.get(tenant)
        if known is None:
            wrapped = await ledger.blob_store.tenant_key(conn, tenant)
            if wrapped is None:
                await ledger.blob_store.put_tenant_key(conn, tenant, self._keys.new_tenant_key())
                # Not kept in memory yet: another process may have been first, or this transaction may not commit.
                wrapped = await ledger.blob_store.tenant_key(conn, tenant)
                if wrapped is None:
                    raise Refused("internal", "a tenant key could not be stored")
                return self._keys.tenant_key(wrapped)
            known = self._tenants[tenant] = self._keys.tenant_key(wrapped)
        return known

    async def ready(self, engine: AsyncEngine, tenant: str) -> None:
        """Make sure that `seal` can be called for this tenant."""
        while tenant not in self._tenants:
            async with transaction(engine, tenant) as conn:
                await self.unlock(conn, tenant)

    def seal(self, tenant: str, contents: Sequence[bytes]) -> list[Sealed]:
        """Encrypt each content under a fresh key, salt and nonce, in order; the tenant MUST be `ready`."""
        tenant_key = self._tenants[tenant]
        return [Sealed(*fresh(content, tenant=tenant, tenant_key=tenant_key)) for content in contents]

    def open(self, sealed: SealedBlob) -> Opened:
        """Open a stored blob of a tenant that is `ready`."""
        return Opened(*open_blob(sealed, self._tenants[sealed.tenant]))

    async def read(self, conn: AsyncConnection, tenant: str, commitment: str) -> Opened:
        """Open a blob; raises Refused `content_erased` where its key or row is gone."""
        (opened,) = await self.read_all(conn, tenant, (commitment,))
        return opened

    async def read_all(self, conn: AsyncConnection, tenant: str, commitments: Sequence[str]) -> list[Opened]:
        """Open several blobs by one query, in the order asked for."""
        found = await ledger.blob_store.blobs(conn, tenant, commitments)
        if len(found) != len(set(commitments)):
            raise Refused("content_erased", "the content was erased; its commitment stays in the ledger")
        key = await self.unlock(conn, tenant)
        return [Opened(*open_blob(found[commitment], key)) for commitment in commitments]
