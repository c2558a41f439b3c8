# SPDX-License-Identifier: Apache-2.0
"""A sample of `make mutations`: changes of a sealed log and of bundles are found, and the unchanged isn't reported."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.ledger.mutations import Found, log, mutations, report
from tests.postgres import TestDatabase


async def test_random_mutations_of_a_log_are_found(database: TestDatabase, tmp_path: Path) -> None:
    """I4: bits, fields, rows, order, tails of every table that is sealed, with all constraints taken off."""
    found = Found()
    await log(found, database, tmp_path, 40, seed=3)
    assert found.missed == []
    assert found.good == found.total() > 25
    assert f"mutations, {found.good} found, 0 not found" in report(found)


def test_a_seed_makes_the_same_mutations() -> None:
    """One that isn't found can be made again."""

    def made(seed: int) -> list[tuple[str, str]]:
        found = mutations(Random(seed))
        return [next(found) for _ in range(50)]

    assert made(1) == made(1)
    assert made(1) != made(2)
