# SPDX-License-Identifier: Apache-2.0
"""What writers and readers do with the log's entries; the sealer alone writes them there and has its own SQL.

Every function takes an `AsyncConnection` first and belongs to the caller's transaction: `append` is durable
once that commits, and one transaction can span packages. Row-level security shows the transaction's tenant
only, so "None" may mean "not yours". Hashes are raw bytes here, `sha256:…` only where a leaf writes them so.

Its neighbours keep to the same: `blob_store` (what entries commit to), `head_store` (checkpoints, tiles and what
witnesses say of them), `signature_store` (signatures, time-stamps and the keys behind them), `folded_store` (records
that share an entry).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.blob import SealedBlob
from ledger.chain import Draft, Evidence, Leaf, Pending, bind, parse_leaf, parse_pending, pending_bytes
from ledger.errors import LeafInvalid

_PAGE = 2048  # entries a round trip when reading the whole log


class StoredEntry(Struct, frozen=True, gc=False):
    """A row of the log as it lies there; nothing about it is verified."""

    index: int
    entry_id: str | None
    tenant: str | None
    tenant_index: int | None
    kind: str
    leaf: bytes


class Parcel(Struct, frozen=True):
    """Blobs and entries for functions of the database (`ledger.take_in`): what names them, and bytes, three to each."""

    names: dict[str, Any]
    blobs: list[bytes]
    entries: list[bytes | None]


def parcel(items: Iterable[tuple[Pending, Evidence | None]], blobs: Iterable[SealedBlob] = ()) -> Parcel:
    """Pack entries of one tenant, in order, with the blobs that they commit to; raises if an entry is ill-formed.

    An entry with evidence is bound to it (`chain.bind`) first.
    """
    kept = list(blobs)
    bound = _bound(items, kept)
    return Parcel(
        names={
            "blobs": [blob.commitment for blob in kept],
            "entries": [_named(pending, proof) for pending, proof in bound],
        },
        blobs=[part for blob in kept for part in (blob.nonce, blob.wrapped_key, blob.ciphertext)],
        entries=[
            part
            for pending, proof in bound
            for part in (pending_bytes(pending), proof.statement if proof else None, proof.salt if proof else None)
        ],
    )


def _bound(
    items: Iterable[tuple[Pending, Evidence | None]], blobs: Iterable[SealedBlob]
) -> list[tuple[Pending, Evidence | None]]:
    """The entries, each bound to its evidence; all of one tenant, as the blobs are."""
    bound = [(bind(pending, proof) if proof else pending, proof) for pending, proof in items]
    if len({pending.tenant for pending, _ in bound} | {blob.tenant for blob in blobs}) > 1:
        raise LeafInvalid("entries and blobs of several tenants in one parcel")
    return bound


def _named(pending: Pending, proof: Evidence | None) -> dict[str, Any]:
    named: dict[str, Any] = {"bundle": proof.bundle_id, "level": proof.level} if proof else {}
    if pending.traceparent is not None:
        named["traceparent"] = pending.traceparent
    return named | {"patient": True} if pending.patient else named


_PUT_BLOB = text("""
    INSERT INTO ledger.blob (tenant, commitment, nonce, wrapped_key, ciphertext)
    VALUES (:tenant, :commitment, :nonce, :wrapped_key, :ciphertext)""")
_PUT = text("""
    INSERT INTO ledger.inbox (tenant, pending, bundle_id, level, statement, salt, traceparent, patient)
    VALUES (:tenant, :pending, CAST(:bundle_id AS uuid), :level, :statement, :salt, :traceparent, :patient)""")


async def append(
    conn: AsyncConnection, items: Sequence[tuple[Pending, Evidence | None]], blobs: Sequence[SealedBlob] = ()
) -> None:
    """Put entries of one tenant into the inbox, in order, and their blobs beside the log.

    Acknowledged only after the caller's commit. Raises before anything is written if an entry is ill-formed; its
    tenant must be the transaction's.
    """
    if not items:
        return
    rows = [_row(pending, proof) for pending, proof in _bound(items, blobs)]
    if blobs:
        await conn.execute(_PUT_BLOB, [msgspec.structs.asdict(blob) for blob in blobs])
    await conn.execute(_PUT, rows)


def _row(pending: Pending, proof: Evidence | None) -> dict[str, Any]:
    return {
        "tenant": pending.tenant,
        "pending": pending_bytes(pending),
        "bundle_id": proof and proof.bundle_id,
        "level": proof and proof.level,
        "statement": proof and proof.statement,
        "salt": proof and proof.salt,
        "traceparent": pending.traceparent,
        "patient": pending.patient,
    }


_NAMING = text("""
    SELECT leaf FROM ledger.entry
    WHERE tenant = :tenant AND position(convert_to(:word, 'UTF8') IN leaf) > 0 AND tenant_index >= (
        SELECT tenant_index - 1 FROM ledger.entry WHERE entry_id = CAST(:since AS uuid))
    ORDER BY tenant_index""")


async def naming(conn: AsyncConnection, tenant: str, since: str, word: str) -> list[Leaf]:
    """The tenant's sealed entries whose bytes have `word` in them, from the one before entry `since` on."""
    rows = await conn.execute(_NAMING, {"tenant": tenant, "since": since, "word": word})
    return [parse_leaf(bytes(leaf)) for leaf in rows.scalars()]


