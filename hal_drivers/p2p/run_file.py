# SPDX-License-Identifier: Apache-2.0
"""One run on disk: the order, then its events as they come, durable before anybody acts on them (N6).

A file is a line of JSON for the order and one for each batch of events; a last line that a crash has cut is as if it
had never been written, for nothing was done on it. A run that is over is read from here whenever it is asked for, so
that memory holds only those that run. A file that is made costs a sync of its folder too: so empty ones are made
beforehand, many with one sync, and a run takes one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from hal_drivers.p2p.asking import Order
from hal_drivers.p2p.run_state import Progress, RunEvent

log = logging.getLogger("qcos.p2p")
_SPARES = 32
_events: msgspec.json.Decoder[tuple[RunEvent, ...]] = msgspec.json.Decoder(tuple[RunEvent, ...])


class Head(Struct, frozen=True, forbid_unknown_fields=True):
    """What was ordered; ``until_s`` is the end of its time, in seconds since 1970 by the fabric's clock."""

    order: Order
    until_s: float


class RunFile:
    """Of one run; blocking, for a thread. One process writes it."""

    def __init__(self, folder: Path, token: str) -> None:
        self.path = folder / f"{hashlib.sha256(token.encode()).hexdigest()[:40]}.run"

    def create(self, head: Head, events: tuple[RunEvent, ...] = (), spare: Path | None = None) -> None:
        """With its first events; durable when it returns. ``spare``: an empty file that is durable already."""
        lines = msgspec.json.encode(head) + b"\n" + (msgspec.json.encode(events) + b"\n" if events else b"")
        if spare is not None:
            _write(spare, "r+b", lines)
            spare.rename(self.path)  # a crash may take the new name back: `Spares` gives it again
        else:
            _write(self.path, "xb", lines)
            _sync(self.path.parent)

    def append(self, events: tuple[RunEvent, ...]) -> None:
        """Durable when it returns."""
        _write(self.path, "ab", msgspec.json.encode(events) + b"\n")

    def mend(self) -> None:
        """Cut a last line that has no end, before anything is appended to it; a file without a line goes."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if not whole:
            self.path.unlink()
        elif whole < len(data):
            os.truncate(self.path, whole)

    def read(self) -> tuple[Head, Progress] | None:
        """What was ordered and how far it got; None where there is no such run."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        first, *rest = data.split(b"\n")
        if not rest:
            return None  # a crash has cut the order itself: nothing was done on it
        head = msgspec.json.decode(first, type=Head)
        events = [event for line in rest[:-1] for event in _events.decode(line)]
        return head, Progress(head.order.token, head.order.plan, events)

    def forget(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)


class Spares:
    """The empty files of a folder; one process has them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._empty: list[Path] = []
        self._making = False
        for path in folder.glob("*.spare"):
            _settle(path)
        self.more()

    @property
    def few(self) -> bool:
        """Whether it is time for more."""
        return len(self._empty) <= _SPARES // 2 and not self._making

    def take(self) -> Path | None:
        """One for a new run; None: they are all taken, and the run makes its own."""
        return self._empty.pop() if self._empty else None

    def more(self) -> None:
        """Make some; blocking, for a thread. Where that fails (a full disk) each run makes its own, or is refused."""
        made = [self._folder / f"{secrets.token_hex(8)}.spare" for _ in range(_SPARES)]
        self._making = True
        try:
            for path in made:
                path.touch(exist_ok=False)
            _sync(self._folder)
            self._empty += made
        except OSError as error:
            log.warning("no spare run files: %s", error)
            for path in made:
                path.unlink(missing_ok=True)
        finally:
            self._making = False


def _settle(spare: Path) -> None:
    """What an earlier life had left: a run whose name a crash took back, or nothing."""
    data = spare.read_bytes()
    end = data.find(b"\n")
    if end < 0:
        spare.unlink()
    else:
        spare.rename(RunFile(spare.parent, msgspec.json.decode(data[:end], type=Head).order.token).path)


def all_runs(folder: Path) -> Iterator[RunFile]:
    """Every run that was not forgotten."""
    for path in sorted(folder.glob("*.run")):
        found = RunFile(folder, "")
        found.path = path
        yield found


def _write(path: Path, mode: str, data: bytes) -> None:
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
