# SPDX-License-Identifier: Apache-2.0
"""What a served simulator remembers of each token: in memory, or durably in a folder of its own.

With a folder a token is on disk before its task starts, and its end before anybody is told of it; a forgotten one
leaves a mark. So after a restart a token that isn't there never ran, or was interrupted and gave nothing: unknown is
proof (``authoritative``). Without one, a restart forgets everything, and unknown proves nothing. One server a folder,
by a lock that the kernel frees with the process. Marks are never removed here: an emptied folder would lie.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from hal_drivers.base import Outcome, Status

MEMORY_BYTES = 256 << 20
"""Results kept without a folder; the oldest go first, and are unknown then."""


class Kept(Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a token: ``status`` is None while it runs, ``body`` the hash of what was submitted."""

    body: str
    status: Status | None = None
    outcome: Outcome | None = None
    forgotten: bool = False


class Keep(Protocol):
    """Where ends are kept."""

    authoritative: bool

    def read(self, token: str) -> Kept | None:
        """What is known of a token."""
        ...

    def write(self, token: str, kept: Kept) -> None:
        """Durable, as far as this keep is, once it returns."""
        ...

    def close(self) -> None:
        """Let another server have it."""
        ...


class InMemory:
    """Forgets with the process."""

    authoritative = False

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._bytes = 0

    def read(self, token: str) -> Kept | None:
        """What is known of a token."""
        found = self._kept.get(token)
        return None if found is None else msgspec.msgpack.decode(found, type=Kept)

    def write(self, token: str, kept: Kept) -> None:
        """Replaces what was known."""
        data = msgspec.msgpack.encode(kept)
        self._bytes += len(data) - len(self._kept.pop(token, b""))
        self._kept[token] = data
        while self._bytes > MEMORY_BYTES:
            self._bytes -= len(self._kept.pop(next(iter(self._kept))))

    def close(self) -> None:
        """There is nothing to give up."""


class InFolder:
    """A file a token, named by the token's hash."""

    authoritative = True

    def __init__(self, folder: Path) -> None:
        """Take the folder; OSError where it can't be used or another server has it."""
        self._tasks = folder / "tasks"
        self._tasks.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise OSError(f"another simulator keeps its results in {folder}") from None
        for path in self._tasks.iterdir():
            if path.suffix == ".part" or self._interrupted(path):
                path.unlink()

    def _interrupted(self, path: Path) -> bool:
        """A task that ran as the last server ended: nothing of it runs any more, and nobody was given a result."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=Kept).status is None
        except msgspec.DecodeError:
            raise OSError(f"{path} is no record of this program") from None

    def _path(self, token: str) -> Path:
        return self._tasks / f"{hashlib.sha256(token.encode()).hexdigest()}.json"

    def read(self, token: str) -> Kept | None:
        """What is known of a token."""
        try:
            return msgspec.json.decode(self._path(token).read_bytes(), type=Kept)
        except FileNotFoundError:
            return None

    def write(self, token: str, kept: Kept) -> None:
        """Replaces what was known, as a whole, and syncs it."""
        path = self._path(token)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(self._tasks, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let another server have the folder."""
        self._lock.close()
