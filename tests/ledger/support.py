# SPDX-License-Identifier: Apache-2.0
"""Small real parts for the ledger's tests: entries, a sealer in this process or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from control_plane.db import transaction
from ledger import sealer, sealer_keys, store
from ledger.batch import Plane
from ledger.chain import Evidence, Pending
from ledger.sealer import run
from ledger.sealer_config import Authority, SealerConfig
from tests.postgres import TestDatabase

AT = datetime(2026, 11, 21, 10, 0, 0, 123000, tzinfo=UTC)
PLANE = Plane(profile="dev", name="plane-1")
ORIGIN = "qcos.test/log"


def pending(tenant: str = "demo", *, body: dict[str, Any] | None = None, entry_id: str | None = None) -> Pending:
    """An ordinary entry."""
    return Pending(
        entry_id=entry_id or str(uuid.uuid4()),
        tenant=tenant,
        kind="job:submission:accepted",
        actor="a-1",
        time=AT,
        body=body or {"job_id": "j-1"},
    )


def engine(url: str) -> AsyncEngine:
    """An engine that keeps no connection, so that a test leaves none behind."""
    return create_async_engine(url, poolclass=NullPool)


async def write(database: TestDatabase, *entries: Pending, evidence: Evidence | None = None) -> list[str]:
    """Append entries of one tenant as `app` does, in one transaction; their ids."""
    async with transaction(engine(database.app), entries[0].tenant) as conn:
        await store.append(conn, [(entry, evidence) for entry in entries])
    return [entry.entry_id for entry in entries]


def config(database: TestDatabase, home: Path, *authorities: Authority, **more: Any) -> SealerConfig:
    """A sealer of this database with keys in `home`."""
    sealer_keys.create_sealer_keys(home / "keys")
    return SealerConfig(
        conninfo=database.conninfo("sealer"),
        keys=home / "keys",
        head=home / "ledger" / "head",
        origin=ORIGIN,
        plane=PLANE,
        authorities=authorities,
        **more,
    )


@contextlib.asynccontextmanager
async def sealing(settings: SealerConfig) -> AsyncIterator[asyncio.Task[None]]:
    """A sealer in this process, ready, for as long as the block lasts."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(run(settings, stop, ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if task.done():
            task.result()
        yield task
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


async def until_sealed(database: TestDatabase, entry_ids: Sequence[str]) -> None:
    """Wait until all of them are in the log; the test's own time limit bounds it."""
    async with await psycopg.AsyncConnection.connect(database.conninfo("audit"), autocommit=True) as conn:
        while True:
            cursor = await conn.execute(
                "SELECT count(*) FROM ledger.entry WHERE entry_id = ANY (%s::uuid[])", (list(entry_ids),)
            )
            if (await cursor.fetchone() or [0])[0] == len(entry_ids):
                return
            await asyncio.sleep(0.01)


async def sealed(database: TestDatabase, home: Path, *entries: Pending) -> None:
    """Write entries and have a passing sealer seal them, each its own transaction."""
    async with sealing(config(database, home)):
        for entry in entries:
            await until_sealed(database, await write(database, entry))


def superuser(database: TestDatabase, statement: str, *values: object) -> None:
    """What someone with the whole server can do."""
    with psycopg.connect(database.conninfo("superuser"), autocommit=True) as conn:
        conn.execute(statement, values)


def sealer_process(settings: SealerConfig, *, at: str = "", leads: bool = False) -> subprocess.Popen[bytes]:
    """A sealer as a process of its own, as it runs in the plane.

    `at` names a step, a signal that it sends itself there, and when it gets there for which time: `seal.signed STOP 2`.
    With `leads` it stands by for nobody, as behind a pooler that breaks session locks.
    """
    told = msgspec.json.encode(settings, enc_hook=str)
    words = [sys.executable, "-m", "tests.ledger.support", told.decode(), at, "leads" if leads else ""]
    return subprocess.Popen(words, env=dict(os.environ))


def _main() -> None:
    told = msgspec.json.decode(sys.argv[1], type=SealerConfig, dec_hook=lambda kind, value: kind(value))
    step, number, time = (sys.argv[2] or "never KILL 1").split()
    left = itertools.count(1 - int(time))

    def heard(name: str) -> None:
        if name == step and next(left) == 0:
            os.kill(os.getpid(), getattr(signal, f"SIG{number}"))

    if sys.argv[3]:
        vars(sealer)["claim"] = _anybody
    asyncio.run(run(msgspec.structs.replace(told, at=heard), asyncio.Event()))


async def _anybody(_: object) -> bool:
    return True


if __name__ == "__main__":
    _main()
