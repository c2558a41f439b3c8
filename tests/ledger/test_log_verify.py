# SPDX-License-Identifier: Apache-2.0
"""I4: every change to what is stored is found and names its entry; nothing unchanged is reported."""

from __future__ import annotations

import base64
import json
import re
import uuid
from pathlib import Path

import psycopg
import pytest

from control_plane.db import transaction
from ledger import checkpoint, export, merkle
from ledger.audit import Verification
from ledger.head import read_head
from ledger.sealer_keys import load_sealer_keys
from tests.ledger.support import ORIGIN, config, engine, pending, sealed, sealing, superuser, until_sealed, write
from tests.postgres import TestDatabase

REKOR = Path(__file__).parents[1] / "vectors" / "ledger" / "hashedrekord"


async def verify(database: TestDatabase, head: bytes | None = None) -> Verification:
    async with transaction(engine(database.audit), None) as conn:
        return await export.verify_log(conn, head=head)


@pytest.fixture
async def log(database: TestDatabase, tmp_path: Path) -> TestDatabase:
    """Four key entries (0-3), then batches of one (4-6) and of three (7-9)."""
    await sealed(database, tmp_path, pending(), pending("other"), pending())
    three = await write(database, pending(), pending(), pending())
    async with sealing(config(database, tmp_path)):
        await until_sealed(database, three)
    return database


async def test_an_untouched_log_verifies(log: TestDatabase, tmp_path: Path) -> None:
    """I4, G5: and so does the empty one before it, with the head kept outside."""
    found = await verify(log, read_head(tmp_path / "ledger" / "head"))
    assert found.failures == ()
    assert (found.ok, found.size, found.checked) == (True, 10, 10)


async def test_an_empty_log_verifies(database: TestDatabase) -> None:
    """I4: nothing is wrong with nothing."""
    found = await verify(database)
    assert (found.ok, found.size, found.failures) == (True, 0, ())


