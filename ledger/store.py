# SPDX-License-Identifier: Apache-2.0
"""What writers and readers do with the ledger's tables; the sealer alone writes entries and has its own SQL.

Every function takes an `AsyncConnection` first and belongs to the caller's transaction: `append` is durable
once that commits, and one transaction can span packages. Row-level security shows the transaction's tenant
only, so "None" may mean "not yours". Hashes are raw bytes here, `sha256:…` only where a leaf writes them so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import rotation
from ledger.blob import SealedBlob
from ledger.chain import (
    PLANE,
    Draft,
    Evidence,
    Leaf,
    Level,
    Pending,
    bind,
    parse_leaf,
    parse_pending,
    pending_bytes,
    scan_leaf,
)
from ledger.errors import LeafInvalid
from ledger.succession import KIND, Succession, parse_succession

_PAGE = 2048  # entries a round trip when reading the whole log


class StoredCheckpoint(Struct, frozen=True):
    """A signed head; `note` is the authority, `size` and `root` are read out of it."""

    size: int
    root: bytes
    note: bytes


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
_NAMING = text("""
    SELECT leaf FROM ledger.entry
    WHERE tenant = :tenant AND position(convert_to(:word, 'UTF8') IN leaf) > 0 AND tenant_index >= (
        SELECT tenant_index - 1 FROM ledger.entry WHERE entry_id = CAST(:since AS uuid))
    ORDER BY tenant_index""")


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


async def naming(conn: AsyncConnection, tenant: str, since: str, word: str) -> list[Leaf]:
    """The tenant's sealed entries whose bytes have `word` in them, from the one before entry `since` on."""
    rows = await conn.execute(_NAMING, {"tenant": tenant, "since": since, "word": word})
    return [parse_leaf(bytes(leaf)) for leaf in rows.scalars()]


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


_LATEST = text("SELECT size, root, note FROM ledger.checkpoint ORDER BY size DESC LIMIT 1")
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


_KEYS = text("""
    SELECT key_id, alg, purpose, coalesce(public, ''), coalesce(valid_from, to_timestamp(0))
    FROM ledger.key ORDER BY key_id, alg""")


async def keys(conn: AsyncConnection) -> list[StoredKey]:
    """The sealer's public keys, past ones included."""
    return [StoredKey(*row) for row in await conn.execute(_KEYS)]


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
_CHECKPOINTS = text("""
    SELECT size, coalesce(root, ''), coalesce(note, '') FROM ledger.checkpoint
    WHERE size > :start AND size <= :end ORDER BY size""")
_SIGNATURES = text(f'SELECT {_SIGNATURE_COLUMNS} FROM ledger.signature WHERE "index" >= :start AND "index" < :end')


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


async def checkpoints(conn: AsyncConnection, start: int, end: int) -> list[StoredCheckpoint]:
    """Every checkpoint with start < size <= end."""
    return [StoredCheckpoint(*row) for row in await conn.execute(_CHECKPOINTS, {"start": start, "end": end})]


async def signatures(conn: AsyncConnection, start: int, end: int) -> list[StoredSignature]:
    """The signatures of entries in [start, end)."""
    return [StoredSignature(*row) for row in await conn.execute(_SIGNATURES, {"start": start, "end": end})]


async def waiting(conn: AsyncConnection) -> list[Draft]:
    """What is durable and not sealed yet, in the order of its writing; for the audit role."""
    rows = await conn.execute(text("SELECT pending FROM ledger.inbox ORDER BY id"))
    aside = await conn.execute(text("SELECT pending FROM ledger.unfolded ORDER BY id"))
    return [parse_pending(bytes(row.pending)) for row in (*rows, *aside)]


_PIECES = text("""
    SELECT level, "index", coalesce(start, 0), coalesce(hashes, '') FROM ledger.tile
    WHERE level = :level AND "index" >= :start AND "index" < :end ORDER BY "index", start""")


async def tile_pieces(conn: AsyncConnection, level: int, start: int, end: int) -> list[tuple[int, int, int, bytes]]:
    """The rows (level, index, start, hashes) of one level's tiles in [start, end), as they were written."""
    rows = await conn.execute(_PIECES, {"level": level, "start": start, "end": end})
    return [(row[0], row[1], row[2], row[3]) for row in rows]


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
