# SPDX-License-Identifier: Apache-2.0
"""Records that share an entry, which folds them, and those that wait for one; see `ledger.store`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_FOLDED = text("""
    SELECT fold::text, coalesce(position, -1), tenant, entry_id::text, coalesce(pending, '') FROM ledger.folded
    WHERE fold = ANY(CAST(:folds AS uuid[])) ORDER BY fold, position""")
_FOLD_OF = text("SELECT fold::text, position FROM ledger.folded WHERE entry_id = CAST(:entry_id AS uuid)")
_STRAYS = text("""
    SELECT DISTINCT fold::text FROM ledger.folded f
    WHERE NOT EXISTS (SELECT 1 FROM ledger.entry e WHERE e.entry_id = f.fold) LIMIT 100""")
FoldedRow = tuple[int, str, str, bytes]
"""(position, tenant, entry id, bytes) of a record under the entry that folds it."""


async def folded(conn: AsyncConnection, folds: Collection[str]) -> dict[str, list[FoldedRow]]:
    """The records kept under each of these entries, in order."""
    found: dict[str, list[FoldedRow]] = {fold: [] for fold in folds}
    for fold, position, tenant, entry_id, pending in await conn.execute(_FOLDED, {"folds": list(folds)}):
        found[fold].append((position, tenant, entry_id, bytes(pending)))
    return found


async def fold_of(conn: AsyncConnection, entry_id: str) -> tuple[str, int] | None:
    """(the entry that folds this one, its place under it); None where it stands alone or waits."""
    row = (await conn.execute(_FOLD_OF, {"entry_id": entry_id})).one_or_none()
    return (row[0], row[1]) if row else None


async def strays(conn: AsyncConnection) -> set[str]:
    """Ids of entries that aren't sealed and have folded records all the same; for the audit role."""
    return set((await conn.execute(_STRAYS)).scalars())


_RIPE = text("SELECT tenant, actor FROM ledger.ripe(:wait_s, :many)")
_TAKE_UNFOLDED = text("""
    WITH taken AS (
        DELETE FROM ledger.unfolded WHERE id IN (
            SELECT id FROM ledger.unfolded WHERE tenant = :tenant AND actor = :actor
            ORDER BY id LIMIT :most)
        RETURNING id, entry_id::text, pending)
    SELECT entry_id, pending FROM taken ORDER BY id""")
_KEEP_FOLDED = text("""
    INSERT INTO ledger.folded (tenant, fold, position, entry_id, pending)
    SELECT :tenant, CAST(:fold AS uuid), n - 1, id, pending
    FROM unnest(CAST(:ids AS uuid[]), CAST(:rows AS bytea[])) WITH ORDINALITY AS r (id, pending, n)""")


async def ripe(conn: AsyncConnection, wait_s: float, many: int) -> list[tuple[str, str]]:
    """(tenant, actor) of records that have waited for `wait_s` seconds to be folded, or are this many."""
    return [(row[0], row[1]) for row in await conn.execute(_RIPE, {"wait_s": wait_s, "many": many})]


async def take_unfolded(conn: AsyncConnection, tenant: str, actor: str, most: int) -> list[tuple[str, bytes]]:
    """Take (entry id, bytes) of what waits, oldest first; to be kept under an entry in the same transaction."""
    rows = await conn.execute(_TAKE_UNFOLDED, {"tenant": tenant, "actor": actor, "most": most})
    return [(row[0], bytes(row[1])) for row in rows]


async def keep_folded(conn: AsyncConnection, tenant: str, fold: str, rows: Sequence[tuple[str, bytes]]) -> None:
    """Keep the records under their entry, in order."""
    names, pending = [name for name, _ in rows], [data for _, data in rows]
    await conn.execute(_KEEP_FOLDED, {"tenant": tenant, "fold": fold, "ids": names, "rows": pending})
