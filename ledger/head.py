# SPDX-License-Identifier: Apache-2.0
"""The log's head kept outside the database: one file with the newest checkpoint note.

It is what a restored or rolled-back database is compared with. Replaced whole (write, fsync, rename, fsync of
the folder), by a thread and at most 20 times a second: it trails the commit a little and never holds the log
up. A note that was superseded meanwhile is skipped. It MUST only ever receive notes whose commit is certain, and
it never goes back: a sealer that stood still and wakes up finds the head of the one that took over. While it can't be
written, `HeadKeeper.fault` says why, and whoever seals MUST stop: what is sealed meanwhile could be taken back unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

from ledger import checkpoint
from ledger.errors import HeadUnwritable, LedgerError
from ledger.keys import sync_folder

PAUSE_S = 0.05  # between two writes: each costs two fsyncs, on the disk that commits may wait for
AGAIN_S = 0.5  # before a head that can't be written is tried again


def read_head(path: Path) -> bytes | None:
    """The kept note; None if nothing was kept yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write_head(path: Path, note: bytes) -> None:
    """Replace the kept note, durably, unless the kept one is of the same log and no smaller."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _grows(read_head(path), note):
            return
        part = path.with_name(f".{path.name}.{os.getpid()}")
        with part.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)


def _grows(kept: bytes | None, note: bytes) -> bool:
    if kept is None:
        return True
    was, will = checkpoint.parse(kept), checkpoint.parse(note)
    return was.origin != will.origin or was.size < will.size


class HeadKeeper:
    """Writes the newest note it was given, one at a time, in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._newest: bytes | None = None
        self._wanted = asyncio.Event()
        self.fault: HeadUnwritable | None = None

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
                try:
                    await asyncio.to_thread(self._write)
                except (OSError, LedgerError) as error:
                    self.fault = HeadUnwritable(self._path, error)
                    self._wanted.set()
                    await asyncio.sleep(AGAIN_S)
                else:
                    self.fault = None
                    await asyncio.sleep(PAUSE_S)
        finally:
            with contextlib.suppress(OSError, LedgerError):
                self._write()

    def _write(self) -> None:
        if self._newest is not None:
            write_head(self._path, self._newest)
