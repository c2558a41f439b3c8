# SPDX-License-Identifier: Apache-2.0
"""Many transactions in flight from one thread: libpq's non-blocking calls under one epoll, a connection each.

As light as a client in Python gets, so that on a small machine what is measured is the database and not its caller.
What a connection does is a `Writer`: it begins a transaction, and is asked after each answer whether that was all. An
entry of the ledger is done once it is sealed: `Sealed` listens for the sealer's notification and reads which are new.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Protocol, Self

from msgspec import Struct, field
from psycopg import pq
from psycopg.pq import abc

GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
STUCK_S = 60.0


class Writer(Protocol):
    """One way to write; shared by all connections of a flight."""

    watched: bool  # whether a transaction is done only once `Sealed` has seen its key

    def prepare(self, conn: abc.PGconn) -> None:
        """What a new connection needs."""

    def begin(self, conn: abc.PGconn) -> bytes:
        """Send the first statement of a transaction; its key."""

    def answered(self, conn: abc.PGconn, result: abc.PGresult) -> bool:
        """Whether the transaction is committed; if not, its next statement is on the way."""


class Window(Struct):
    """What ended in a stretch of time: seconds, transactions, and how long each took to its commit and to its end."""

    seconds: float = 0.0
    commit_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Transactions a second."""
        return len(self.done_s) / self.seconds


def connect(conninfo: str) -> abc.PGconn:
    """A connection, opened and waited for."""
    conn = pq.PGconn.connect(conninfo.encode())
    if conn.status != pq.ConnStatus.OK:
        raise RuntimeError(conn.error_message.decode(errors="replace"))
    return conn


def run(conn: abc.PGconn, statement: bytes) -> abc.PGresult:
    """One statement, waited for."""
    return checked(conn.exec_(statement))


def checked(result: abc.PGresult | None) -> abc.PGresult:
    """The result of what went well."""
    if result is None or result.status not in GOOD:
        raise RuntimeError("no answer" if result is None else result.error_message.decode(errors="replace"))
    return result


class Sealed:
    """Which entries are sealed, as one who waits for them finds out: a notification a batch, then a read of the log."""

    def __init__(self, conninfo: str) -> None:
        self.conn = connect(conninfo)
        run(self.conn, b"LISTEN qcos_sealed")
        self._next = int(run(self.conn, _SIZE).get_value(0, 0) or b"0")
        checked(self.conn.prepare(b"new", _NEW, [20]))
        self._asking = self._again = False

    def readable(self) -> list[bytes]:
        """Called when the connection has something: the ids (16 bytes) that are newly known to be sealed."""
        self.conn.consume_input()
        found: list[bytes] = []
        while True:
            # Anew after each answer: what was notified behind it is parsed only then, and nothing may wake us again.
            while self.conn.notifies() is not None:
                self._again = True
            if not self._asking:
                if not self._again:
                    return found
                self.conn.send_query_prepared(b"new", [b"%d" % self._next], result_format=1)
                self._asking, self._again = True, False
            if self.conn.is_busy():
                return found
            if (result := self.conn.get_result()) is None:
                self._asking = False
            else:
                checked(result)
                self._next += result.ntuples
                found += [one for row in range(result.ntuples) if (one := result.get_value(row, 0)) is not None]


class _Flying(Struct):
    began: float
    conn: abc.PGconn
    committed: bool = False
    sealed: bool = False


class Flight:
    """Connections that each begin a transaction as soon as the one before is done; use as a context."""

    def __init__(self, conninfo: str, writer: Writer, in_flight: int, sealed: str | None = None) -> None:
        """`sealed` is the login of whoever watches the log, where the writer is watched."""
        self._writer = writer
        self._conns = [connect(conninfo) for _ in range(in_flight)]
        for conn in self._conns:
            writer.prepare(conn)
        self._by_socket = {conn.socket: conn for conn in self._conns}
        self._sealed = Sealed(sealed) if writer.watched and sealed is not None else None
        self._flying: dict[bytes, _Flying] = {}
        self._key: dict[int, bytes] = {}  # of the transaction that a socket is busy with
        self.done = 0  # transactions since the beginning, those of ramps too
        self._epoll = select.epoll()
        for socket in self._by_socket:
            self._epoll.register(socket, select.EPOLLIN)
        if self._sealed is not None:
            self._epoll.register(self._sealed.conn.socket, select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for conn in [*self._conns, *([self._sealed.conn] if self._sealed else [])]:
            conn.finish()
        self._epoll.close()

    def run(self, ramp_s: float, window_s: float) -> Window:
        """What ended within the window, after a ramp; what is then in flight is waited for."""
        for conn in self._conns:
            self._begin(conn)
        self._until(time.perf_counter() + ramp_s, Window())
        window, began = Window(), time.perf_counter()
        self._until(began + window_s, window)
        window.seconds = time.perf_counter() - began
        self._until(time.perf_counter() + STUCK_S, Window(), last=True)
        return window

    def count(self, count: int, limit_s: float) -> None:
        """At least `count` transactions, all connections at once, or as many as `limit_s` allows."""
        until = self.done + count
        for conn in self._conns:
            self._begin(conn)
        end = time.perf_counter() + limit_s
        while self.done + len(self._conns) < until and (now := time.perf_counter()) < end:
            self._until(min(end, now + 0.1), Window())
        self._until(time.perf_counter() + STUCK_S, Window(), last=True)

    def each(self, count: int) -> Window:
        """`count` transactions, one after the other on one connection."""
        window, began = Window(), time.perf_counter()
        for _ in range(count):
            self._begin(self._conns[0])
            self._until(time.perf_counter() + STUCK_S, window, last=True)
        window.seconds = time.perf_counter() - began
        return window

    def _begin(self, conn: abc.PGconn) -> None:
        began = time.perf_counter()
        key = self._writer.begin(conn)
        self._flying[key] = _Flying(began, conn)
        self._key[conn.socket] = key

    def _until(self, end: float, window: Window, *, last: bool = False) -> None:
        """Go on until `end`; with `last` begin nothing and return once nothing is in flight."""
        while (left := end - time.perf_counter()) > 0 and (self._flying or not last):
            before = self.done
            for socket, _ in self._epoll.poll(min(left, 1.0)):
                done = self._answered(socket) if socket in self._by_socket else self._seen()
                for key in done:
                    one = self._flying.pop(key)
                    self.done += 1
                    window.done_s.append(time.perf_counter() - one.began)
                    if not last:
                        self._begin(one.conn)
            if last and self.done > before:
                end = time.perf_counter() + STUCK_S
        if self._flying and last:
            raise RuntimeError(f"{len(self._flying)} transactions are not done after {STUCK_S:.0f} s")

    def _answered(self, socket: int) -> Sequence[bytes]:
        conn = self._by_socket[socket]
        conn.consume_input()
        result: abc.PGresult | None = None
        while not conn.is_busy():
            if (more := conn.get_result()) is None:
                break
            result = checked(more)
        else:
            return ()
        if result is None or not self._writer.answered(conn, result):
            return ()
        key = self._key[socket]
        one = self._flying[key]
        one.committed = True
        return (key,) if one.sealed or self._sealed is None else ()

    def _seen(self) -> list[bytes]:
        done = []
        for key in self._sealed.readable() if self._sealed else ():
            if (one := self._flying.get(key)) is not None:
                one.sealed = True
                if one.committed:
                    done.append(key)
        return done


_SIZE = b"SELECT coalesce(max(size), 0) FROM ledger.checkpoint"
_NEW = b'SELECT entry_id FROM ledger.entry WHERE "index" >= $1 ORDER BY "index"'
