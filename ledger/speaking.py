# SPDX-License-Identifier: Apache-2.0
"""Which keys speak where a walk through the log stands: each rotation is followed at its own checkpoint.

What a rotation begins is known before the walk, so that no later key speaks for an earlier place; what it ends, from
its checkpoint on. A rotation that doesn't hold is reported by its entry and followed all the same: what comes after it
was signed by the keys that it names, and is not what was changed. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ledger.canonical import sha256
from ledger.errors import LeafInvalid
from ledger.rotation import Rotation, check, parse_rotation


class Speaking:
    """Keys (SPKI) of a log, and its rotations as they are stored."""

    def __init__(self, publics: Iterable[bytes], rotations: Sequence[Rotation]) -> None:
        self._publics = {sha256(public): public for public in publics}
        self._silent = {key.public_sha256 for one in rotations for key in one.statement.begun}
        self._told: tuple[int, Rotation] | None = None

    def now(self, publics: Iterable[bytes]) -> list[bytes]:
        """Those of these keys that speak here."""
        return [public for public in publics if sha256(public) not in self._silent]

    def told(self, index: int, body: bytes | msgspec.Raw, origin: str) -> None:
        """An entry that tells of a rotation; LeafInvalid says why it doesn't hold."""
        found = parse_rotation(body)
        self._told = (index, found)
        if found.statement.origin != origin:
            raise LeafInvalid(f"a rotation of another log: {found.statement.origin}")
        if any(key.public_sha256 in self._silent for key in found.statement.ended):
            raise LeafInvalid("a rotation that ends keys that do not speak")
        check(found, self._publics)

    def passed(self, size: int) -> str | None:
        """A checkpoint was passed: whether its rotation stood where it says; None where it did, or there was none."""
        if self._told is None:
            return None
        (index, found), self._told = self._told, None
        self._silent -= {key.public_sha256 for key in found.statement.begun}
        self._silent |= {key.public_sha256 for key in found.statement.ended}
        if (found.statement.size, index + 1) != (size, size):
            return f"a rotation that is to hold from size {found.statement.size} on, under the checkpoint of {size}"
        return None

    def turns(self) -> bool:
        """Whether the next checkpoint is the last of keys that end."""
        return self._told is not None
