# SPDX-License-Identifier: Apache-2.0
"""Each signature over evidence has a leaf of its own, as Rekor has it, and an entry of the tenant's that names it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import text

from control_plane.db import transaction
from ledger import checkpoint, export, merkle, signature_store, store
from ledger.audit import Verification
from ledger.canonical import dumps
from ledger.chain import Evidence, leaf_hash_text, parse_leaf
from ledger.logged import parse_logged
from ledger.predicate import Predicate, pae, statement_bytes
from ledger.rekor import ML_DSA_65, P256, parse_hashedrekord, verify_hashedrekord
from ledger.sealer_keys import load_sealer_keys
from ledger.store import StoredEntry
from tests.ledger import plane
from tests.ledger.support import ORIGIN, config, engine, pending, sealed, sealing, until_sealed
from tests.postgres import TestDatabase

KINDS: dict[str, list[str]] = {"full": [P256, ML_DSA_65], "standard": [ML_DSA_65]}
Tree = dict[str, Any]


def evidence(kind: str) -> Evidence:
    members, _ = plane.record(kind)
    record = msgspec.convert(members | {"bundle_id": str(uuid.uuid4())}, Predicate)
    statement = statement_bytes(record)
    level = record.evidence_level
    return Evidence(bundle_id=record.bundle_id, level=level, statement=statement, salt=os.urandom(32))


async def logged(database: TestDatabase, home: Path, *proofs: Evidence) -> None:
    """A log whose last batch has these proofs' entries, all in one."""
    await sealed(database, home, pending())
    entries = [pending() for _ in proofs]
    async with transaction(engine(database.app), "demo") as conn:
        await store.append(conn, list(zip(entries, proofs, strict=True)))
    async with sealing(config(database, home)):
        await until_sealed(database, [entry.entry_id for entry in entries])


async def rows(database: TestDatabase) -> list[StoredEntry]:
    async with transaction(engine(database.audit), None) as conn:
        return [row async for row in store.stream_entries(conn)]


async def verify(database: TestDatabase) -> Verification:
    async with transaction(engine(database.audit), None) as conn:
        return await export.verify_log(conn)


@pytest.mark.parametrize("level", ["full", "standard"])
async def test_each_signature_stands_in_a_leaf_that_an_entry_names(
    database: TestDatabase, tmp_path: Path, level: str
) -> None:
    """G3, decision 2: after the entry that rests on it, in the order ECDSA, ML-DSA-65."""
    proof = evidence(f"completed_{level}")
    await logged(database, tmp_path, proof)
    _, _, _, _, _, entry, *records, binding = await rows(database)
    async with transaction(engine(database.app), "demo") as conn:
        signed = await signature_store.signature(conn, proof.bundle_id)
    assert signed is not None
    assert signed.index == entry.index
    found = [parse_hashedrekord(row.leaf) for row in records]
    for row, record in zip(records, found, strict=True):
        assert (row.entry_id, row.tenant, row.tenant_index, row.kind) == (None, None, None, "hashedrekord")
        assert record.signature == (signed.p256 if record.key_details == P256 else signed.mldsa65)
        verify_hashedrekord(record, pae(proof.statement))
    assert [record.key_details for record in found] == KINDS[level]
    leaf = parse_leaf(binding.leaf)
    assert (leaf.kind, leaf.tenant, leaf.tenant_index) == ("evidence:hashedrekord:logged", "demo", 2)
    assert parse_logged(dumps(leaf.body)).bundle_id == proof.bundle_id
    named = [(one["index"], one["key_details"], one["leaf_hash"]) for one in leaf.body["leaves"]]
    assert named == [
        (row.index, kind, leaf_hash_text(row.leaf)) for row, kind in zip(records, KINDS[level], strict=True)
    ]
    await sealed(database, tmp_path, pending())
    assert (await verify(database)).failures == ()


async def test_what_is_not_signed_is_not_logged(database: TestDatabase, tmp_path: Path) -> None:
    """Decision 3: a denial rests on checkpoint and proof."""
    await logged(database, tmp_path, evidence("denied"), evidence("denied"))
    assert not [row for row in await rows(database) if "hashedrekord" in row.kind]
    assert (await verify(database)).failures == ()


def rewritten(database: TestDatabase, home: Path, change: Callable[[list[bytes]], None]) -> None:
    """Change leaves of the last batch as whoever holds the log's keys can: tiles and checkpoint follow."""
    with psycopg.connect(database.conninfo("superuser")) as conn:
        leaves = [row[0] for row in conn.execute('SELECT leaf FROM ledger.entry ORDER BY "index"').fetchall()]
        change(leaves)
        edge = merkle.Edge()
        for index, leaf in enumerate(leaves):
            edge.append(merkle.leaf_hash(leaf))
            conn.execute('UPDATE ledger.entry SET leaf = %b WHERE "index" = %s', (leaf, index))
        (start,) = conn.execute("SELECT max(start) FROM ledger.tile").fetchone() or (0,)
        hashes = b"".join(merkle.leaf_hash(leaf) for leaf in leaves[start:])
        conn.execute("UPDATE ledger.tile SET hashes = %b WHERE start = %s", (hashes, start))
        keys, size, root = load_sealer_keys(home / "keys"), len(leaves), edge.root()
        note = checkpoint.sign(ORIGIN, size, root, ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)
        conn.execute("UPDATE ledger.checkpoint SET root = %b, note = %b WHERE size = %s", (root, note, size))


