# SPDX-License-Identifier: Apache-2.0
"""What a sealer that begins finds stored: the log's right edge, its newest checkpoint, and which keys it knows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from ledger import checkpoint, merkle
from ledger.batch import LogState
from ledger.canonical import sha256, timestamp
from ledger.chain import PLANE, body_of, scan_leaf
from ledger.errors import LedgerRollback
from ledger.rotation import RETIRED, ROTATED, Rotation, parse_rotation
from ledger.sealer_keys import Published
from ledger.session import Connection


class NewKey(Struct, frozen=True):
    """One public key that the log is to know, and since when."""

    key_id: str
    key: Published
    at: datetime

    def body(self) -> dict[str, Any]:
        """As its entry tells of it."""
        return {
            "key_id": self.key_id,
            "alg": self.key.alg,
            "purpose": self.key.purpose,
            "public_sha256": sha256(self.key.public),
            "valid_from": timestamp(self.at),
        }

    def row(self) -> tuple[Any, ...]:
        """As `ledger.key` has it."""
        return self.key_id, self.key.alg, self.key.purpose, self.key.public, self.at


async def load_state(conn: Connection) -> LogState:
    """The log's right edge and newest checkpoint, from what is stored."""
    row = await (await conn.execute(_NEWEST)).fetchone()
    if row is None:
        return LogState(merkle.Edge(), None)
    size, root, note, sealed_at = row
    wanted = merkle.tiles_of_edge(size)
    cursor = await conn.cursor(binary=True).execute(
        _TILES, ([level for level, _ in wanted], [index for _, index in wanted])
    )
    tiles = {(level, index): hashes for level, index, hashes in await cursor.fetchall()}
    edge = merkle.read_edge(size, merkle.tile_reader(lambda level, index: tiles.get((level, index), b"")))
    if edge.root() != root or checkpoint.parse(note).root != root:
        raise LedgerRollback(kept_size=size, stored_size=size, reason="the stored tiles do not give its root")
    state = LogState(edge, None)
    state.follow(note, sealed_at)
    state.origin = checkpoint.parse(note).origin
    return state


async def new_keys(conn: Connection, ours: Sequence[Published], now: datetime) -> list[NewKey]:
    """Our public keys that the log does not know, with their id: `log-2026a` names both of a purpose."""
    stored = await (await conn.execute("SELECT key_id, purpose, public FROM ledger.key")).fetchall()
    known = {public for _, _, public in stored}
    new = []
    for purpose in sorted({key.purpose for key in ours}):
        used = {key_id for key_id, of, _ in stored if of == purpose}
        free = (f"{purpose}-{now.year}{chr(letter)}" for letter in range(ord("a"), ord("z") + 1))
        key_id = next(name for name in free if name not in used)
        new += [NewKey(key_id, key, now) for key in ours if key.purpose == purpose and key.public not in known]
    return new


async def stored_rotations(conn: Connection) -> tuple[list[Rotation], set[str]]:
    """Every rotation that the log tells of, oldest first, and the requests whose old keys' end is told."""
    cursor = await conn.cursor(binary=True).execute(_ROTATIONS, (PLANE, [ROTATED, RETIRED]))
    found = [(kind, scan_leaf(leaf)) for kind, leaf in await cursor.fetchall()]
    retired = {str(body_of(record).get("request")) for kind, record in found if kind == RETIRED}
    return [parse_rotation(record.body) for kind, record in found if kind == ROTATED], retired


async def key_ids(conn: Connection) -> dict[bytes, str]:
    """What the log calls each public key (SPKI)."""
    return {public: key_id for key_id, public in await (await conn.execute(_KEY_IDS)).fetchall()}


_ROTATIONS = """
    SELECT kind, leaf FROM ledger.entry WHERE tenant = %t AND kind = ANY (%t::text[]) ORDER BY tenant_index"""
_KEY_IDS = "SELECT key_id, public FROM ledger.key"
_NEWEST = "SELECT size, root, note, sealed_at FROM ledger.checkpoint ORDER BY size DESC LIMIT 1"
_TILES = """
    SELECT level, "index", string_agg(hashes, '' ORDER BY start) FROM ledger.tile
    WHERE (level, "index") IN (SELECT * FROM unnest(%s::smallint[], %s::bigint[])) GROUP BY level, "index" """
