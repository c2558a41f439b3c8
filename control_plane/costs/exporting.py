# SPDX-License-Identifier: Apache-2.0
"""A FOCUS file of a tenant's charges, piece by piece, whatever its size (G7).

Enters a plane, a tenant and a selection; leaves the file's bytes. One snapshot is copied out of the database by a
thread with a connection of its own, which ends with it; between that thread and whoever reads lie a few pieces, never
the month. A reader who goes away ends the copy. The lines of a closed month stay, and so do the bytes of its CSV file:
`digest` is what its statement says of it. What breaks off raises, and a Parquet file without its end is none.
"""

from __future__ import annotations

import asyncio
import importlib.util
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import psycopg
from msgspec import Struct

from control_plane.context import Plane
from control_plane.db import conninfo
from control_plane.errors import DatabaseUnusable
from control_plane.places import Places
from finops.focus.errors import FocusRefused

if TYPE_CHECKING:
    import pyarrow as pa

    from finops.focus.selection import Selection

AT_ONCE = 2  # in one process: each has a connection and a thread for as long as it lasts
_LIMIT_MS = 600_000
_PIECES = 8
_PIECE = 1 << 18
_JOINED = 1 << 20
_places = Places(AT_ONCE)


class Digest(Struct, frozen=True):
    """The file of a month as its statement names it: hash, lines, and how many of those no log holds yet."""

    sha256: str
    lines: int
    unsealed: int


class Form(Struct, frozen=True):
    """Which file: FOCUS version and format; both judged by whoever writes it."""

    version: str
    format: str


def check(form: Form) -> None:
    """Refuse a file that can't be made, before its first byte; raises FocusRefused."""
    from finops.focus.columns import FORMATS, of

    of(form.version)
    if form.format not in FORMATS:
        raise FocusRefused(f"no format {form.format[:16]}; there are {', '.join(FORMATS)}", field="format")
    _arrow()


async def stream(plane: Plane, tenant: str, selection: Selection, form: Form) -> AsyncIterator[bytes]:
    """The file's bytes, as they are made."""
    check(form)
    from finops.focus import writers
    from finops.focus.shape import Parties

    parties = Parties(tenant, plane.name)
    async with _places.turn(tenant):

        def work(pieces: _Pieces) -> None:
            tables = _tables(plane, tenant, selection, pieces.gone)
            writers.write(pieces, tables, form.version, form.format, parties)

        made = _made(work)
        async with aclosing(made):
            async for piece in made:
                yield piece


async def digest(plane: Plane, tenant: str, month: str) -> Digest:
    """What the statement of a month says of its CSV file of FOCUS 1.2: `sha256sum` of that file gives the same."""
    _arrow()
    from finops.focus import writers
    from finops.focus.selection import Selection
    from finops.focus.shape import Parties

    def work() -> Digest:
        unsealed = 0

        def counted() -> Iterator[pa.Table]:
            nonlocal unsealed
            for table in _tables(plane, tenant, Selection(month=month), threading.Event()):
                unsealed += table["index"].null_count
                yield table

        found, lines = writers.digest(counted(), "1.2", "csv", Parties(tenant, plane.name))
        return Digest(found, lines, unsealed)

    async with _places.turn(tenant):
        return await asyncio.to_thread(work)


def _arrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise FocusRefused("this plane has no pyarrow; install it with the extra finops", field="format")


def _tables(plane: Plane, tenant: str, selection: Selection, gone: threading.Event) -> Iterator[pa.Table]:
    from finops.focus import rows

    return rows.tables(_copied(plane, tenant, selection, gone))


def _copied(plane: Plane, tenant: str, selection: Selection, gone: threading.Event) -> Iterator[bytes]:
    """The lines as the database copies them out, about a megabyte at a time; as of one moment."""
    from finops.focus import rows

    statement, values = rows.query(tenant, selection)
    place = conninfo(plane.engine.url.render_as_string(hide_password=False))
    with psycopg.connect(place, application_name="qcos-export", connect_timeout=10) as conn, conn.cursor() as cursor:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        cursor.execute(_SETTINGS, {"tenant": tenant, "limit": str(_LIMIT_MS)})
        with cursor.copy(statement, values) as copy:
            kept: list[bytes | bytearray | memoryview] = []
            size = 0
            for row in copy:
                kept.append(row)
                size += len(row)
                if size >= _JOINED:
                    if gone.is_set():
                        raise _Gone
                    yield b"".join(kept)
                    kept, size = [], 0
            yield b"".join(kept)


class _Gone(Exception):
    """Nobody reads any more."""


class _Pieces:
    """The sink of the writing thread: pieces of some size, of which only a few wait to be read."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(_PIECES)
        self.gone = threading.Event()
        self._kept = bytearray()

    def write(self, data: bytes) -> int:
        self._kept += data
        if len(self._kept) >= _PIECE:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._kept:
            self.put(bytes(self._kept))
            self._kept.clear()

    def put(self, piece: bytes | BaseException | None) -> None:
        while not self.gone.is_set():
            try:
                self.waiting.put(piece, timeout=0.2)
            except queue.Full:
                continue
            return
        raise _Gone

    def next(self) -> bytes | BaseException | None:
        """The next piece; waits for it, but not for one that nobody will make."""
        while not self.gone.is_set():
            try:
                return self.waiting.get(timeout=0.2)
            except queue.Empty:
                continue
        return None


async def _made(work: Callable[[_Pieces], object]) -> AsyncGenerator[bytes, None]:
    """What the work writes in a thread of its own; ends that thread when the reader goes."""
    pieces = _Pieces()

    def run() -> None:
        try:
            try:
                work(pieces)
                pieces.flush()
                pieces.put(None)
            except _Gone:
                raise
            except psycopg.Error as error:
                pieces.put(DatabaseUnusable(f"the export broke off: {type(error).__name__}"))
            except BaseException as error:  # noqa: BLE001 - told to the reader, who raises it
                pieces.put(error)
        except _Gone:
            pass

    thread = threading.Thread(target=run, name="focus-export", daemon=True)
    thread.start()
    try:
        while True:
            piece = await asyncio.to_thread(pieces.next)
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        pieces.gone.set()
        await asyncio.shield(asyncio.to_thread(thread.join))


_SETTINGS = """
    SELECT set_config('qcos.tenant', %(tenant)s, true), set_config('statement_timeout', %(limit)s, true),
           set_config('work_mem', '128MB', true), set_config('jit', 'off', true)
"""
