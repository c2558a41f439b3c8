# SPDX-License-Identifier: Apache-2.0
"""The log's head kept outside the database: one file with the newest checkpoint note.

It is what a restored or rolled-back database is compared with. Replaced whole (write, fsync, rename, fsync of
the folder), by a thread and at most 20 times a second: it trails the commit a little and never holds the log
up. A note that was superseded meanwhile is skipped. It MUST only ever receive notes whose commit is certain.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ledger.keys import sync_folder

PAUSE_S = 0.05  # between two writes: each costs two fsyncs, on the disk that commits may wait for


def read_head(path: Path) -> bytes | None:
    """The kept note; None if nothing was kept yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write_head(path: Path, note: bytes) -> None:
    """Replace the kept note, durably."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


class HeadKeeper:
    """Writes the newest note it was given, one at a time, in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._newest: bytes | None = None
        self._wanted = asyncio.Event()

    def keep(self, note: bytes) -> None:
        """Ask for this note to be kept instead of earlier ones; returns at once."""
        self._newest = note
        self._wanted.set()

    async def run(self) -> None:
        """Keep what is asked for, until cancelled; the last one is kept before the cancellation goes on."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if (note := self._newest) is not None:
                    await asyncio.to_thread(write_head, self._path, note)
                    await asyncio.sleep(PAUSE_S)
        finally:
            if self._newest is not None:
                write_head(self._path, self._newest)
