# SPDX-License-Identifier: Apache-2.0
"""Sealers that are killed, paused, doubled and cut off in the middle of a batch, on PostgreSQL 15 and 18 (I2, I4).

Real processes on a real database, without a plane: what a writer was told is durable is sealed once, whoever seals it,
and the log verifies from end to end afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from control_plane import crash
from control_plane.db import transaction
from control_plane.home import is_stopped
from ledger import export, store
from ledger.chain import parse_leaf
from ledger.head import read_head
from ledger.pipe import Pipe
from ledger.session import LEADING, LOCKS, SEALING
from tests.ledger.support import (
    config,
    engine,
    pending,
    sealer_process,
    sealing,
    superuser,
    until_sealed,
    write,
)
from tests.postgres import RunningCluster, TestDatabase

pytestmark = pytest.mark.faults

STEPS = [name for name in crash.POINTS if name.startswith("seal.")]


@pytest.fixture(params=["18", "15"])
def database(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """A fresh migrated database of the newest and of the oldest PostgreSQL that a plane takes."""
    server: RunningCluster = request.getfixturevalue("cluster" if request.param == "18" else "cluster_15")
    with server.database() as fresh:
        yield fresh


@contextlib.contextmanager
def ended(*processes: subprocess.Popen[bytes]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Whatever becomes of the test; those that it adds too."""
    kept = list(processes)
    try:
        yield kept
    finally:
        for process in kept:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def writing(database: TestDatabase) -> AsyncIterator[list[str]]:
    """Writers of two tenants for as long as the block lasts; the ids that were acknowledged."""
    done, acknowledged = asyncio.Event(), list[str]()

    async def one(tenant: str) -> None:
        while not done.is_set():
            acknowledged.extend(await write(database, pending(tenant), pending(tenant)))

    work = [asyncio.create_task(one(tenant)) for tenant in ("demo", "other")]
    try:
        yield acknowledged
    finally:
        done.set()
        await asyncio.gather(*work)


async def whole(database: TestDatabase, acknowledged: list[str], head: Path) -> None:
    """All of them are sealed, once and nothing else; the log verifies, and agrees with the head outside."""
    await until_sealed(database, acknowledged)
    async with transaction(engine(database.audit), None) as conn:
        found = [parse_leaf(row.leaf) async for row in store.stream_entries(conn)]
        said = await export.verify_log(conn, head=read_head(head))
    assert sorted(leaf.entry_id for leaf in found if leaf.tenant != "_plane") == sorted(acknowledged)
    assert said.failures == ()


async def until_written(acknowledged: list[str], more: int = 8) -> None:
    """Writers go on: so many entries have come."""
    wanted = len(acknowledged) + more
    while True:
        if len(acknowledged) >= wanted:
            return
        await asyncio.sleep(0.01)


async def until_stopped(process: subprocess.Popen[bytes]) -> None:
    while not is_stopped(process.pid):
        assert process.poll() is None
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("step", STEPS)
async def test_a_sealer_killed_at_any_step_is_followed_by_one_that_goes_on(
    database: TestDatabase, tmp_path: Path, step: str
) -> None:
    """I2: the second batch it seals is its last; another finds the log as it was or as it was to be."""
    settings = config(database, tmp_path)
    dies = sealer_process(settings, at=f"{step} KILL 2")
    with ended(dies) as processes:
        async with writing(database) as acknowledged:
            assert await asyncio.to_thread(dies.wait) == -signal.SIGKILL
            processes.append(sealer_process(settings))
            await until_written(acknowledged)
        await whole(database, acknowledged, settings.head)


@pytest.mark.parametrize("step", ["seal.taken", "seal.written", "seal.checkpointed", "seal.committed"])
async def test_a_sealer_paused_at_any_step_is_replaced_and_forks_nothing_when_it_wakes(
    database: TestDatabase, tmp_path: Path, step: str
) -> None:
    """I2, decision 1: it holds the lock, has sent its entries, or its checkpoint too, and stands still."""
    settings = config(database, tmp_path, takeover_s=0.5)
    first = sealer_process(settings, at=f"{step} STOP 2")
    with ended(first) as processes:
        async with writing(database) as acknowledged:
            await until_stopped(first)
            processes.append(sealer_process(settings))
            while_away = await write(database, pending("third"))
            await until_sealed(database, while_away)
            first.send_signal(signal.SIGCONT)
            awake = await write(database, pending("third"))
            await until_sealed(database, awake)
        await whole(database, [*acknowledged, *while_away, *awake], settings.head)


