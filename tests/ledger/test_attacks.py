# SPDX-License-Identifier: Apache-2.0
"""Who finds what an administrator of the database, or a thief of the log's keys, does to the log (I4).

Each attack is done as a superuser, with triggers off, on a log that a witness cosigned and an anchor holds. What each
of the four watchers says is compared with the table in docs/threat-model.md.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from ledger import outside
from ledger.anchoring import anchor_round, compare
from ledger.anchors.worm import WormFolder
from ledger.cosigning import Standstill, cosign_round
from ledger.errors import AnchorAway
from ledger.head import read_head
from ledger.sealer_config import SealerConfig
from ledger.session import connect
from ledger.witness.folder import Folder
from tests.ledger.support import config, pending, sealed, sealing, until_sealed, write
from tests.ledger.test_cosigning import smaller, witness_of
from tests.ledger.test_log_verify import verify
from tests.ledger.test_witness import serving
from tests.postgres import TestDatabase

PAGE = Path(__file__).parents[2] / "docs" / "threat-model.md"
FOUND = "found"
WATCHERS = ("verification", "head", "witness", "anchor")
Attack = Callable[[TestDatabase, SealerConfig, int], Awaitable[None]]


def as_superuser(database: TestDatabase, *statements: str) -> None:
    """No trigger and no constraint by trigger fires."""
    with psycopg.connect(database.conninfo("superuser"), autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        for statement in statements:
            conn.execute(statement.encode())


async def edited_row(database: TestDatabase, _: SealerConfig, size: int) -> None:
    """A row is edited."""
    changed = "set_byte(leaf, length(leaf) - 30, get_byte(leaf, length(leaf) - 30) # 1)"
    as_superuser(database, f'UPDATE ledger.entry SET leaf = {changed} WHERE "index" = {size - 1}')


async def swapped_pair(database: TestDatabase, _: SealerConfig, size: int) -> None:
    """Two rows change places, with all their columns."""
    one, two, away = size - 1, size - 2, 10**9
    as_superuser(
        database,
        f'UPDATE ledger.entry SET "index" = {away} WHERE "index" = {one}',
        f'UPDATE ledger.entry SET "index" = {one} WHERE "index" = {two}',
        f'UPDATE ledger.entry SET "index" = {two} WHERE "index" = {away}',
    )


async def missing_rows(database: TestDatabase, _: SealerConfig, size: int) -> None:
    """The last rows are deleted and nothing else."""
    as_superuser(database, f'DELETE FROM ledger.entry WHERE "index" >= {size - 1}')


async def cut_tail(database: TestDatabase, _: SealerConfig, size: int) -> None:
    """Everything after an older checkpoint is gone from every table: a cut tail, and a restored backup."""
    older = (await smaller(database, size))[0]
    as_superuser(
        database,
        *(f'DELETE FROM ledger.{table} WHERE "index" >= {older}' for table in ("entry", "signature")),
        *(f"DELETE FROM ledger.{table} WHERE size > {older}" for table in ("checkpoint", "cosignature")),
        f'DELETE FROM ledger.tile WHERE level = 0 AND "index" * 256 + start >= {older}',
    )


async def rewritten_tail(database: TestDatabase, settings: SealerConfig, size: int) -> None:
    """The tail is cut and sealed anew, tiles and checkpoints too, by a thief of the log's keys, beyond its old size."""
    await cut_tail(database, settings, size)
    thief = replace(settings, head=settings.head.with_name("of-the-thief"))
    async with sealing(thief):
        for _ in range(3):
            await until_sealed(database, await write(database, pending()))


ATTACKS: dict[str, Attack] = {
    "a row is edited": edited_row,
    "two rows change places": swapped_pair,
    "the last rows are deleted": missing_rows,
    "the tail is cut back to an older checkpoint, in every table; a restored backup": cut_tail,
    "the tail is sealed anew with a stolen log key: rows, tiles, checkpoints": rewritten_tail,
}


async def found_by(database: TestDatabase, settings: SealerConfig, folder: Folder, kept: bytes, url: str) -> list[str]:
    alone, with_head = await verify(database), await verify(database, kept)
    found = {
        "verification": not alone.ok,
        "head": len(with_head.failures) > len(alone.failures),
        "witness": False,
        "anchor": False,
    }
    async with await connect(settings.conninfo) as conn:
        try:
            await cosign_round(conn, url, folder.witness, again=True)
        except Standstill as error:
            found["witness"] = error.code in outside.CONFLICT
        try:
            found["anchor"] = await compare(conn, WormFolder(settings.head.with_name("worm")).heads()) is not None
        except AnchorAway:
            found["anchor"] = True
    return [watcher for watcher in WATCHERS if found[watcher]]


def told() -> dict[str, list[str]]:
    """The table of the page: attack → who finds it."""
    block = PAGE.read_text(encoding="utf-8").partition("<!-- attacks -->")[2].partition("<!-- /attacks -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        row[0]: [watcher for watcher, cell in zip(WATCHERS, row[1:], strict=True) if cell == FOUND]
        for row in rows
        if not re.match(r"-+$|what", row[0])
    }


@pytest.mark.parametrize("attack", sorted(ATTACKS))
async def test_who_finds_an_attack_is_what_the_page_says(database: TestDatabase, tmp_path: Path, attack: str) -> None:
    settings = config(database, tmp_path)
    await sealed(database, tmp_path, pending(), pending("other"), pending())
    folder, anchor = witness_of(settings, tmp_path / "w"), WormFolder(settings.head.with_name("worm"))
    kept = read_head(settings.head)
    assert kept is not None
    with serving(folder) as url:
        async with await connect(settings.conninfo) as conn:
            done = await cosign_round(conn, url, folder.witness, again=True)
            assert done is not None
            assert await anchor_round(conn, "disk", anchor)
        assert await found_by(database, settings, folder, kept, url) == []
        await ATTACKS[attack](database, settings, done.size)
        assert await found_by(database, settings, folder, kept, url) == told()[attack]


def test_every_attack_of_the_page_is_tried_and_each_is_found_by_somebody() -> None:
    assert set(told()) == set(ATTACKS)
    assert all(told().values())
