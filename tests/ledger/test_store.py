# SPDX-License-Identifier: Apache-2.0
"""The store: one transaction with the caller's own work, and a wall between tenants (I2, I7)."""

from __future__ import annotations

import os
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError, ProgrammingError

from control_plane.db import transaction
from ledger import blob_store, export, head_store, store
from ledger.blob import BlobKeys, fresh, open_blob
from ledger.chain import Evidence
from ledger.errors import EvidenceUnbound, LeafInvalid, NotInLog
from tests.ledger.support import engine, pending
from tests.postgres import TestDatabase


def rows(database: TestDatabase) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.conninfo("sealer")) as conn:
        return conn.execute("SELECT tenant, bundle_id::text, level FROM ledger.inbox ORDER BY id").fetchall()


async def test_an_entry_is_durable_with_its_transaction_and_only_then(database: TestDatabase) -> None:
    """I2: acknowledged = committed; rolled back = never there."""
    with pytest.raises(ZeroDivisionError):
        async with transaction(engine(database.app), "demo") as conn:
            await store.append(conn, [(pending(), None)])
            raise ZeroDivisionError
    assert rows(database) == []
    proof = Evidence(
        bundle_id="8c4b8f0e-52c8-4ad2-9c22-0d9fbb6b1f10", level="full", statement=b"{}", salt=os.urandom(32)
    )
    async with transaction(engine(database.app), "demo") as conn:
        await store.append(conn, [(pending(), None), (pending(), proof)])
        await store.append(conn, [])
    assert rows(database) == [("demo", None, None), ("demo", proof.bundle_id, "full")]


async def test_an_ill_formed_item_writes_nothing_of_its_call(database: TestDatabase) -> None:
    bad = Evidence(bundle_id="x", level="full", statement=b"{}", salt=b"")
    async with transaction(engine(database.app), "demo") as conn:
        for item, error in (((pending("a b"), None), LeafInvalid), ((pending(), bad), EvidenceUnbound)):
            with pytest.raises(error):
                await store.append(conn, [(pending(), None), item])
    assert rows(database) == []


async def test_nobody_writes_for_another_tenant(database: TestDatabase) -> None:
    """I7: row-level security, not our care, refuses it."""
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with transaction(engine(database.app), "demo") as conn:
            await store.append(conn, [(pending("other"), None)])
    with pytest.raises(LeafInvalid, match="several tenants"):
        async with transaction(engine(database.app), "demo") as conn:
            await store.append(conn, [(pending("demo"), None), (pending("other"), None)])


@pytest.mark.parametrize("table", ["inbox", "entry", "tile", "checkpoint", "signature", "token", "key", "blob"])
@pytest.mark.parametrize("role", ["app", "sealer", "audit"])
async def test_no_role_can_change_the_log(database: TestDatabase, table: str, role: str) -> None:
    """Decision 4: nobody has UPDATE, and nobody but the sealer, of the inbox, DELETE."""
    with psycopg.connect(database.conninfo(role)) as conn:
        found = conn.execute(
            "SELECT has_any_column_privilege(%s, 'UPDATE'), has_table_privilege(%s, 'DELETE')",
            (f"ledger.{table}", f"ledger.{table}"),
        ).fetchone()
    assert found == (False, (role, table) == ("sealer", "inbox"))


async def test_blobs_are_the_tenants_own(database: TestDatabase) -> None:
    """I7: and open with the key that the root key wraps."""
    keys = BlobKeys(os.urandom(32))
    async with transaction(engine(database.app), "demo") as conn:
        assert await blob_store.tenant_key(conn, "demo") is None
        await blob_store.put_tenant_key(conn, "demo", keys.new_tenant_key())
        await blob_store.put_tenant_key(conn, "demo", keys.new_tenant_key())  # a second writer keeps the first key
        wrapped = await blob_store.tenant_key(conn, "demo")
        assert wrapped is not None
        blob, salt = fresh(b"content", tenant="demo", tenant_key=keys.tenant_key(wrapped))
        await store.append(conn, [(pending(), None)], [blob])
        found = await blob_store.blob(conn, "demo", blob.commitment)
        assert found is not None
        assert open_blob(found, keys.tenant_key(wrapped)) == (salt, b"content")
    async with transaction(engine(database.app), "other") as conn:
        assert await blob_store.blob(conn, "demo", blob.commitment) is None
        assert await blob_store.tenant_key(conn, "demo") is None
    with pytest.raises(IntegrityError):
        async with transaction(engine(database.app), "demo") as conn:
            await store.append(conn, [(pending(), None)], [blob])


async def test_an_empty_log_has_no_head_and_no_proofs(database: TestDatabase) -> None:
    async with transaction(engine(database.app), "demo") as conn:
        assert await head_store.latest_checkpoint(conn) is None
        assert await head_store.tile(conn, 0, 0) is None
        assert await store.extent(conn) == (0, 0)
        for proof in (export.inclusion(conn, 0, 1), export.consistency(conn, 1, 1)):
            with pytest.raises(NotInLog):
                await proof
