# SPDX-License-Identifier: Apache-2.0
"""What a service node did before: the answer of each fragment's newest attempt, on disk, so that a node that was
restarted says the same again, or that it has forgotten. A fragment is never run twice under one epoch.

Bounded in number and in bytes; the oldest go first. Files appear whole. They aren't fsynced: a machine that loses its
power loses its windows too, and without a window nothing runs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

MOST = 10_000
MOST_BYTES = 256 << 20
LIFE = 1_000_000
"""How many fences and serials one life of a node may use."""


class Attempt(Struct, frozen=True, forbid_unknown_fields=True):
    """The newest attempt of a fragment that began here; ``answer`` None: it began, and its end was never written."""

    token: str
    fragment_id: str
    epoch: int
    answer: bytes | None = None


class Past:
    """Of one node, below its home; one process at a time."""

    def __init__(self, home: Path, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._folder = home / "answers"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._most, self._most_bytes = most, most_bytes
        found = sorted(
            (path.stat().st_mtime_ns, path.name, path.stat().st_size) for path in self._folder.glob("*.json")
        )
        self._sizes = {name: size for _, name, size in found}
        self._bytes = sum(self._sizes.values())
        self.life = _next_life(home / "life")

    def find(self, token: str, fragment_id: str) -> Attempt | None:
        """The newest attempt that is known; a file that can't be read is one that began and never ended."""
        name = _name(token, fragment_id)
        if name not in self._sizes:
            return None
        try:
            return msgspec.json.decode((self._folder / name).read_bytes(), type=Attempt)
        except (OSError, msgspec.DecodeError):
            return Attempt(token, fragment_id, 2**62)

    def keep(self, attempt: Attempt) -> None:
        """In place of what was known of the fragment."""
        name = _name(attempt.token, attempt.fragment_id)
        data = msgspec.json.encode(attempt)
        part = self._folder / f".{name}"
        part.write_bytes(data)
        part.replace(self._folder / name)
        self._bytes += len(data) - self._sizes.pop(name, 0)
        self._sizes[name] = len(data)
        while len(self._sizes) > self._most or (self._bytes > self._most_bytes and len(self._sizes) > 1):
            oldest = next(iter(self._sizes))
            self._bytes -= self._sizes.pop(oldest)
            (self._folder / oldest).unlink(missing_ok=True)


def _name(token: str, fragment_id: str) -> str:
    return hashlib.sha256(f"{token}\0{fragment_id}".encode()).hexdigest()[:40] + ".json"


def _next_life(path: Path) -> int:
    """Rises with each start, so that fences and serials rise over all of them."""
    try:
        life = int(path.read_text()) + 1
    except (OSError, ValueError):
        life = 1
    part = path.with_name(f".{path.name}")
    part.write_text(str(life))
    part.replace(path)
    return life
