# SPDX-License-Identifier: Apache-2.0
"""Spans or log lines on their way out: a bounded queue and one thread that sends batches (G8).

Whoever puts never waits and never fails. What doesn't fit, and what the receiver didn't take, is lost and counted;
the plane goes on as if nothing were there.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Sends what is put, `batch` at a time, or what there is after `interval_s`; `send` tells whether it was taken."""

    def __init__(
        self, send: Callable[[Sequence[T]], bool], *, queue: int, batch: int, interval_s: float, name: str
    ) -> None:
        """Start the thread."""
        self.overflowed = 0
        self.refused = 0
        self.sent = 0
        self._send = send
        self._waiting: deque[T] = deque(maxlen=queue)
        self._batch, self._interval_s = batch, interval_s
        self._wake = threading.Event()
        self._closing = False
        self._counting = threading.Lock()
        self._over = False
        self._under_way = 0
        self._thread = threading.Thread(target=self._run, name=f"telemetry {name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, item: T) -> None:
        """Queue one; the oldest goes where there is no room."""
        waiting = self._waiting
        if len(waiting) == waiting.maxlen:
            self.overflowed += 1
        waiting.append(item)
        if len(waiting) >= self._batch and not self._wake.is_set():
            self._wake.set()

    def close(self, limit_s: float) -> None:
        """Send what waits, as far as the time goes; what is left then, or under way, is counted as lost."""
        self._closing = True
        self._wake.set()
        self._thread.join(limit_s)
        with self._counting:
            self._over = True
            self.refused += len(self._waiting) + self._under_way
            self._waiting.clear()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while items := self._next():
            taken = self._taken(items)
            with self._counting:
                if self._over:
                    return
                self._under_way = 0
                if taken:
                    self.sent += len(items)
                else:
                    self.refused += len(items)
            if len(self._waiting) < self._batch and not self._closing:
                return

    def _next(self) -> list[T]:
        with self._counting:
            if self._over:
                return []
            items: list[T] = []
            with contextlib.suppress(IndexError):
                while len(items) < self._batch:
                    items.append(self._waiting.popleft())
            self._under_way = len(items)
            return items

    def _taken(self, items: Sequence[T]) -> bool:
        try:
            return self._send(items)
        except Exception:  # noqa: BLE001 - whatever an exporter raises, this thread goes on and counts
            return False
