# SPDX-License-Identifier: Apache-2.0
"""The process that turns durable entries into a sealed log, and the only holder of the log and evidence keys.

It connects, checks that the server keeps what it commits and that the log is not behind the head file, and then leads
(`ledger.leader`, with `ledger.stamping` beside it) or stands by until the leader is gone or stuck. After any error the
connection is dropped and begun anew. A sealer whose database is behind the head file, or may lose commits, refuses
(LedgerRollback, NotDurable).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ledger import alarm, checkpoint, tables
from ledger.anchoring import serve_anchor
from ledger.cosigning import serve_cosigning
from ledger.errors import LedgerError, LedgerRollback
from ledger.head import HeadKeeper, read_head
from ledger.leader import Leader
from ledger.sealer_config import SealerConfig
from ledger.sealer_keys import SealerKeys, load_sealer_keys
from ledger.session import (
    AWAY,
    RETRY_S,
    STUCK_S,
    Connection,
    check_durable,
    claim,
    connect,
    end_holders,
    one,
    pause,
    said,
)
from ledger.stamping import serve_stamps
from ledger.succession import Succession

log = logging.getLogger("qcos.sealer")


async def run(config: SealerConfig, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
    """Seal until `stop` is set. `ready` is called once the checks have passed and this sealer leads or stands
    by.

    Raises LedgerRollback, LogForeign, NotDurable or KeyInvalid, at start or when the database came back otherwise;
    waits for a database that is away.
    """
    keys = load_sealer_keys(config.keys, config.custody)
    wait_s = RETRY_S[0]
    while not stop.is_set():
        began = time.monotonic()
        try:
            async with await connect(config.conninfo) as conn:
                try:
                    await _serve(conn, config, keys, stop, ready)
                except LedgerError as error:
                    await _refuse(conn, error)
                    raise
        except AWAY as error:
            wait_s = RETRY_S[0] if time.monotonic() - began > RETRY_S[1] else min(wait_s * 2, RETRY_S[1])
            log.warning("sealer: database: %s; again in %.1f s", said(error), wait_s)
            if config.watching is not None:
                config.watching.failed("database", error)
            await pause(stop, wait_s)


async def _serve(
    conn: Connection, config: SealerConfig, keys: SealerKeys, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    async with asyncio.timeout(STUCK_S):
        await check_durable(conn)
        await _check_head(conn, config.head)
        leads = await claim(conn)
    if not leads:
        ready()
        await _stand_by(conn, config, stop)
    if not stop.is_set():
        await _lead(conn, config, keys, stop, ready)


async def _refuse(conn: Connection, error: LedgerError) -> None:
    """The database can't be sealed in: an alarm stands, unless another sealer leads and so may seal."""
    log.error("sealer: %s: %s", error.code, error)
    async with asyncio.timeout(STUCK_S):
        await conn.execute("ROLLBACK")
        if await claim(conn):
            await alarm.sound(conn, error)


async def begin(config: SealerConfig, log: Succession) -> bytes:
    """Begin a log of another origin on the entries that are stored; its first checkpoint, committed and not yet kept.

    For a restore, before any sealer runs on the database.
    """
    async with await connect(config.conninfo) as conn:
        await check_durable(conn)
        with ThreadPoolExecutor(2, "sign") as pool:
            keys = load_sealer_keys(config.keys, config.custody)
            return await Leader(conn, config, keys, HeadKeeper(config.head), asyncio.Event(), pool).begin(log)


async def _check_head(conn: Connection, path: Path) -> None:
    kept = read_head(path)
    if kept is None:
        return
    size = checkpoint.parse(kept).size
    stored = await one(conn, "SELECT coalesce(max(size), 0) FROM ledger.checkpoint")
    note = await one(conn, "SELECT note FROM ledger.checkpoint WHERE size = %s", size)
    if note is None:
        raise LedgerRollback(kept_size=size, stored_size=stored, reason="no checkpoint of that size")
    if note != kept:
        raise LedgerRollback(kept_size=size, stored_size=stored, reason="another checkpoint of that size")


async def _stand_by(conn: Connection, config: SealerConfig, stop: asyncio.Event) -> None:
    """Return once this session leads: its leader is gone, or was ended because it left rows unsealed."""
    head, since = -1, time.monotonic()
    log.info("sealer: standing by")
    while not stop.is_set():
        async with asyncio.timeout(STUCK_S):
            if await claim(conn):
                return
            now_head = await one(conn, tables.HEAD)
            if now_head != head or not await one(conn, tables.WAITING, 0):
                head, since = now_head, time.monotonic()
            elif time.monotonic() - since >= config.takeover_s:
                ended = await end_holders(conn)
                log.warning("sealer: no checkpoint for %.0f s, ended %d sessions", config.takeover_s, ended)
                since = time.monotonic()
        await pause(stop, config.idle_poll_s * 4)


async def _lead(
    conn: Connection, config: SealerConfig, keys: SealerKeys, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    keeper = HeadKeeper(config.head)
    due = asyncio.Event()
    with ThreadPoolExecutor(2, "sign") as pool:
        leader = Leader(conn, config, keys, keeper, due, pool)
        tasks = [asyncio.create_task(keeper.run()), asyncio.create_task(serve_stamps(config, due))]
        tasks += [asyncio.create_task(serve_cosigning(config, at, due)) for at in config.witnesses]
        tasks += [
            asyncio.create_task(serve_anchor(config.conninfo, at.name, at.anchor, at.every_s)) for at in config.anchors
        ]
        try:
            await leader.start(stop)
            ready()
            await leader.loop(stop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