async def test_a_holder_in_the_middle_of_a_message_is_ended(database: TestDatabase, tmp_path: Path) -> None:
    """I2: its backend reads on and no timeout of idleness looks; only termination frees the log."""
    settings = config(database, tmp_path, takeover_s=0.5)
    with psycopg.connect(database.conninfo("sealer"), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s, %s)", (LOCKS, LEADING))
        holder.execute("BEGIN")
        holder.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCKS, SEALING))
        os.write(holder.fileno(), b"Q" + (60_000).to_bytes(4) + b"INSERT INTO ledger.entry")
        ids = await write(database, pending())
        async with sealing(settings):
            await whole(database, ids, settings.head)
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 1")


async def test_three_sealers_that_all_lead_fork_nothing_though_each_is_killed(
    database: TestDatabase, tmp_path: Path
) -> None:
    """I2: behind a pooler that breaks session locks the fence is the transaction's lock and the primary keys."""
    settings = config(database, tmp_path)
    processes = [sealer_process(settings, leads=True) for _ in range(3)]
    with ended(*processes) as kept:
        async with writing(database) as acknowledged:
            for process in processes:
                await until_written(acknowledged)
                await until_sealed(database, list(acknowledged))
                process.kill()
                kept.append(sealer_process(settings, leads=True))
        await whole(database, acknowledged, settings.head)


@pytest.mark.parametrize("sent", [True, False], ids=["commit sent", "commit not sent"])
async def test_a_connection_cut_at_the_commit_is_read_again_and_nothing_signed_anew(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    """I2: the sealer can't tell whether it has committed."""
    settings, send = config(database, tmp_path), Pipe.send
    cuts: list[bytes] = []

    def cut(self: Any, statement: str, *values: Any) -> int:
        number = send(self, statement, *values) if sent or statement != "COMMIT" else 0
        if statement == "COMMIT" and len(cuts) < 2:
            conn = self._pg
            if sent:
                conn.pipeline_sync()
            while conn.flush():
                pass
            with socket.socket(fileno=os.dup(conn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)
            cuts.append(b"cut")
        elif not sent and statement == "COMMIT":
            number = send(self, statement, *values)
        return number

    monkeypatch.setattr(Pipe, "send", cut)
    async with sealing(settings):
        ids = await write(database, pending(), pending())
        await whole(database, ids, settings.head)
    assert len(cuts) == 2


async def test_a_commit_whose_wait_for_the_standby_was_cancelled_is_unclear(
    database: TestDatabase, tmp_path: Path
) -> None:
    """I2: PostgreSQL answers success with notice 01000; the sealer lets no checkpoint out of it, and reads again."""
    settings = config(database, tmp_path)
    async with sealing(settings):
        await until_sealed(database, await write(database, pending()))
        before = read_head(settings.head)
        superuser(database, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        try:
            superuser(database, "SELECT pg_reload_conf()")
            async with transaction(engine(database.app), "demo") as conn:
                await conn.execute(text("SET LOCAL synchronous_commit = local"))
                entry = pending()
                await store.append(conn, [(entry, None)])
            await _cancelled(database)
            assert read_head(settings.head) in (before, None)
        finally:
            superuser(database, "ALTER SYSTEM RESET synchronous_standby_names")
            superuser(database, "SELECT pg_reload_conf()")
        after = await write(database, pending())
        await until_sealed(database, [entry.entry_id, *after])
    async with transaction(engine(database.audit), None) as conn:
        said = await export.verify_log(conn, head=read_head(settings.head))
    assert said.failures == ()


async def _cancelled(database: TestDatabase) -> None:
    """The sealer's backend stood in its wait for a standby, and was told to stop waiting."""
    query = """SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
               WHERE wait_event = 'SyncRep' AND application_name LIKE 'qcos-sealer-%'"""
    async with await psycopg.AsyncConnection.connect(database.conninfo("superuser"), autocommit=True) as conn:
        while True:
            if await (await conn.execute(query)).fetchone() != (0,):
                return
            await asyncio.sleep(0.01)
