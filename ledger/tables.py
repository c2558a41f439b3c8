# SPDX-License-Identifier: Apache-2.0
"""What the sealing session says to the database, and how rows go in and out of it (`ledger.pipe`).

Columns go in as arrays, one statement for the rows of a table: COPY is refused where row-level security holds for the
role, as it does for the sealer (decision 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter

from ledger.batch import RECORD, SEALED_CHANNEL, Placed, Row
from ledger.pipe import Answer, Value, byteas, int64s, texts, uuids
from ledger.session import LOCKS, SEALING
from ledger.signed import Signed

PATIENCE_MS = 25  # how long an entry lies that nobody waits for, where no other comes


def inbox_rows(answer: Answer) -> list[Row]:
    """Inbox rows as `TAKE` gives them, in the order of their ids: what it deletes comes in none."""
    found = [
        Row(
            number(row_id),
            text(tenant),
            pending or b"",
            None if bundle is None else bundle.decode(),
            None if level is None else level.decode(),
            statement,
            salt,
            None if trace is None else trace.decode(),
        )
        for row_id, tenant, pending, bundle, level, statement, salt, trace in answer
    ]
    found.sort(key=itemgetter(0))
    return found


def entries(placed: Sequence[Placed], records: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
    """The columns of `ledger.entry`."""
    drafts = [one.item.draft for one in placed]
    none = [None] * len(records)
    yield int64s([one.index for one in placed] + [index for index, _ in records])
    yield uuids([*(draft.entry_id for draft in drafts), *none])
    yield texts([*(draft.tenant for draft in drafts), *none])
    yield texts([draft.kind for draft in drafts] + [RECORD] * len(records))
    yield int64s([*(one.tenant_index for one in placed), *none])
    yield byteas([one.leaf for one in placed] + [leaf for _, leaf in records])


def signatures(signed: Sequence[tuple[Placed, Signed]]) -> Iterator[bytes]:
    """The columns of `ledger.signature`."""
    evidence = [one.item.evidence for one, _ in signed if one.item.evidence is not None]  # only such are signed
    yield uuids(proof.bundle_id for proof in evidence)
    yield texts(one.item.draft.tenant for one, _ in signed)
    yield uuids(one.item.draft.entry_id for one, _ in signed)
    yield int64s(one.index for one, _ in signed)
    yield texts(proof.level for proof in evidence)
    yield byteas(made.pae_mu for _, made in signed)
    yield byteas(made.mldsa65 for _, made in signed)
    yield byteas(made.pae_sha256 for _, made in signed)
    yield byteas(made.p256 for _, made in signed)


def weight(row: Row) -> int:
    """Bytes of an inbox row."""
    return len(row.pending) + len(row.statement or b"")


def text(value: Value) -> str:
    """A text, or what was cast to one."""
    return (value or b"").decode()


def number(value: Value) -> int:
    """A bigint that isn't null."""
    return int.from_bytes(value or b"", signed=True)


WAITING = "SELECT 1 FROM ledger.inbox WHERE id > %s ORDER BY id LIMIT 1"
DUE_NOW = f"""
    SELECT 1 FROM ledger.inbox
    WHERE id > $1 AND (NOT patient OR since < clock_timestamp() - interval '{PATIENCE_MS} ms') ORDER BY id LIMIT 1"""
HEAD = "SELECT coalesce(max(size), 0) FROM ledger.checkpoint"
# A setting of the transaction, so that the statement that takes rows can ask for it in the same round trip.
LOCK = f"SELECT set_config('qcos.sealing', pg_try_advisory_xact_lock({LOCKS}, {SEALING})::text, true)"
TAKE = """
    DELETE FROM ledger.inbox WHERE id = ANY (ARRAY(
        SELECT id FROM ledger.inbox WHERE current_setting('qcos.sealing') = 'true' AND id > $1 ORDER BY id LIMIT $2))
    RETURNING id, tenant, pending, bundle_id::text, level, statement, salt, traceparent"""
LEAVES = "SELECT entry_id::text, leaf FROM ledger.entry WHERE entry_id = ANY ($1::uuid[])"
BUNDLES = "SELECT bundle_id::text FROM ledger.signature WHERE bundle_id = ANY ($1::uuid[])"
TAILS = """
    SELECT wanted.tenant, tail.tenant_index, tail.leaf FROM unnest($1::text[]) AS wanted (tenant), LATERAL (
        SELECT tenant_index, leaf FROM ledger.entry
        WHERE entry.tenant = wanted.tenant ORDER BY tenant_index DESC LIMIT 1) AS tail"""
ENTRY = """
    INSERT INTO ledger.entry ("index", entry_id, tenant, kind, tenant_index, leaf) SELECT * FROM unnest(
        $1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bytea[])"""
TILE = """
    INSERT INTO ledger.tile (level, "index", start, hashes) SELECT * FROM unnest(
        $1::smallint[], $2::bigint[], $3::smallint[], $4::bytea[])"""
KEY = """
    INSERT INTO ledger.key (key_id, alg, purpose, public, valid_from)
    SELECT id, alg, purpose, public, since::timestamptz FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[]) AS new (id, alg, purpose, public, since)"""
SIGNATURE = """
    INSERT INTO ledger.signature
        (bundle_id, tenant, entry_id, "index", level, pae_mu, mldsa65, pae_sha256, p256)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[],
                         $6::bytea[], $7::bytea[], $8::bytea[], $9::bytea[])"""
CHECKPOINT = """
    INSERT INTO ledger.checkpoint (size, root, note, sealed_at) VALUES ($1, $2, $3, ($4::text)::timestamptz)"""
STAMP = "INSERT INTO ledger.unstamped (imprint, operator) SELECT * FROM unnest($1::bytea[], $2::text[])"
NOTIFY = f"SELECT pg_notify('{SEALED_CHANNEL}', $1)"
