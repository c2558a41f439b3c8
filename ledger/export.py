# SPDX-License-Identifier: Apache-2.0
"""Proofs for whoever does not have the log: that an entry is in it, and that it only grew.

Built from stored tiles in O(log n) reads; the caller shows them beside a checkpoint of the same size. A tile
that was tampered with gives a proof that does not verify, never a wrong one that does.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import fold, folded_store, head_store, merkle, store
from ledger.audit import verify_log
from ledger.bundle import Fold
from ledger.errors import NotInLog

__all__ = ["consistency", "folded", "inclusion", "root", "verify_log"]


async def inclusion(conn: AsyncConnection, index: int, size: int) -> list[bytes]:
    """The RFC 6962 path from entry `index` to the root of `size` entries; NotInLog if there is none."""
    await _check_size(conn, size)
    read = await _reader(conn, merkle.tiles_of_inclusion(index, size))
    return merkle.inclusion_proof(index, size, read)


async def consistency(conn: AsyncConnection, old: int, new: int) -> list[bytes]:
    """The RFC 6962 proof that the log of `new` entries begins with that of `old`, 0 < old <= new."""
    await _check_size(conn, new)
    read = await _reader(conn, merkle.tiles_of_consistency(old, new))
    return merkle.consistency_proof(old, new, read)


async def root(conn: AsyncConnection, size: int) -> bytes:
    """The root of the first `size` entries, whether or not that size was ever signed."""
    await _check_size(conn, size)
    read = await _reader(conn, merkle.tiles_of_edge(size))
    return merkle.read_edge(size, read).root()


async def folded(conn: AsyncConnection, name: str, position: int) -> Fold:
    """A record under the entry that folds it, and its path to the root that this entry states."""
    rows = [row for *_, row in (await folded_store.folded(conn, (name,)))[name]]
    return Fold(record=rows[position], index=position, path=tuple(fold.path(rows, position)))


async def _check_size(conn: AsyncConnection, size: int) -> None:
    head, _ = await store.extent(conn)
    if size > head:
        raise NotInLog(f"the log has {head} entries, not {size}")


async def _reader(conn: AsyncConnection, wanted: set[tuple[int, int]]) -> merkle.HashReader:
    found = await head_store.tiles(conn, wanted)

    def row(level: int, index: int) -> bytes:
        return found.get((level, index), b"")

    return merkle.tile_reader(row)
