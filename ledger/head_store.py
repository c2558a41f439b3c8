# SPDX-License-Identifier: Apache-2.0
"""Signed heads of the log, the tiles beneath them and what witnesses say of them; see `ledger.store`."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


class StoredCheckpoint(Struct, frozen=True):
    """A signed head; `note` is the authority, `size` and `root` are read out of it."""

    size: int
    root: bytes
    note: bytes


_LATEST = text("SELECT size, root, note FROM ledger.checkpoint ORDER BY size DESC LIMIT 1")
_OVER = text("SELECT size, root, note FROM ledger.checkpoint WHERE size > :index ORDER BY size LIMIT 1")
# A few candidates: under a signed head lies everything before it, so the first that fits is the nearest.
_COSIGNED = text("""
    SELECT c.size, c.root, c.note FROM ledger.checkpoint c
    WHERE c.size IN (SELECT DISTINCT size FROM ledger.cosignature WHERE size > :index ORDER BY size LIMIT 64)
      AND (CAST(:own AS bigint) IS NULL OR (
        EXISTS (SELECT FROM ledger.token t WHERE t.imprint = sha256(c.note))
        AND NOT EXISTS (SELECT FROM ledger.unstamped u WHERE u.imprint = sha256(c.note))
        AND c.sealed_at < (SELECT sealed_at + interval '1 hour' FROM ledger.checkpoint WHERE size = :own)))
    ORDER BY c.size LIMIT 1""")
_LINES = text('SELECT line FROM ledger.cosignature WHERE size = :size ORDER BY line COLLATE "C"')


async def cosigned_over(conn: AsyncConnection, index: int, *, own: int | None = None) -> StoredCheckpoint | None:
    """The first cosigned checkpoint that covers entry `index`; None if no witness has come so far.

    Where evidence rests on its checkpoint, `own` is the size of that of its batch: then one that is stamped too, within
    the hour, since its tokens are the evidence's time.
    """
    row = (await conn.execute(_COSIGNED, {"index": index, "own": own})).one_or_none()
    return StoredCheckpoint(*row) if row else None


async def cosignatures(conn: AsyncConnection, size: int) -> list[str]:
    """The lines of witnesses over the checkpoint of this size, in the order in which a bundle has them."""
    return list((await conn.execute(_LINES, {"size": size})).scalars())


_CHECKPOINT = text("""
    SELECT size, coalesce(root, ''), coalesce(note, '') FROM ledger.checkpoint WHERE size = :size""")


async def latest_checkpoint(conn: AsyncConnection) -> StoredCheckpoint | None:
    """The head of the log; None before the first batch."""
    row = (await conn.execute(_LATEST)).one_or_none()
    return StoredCheckpoint(*row) if row else None


async def checkpoint_over(conn: AsyncConnection, index: int) -> StoredCheckpoint | None:
    """The checkpoint of the batch in which entry `index` was sealed: the first that covers it."""
    row = (await conn.execute(_OVER, {"index": index})).one_or_none()
    return StoredCheckpoint(*row) if row else None


async def checkpoint(conn: AsyncConnection, size: int) -> StoredCheckpoint | None:
    """The checkpoint of exactly this size; not every size has one."""
    row = (await conn.execute(_CHECKPOINT, {"size": size})).first()  # two are one more than a sound log has
    return StoredCheckpoint(*row) if row else None


_TILES = text("""
    SELECT level, "index", string_agg(hashes, '' ORDER BY start) FROM ledger.tile
    WHERE (level, "index") IN (SELECT * FROM unnest(CAST(:levels AS smallint[]), CAST(:indexes AS bigint[])))
    GROUP BY level, "index" """)


async def tiles(conn: AsyncConnection, which: Collection[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """The stored hashes of tiles (level, index), as many as each has; absent ones are left out."""
    wanted = {"levels": [level for level, _ in which], "indexes": [index for _, index in which]}
    return {(level, index): hashes for level, index, hashes in await conn.execute(_TILES, wanted)}


async def tile(conn: AsyncConnection, level: int, index: int) -> bytes | None:
    """One tile's hashes, 32 bytes each, 256 when it is full; a partial tile of width w is the first w of
    them.
    """
    return (await tiles(conn, [(level, index)])).get((level, index))


_CHECKPOINTS = text("""
    SELECT size, coalesce(root, ''), coalesce(note, '') FROM ledger.checkpoint
    WHERE size > :start AND size <= :end ORDER BY size""")


async def checkpoints(conn: AsyncConnection, start: int, end: int) -> list[StoredCheckpoint]:
    """Every checkpoint with start < size <= end."""
    return [StoredCheckpoint(*row) for row in await conn.execute(_CHECKPOINTS, {"start": start, "end": end})]


_PIECES = text("""
    SELECT level, "index", coalesce(start, 0), coalesce(hashes, '') FROM ledger.tile
    WHERE level = :level AND "index" >= :start AND "index" < :end ORDER BY "index", start""")


async def tile_pieces(conn: AsyncConnection, level: int, start: int, end: int) -> list[tuple[int, int, int, bytes]]:
    """The rows (level, index, start, hashes) of one level's tiles in [start, end), as they were written."""
    rows = await conn.execute(_PIECES, {"level": level, "start": start, "end": end})
    return [(row[0], row[1], row[2], row[3]) for row in rows]
