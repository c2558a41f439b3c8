# SPDX-License-Identifier: Apache-2.0
"""The process `siem`: reads sealed entries as `audit` and tells those of administration to each `[[siem]]` table (G12).

What is told is in the log already, so nothing waits for a receiver and a lost one loses nothing here. Syslog has no
answer: what TCP took may still be lost with the receiver. So each event bears its index and that of the event before it
for the same receiver, and after each broken connection the last `overlap` events are sent again: a receiver counts
what it lacks by the indexes and knows repeated ones by `metadata.uid`. More isn't claimed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import ledger.store
from control_plane import parts
from control_plane.db import FAULTS, Database, engine, transaction
from control_plane.settings import Settings
from control_plane.siem import ocsf, syslog
from control_plane.siem.config import SiemFacts, context
from control_plane.siem.place import keep, load
from ledger.canonical import dumps, timestamp
from ledger.chain import leaf_hash_text, parse_leaf
from ledger.store import StoredEntry

log = logging.getLogger("qcos.siem")
STEP_S = 0.5
LIMIT_S = 10.0
LONGEST_PAUSE_S = 60.0
PAGE = 5_000
"""Entries of the log that are looked at before the place is kept."""
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def run(settings: Settings, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Tell every receiver until `stop` is set; one that is away holds up no other."""
    pool = engine(Database.of_home(settings.home / "db").audit, connections=len(settings.siem), name="qcos-siem")
    receivers = [Receiver(settings, facts, pool) for facts in settings.siem]
    tasks = [asyncio.create_task(receiver.serve()) for receiver in receivers]
    ready()
    try:
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.dispose()


class Receiver:
    """One table's receiver: `serve` runs until cancelled, `told` is one connection's life."""

    def __init__(self, settings: Settings, facts: SiemFacts, pool: AsyncEngine) -> None:
        """Nothing is opened yet."""
        self._home, self._facts, self._pool = settings.home, facts, pool
        self._origin, self._host = parts.origin(settings), socket.gethostname()
        self._place = load(settings.home, facts.name)

    async def serve(self) -> None:
        """Connect, tell, and again after a pause that grows while the receiver is away."""
        pause = STEP_S
        while True:
            before = self._place.read
            try:
                async with self._connected() as stream:
                    await self.told(stream)
            except (OSError, ssl.SSLError, TimeoutError, EOFError) as error:
                self._say(connected=False, fault=f"{type(error).__name__}: {error}"[:300])
                log.warning("siem %s: %s", self._facts.name, self._place.fault)
            except FAULTS:
                log.warning("siem %s: the database is away", self._facts.name)
            except Exception:  # as in the worker: the loop outlives any fault, and it is recorded
                log.exception("siem %s: telling failed", self._facts.name)
            pause = STEP_S if self._place.read > before else min(2 * pause, LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    async def told(self, stream: Stream) -> None:
        """The overlap and then what comes, until the connection ends: EOFError."""
        reader, writer = stream
        gone = asyncio.create_task(reader.read(1))
        try:
            await self._again(writer)
            while not gone.done():
                if not await self._next(writer):
                    await asyncio.wait([gone], timeout=STEP_S)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await gone
        raise EOFError("the receiver has closed the connection")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Stream]:
        facts = self._facts
        async with asyncio.timeout(LIMIT_S):
            stream = await asyncio.open_connection(facts.host, facts.port, ssl=context(facts))
        self._say(connected=True, fault=None)
        log.info("siem %s: connected to %s port %d", facts.name, facts.host, facts.port)
        try:
            yield stream
        finally:
            stream[1].transport.abort()  # a receiver that stalls would hold up a courteous end

    async def _again(self, writer: asyncio.StreamWriter) -> None:
        """Send the last events once more; the one before them is kept too, to be named by the first."""
        sent = (None, *self._place.sent)
        async with transaction(self._pool, None) as conn:
            for previous, index in list(pairwise(sent))[-self._facts.overlap :] if self._facts.overlap else ():
                await self._send(writer, [(row, previous) for row in await _entry(conn, index)])

    async def _next(self, writer: asyncio.StreamWriter) -> bool:
        """Tell what the log has gained, at most `PAGE` of it; whether there may be more at once."""
        async with transaction(self._pool, None) as conn:
            _, end = await ledger.store.extent(conn)
            rows = await ledger.store.entries(conn, self._place.read, min(end, self._place.read + PAGE))
        if not rows:
            return False
        sent, telling = list(self._place.sent), []
        for row in rows:
            if self._concerns(row):
                telling.append((row, sent[-1] if sent else None))
                sent.append(row.index)
        await self._send(writer, telling)
        kept = tuple(sent[-1 - self._facts.overlap :])
        self._place = msgspec.structs.replace(self._place, read=rows[-1].index + 1, sent=kept)
        keep(self._home, self._facts.name, self._place)
        return rows[-1].index + 1 < end

    def _concerns(self, row: StoredEntry) -> bool:
        return ocsf.administrative(row.kind) and self._facts.tenant in (None, row.tenant)

    async def _send(self, writer: asyncio.StreamWriter, telling: Sequence[tuple[StoredEntry, int | None]]) -> None:
        for row, previous in telling:
            leaf = parse_leaf(row.leaf)
            made = ocsf.event(
                leaf,
                leaf_hash_text(row.leaf),
                previous,
                origin=self._origin,
                most_bytes=self._facts.message_bytes - syslog.HEADER_ROOM,
            )
            if made is None:
                continue
            one = syslog.message(
                dumps(made),
                at=leaf.time,
                host=self._host,
                index=leaf.index,
                kind=leaf.kind,
                severity_id=made["severity_id"],
            )
            writer.write(syslog.framed(one))
        async with asyncio.timeout(LIMIT_S):
            await writer.drain()

    def _say(self, *, connected: bool, fault: str | None) -> None:
        if (connected, fault) != (self._place.connected, self._place.fault):
            since = timestamp(datetime.now(UTC))
            self._place = msgspec.structs.replace(self._place, connected=connected, since=since, fault=fault)
            keep(self._home, self._facts.name, self._place)


async def _entry(conn: AsyncConnection, index: int | None) -> list[StoredEntry]:
    """The entry, or none where the log is another than it was told of."""
    return [] if index is None else await ledger.store.entries(conn, index, index + 1)
