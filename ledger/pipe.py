# SPDX-License-Identifier: Apache-2.0
"""A session's statements sent ahead of their answers, by libpq's pipeline under psycopg's connection.

psycopg's own pipeline does the same and costs a multiple in Python: what a batch of the log spends beside its entries
is mostly that. Statements are prepared at their first use; values and results are in PostgreSQL's binary form
(`int64s`, `texts`, … make arrays of it). Answers come in the order of the statements. The first error ends all that was
sent; whoever meets it gets it raised, with the pipeline left. Between `end` and the next `send` the connection is
psycopg's again; a transaction may be open across.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result
from psycopg.pq import abc

from ledger.session import Connection

Value: TypeAlias = bytes | None
Answer: TypeAlias = list[tuple[Value, ...]]

_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Pipe:
    """Of one session; used by one task."""

    def __init__(self, conn: Connection) -> None:
        self._pg = conn.pgconn
        self._names: dict[str, bytes] = {}
        self._number = itertools.count()
        self._due: deque[tuple[int, str | None]] = deque()  # to be answered: its number; the statement, if prepared
        self._answers: dict[int, Answer] = {}
        self._open = False

    def send(self, statement: str, *values: Value) -> int:
        """Queue a statement; it begins to run once `push` or a wait has written it out. Its number, for `answer`."""
        if not self._open:
            self._pg.enter_pipeline_mode()
            self._open = True
        if (name := self._names.get(statement)) is None:
            name = self._names[statement] = b"p%d" % next(self._number)
            self._pg.send_prepare(name, statement.encode())
            self._due.append((-1, statement))
        formats = [pq.Format.BINARY] * len(values)
        self._pg.send_query_prepared(name, values, formats, pq.Format.BINARY)
        number = next(self._number)
        self._due.append((number, None))
        return number

    def push(self) -> None:
        """Write out what is queued, as far as that goes without waiting, and ask for its answers."""
        self._pg.send_flush_request()
        self._pg.flush()

    async def answer(self, number: int) -> Answer:
        """The rows of a statement that was sent, once."""
        if number not in self._answers:
            self.push()
        while number not in self._answers:
            await self._next()
        return self._answers.pop(number)

    async def end(self) -> None:
        """All that was sent is done and went well; then the connection is psycopg's."""
        if self._open:
            self._pg.pipeline_sync()
            while self._due:
                await self._next(synced=True)
            await self._leave()

    async def ask(self, statement: str, *values: Value) -> Answer:
        """One statement by itself, in one round trip."""
        number = self.send(statement, *values)
        self._pg.pipeline_sync()
        while number not in self._answers:
            await self._next(synced=True)
        found = self._answers.pop(number)
        await self._leave()
        return found

    async def abandon(self) -> None:
        """Leave the pipeline whatever became of what was sent."""
        if self._open:
            self._pg.pipeline_sync()
            await self._leave()

    async def _next(self, *, synced: bool = False) -> None:
        result = await self._result()
        if result.status not in _GOOD:
            error = error_from_result(result)
            if not synced:
                self._pg.pipeline_sync()
            await self._leave()
            raise error
        number, prepared = self._due.popleft()
        if prepared is None:
            columns, get = range(result.nfields), result.get_value
            self._answers[number] = [tuple(get(row, at) for at in columns) for row in range(result.ntuples)]

    async def _leave(self) -> None:
        while (await self._result()).status != pq.ExecStatus.PIPELINE_SYNC:
            pass
        for _, statement in self._due:  # perhaps not prepared: the next time under a name of its own
            if statement is not None:
                del self._names[statement]
        self._due.clear()
        self._answers.clear()
        self._pg.exit_pipeline_mode()
        self._open = False

    async def _result(self) -> abc.PGresult:
        for _ in range(3):  # between the answers of two statements stands one None
            await self._readable()
            if (result := self._pg.get_result()) is not None:
                return result
        raise psycopg.OperationalError("the server owes an answer and gives none")

    async def _readable(self) -> None:
        """Until libpq has a result, writing out what it still holds meanwhile: the server may be waiting for it."""
        while True:
            unsent = self._pg.flush()
            if not self._pg.is_busy():
                return
            await _ready(self._pg.socket, writing=bool(unsent))
            self._pg.consume_input()


async def _ready(socket: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    loop.add_reader(socket, wake)
    if writing:
        loop.add_writer(socket, wake)
    try:
        await woken
    finally:
        loop.remove_reader(socket)
        if writing:
            loop.remove_writer(socket)


def int64(value: int) -> bytes:
    """Bigint."""
    return value.to_bytes(8, signed=True)


def array(kind: int, values: Sequence[Value]) -> bytes:
    """A one-dimensional array of a type, by its oid."""
    if not values:
        return struct.pack("!iii", 0, 0, kind)
    parts = [struct.pack("!iiiii", 1, 1, kind, len(values), 1)]
    for value in values:
        parts += (_NULL,) if value is None else (_LENGTH(len(value)), value)
    return b"".join(parts)


def int64s(values: Iterable[int | None]) -> bytes:
    """bigint[]."""
    return array(20, [None if value is None else _INT64(value) for value in values])


def int16s(values: Iterable[int]) -> bytes:
    """smallint[]."""
    return array(21, [_INT16(value) for value in values])


def texts(values: Iterable[str | None]) -> bytes:
    """text[]."""
    return array(25, [None if value is None else value.encode() for value in values])


def uuids(values: Iterable[str | None]) -> bytes:
    """uuid[], of their usual text."""
    return array(2950, [None if value is None else bytes.fromhex(value.replace("-", "")) for value in values])


def byteas(values: Iterable[Value]) -> bytes:
    """bytea[]."""
    return array(17, list(values))


_NULL = struct.pack("!i", -1)
_LENGTH = struct.Struct("!i").pack
_INT64 = struct.Struct("!q").pack
_INT16 = struct.Struct("!h").pack