_ENTRY = text('SELECT "index", leaf FROM ledger.entry WHERE entry_id = CAST(:entry_id AS uuid)')


async def entry(conn: AsyncConnection, entry_id: str) -> tuple[int, bytes] | None:
    """(index, leaf) of a sealed entry; None while it is only durable."""
    row = (await conn.execute(_ENTRY, {"entry_id": entry_id})).one_or_none()
    return (row[0], row[1]) if row else None


_LEAF_AT = text('SELECT leaf FROM ledger.entry WHERE "index" = :index')
_OF_TENANT = text("""
    SELECT "index", entry_id::text, tenant, tenant_index, kind, leaf FROM ledger.entry
    WHERE tenant = :tenant AND tenant_index >= :start ORDER BY tenant_index LIMIT :count""")


async def leaf_at(conn: AsyncConnection, index: int) -> bytes | None:
    """The leaf at this place of the log; None where there is none that the transaction may see."""
    leaf = (await conn.execute(_LEAF_AT, {"index": index})).scalar_one_or_none()
    return None if leaf is None else bytes(leaf)


async def of_tenant(conn: AsyncConnection, tenant: str, start: int, count: int) -> list[StoredEntry]:
    """A tenant's sealed entries in their order, from its `start`-th on, at most `count`."""
    rows = await conn.execute(_OF_TENANT, {"tenant": tenant, "start": start, "count": count})
    return [StoredEntry(*row) for row in rows]


_SEALED = text("SELECT entry_id FROM ledger.entry WHERE entry_id = ANY(CAST(:entry_ids AS uuid[]))")


async def sealed(conn: AsyncConnection, entry_ids: Collection[str]) -> set[str]:
    """Which of these entries are sealed."""
    rows = await conn.execute(_SEALED, {"entry_ids": list(entry_ids)})
    return {str(entry_id) for entry_id in rows.scalars()}


_STANDING = text("""
    SELECT alarm.code, alarm.detail, alarm.at, ledger.waited_s() AS waited_s, clock_timestamp() AS now,
           head.size, head.sealed_at
    FROM (SELECT 1) AS one
    LEFT JOIN (SELECT code, detail, at FROM ledger.alarm ORDER BY id DESC LIMIT 1) AS alarm ON true
    LEFT JOIN (SELECT size, sealed_at FROM ledger.checkpoint ORDER BY size DESC LIMIT 1) AS head ON true""")


class Standing(Struct, frozen=True):
    """How sealing stands: the alarm that stops it, how long the oldest entry waits, and the database's clock."""

    alarm: str | None
    detail: str
    since: datetime | None
    waited_s: float
    now: datetime
    size: int
    sealed_at: datetime | None


async def standing(conn: AsyncConnection) -> Standing:
    """What the sealer says of itself, and what shows of it when it says nothing."""
    row = (await conn.execute(_STANDING)).one()
    return Standing(
        row.code,
        row.detail or "",
        row.at if row.code else None,
        row.waited_s or 0.0,
        row.now,
        row.size or 0,
        row.sealed_at,
    )


_NEWEST = text("""
    SELECT leaf FROM ledger.entry WHERE tenant = :tenant AND kind = :kind ORDER BY tenant_index DESC LIMIT 1""")


