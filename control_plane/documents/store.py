# SPDX-License-Identifier: Apache-2.0
"""Documents in the database: what was issued, and what the sealer signed. Each belongs to the caller's transaction."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_ISSUED = text("""
    SELECT blob, entry_id::text, sha256 FROM jobs.document
    WHERE tenant = :tenant AND bundle_id = CAST(:bundle_id AS uuid)""")
_ISSUE = text("""
    INSERT INTO jobs.document (tenant, bundle_id, entry_id, sha256, blob)
    SELECT :tenant, CAST(:bundle_id AS uuid), CAST(:entry_id AS uuid), :sha256, :blob
    FROM (
        SELECT 1 FROM jobs.job WHERE tenant = :tenant AND job_id = :job_id AND erased_at IS NULL FOR SHARE) AS kept
    ON CONFLICT DO NOTHING RETURNING bundle_id""")
_SIGNATURE = text("""
    SELECT s.signature FROM ledger.entry e LEFT JOIN ledger.document_signature s ON s.entry_id = e.entry_id
    WHERE e.entry_id = CAST(:entry_id AS uuid)""")


class Issued(Struct, frozen=True):
    """A document as it was issued: the commitment of its blob, the entry that tells its hash, and that hash."""

    blob: str
    entry_id: str
    sha256: str


async def issued(conn: AsyncConnection, tenant: str, bundle_id: str) -> Issued | None:
    """The document about a bundle; None where none was issued yet."""
    row = (await conn.execute(_ISSUED, {"tenant": tenant, "bundle_id": bundle_id})).one_or_none()
    return None if row is None else Issued(*row)


async def issue(conn: AsyncConnection, tenant: str, job_id: str, bundle_id: str, document: Issued) -> bool:
    """Keep it as the one document of its bundle; False where another was first, once that one has committed.

    False as well where the job's contents were erased meanwhile; whoever erases later waits for this, and finds it.
    """
    values = {"blob": document.blob, "entry_id": document.entry_id, "sha256": document.sha256}
    found = await conn.execute(_ISSUE, {"tenant": tenant, "job_id": job_id, "bundle_id": bundle_id} | values)
    return found.one_or_none() is not None


async def signature(conn: AsyncConnection, entry_id: str) -> tuple[bool, bytes | None]:
    """Whether the entry that asked for it is sealed, and the signature; sealed without one it was refused."""
    row = (await conn.execute(_SIGNATURE, {"entry_id": entry_id})).one_or_none()
    return (False, None) if row is None else (True, None if row[0] is None else bytes(row[0]))
