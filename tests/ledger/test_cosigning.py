# SPDX-License-Identifier: Apache-2.0
"""A plane has its log witnessed while it seals, and hears from the witness that its database went back (I4, G5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.db import engine, transaction
from ledger import checkpoint, cosignature, head_store, outside, sealer_keys, store
from ledger.cosigning import Standstill, cosign_round
from ledger.errors import WitnessAway
from ledger.sealer_config import SealerConfig, WitnessAt
from ledger.session import connect
from ledger.trust import TrustedKey, TrustScope, parse_trust, trust_file
from ledger.witness.folder import Folder
from tests.ledger.plane import T0
from tests.ledger.support import ORIGIN, config, pending, sealed, sealing, superuser, until_sealed, write
from tests.ledger.test_witness import serving
from tests.postgres import TestDatabase

WINDOW = {"valid_from": "2025-01-01T00:00:00.000Z", "valid_until": None}


def witness_of(settings: SealerConfig, where: Path) -> Folder:
    """A witness that was told of this sealer's keys."""
    found = sealer_keys.published(sealer_keys.load_sealer_keys(settings.keys))
    told = [TrustedKey(id=f"{k.purpose}-{k.alg}", alg=k.alg, public=k.public, **WINDOW) for k in found]  # type: ignore[arg-type]
    file = trust_file(
        version=1,
        issued_at=T0,
        expires=T0,
        scope=TrustScope(profile="dev", plane="p", tenants=None),
        origin=ORIGIN,
        log=told[:2],
        evidence=told[2:],
        tsa=[],
    )
    return Folder.make(where, name="witness.example/w", trust=parse_trust(file), at="2026")


@asynccontextmanager
async def reading(database: TestDatabase) -> AsyncIterator[AsyncConnection]:
    pool = engine(database.app, connections=1)
    try:
        async with transaction(pool, "demo") as conn:
            yield conn
    finally:
        await pool.dispose()


async def stored(database: TestDatabase) -> tuple[list[outside.Standing], dict[int, list[str]]]:
    async with reading(database) as conn:
        head, _ = await store.extent(conn)
        lines = {size: await head_store.cosignatures(conn, size) for size in range(1, head + 1)}
        return await outside.standings(conn), {size: found for size, found in lines.items() if found}


async def until_cosigned(database: TestDatabase, size: int) -> dict[int, list[str]]:
    while True:
        if size in (found := (await stored(database))[1]):
            return found
        await asyncio.sleep(0.02)


async def until_told(database: TestDatabase) -> list[tuple[str, str | None]]:
    while True:
        if found := (await stored(database))[0]:
            return [(one.name, one.code) for one in found]
        await asyncio.sleep(0.02)


async def round_of(settings: SealerConfig, folder: Folder, url: str, *, again: bool = True) -> Any:
    async with await connect(settings.conninfo) as conn:
        return await cosign_round(conn, url, folder.witness, again=again)


async def test_a_sealer_has_its_newest_head_cosigned_and_an_entry_is_proven_under_it(
    database: TestDatabase, tmp_path: Path
) -> None:
    settings = config(database, tmp_path)
    folder = witness_of(settings, tmp_path / "w")
    with serving(folder) as url:
        at = WitnessAt(url, cosignature.vkey(folder.witness))
        asked = config(database, tmp_path, witnesses=(at,), witness_interval_s=0.02)
        async with sealing(asked), asyncio.timeout(30):
            first = await write(database, pending())
            await until_sealed(database, first)
            async with reading(database) as conn:
                size = (await store.extent(conn))[0]
            found = await until_cosigned(database, size)
    head = checkpoint.parse(await note_of(database, size))
    cosignature.verify(cosignature.parse(found[size][0]), head, folder.witness)
    async with reading(database) as conn:
        over = await head_store.cosigned_over(conn, size - 1)
        assert over is not None
        assert over.size == size
        assert await head_store.cosigned_over(conn, size) is None
    assert [(one.code, one.size) for one in (await stored(database))[0]] == [(None, size)]


