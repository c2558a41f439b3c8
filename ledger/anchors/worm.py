# SPDX-License-Identifier: Apache-2.0
"""A folder of files that are written once: on WORM storage, a mounted share of another machine, or just another disk.

One file a head, `ORIGIN-HASH/SIZE.note`, made with O_EXCL, synced, mode 0444. `immutable` asks the file system for more
(`chattr +i`): where the kernel grants it not even root changes the file without taking the flag off, and that needs a
capability that the plane's user lacks. Without WORM storage beneath, a mode stops mistakes and not root: `said` tells.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import hashlib
import os
from pathlib import Path

from ledger import checkpoint
from ledger.anchors.base import MAX_READ, file_name
from ledger.errors import AnchorAway
from ledger.keys import sync_folder

_GETFLAGS, _SETFLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10  # linux/fs.h, 64 bit


class WormFolder:
    """Notes in a folder."""

    def __init__(self, folder: Path, *, immutable: bool = False) -> None:
        """`folder` is made if it isn't there; `immutable` is asked for and said, never demanded."""
        self.folder, self._immutable = folder, immutable
        self.said = ""

    def put(self, note: bytes) -> str:
        """Write the file, unless it is there."""
        head = checkpoint.parse(note)
        try:
            path = self._of(head.origin) / file_name(head)
            write_once(path, note)
            if self._immutable:
                self.said = "immutable" if _make_immutable(path) else "not immutable: the file system refuses"
        except OSError as error:
            raise AnchorAway(f"{self.folder}: {error.strerror or error}") from error
        return str(path)

    def heads(self) -> list[bytes]:
        """The notes of every log, largest first."""
        try:
            paths = sorted(self.folder.glob("*/*.note"), key=lambda path: path.name, reverse=True)
            return [path.read_bytes() for path in paths[:MAX_READ]]
        except OSError as error:
            raise AnchorAway(f"{self.folder}: {error.strerror or error}") from error

    def _of(self, origin: str) -> Path:
        folder = self.folder / hashlib.sha256(origin.encode()).hexdigest()[:16]
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        return folder


def write_once(path: Path, data: bytes) -> None:
    """A new file of mode 0444, durable and whole; one that is there stays as it is, whatever it holds."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(part, path)  # unlike rename, fails where a file already is
    finally:
        part.unlink()
    sync_folder(path.parent)


def _make_immutable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            flags = array.array("l", [0])
            fcntl.ioctl(file, _GETFLAGS, flags, True)
            flags[0] |= _IMMUTABLE
            fcntl.ioctl(file, _SETFLAGS, flags)
    except OSError:
        return False
    return True