def binding(leaves: list[bytes], change: Callable[[Tree], None]) -> None:
    """Change the body of the last entry that names records: the first bundle's."""
    tree = json.loads(leaves[8])
    change(tree["body"])
    leaves[8] = dumps(tree)


def swapped(leaves: list[bytes], first: int, second: int) -> None:
    leaves[first], leaves[second] = leaves[second], leaves[first]


def signed_by_another(leaves: list[bytes]) -> None:
    tree = json.loads(leaves[6])
    tree["spec"]["hashedRekordV002"]["data"]["digest"] = "A" * 43 + "="
    leaves[6] = dumps(tree)
    binding(leaves, lambda body: body["leaves"][0].update(leaf_hash=leaf_hash_text(leaves[6])))


def renamed(leaves: list[bytes]) -> None:
    other = json.loads(leaves[12])["body"]["bundle_id"]
    binding(leaves, lambda body: body.update(bundle_id=other))


def cases() -> Iterator[Any]:
    """Entries 5 to 12: entry, two records, the entry that names them; and the same of another bundle."""
    yield pytest.param(lambda leaves: swapped(leaves, 6, 7), {8}, id="records-swapped")
    yield pytest.param(lambda leaves: swapped(leaves, 6, 10), {8, 12}, id="records-of-another-bundle")
    yield pytest.param(signed_by_another, {6}, id="record-of-another-digest")
    yield pytest.param(renamed, {8}, id="named-by-another-bundle")
    yield pytest.param(
        lambda leaves: binding(leaves, lambda body: body["leaves"].pop()), {7, 8}, id="one-record-not-named"
    )
    yield pytest.param(
        lambda leaves: binding(leaves, lambda body: body["leaves"].reverse()), {8}, id="records-in-another-order"
    )
    yield pytest.param(
        lambda leaves: binding(leaves, lambda body: body["leaves"][1].update(index=5)), {7, 8}, id="an-entry-named"
    )
    yield pytest.param(
        lambda leaves: binding(leaves, lambda body: body.update(more=1)), {6, 7, 8}, id="an-unknown-member"
    )


@pytest.mark.parametrize(("change", "blamed"), list(cases()))
async def test_records_that_are_not_as_they_are_named_are_found(
    database: TestDatabase, tmp_path: Path, change: Callable[[list[bytes]], None], blamed: set[int]
) -> None:
    """I4: even where the log's keys have signed it."""
    await logged(database, tmp_path, evidence("completed_full"), evidence("completed_full"))
    rewritten(database, tmp_path, lambda _: None)
    assert (await verify(database)).failures == ()
    rewritten(database, tmp_path, change)
    found = {failure.index for failure in (await verify(database)).failures}
    # A changed entry's hash no longer is what its tenant's next entry names.
    assert found - {9} == blamed


async def test_only_what_was_changed_is_named(database: TestDatabase, tmp_path: Path) -> None:
    """I4: a record, the entry that names it, or the signature that it repeats; nothing that follows from it."""
    await logged(database, tmp_path, evidence("completed_full"))
    changes = {
        'UPDATE ledger.entry SET leaf = set_byte(leaf, 300, get_byte(leaf, 300) # 1) WHERE "index" = 7': {7},
        'UPDATE ledger.entry SET leaf = set_byte(leaf, 300, get_byte(leaf, 300) # 1) WHERE "index" = 8': {8},
        "UPDATE ledger.entry SET kind = 'x:y', entry_id = gen_random_uuid(), tenant = 'demo', tenant_index = 99"
        ' WHERE "index" = 6': {6},
        'DELETE FROM ledger.entry WHERE "index" = 6': {6},
        'DELETE FROM ledger.entry WHERE "index" = 8': {8},
        "UPDATE ledger.signature SET p256 = set_byte(p256, 20, get_byte(p256, 20) # 1)": {5},
        "UPDATE ledger.signature SET bundle_id = gen_random_uuid()": {5},
        "DELETE FROM ledger.signature": {5},
    }
    for change, blamed in changes.items():
        async with engine(database.superuser).connect() as conn:  # which rolls back
            await conn.execute(text(change))
            found = await export.verify_log(conn)
        assert {failure.index for failure in found.failures} == blamed, change
