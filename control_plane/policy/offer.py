# SPDX-License-Identifier: Apache-2.0
"""The bundle that OPA downloads: the signed archive of the policies in force, as this process knows them (G2, I5).

A sidecar's poll enters, with what it has; the archive leaves, or nothing new, at once or once there is something new.
What isn't covered by the sealer's signature is never offered: then the last good one is, for as long as it is in force
here. Not here: HTTP, and whose token it is.
"""

from __future__ import annotations

import asyncio
import hashlib

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import transaction
from control_plane.policy import bundle, store
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.revision import PolicySet

_LOOK_S = 0.02  # at what this process holds, not at the database


class Archive(Struct, frozen=True):
    """`etag` is of the bytes, so that no two processes of a plane give one archive two tags."""

    revision: str
    etag: str
    content: bytes


class Offer:
    """One process's; safe to share between tasks of one event loop."""

    def __init__(self, database: AsyncEngine, held: Held) -> None:
        """Offer what `held` has in force."""
        self._database = database
        self._held = held
        self._made: Archive | None = None
        self._leaving = False

    async def current(self) -> Archive:
        """What is in force; raises PolicyUnavailable where nothing is known to be."""
        policies = self._held.current
        if self._made is None or self._made.revision != policies.revision:
            self._made = await self._archive(policies)
        return self._made

    async def newer(self, etag: str | None, wait_s: float) -> Archive | None:
        """The archive in force unless it is the one of this tag; then the next, or None after `wait_s` seconds."""
        archive = await self.current()
        until = asyncio.get_running_loop().time() + wait_s
        while archive.etag == etag:
            if self._leaving or asyncio.get_running_loop().time() >= until:
                return None
            await asyncio.sleep(_LOOK_S)
            archive = await self.current()
        return archive

    def leave(self) -> None:
        """The process stops: who waits is answered now, and asks the next one."""
        self._leaving = True

    async def _archive(self, policies: PolicySet) -> Archive:
        async with transaction(self._database, None) as conn:
            found = await store.by_revision(conn, policies.revision)
        if found is None:
            raise PolicyUnavailable(f"no signed push of revision {policies.revision}")
        content = await asyncio.to_thread(bundle.pack, policies, found.signature)
        return Archive(policies.revision, f'"{hashlib.sha256(content).hexdigest()}"', content)
