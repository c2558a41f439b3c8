# SPDX-License-Identifier: Apache-2.0
"""The same events as a receiver gets, read from the log as `audit`: for whoever takes files (G12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import ledger.store
from control_plane import parts
from control_plane.db import Database, engine, snapshot
from control_plane.settings import Settings
from control_plane.siem import ocsf
from ledger.chain import leaf_hash_text, parse_leaf

LONGEST = 1 << 20
"""A file has no longest message; no entry comes near."""


async def events(settings: Settings, start: int, tenant: str | None) -> AsyncIterator[dict[str, Any]]:
    """From entry `start` on, of one tenant or of all, as of one moment; the first one's `previous` is null."""
    pool = engine(Database.of_home(settings.home / "db").audit, connections=1, name="qcos-siem-events")
    previous: int | None = None
    try:
        async with snapshot(pool) as conn:
            async for row in ledger.store.stream_entries(conn, start):
                if not ocsf.administrative(row.kind) or tenant not in (None, row.tenant):
                    continue
                leaf, hashed = parse_leaf(row.leaf), leaf_hash_text(row.leaf)
                made = ocsf.event(leaf, hashed, previous, origin=parts.origin(settings), most_bytes=LONGEST)
                if made is not None:
                    previous = leaf.index
                    yield made
    finally:
        await pool.dispose()
