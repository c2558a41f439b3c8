# SPDX-License-Identifier: Apache-2.0
"""The bundle that the plane's own OPA watches: one signed archive, replaced as a whole whenever another is in force.

OPA verifies the signature before it takes an archive up, and goes on with the last good one otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from control_plane.db import FAULTS, Database, engine, transaction
from control_plane.policy import bundle, signed, store
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.store import Stored
from ledger.errors import LedgerError
from ledger.policy_key import public_key

LOOK_S = 0.1


def put(stored: Stored, key: Path, archive: Path) -> None:
    """Write the archive of a push; raises PolicyUnavailable where it isn't what was signed."""
    policies = signed.opened(stored, public_key(key))
    fresh = archive.with_suffix(".new")
    fresh.write_bytes(bundle.pack(policies, stored.signature))
    fresh.replace(archive)


async def keep(database: Database, key: Path, archive: Path, number: int) -> None:
    """Follow the pushes after `number` until cancelled."""
    pool = engine(database.app, connections=1, name="qcos-policy")
    try:
        while True:
            with contextlib.suppress(*FAULTS, PolicyUnavailable, LedgerError):
                async with transaction(pool, None) as conn:
                    newest = await store.newest(conn)
                    found = await store.in_force(conn) if newest and newest[0] != number else None
                if found is not None:
                    number = found.number  # tried once: what was changed in the database isn't served
                    await asyncio.to_thread(put, found, key, archive)
            await asyncio.sleep(LOOK_S)
    finally:
        await pool.dispose()