async def newest(conn: AsyncConnection, tenant: str, kind: str) -> bytes | None:
    """The leaf of the tenant's last sealed entry of this kind; walks back over its entries until it finds one."""
    leaf = (await conn.execute(_NEWEST, {"tenant": tenant, "kind": kind})).scalar_one_or_none()
    return None if leaf is None else bytes(leaf)


_LEAVES = text("""
    SELECT leaf FROM ledger.entry
    WHERE tenant = :tenant AND kind = :kind AND "index" > :after AND "index" < :end ORDER BY "index" """)


async def leaves(conn: AsyncConnection, tenant: str, kind: str, after: int, end: int) -> list[bytes]:
    """The leaves of the tenant's entries of this kind with after < index < end; the two lie close together."""
    wanted = {"tenant": tenant, "kind": kind, "after": after, "end": end}
    return [bytes(leaf) for leaf in (await conn.execute(_LEAVES, wanted)).scalars()]


_EXTENT = text("""
    SELECT (SELECT coalesce(max(size), 0) FROM ledger.checkpoint),
           (SELECT coalesce(max("index") + 1, 0) FROM ledger.entry)""")


async def extent(conn: AsyncConnection) -> tuple[int, int]:
    """(size of the newest checkpoint, one past the last entry), in one snapshot; equal in a sound log."""
    row = (await conn.execute(_EXTENT)).one()
    return row[0], row[1]


_OUTSIDE = text("""
    WITH log AS (SELECT coalesce(max(size), 0) AS size FROM ledger.checkpoint)
    SELECT (SELECT count(*) FROM ledger.entry WHERE "index" IS NULL OR "index" < 0) AS entry,
           (SELECT count(*) FROM ledger.checkpoint WHERE size IS NULL OR size <= 0) AS checkpoint,
           (SELECT count(*) FROM ledger.signature, log
            WHERE "index" IS NULL OR "index" < 0 OR "index" >= log.size) AS signature,
           (SELECT count(*) FROM ledger.tile, log
            WHERE num_nulls(level, "index", start) > 0 OR level NOT BETWEEN 0 AND 6 OR "index" < 0
               OR start NOT BETWEEN 0 AND 255
               OR ("index" * 256 + start + 1) * power(256, level) > log.size) AS tile""")


async def outside(conn: AsyncConnection) -> dict[str, int]:
    """How many rows of a table stand where no walk through the log comes by, where there are any."""
    rows = (await conn.execute(_OUTSIDE)).one()
    return {table: many for table, many in zip(("entry", "checkpoint", "signature", "tile"), rows, strict=True) if many}


# Columns that can't be null here are held to be none by constraints that the owner of a server can drop: a null is
# read as a value that nothing has, and found as any other change.
_ENTRIES = """
    SELECT "index", entry_id::text, tenant, tenant_index, kind, coalesce(leaf, '') FROM ledger.entry
    WHERE "index" >= %s AND "index" < %s ORDER BY "index" LIMIT %s"""


async def stream_entries(conn: AsyncConnection, start: int = 0, end: int | None = None) -> AsyncIterator[StoredEntry]:
    """Entries in log order from `start` (to before `end`), a page at a time: entries are immutable, so are
    pages.
    """
    until = (await extent(conn))[1] if end is None else end
    while start < until:
        found = await entries(conn, start, until)
        for row in found:
            yield row
        if not found:
            return
        start = found[-1].index + 1


async def entries(conn: AsyncConnection, start: int, end: int) -> list[StoredEntry]:
    """The first entries, at most a page, of [start, end)."""
    # By the driver, in binary: where a whole log is read, what SQLAlchemy does for a row is half of reading it.
    driver: Any = (await conn.get_raw_connection()).driver_connection
    async with driver.cursor(binary=True) as cursor:
        await cursor.execute(_ENTRIES, (start, end, _PAGE))
        return [StoredEntry(*row) for row in await cursor.fetchall()]


async def waiting(conn: AsyncConnection) -> list[Draft]:
    """What is durable and not sealed yet, in the order of its writing; for the audit role."""
    rows = await conn.execute(text("SELECT pending FROM ledger.inbox ORDER BY id"))
    aside = await conn.execute(text("SELECT pending FROM ledger.unfolded ORDER BY id"))
    return [parse_pending(bytes(row.pending)) for row in (*rows, *aside)]
