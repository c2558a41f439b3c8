# SPDX-License-Identifier: Apache-2.0
"""Pushes in a real database, signed by a real sealer: kept or not, taken up by a process or not (G2, G5, I5)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import engine, transaction
from control_plane.errors import Refused
from control_plane.policy import push, shipped, store
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.push import Asked
from control_plane.policy.revision import PolicySet, load
from control_plane.policy.watch import Watch
from ledger.policy_key import create_policy_key
from tests.ledger.support import config, sealing
from tests.postgres import TestDatabase

SHIPPED = load()


def limited(shots: int) -> PolicySet:
    """The shipped policies with another limit of shots."""
    limits = json.loads(SHIPPED.files["data/limits.json"])
    limits["limits"]["default"]["max_shots"] = shots
    return PolicySet.of({**SHIPPED.files, "data/limits.json": json.dumps(limits).encode()})


def asked(base: str | None = None, message: str = "") -> Asked:
    return Asked(tenant="demo", actor="a-1", message=message, base=base, at=datetime.now(UTC))


class Bench:
    """A database, a sealer, and what a process would hold."""

    def __init__(self, pool: AsyncEngine, database: TestDatabase, key: Path) -> None:
        self.pool, self.database, self.key = pool, database, key
        self.held, self.taken = Held(max_age_s=60), list[str]()
        self.watch = Watch(pool, key, EmbeddedEngine(), self.held, lambda p: self.taken.append(p.revision), 60)

    async def push(self, policies: PolicySet, base: str | None = None) -> store.Push:
        """Push, and wait for the sealer."""
        async with transaction(self.pool, "demo") as conn:
            kept = await push.put(conn, policies, asked(base))
        await self.sealed(kept)
        return kept

    async def sealed(self, kept: store.Push) -> None:
        while True:
            async with transaction(self.pool, "demo") as conn:
                told = await store.history(conn, 100)
            if any(one.number == kept.number and (one.signed or one.refused) for one in told):
                return
            await asyncio.sleep(0.01)

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.database.conninfo("superuser"), autocommit=True) as conn:
            conn.execute(statement)


@pytest.fixture
async def bench(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Bench]:
    create_policy_key(tmp_path / "keys", tmp_path / "public")
    pool = engine(database.app, connections=4)
    async with sealing(config(database, tmp_path)):
        yield Bench(pool, database, tmp_path / "public")
    await pool.dispose()


async def test_the_plane_pushes_what_it_ships_and_again_after_an_upgrade_but_over_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, policies = await shipped.in_force(bench.pool, bench.key)
    assert (first.number, first.base, policies) == (1, None, SHIPPED)
    assert (await shipped.in_force(bench.pool, bench.key))[0].number == 1
    newer = limited(5)
    monkeypatch.setattr(shipped, "load", lambda: newer)
    second, policies = await shipped.in_force(bench.pool, bench.key)
    assert (second.number, second.base, policies) == (2, SHIPPED.revision, newer)
    theirs = await bench.push(limited(6))
    monkeypatch.setattr(shipped, "load", lambda: limited(7))
    assert (await shipped.in_force(bench.pool, bench.key))[0].number == theirs.number


async def test_of_pushes_at_once_one_is_kept_and_what_stands_is_the_base_of_the_next(bench: Bench) -> None:
    await shipped.in_force(bench.pool, bench.key)

    async def try_one(shots: int) -> str:
        async with transaction(bench.pool, "demo") as conn:
            try:
                await push.put(conn, limited(shots), asked(SHIPPED.revision))
            except Refused as refused:
                return refused.code
        return "kept"

    answers = await asyncio.gather(*(try_one(shots) for shots in range(1, 5)))
    assert sorted(answers) == ["kept", "policy_moved", "policy_moved", "policy_moved"]
    with pytest.raises(Refused, match="stands now"):
        await bench.push(limited(9), SHIPPED.revision)
    assert (await bench.push(limited(9))).number == 3


async def test_a_process_takes_up_what_was_signed_and_knows_the_last_good(bench: Bench) -> None:
    with pytest.raises(PolicyUnavailable, match="yet"):
        bench.held.current  # noqa: B018 - it raises
    await bench.watch.look()
    await shipped.in_force(bench.pool, bench.key)
    await bench.watch.look()
    assert (bench.held.current, bench.taken) == (SHIPPED, [SHIPPED.revision])
    pushed = limited(7)
    await bench.push(pushed)
    assert (await bench.held.by(pushed.revision)) == pushed  # an engine was first: it is looked up
    assert (bench.held.current, bench.watch.fault) == (pushed, None)
    fresh = Held()
    Watch(bench.pool, bench.key, EmbeddedEngine(), fresh, lambda _: None, 60)
    assert (await fresh.by(SHIPPED.revision)) == SHIPPED  # a process that began after the push, an engine behind
    with pytest.raises(PolicyUnavailable):
        await fresh.by(limited(8).revision)


HARM = {
    "files": "policy.push SET files = convert_to(replace(convert_from(files, 'UTF8'), '7', '8'), 'UTF8')",
    "signature": "ledger.policy_signature SET signature = 'eyJhbGciOiJub25lIn0.e30.'",
    "no files": "policy.push SET files = 'x'",
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
async def test_what_was_changed_in_the_database_is_not_taken_and_the_last_good_ends(bench: Bench, harm: str) -> None:
    """I5: the process says so; the last good policies decide on until they are too old."""
    await shipped.in_force(bench.pool, bench.key)
    await bench.watch.look()
    now = [0.0]
    bench.held._clock = lambda: now[0]
    await bench.push(limited(7))
    bench.sql(f"UPDATE {harm} WHERE number = 2")
    await bench.watch.look()
    assert (bench.held.current, bench.taken) == (SHIPPED, [SHIPPED.revision])
    assert bench.watch.fault is not None
    now[0] = 61.0
    with pytest.raises(PolicyUnavailable, match="too old"):
        bench.held.current  # noqa: B018 - it raises
    with contextlib.suppress(PolicyUnavailable):
        await bench.push(limited(5))
    await bench.watch.look()
    assert bench.held.current == limited(5)
    assert not bench.watch.fault
