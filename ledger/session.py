# SPDX-License-Identifier: Apache-2.0
"""A sealer's session: how it connects, what it demands of the server, and the two locks of a database.

The session lock says who leads and need not stand by; the transaction's lock, with the primary keys on index and size,
is the fence (decision 1). Every statement has a limit of time of its caller's: a server that says nothing is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any, TypeAlias

import psycopg
from psycopg.rows import TupleRow

from ledger.errors import NotDurable

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

LOCKS = 0x71636F73  # "qcos": first half of both advisory locks of a database
LEADING, SEALING = 1, 2  # second half: a session's claim to lead; a transaction's right to write
STUCK_S = 10.0  # a server that says nothing for so long is away, whatever its connection says
RETRY_S = (0.2, 5.0)
AWAY = (psycopg.Error, TimeoutError)


async def connect(conninfo: str) -> Connection:
    """Open a session of the role `sealer`; raises psycopg.Error."""
    name = f"qcos-sealer-{os.getpid()}"  # pg_stat_activity tells whose session leads
    conn = await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, prepare_threshold=0, application_name=name, connect_timeout=10
    )
    try:
        await conn.execute("SET idle_in_transaction_session_timeout = '2s'")
        # Statistics find queues empty, and a plan made then reads the whole table at each look, its dead rows too.
        await conn.execute("SET enable_seqscan = off")
    except BaseException:
        await conn.close()
        raise
    return conn


async def check_durable(conn: Connection) -> None:
    """Raise NotDurable if this server may lose commits that it acknowledged to us."""
    for setting in ("fsync", "full_page_writes"):
        if (value := await one(conn, "SELECT current_setting(%s)", setting)) != "on":
            raise NotDurable(setting, str(value))
    value = await one(conn, "SELECT current_setting('synchronous_commit')")
    standbys = await one(conn, "SELECT current_setting('synchronous_standby_names')")
    if value == "off" or (value == "local" and standbys):  # without a standby, local is all there is
        raise NotDurable("synchronous_commit", str(value))


async def claim(conn: Connection) -> bool:
    """Whether this session leads from now on; its lock ends with it."""
    return bool(await one(conn, "SELECT pg_try_advisory_lock(%s, %s)", LOCKS, LEADING))


async def end_holders(conn: Connection) -> int:
    """Terminate the sessions, other than this one, that hold a lock of ours; how many there were."""
    cursor = await conn.execute(
        """SELECT pg_terminate_backend(pid) FROM (
               SELECT DISTINCT pid FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND classid::bigint = %s AND objsubid = 2
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND pid <> pg_backend_pid()) AS holders""",
        (LOCKS,),
    )
    return len(await cursor.fetchall())


async def one(conn: Connection, statement: str, *values: object) -> Any:
    """The first column of the first row, or None."""
    row = await (await conn.execute(statement, values)).fetchone()
    return row[0] if row else None


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Rest, but no longer than until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def said(error: Exception) -> str:
    """An error for a log line: its kind and its first line."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
