# SPDX-License-Identifier: Apache-2.0
"""The floor under the sealer's looks never hides a row that may still come (I2), and spares walking past taken ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ledger import leader
from ledger.floor import FULL_S, SIGHT_S, Floor
from tests.ledger.support import config, pending, sealing, until_sealed, write
from tests.postgres import TestDatabase


def test_it_rises_only_once_every_older_transaction_is_over() -> None:
    floor = Floor()
    floor.took(100)
    floor.sight(1.0, drawn=50, oldest=40, lowest=None)
    floor.sight(2.0, drawn=51, oldest=49, lowest=None)  # 49 may have drawn an id below 100
    assert floor.id == 0
    floor.sight(3.0, drawn=52, oldest=50, lowest=None)
    assert floor.id == 100


def test_it_stays_below_a_row_that_is_left() -> None:
    floor = Floor()
    floor.took(100)
    floor.sight(1.0, drawn=50, oldest=50, lowest=None)
    floor.sight(2.0, drawn=51, oldest=51, lowest=70)
    assert floor.id == 69
    floor.sight(3.0, drawn=52, oldest=52, lowest=None)
    assert floor.id == 100


def test_it_is_asked_for_only_when_it_could_rise() -> None:
    floor = Floor()
    assert not floor.sight_due(9.0)
    floor.took(5)
    assert floor.sight_due(9.0)
    floor.sight(9.0, drawn=1, oldest=1, lowest=None)
    assert not floor.sight_due(9.0 + SIGHT_S / 2)
    floor.sight(9.0 + SIGHT_S, drawn=2, oldest=2, lowest=None)
    assert floor.id == 5
    assert not floor.sight_due(99.0)


def test_a_look_begins_at_zero_again_and_again() -> None:
    floor = Floor()
    floor.took(5)
    floor.sight(0.0, drawn=1, oldest=1, lowest=None)
    floor.sight(1.0, drawn=2, oldest=2, lowest=None)
    assert [floor.look(at) for at in (1.0, 1.1, 1.0 + FULL_S, 1.2 + FULL_S)] == [0, 5, 0, 5]
    assert floor.look(1.3 + FULL_S, full=True) == 0


@pytest.mark.parametrize("seed", range(20))
def test_no_writer_that_ends_late_is_hidden(seed: int) -> None:
    """Writers draw an id and a transaction's, and end in any order; the sealer takes, marks and looks in between."""
    chance = random.Random(seed)
    floor, ids, xids = Floor(), iter(range(1, 10_000)), iter(range(1, 10_000))
    running: dict[int, list[int]] = {}
    visible: set[int] = set()
    for step in range(600):
        match chance.randrange(5):
            case 0 | 1:
                running.setdefault(next(xids), []).append(next(ids))
            case 2 if running:
                ended = running.pop(chance.choice(list(running)))
                visible |= set(ended) if chance.random() < 0.9 else set()
            case 3:
                seen = sorted(one for one in visible if one > floor.id)[:4]
                visible -= set(seen)
                if seen:
                    floor.took(seen[-1])
            case _:
                drawn = next(xids)
                above = [one for one in visible if one > floor.id]
                floor.sight(float(step), drawn=drawn, oldest=min([*running, drawn]), lowest=min(above, default=None))
        assert all(one > floor.id for one in visible)
        assert all(one > floor.id for drawn_ids in running.values() for one in drawn_ids)


async def test_an_entry_below_the_floor_is_sealed_all_the_same(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: a writer that was stopped between its row's id and its transaction's is found by a look from zero."""
    monkeypatch.setattr("ledger.floor.FULL_S", 0.3)
    kept: list[Floor] = []

    class Kept(Floor):
        def __init__(self) -> None:
            super().__init__()
            kept.append(self)

    monkeypatch.setattr(leader, "Floor", Kept)
    async with sealing(config(database, tmp_path)):
        await until_sealed(database, await write(database, pending()))
        kept[-1].id = 10_000
        await until_sealed(database, await write(database, pending(), pending()))
        assert kept[-1].id == 10_000
