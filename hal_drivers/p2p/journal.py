# SPDX-License-Identifier: Apache-2.0
"""The fabric's journal: what happened on the network, line by line, durable before anybody is told of it (N10).

Each line is JSON with an event and a hash over the hash before and the event's canonical bytes, so that the last hash
stands for all of it; the plane keeps that hash in its ledger. Files turn over by size, each begins with a checkpoint
line that carries the chain on, and the oldest go. Read again at the start: a last line that a crash cut short is taken
away and said; anything else that doesn't fit refuses the start. Events lie on disk, in memory only where they begin.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Struct

from hal_drivers.p2p.errors import FabricUnusable
from hal_drivers.p2p.ir import canonical
from hal_drivers.p2p.office import MAX_OFFICE_FRAME, Event, EventKind, EventsAre

_FIRST_HEAD = "0" * 64
_ANSWER_BYTES = MAX_OFFICE_FRAME // 2


class Line(Struct, frozen=True, forbid_unknown_fields=True, tag="event"):
    """An event, and the hash of all up to it."""

    event: Event
    head: str


class Checkpoint(Struct, frozen=True, forbid_unknown_fields=True, tag="checkpoint"):
    """The first line of each file: the last event before it and the hash up to there."""

    seq: int
    head: str
    at: str


_line: msgspec.json.Decoder[Line | Checkpoint] = msgspec.json.Decoder(Line | Checkpoint)


class _File:
    """One file: its first event's number, and where each of its events begins."""

    def __init__(self, path: Path, before: Checkpoint) -> None:
        self.path = path
        self.before = before
        self.starts = array("Q")


class Journal:
    """The journal in one folder; one process writes it."""

    def __init__(self, folder: Path, largest: int = 64 << 20, files: int = 8) -> None:
        self._folder = folder
        self._largest = largest
        self._most = files
        self._files: list[_File] = []
        self._handle = -1
        self._size = 0
        self.last = 0
        self._head = _FIRST_HEAD
        self._durable = (0, _FIRST_HEAD)
        self._written = trio.Event()
        self._told = trio.Event()
        self._open()

    @property
    def first(self) -> int:
        """The oldest event that is kept; 0: none yet."""
        return self._files[0].before.seq + 1 if self.last > self._files[0].before.seq else 0

    @property
    def durable(self) -> tuple[int, str]:
        """The last event that a crash can't take back, and the hash up to it."""
        return self._durable

    def append(self, kind: EventKind, **fields: Any) -> Event:
        """Write an event; it is durable once :meth:`until` has returned for its number."""
        event = Event(seq=self.last + 1, at=now(), kind=kind, **fields)
        head = _chained(self._head, event)
        data = canonical(Line(event, head)) + b"\n"
        if self._size + len(data) > self._largest and self.last > self._files[-1].before.seq:
            self._turn()
        self._files[-1].starts.append(self._size)
        _write(self._handle, data)
        self._size += len(data)
        self.last, self._head = event.seq, head
        self._written.set()
        return event

    async def until(self, seq: int) -> None:
        """Return once the event with this number is durable."""
        while self._durable[0] < seq:
            await self._told.wait()

    async def keep(self) -> None:
        """Make durable what is written, for ever: one fsync for all that came meanwhile."""
        while True:
            await self._written.wait()
            self._written = trio.Event()
            mark, handle = (self.last, self._head), self._handle
            await trio.to_thread.run_sync(os.fdatasync, handle)
            self._tell(mark)

    async def events(self, after: int, limit: int, wait_s: float) -> EventsAre:
        """Durable events after this one; waits for the first so long. ``lost``: how many were dropped before."""
        with trio.move_on_after(wait_s):
            while self._durable[0] <= after:
                await self._told.wait()
        lost = max(0, self._files[0].before.seq - after)
        found: list[Event] = []
        size = 0
        head = self._files[0].before.head if lost else ""
        for line, length in self._read(after + lost, self._durable[0]):
            size += length
            if found and (size > _ANSWER_BYTES or len(found) >= limit):
                break
            found.append(line.event)
            head = line.head
        return EventsAre(tuple(found), head or self._durable[1], lost)

    def close(self) -> None:
        """Make all durable and let go."""
        os.fdatasync(self._handle)
        os.close(self._handle)

    def _tell(self, mark: tuple[int, str]) -> None:
        self._durable = max(self._durable, mark)
        self._told.set()
        self._told = trio.Event()

    def _turn(self) -> None:
        os.fdatasync(self._handle)
        os.close(self._handle)
        self._durable = (self.last, self._head)
        self._begin()
        while len(self._files) > self._most:
            self._files.pop(0).path.unlink()

    def _begin(self) -> None:
        before = Checkpoint(self.last, self._head, now())
        path = self._folder / f"journal-{self.last + 1:012}.jsonl"
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        data = canonical(before) + b"\n"
        _write(self._handle, data)
        self._size = len(data)
        os.fdatasync(self._handle)
        _sync_folder(self._folder)
        self._files.append(_File(path, before))

    def _read(self, after: int, up_to: int) -> Iterator[tuple[Line, int]]:
        for file in self._files:
            number = max(after - file.before.seq, 0)
            if number >= len(file.starts):
                continue
            with file.path.open("rb") as data:
                data.seek(file.starts[number])
                for raw in data:
                    line = _line.decode(raw)
                    if not isinstance(line, Line) or line.event.seq > up_to:
                        return
                    yield line, len(raw)

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = sorted(self._folder.glob("journal-*.jsonl"))
        cut = 0
        for number, path in enumerate(paths):
            cut += self._take(path, is_last=number == len(paths) - 1)
        if self._files:
            self._handle = os.open(self._files[-1].path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._size = os.fstat(self._handle).st_size
        else:
            self._begin()
        before = self._head
        if cut:
            self.append("journal:mended", facts={"bytes": cut})
        self.append("journal:opened", facts={"first": self.first, "head": before})
        os.fdatasync(self._handle)
        self._durable = (self.last, self._head)

    def _take(self, path: Path, *, is_last: bool) -> int:
        """Read a file anew; how many bytes a crash had left of a last line, which are gone now."""
        place, file = 0, None
        with path.open("rb") as data:
            for raw in data:
                try:
                    if not raw.endswith(b"\n"):
                        raise msgspec.DecodeError("it is cut off")
                    line = _line.decode(raw)
                    file = self._fit(file, line, path, place)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    if not is_last or data.read(1):
                        raise FabricUnusable(f"{path}, byte {place}: {error}; the journal was changed") from None
                    break
                place += len(raw)
        cut = path.stat().st_size - place
        if cut:
            os.truncate(path, place)
        if file is None:  # not even its checkpoint was written
            path.unlink()
        return cut

    def _fit(self, file: _File | None, line: Line | Checkpoint, path: Path, place: int) -> _File:
        if isinstance(line, Checkpoint):
            if file is not None or (self._files and (line.seq, line.head) != (self.last, self._head)):
                raise FabricUnusable(f"{path}, byte {place}: a checkpoint that doesn't continue the journal")
            file = _File(path, line)
            self._files.append(file)
            self.last, self._head = line.seq, line.head
            return file
        if file is None or line.event.seq != self.last + 1 or line.head != _chained(self._head, line.event):
            raise FabricUnusable(f"{path}, byte {place}: event {line.event.seq} doesn't continue the journal")
        file.starts.append(place)
        self.last, self._head = line.event.seq, line.head
        return file


def _chained(head: str, event: Event) -> str:
    return hashlib.sha256(bytes.fromhex(head) + canonical(event)).hexdigest()


def now() -> str:
    """The fabric's clock, in RFC 3339 and UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
