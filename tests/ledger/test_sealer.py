# SPDX-License-Identifier: Apache-2.0
"""The sealer: what is durable becomes sealed, once, in order, whatever is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control_plane.db import transaction
from ledger import checkpoint, store
from ledger.chain import parse_leaf
from ledger.errors import LedgerRollback, NotDurable
from ledger.head import read_head
from ledger.sealer import run
from tests.ledger.support import config, engine, pending, sealed, sealing, superuser, until_sealed, write
from tests.postgres import TestDatabase


async def test_a_durable_entry_is_sealed_under_a_checkpoint(database: TestDatabase, tmp_path: Path) -> None:
    """G5: the writer's entry, its place and its checkpoint; the tenant sees its own only (I7)."""
    settings = config(database, tmp_path)
    async with sealing(settings):
        mine = await write(database, pending(), pending())
        theirs = await write(database, pending("other"))
        await until_sealed(database, mine + theirs)
    async with transaction(engine(database.app), "demo") as conn:
        first, second = [await store.entry(conn, entry_id) for entry_id in mine]
        assert first is not None and second is not None
        assert await store.entry(conn, theirs[0]) is None
        assert await store.sealed(conn, mine + theirs) == set(mine)
        leaf, after = parse_leaf(first[1]), parse_leaf(second[1])
        assert (leaf.tenant_index, leaf.tenant_prev, after.tenant_index) == (0, None, 1)
        head = await store.latest_checkpoint(conn)
        assert head is not None
        assert checkpoint.parse(head.note).root == head.root
        assert len(await store.keys(conn)) == 4
    assert read_head(settings.head) == head.note
