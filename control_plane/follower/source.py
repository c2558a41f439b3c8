# SPDX-License-Identifier: Apache-2.0
"""Where a follower reads: a plane's API with a tenant's credential, or its database with the role `audit`.

The first gives checkpoint, tiles and the tenant's own entries, the second the whole log. Both count what was asked, and
give bytes that the follower judges: nothing here is believed.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import ledger.folded_store
import ledger.head_store
import ledger.store
from control_plane.client import Client
from control_plane.db import engine, snapshot
from control_plane.errors import Refused
from control_plane.follower.store import Kept
from ledger.fold import FOLDED
from ledger.merkle import HASH_BYTES, TILE_WIDTH

PAGE = 500
T = TypeVar("T")


class Source(Protocol):
    """What a log is read from; `whole` says whether entries are the whole log's or one tenant's."""

    whole: bool
    requests: int

    def checkpoint(self) -> bytes:
        """The newest signed note."""

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile."""

    def entries(self, start: int) -> list[Kept]:
        """Sealed entries from the `start`-th on, a page; none where there are no more."""

    def close(self) -> None:
        """Let go of it."""


class Api:
    """A plane's API, for the tenant of the credential."""

    whole = False

    def __init__(self, home: Path, url: str) -> None:
        self._client, self.requests = Client(home, url), 0

    def checkpoint(self) -> bytes:
        """The newest signed note."""
        return self._get("/ledger/checkpoint")

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile, by the path of C2SP tlog-tiles."""
        part = "" if width == TILE_WIDTH else f".p/{width}"
        return self._get(f"/ledger/tile/{level}/{written(index)}{part}")

    def entries(self, start: int) -> list[Kept]:
        """The tenant's own entries from its `start`-th on."""
        self.requests += 1
        page = self._client.ask("GET", f"/api/v1/ledger/entries?from={start}&limit={PAGE}")
        try:
            return [
                Kept(
                    one["tenant_index"],
                    one["index"],
                    base64.b64decode(one["leaf"], validate=True),
                    tuple(base64.b64decode(row, validate=True) for row in one["records"]),
                )
                for one in page
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise Refused("unusable_input", f"the source's entries can't be read: {error}") from None

    def close(self) -> None:
        """Nothing is held between requests."""

    def _get(self, path: str) -> bytes:
        self.requests += 1
        data: bytes = self._client.raw("GET", f"/api/v1{path}")[1]
        return data


class Database:
    """A plane's database, as the role that may read all of it."""

    whole = True

    def __init__(self, url: str) -> None:
        self._engine, self._runner, self.requests = engine(url, connections=1, name="qcos-follow"), asyncio.Runner(), 0

    def checkpoint(self) -> bytes:
        """The newest signed note."""

        async def read() -> bytes | None:
            async with snapshot(self._engine) as conn:
                found = await ledger.head_store.latest_checkpoint(conn)
                return None if found is None else bytes(found.note)

        note = self._run(read())
        if note is None:
            raise Refused("not_in_log", "the log has no checkpoint yet")
        return note

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile."""

        async def read() -> bytes:
            async with snapshot(self._engine) as conn:
                return await ledger.head_store.tile(conn, level, index) or b""

        return self._run(read())[: width * HASH_BYTES]

    def entries(self, start: int) -> list[Kept]:
        """Entries of the log from index `start` on."""

        async def read() -> list[Kept]:
            async with snapshot(self._engine) as conn:
                rows = await ledger.store.entries(conn, start, start + PAGE)
                kept = await ledger.folded_store.folded(conn, [str(row.entry_id) for row in rows if row.kind == FOLDED])
            records = {name: tuple(record for *_, record in found) for name, found in kept.items()}
            return [Kept(row.index, row.index, bytes(row.leaf), records.get(str(row.entry_id), ())) for row in rows]

        return self._run(read())

    def close(self) -> None:
        """Close the connection."""
        self._runner.run(self._engine.dispose())
        self._runner.close()

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        self.requests += 1
        return self._runner.run(what)


def written(index: int) -> str:
    """A tile's index as tlog-tiles writes it: groups of three digits, all but the last with an x."""
    digits = str(index)
    digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