FLIP = "set_byte({0}, length({0}) / 2, get_byte({0}, length({0}) / 2) # 1)"
CHANGES = {
    "leaf": ("UPDATE ledger.entry SET leaf = " + FLIP.format("leaf") + ' WHERE "index" = 5', {5}),
    "leaf, in a batch": ("UPDATE ledger.entry SET leaf = " + FLIP.format("leaf") + ' WHERE "index" = 8', {8}),
    "tenant": ("UPDATE ledger.entry SET tenant = 'x' WHERE \"index\" = 6", {6}),
    "kind": ("UPDATE ledger.entry SET kind = 'job:other' WHERE \"index\" = 4", {4}),
    "tenant_index": ('UPDATE ledger.entry SET tenant_index = 77 WHERE "index" = 4', {4}),
    "entry_id": ('UPDATE ledger.entry SET entry_id = gen_random_uuid() WHERE "index" = 9', {9}),
    "tile": (
        "UPDATE ledger.tile SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) WHERE start = 7",
        {8},
    ),
    "tile gone": ("DELETE FROM ledger.tile WHERE start = 5", {5}),
    "checkpoint note": (
        "UPDATE ledger.checkpoint SET note = " + FLIP.format("note") + " WHERE size = 6",
        {5},
    ),
    "checkpoint root": (
        "UPDATE ledger.checkpoint SET root = " + FLIP.format("root") + " WHERE size = 6",
        {5},
    ),
    "checkpoint gone": ("DELETE FROM ledger.checkpoint WHERE size = 6", {6}),
    "row gone": ('DELETE FROM ledger.entry WHERE "index" = 5', {5}),
    "tail gone": ('DELETE FROM ledger.entry WHERE "index" >= 8', {8, 9}),
    "last checkpoint gone": ("DELETE FROM ledger.checkpoint WHERE size = 10", {7}),
    "rows swapped": (
        """UPDATE ledger.entry AS a SET leaf = b.leaf FROM ledger.entry AS b
           WHERE (a."index", b."index") IN ((4, 6), (6, 4))""",
        {4, 6},
    ),
    "key": ("UPDATE ledger.key SET valid_from = now() WHERE alg = 'ecdsa-p256'", {0, 1, 2, 3}),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_row_names_its_entry(log: TestDatabase, change: str) -> None:
    """I4: a row edited by a superuser is found, and no other is blamed."""
    statement, blamed = CHANGES[change]
    superuser(log, statement)
    found = await verify(log)
    assert not found.ok
    named = {failure.index for failure in found.failures}
    assert named and named <= blamed, found.failures


async def test_a_leaf_and_its_tile_changed_together_are_found(log: TestDatabase) -> None:
    """I4: the signed root holds both."""
    superuser(log, "UPDATE ledger.entry SET leaf = " + FLIP.format("leaf") + ' WHERE "index" = 5')
    superuser(
        log,
        """UPDATE ledger.tile SET hashes = sha256('\\x00' || (SELECT leaf FROM ledger.entry WHERE "index" = 5))
           WHERE start = 5""",
    )
    found = await verify(log)
    assert {failure.index for failure in found.failures} == {5}


async def test_a_log_cut_off_at_a_checkpoint_is_found_by_the_head_outside(log: TestDatabase, tmp_path: Path) -> None:
    """I4: in itself such a log is sound; only what was kept elsewhere tells."""
    for statement in (
        'DELETE FROM ledger.entry WHERE "index" >= 7',
        "DELETE FROM ledger.checkpoint WHERE size > 7",
        "DELETE FROM ledger.tile WHERE start >= 7",
    ):
        superuser(log, statement)
    assert (await verify(log)).ok
    found = await verify(log, read_head(tmp_path / "ledger" / "head"))
    assert [failure.reason.partition(":")[0] for failure in found.failures] == ["ledger_rollback"]


async def test_proofs_from_stored_tiles_verify(log: TestDatabase) -> None:
    """G5: inclusion of every entry under the head, and growth from every size."""
    from ledger import head_store, merkle, store

    async with transaction(engine(log.audit), None) as conn:
        head = await head_store.latest_checkpoint(conn)
        assert head is not None
        for entry in await store.entries(conn, 0, 10):
            path = await export.inclusion(conn, entry.index, head.size)
            merkle.verify_inclusion(
                index=entry.index,
                size=head.size,
                leaf=merkle.leaf_hash(entry.leaf),
                path=path,
                root=head.root,
            )
        for older in await head_store.checkpoints(conn, 0, head.size):
            path = await export.consistency(conn, older.size, head.size)
            merkle.verify_consistency(old=older.size, new=head.size, old_root=older.root, new_root=head.root, path=path)


def appended(log: TestDatabase, home: Path, leaf: bytes, tenant: str | None = None) -> None:
    """Seal one leaf as a batch of its own, with the log's keys."""
    with psycopg.connect(log.conninfo("superuser")) as conn:
        rows = conn.execute('SELECT leaf FROM ledger.entry ORDER BY "index"').fetchall()
        edge, size = merkle.Edge(), len(rows) + 1
        for data in [*(row[0] for row in rows), leaf]:
            edge.append(merkle.leaf_hash(data))
        keys = load_sealer_keys(home / "keys")
        note = checkpoint.sign(ORIGIN, size, edge.root(), ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)
        kind = "job:submission:accepted" if tenant else "hashedrekord"
        entry = (size - 1, tenant and str(uuid.uuid4()), tenant, tenant and 0, kind, leaf)
        conn.execute(
            'INSERT INTO ledger.entry ("index", entry_id, tenant, tenant_index, kind, leaf)'
            " VALUES (%s, %s, %s, %s, %s, %b)", entry
        )  # fmt: skip
        conn.execute("INSERT INTO ledger.tile VALUES (0, 0, %s, %b)", (size - 1, merkle.leaf_hash(leaf)))
        conn.execute("INSERT INTO ledger.checkpoint (size, root, note) VALUES (%s, %b, %b)", (size, edge.root(), note))


def rekor(name: str) -> bytes:
    return base64.b64decode(json.loads((REKOR / f"{name}.json").read_bytes())["leaf"])


@pytest.mark.parametrize("name", ["good_p256", "good_mldsa65"])
async def test_a_rekor_body_that_no_entry_names_is_found_and_the_log_goes_on(
    log: TestDatabase, tmp_path: Path, name: str
) -> None:
    """I4: it is well-formed and under a signed root, and yet nobody's."""
    appended(log, tmp_path, rekor(name))
    await sealed(log, tmp_path, pending())
    found = await verify(log)
    assert [(failure.index, failure.reason) for failure in found.failures] == [(10, "no entry names this record")]
    assert found.size == 12


@pytest.mark.parametrize(
    ("name", "tenant", "why"),
    [
        ("high_s", None, "low s"),
        ("extra_member", None, "unknown field"),
        ("spaces", None, "canonical"),
        ("wrong_key_details", None, "the key is not"),
        ("good_p256", "third", "columns are not those"),
    ],
)
async def test_a_rekor_body_that_is_none_is_named(
    log: TestDatabase, tmp_path: Path, name: str, tenant: str | None, why: str
) -> None:
    """I4: even if whoever wrote it holds the log's keys."""
    appended(log, tmp_path, rekor(name), tenant)
    found = await verify(log)
    assert [failure.index for failure in found.failures] == [10]
    assert re.search(why, found.failures[0].reason)