async def note_of(database: TestDatabase, size: int) -> bytes:
    async with reading(database) as conn:
        found = await head_store.checkpoint(conn, size)
    assert found is not None
    return found.note


async def test_a_database_that_went_back_is_told_by_the_witness(database: TestDatabase, tmp_path: Path) -> None:
    """I4: a deleted tail, or a restored backup, with every trace of it in the database gone."""
    settings = config(database, tmp_path)
    await sealed(database, tmp_path, pending(), pending(), pending())
    folder = witness_of(settings, tmp_path / "w")
    with serving(folder) as url:
        done = await round_of(settings, folder, url)
        assert await round_of(settings, folder, url, again=False) is None
        size = (await smaller(database, done.size))[0]
        for table in ("cosignature", "checkpoint"):
            superuser(database, f"DELETE FROM ledger.{table} WHERE size > %s", size)
        with pytest.raises(Standstill, match=f"seen {done.size} entries of .*, the database holds {size}") as caught:
            await round_of(settings, folder, url)
    assert caught.value.code == outside.ROLLBACK
    assert [path.name.endswith("rollback.json") for path in folder.incidents()] == [True]


async def smaller(database: TestDatabase, than: int) -> list[int]:
    with psycopg.connect(database.conninfo("audit")) as conn:
        rows = conn.execute("SELECT size FROM ledger.checkpoint WHERE size < %s ORDER BY size DESC", (than,)).fetchall()
    return [row[0] for row in rows]


async def test_another_tree_under_a_stolen_log_key_is_told_by_the_witness(
    database: TestDatabase, tmp_path: Path
) -> None:
    """I4: every row may be consistent; the witness has seen another tree of that size."""
    settings = config(database, tmp_path)
    await sealed(database, tmp_path, pending())
    folder = witness_of(settings, tmp_path / "w")
    stolen = sealer_keys.load_sealer_keys(settings.keys)
    with serving(folder) as url:
        done = await round_of(settings, folder, url)
        forged = checkpoint.sign(ORIGIN, done.size, bytes(32), ed25519=stolen.log_ed25519, mldsa65=stolen.log_mldsa65)
        superuser(
            database, "UPDATE ledger.checkpoint SET note = %s, root = %s WHERE size = %s", forged, bytes(32), done.size
        )
        with pytest.raises(Standstill) as caught:
            await round_of(settings, folder, url)
    assert caught.value.code == outside.FORK
    assert [path.name.endswith("fork.json") for path in folder.incidents()] == [True]


async def test_how_a_witness_stands_is_said_once_a_change_and_never_stops_the_sealing(
    database: TestDatabase, tmp_path: Path
) -> None:
    settings = config(database, tmp_path)
    folder = witness_of(settings, tmp_path / "w")
    vkey = cosignature.vkey(folder.witness)
    with serving(folder) as url:
        gone = url
    asked = config(database, tmp_path, witnesses=(WitnessAt(gone, vkey),), witness_interval_s=0.02)
    async with sealing(asked), asyncio.timeout(30):
        await until_sealed(database, await write(database, pending()))
        assert await until_told(database) == [("witness.example/w", outside.AWAY)]
        await until_sealed(database, await write(database, pending()))
    with psycopg.connect(database.conninfo("audit")) as conn:
        assert conn.execute("SELECT count(*) FROM ledger.outside").fetchone() == (1,)


async def test_only_a_good_line_of_the_configured_key_is_kept(database: TestDatabase, tmp_path: Path) -> None:
    settings = config(database, tmp_path)
    await sealed(database, tmp_path, pending())
    one, other = witness_of(settings, tmp_path / "w"), witness_of(settings, tmp_path / "x")
    with serving(one) as url, pytest.raises(Standstill) as caught:
        await round_of(settings, other, url)
    assert caught.value.code == outside.REFUSED
    with pytest.raises(WitnessAway):
        await round_of(settings, one, url)
    assert (await stored(database))[1] == {}
