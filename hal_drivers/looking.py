# SPDX-License-Identifier: Apache-2.0
"""A look at something far away, again and again, so that whoever asks about it is answered at once.

While it is entered, ``look`` runs at once and then every ``every_s``; entering waits for the first look, but no longer
than ``first_s``: what doesn't answer is offline and holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Self


class Looking:
    """One thing that is looked at."""

    def __init__(self, look: Callable[[], Coroutine[None, None, None]], every_s: float, first_s: float) -> None:
        """``look`` keeps what it finds, and why it finds nothing; what it raises is an error of the program."""
        self._look, self._every_s, self._first_s = look, every_s, first_s
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        first = asyncio.create_task(self._look())
        self._task = asyncio.create_task(self._on(first))
        done, _ = await asyncio.wait({first}, timeout=self._first_s)
        for look in done:
            look.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _on(self, first: asyncio.Task[None]) -> None:
        await first
        while True:
            await asyncio.sleep(self._every_s)
            await self._look()
