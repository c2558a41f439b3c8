# SPDX-License-Identifier: Apache-2.0
"""Anchors told of the newest checkpoint now and then, and heard first: beside the sealing, outside every transaction.

Each round reads what the anchor holds, compares it with the database, says in `ledger.outside` how the two stand, and
puts the newest checkpoint there unless they contradict each other. A failure stops no sealing and is said. MUST run
only in the sealer that leads.
"""

from __future__ import annotations

import asyncio
import logging

from ledger import checkpoint, outside
from ledger.anchors.base import Anchor, Difference, contradicts, verified
from ledger.errors import AnchorAway, LedgerError
from ledger.keys import LOG
from ledger.session import AWAY, RETRY_S, Connection, connect, said

log = logging.getLogger("qcos.sealer")
AGAIN_S = 60.0  # the longest pause after a failure


async def serve_anchor(conninfo: str, name: str, anchor: Anchor, every_s: float) -> None:
    """Tell one anchor every `every_s` seconds, until cancelled."""
    wait_s = RETRY_S[0]
    while True:
        try:
            async with await connect(conninfo) as conn:
                while True:
                    done = await anchor_round(conn, name, anchor)
                    wait_s = RETRY_S[0] if done else min(wait_s * 2, AGAIN_S)
                    await asyncio.sleep(every_s if done else min(wait_s, every_s))
        except (*AWAY, LedgerError) as error:
            wait_s = min(wait_s * 2, AGAIN_S)
            log.warning("anchor %s: %s", name, said(error))
            await asyncio.sleep(wait_s)


async def anchor_round(conn: Connection, name: str, anchor: Anchor) -> bool:
    """Compare and put; whether the anchor has the newest checkpoint now, or there is none."""
    try:
        notes = await asyncio.to_thread(anchor.heads)
        found = await compare(conn, notes)
        if isinstance(found, Difference):
            log.error("anchor %s: %s: %s", name, found.code, found.detail)
            await outside.tell(conn, "anchor", name, found.code, found.detail)
            return False
        row = await (await conn.execute(_NEWEST)).fetchone()
        if row is None:
            return False
        where = await asyncio.to_thread(anchor.put, bytes(row[0]))
    except AnchorAway as error:
        log.warning("anchor %s: %s", name, error)
        await outside.tell(conn, "anchor", name, outside.AWAY, str(error))
        return False
    log.info("anchor %s: %s", name, where)
    await outside.tell(conn, "anchor", name, None, where)
    return True


async def compare(conn: Connection, notes: list[bytes]) -> Difference | None:
    """What these notes, as far as the log signed them, hold against the database."""
    publics = [bytes(row[0]) for row in await (await conn.execute(_KEYS, (LOG,))).fetchall()]
    origins = {checkpoint.parse(note).origin for note in notes if _readable(note)}
    known = [by for origin in origins for by in checkpoint.verifiers(origin, publics)]
    held = verified(notes, known)
    if notes and not held:
        raise AnchorAway(f"it holds {len(notes)} notes, none of them signed by a key of this log")
    rows = await (await conn.execute(_STORED, ([head.size for head in held],))).fetchall()
    stored = {size: checkpoint.parse(bytes(note)) for size, note in rows}
    newest = await (await conn.execute(_SIZE)).fetchone()
    return contradicts(held, stored, newest[0] if newest else 0)


def _readable(note: bytes) -> bool:
    try:
        checkpoint.parse(note)
    except LedgerError:
        return False
    return True


_NEWEST = "SELECT note FROM ledger.checkpoint ORDER BY size DESC LIMIT 1"
_SIZE = "SELECT coalesce(max(size), 0) FROM ledger.checkpoint"
_KEYS = "SELECT public FROM ledger.key WHERE purpose = %s"
_STORED = "SELECT size, note FROM ledger.checkpoint WHERE size = ANY (%s)"
