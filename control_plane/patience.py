# SPDX-License-Identifier: Apache-2.0
"""How long the database may say nothing: a server that stands still, or a network that swallows, is away (N10).

`within` gives one block on one connection a time limit. When it has passed, the socket is shut down under the driver,
which then sees a lost connection, as of a server that died: nobody has to wait for a cancellation that the same silent
server would have to answer. What was sent may have been done: the caller treats it as a commit that is unclear.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import psycopg


class Patience:
    """Until when one piece of work with the database may last; made when it begins. None is for ever."""

    def __init__(self, limit_s: float | None) -> None:
        """Count from now."""
        self._until = None if limit_s is None else time.monotonic() + limit_s

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, never below 0; None without a limit."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.left_s == 0.0

    @contextlib.contextmanager
    def within(self, driver: psycopg.AsyncConnection[Any]) -> Iterator[None]:
        """Whoever waits for the server in this block gets an OperationalError once the time is up."""
        if self.left_s is None:
            yield
            return
        handle = asyncio.get_running_loop().call_later(self.left_s, _cut, driver)
        try:
            yield
        finally:
            handle.cancel()


def _cut(driver: psycopg.AsyncConnection[Any]) -> None:
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(driver.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
