# SPDX-License-Identifier: Apache-2.0
"""Keys follow keys while the log goes on: nothing lost, no place with two sets of keys, whatever is cut off."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest

from control_plane.db import transaction
from ledger import checkpoint, rotating, signature_store
from ledger.audit import Verification, verify_log
from ledger.chain import PLANE
from ledger.head import read_head
from ledger.keys import LOG
from ledger.rotation import Purpose
from ledger.sealer_keys import load_sealer_keys, published
from tests.ledger.support import config, engine, pending, sealing, superuser, until_sealed, write
from tests.postgres import TestDatabase


async def rotated(folder: Path, purpose: Purpose, *, archive: bool = False) -> None:
    rotating.ask(folder, rotating.Request(str(uuid.uuid4()), purpose, archive))
    await over(folder)


async def over(folder: Path) -> None:
    """Wait until what was asked for is done and told; the test's own time limit bounds it."""
    while (folder / rotating.FILE).exists():  # noqa: ASYNC110 - the sealer tells it by the file alone
        await asyncio.sleep(0.01)


async def verify(database: TestDatabase) -> Verification:
    async with transaction(engine(database.audit), None) as conn:
        return await verify_log(conn)


async def history(database: TestDatabase) -> signature_store.KeyHistory:
    async with transaction(engine(database.app), PLANE) as conn:
        return await signature_store.key_history(conn)


@pytest.mark.parametrize(("purpose", "archive"), [("log", False), ("evidence", True)])
async def test_new_keys_follow_old_ones_and_the_log_verifies_through_it(
    database: TestDatabase, tmp_path: Path, purpose: Purpose, archive: bool
) -> None:
    settings = config(database, tmp_path)
    old = published(load_sealer_keys(settings.keys))
    async with sealing(settings):
        await until_sealed(database, await write(database, pending()))
        await rotated(settings.keys, purpose, archive=archive)
        await until_sealed(database, await write(database, pending()))
        await rotated(settings.keys, purpose)
        await until_sealed(database, await write(database, pending()))
    new = published(load_sealer_keys(settings.keys))
    assert {key.purpose for key in new if key not in old} == {purpose}
    found = await history(database)
    assert len(found.rotations) == 2
    assert (await verify(database)).failures == ()
    kept = list(settings.keys.glob("ended/*/*.pem"))
    assert len(kept) == (2 if archive else 0)


async def test_a_stolen_old_log_key_signs_no_newer_checkpoint(database: TestDatabase, tmp_path: Path) -> None:
    settings = config(database, tmp_path)
    stolen = load_sealer_keys(settings.keys)
    async with sealing(settings):
        await until_sealed(database, await write(database, pending()))
        await rotated(settings.keys, "log")
        await until_sealed(database, await write(database, pending()))
    note = read_head(settings.head)
    assert note is not None
    head = checkpoint.parse(note)
    forged = checkpoint.sign(head.origin, head.size, head.root, ed25519=stolen.log_ed25519, mldsa65=stolen.log_mldsa65)
    superuser(database, "UPDATE ledger.checkpoint SET note = %s WHERE size = %s", forged, head.size)
    assert any("by no known key" in failure.reason for failure in (await verify(database)).failures)


class CutOff(Exception):
    """The sealer ends here as by a kill."""


@pytest.mark.parametrize("step", ["seal.checkpointed", "seal.committed"])
async def test_a_rotation_that_is_cut_off_is_finished_by_the_next_sealer(
    database: TestDatabase, tmp_path: Path, step: str
) -> None:
    """Before the commit nothing has happened, after it the log says which keys are right."""
    armed = asyncio.Event()

    def at(name: str) -> None:
        if armed.is_set() and name == step and (settings.keys / rotating.NEXT).exists():
            armed.clear()
            raise CutOff

    settings = msgspec.structs.replace(config(database, tmp_path), at=at)
    old = {key.public for key in published(load_sealer_keys(settings.keys)) if key.purpose == LOG}
    async with sealing(settings) as task:
        await until_sealed(database, await write(database, pending()))
        armed.set()
        rotating.ask(settings.keys, rotating.Request(str(uuid.uuid4()), "log"))
        await asyncio.wait({task})
        assert isinstance(task.exception(), CutOff)
    async with sealing(settings):
        await over(settings.keys)
        await until_sealed(database, await write(database, pending()))
    assert old.isdisjoint({key.public for key in published(load_sealer_keys(settings.keys))})
    assert len((await history(database)).rotations) == 1
    assert (await verify(database)).failures == ()
