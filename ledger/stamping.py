# SPDX-License-Identifier: Apache-2.0
"""The fetching of time-stamp tokens, beside the sealing and outside every transaction, for ever.

What awaits a token stands in `ledger.unstamped`; an authority that is away delays only what rests on its tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from ledger.batch import SEALED_CHANNEL
from ledger.errors import LedgerError
from ledger.sealer_config import Authority, SealerConfig, Told, Watching, unheard
from ledger.session import AWAY, RETRY_S, Connection, connect, said
from ledger.timestamp import Authority as PinnedAuthority
from ledger.timestamp import parse
from ledger.tsa_client import UNIX, stamp

log = logging.getLogger("qcos.sealer")

STAMP_ROWS = 256
STAMP_ROWS_OUTSIDE = 16  # so few that a slow authority answers them all in the time that it has
STAMP_CHECKPOINT_S = 60.0  # the longest rest between two looks
STUCK_STAMP_S = 60.0  # beyond what each authority may take for a round


async def serve_stamps(config: SealerConfig, due: asyncio.Event) -> None:
    """Fetch the tokens that are awaited, for ever: at once when told, after a pause when one failed."""
    at = config.at or unheard
    wait_s = RETRY_S[0]
    while True:
        try:
            async with await connect(config.conninfo) as conn:
                # What was sealed before an authority was configured and is stamped only now: it is due there too.
                await conn.execute(_DUE, ([authority.operator for authority in config.authorities],))
                while True:
                    due.clear()
                    async with asyncio.timeout(STUCK_STAMP_S):
                        left = sum([await stamp_round(conn, one, config.watching, at) for one in config.authorities])
                    wait_s = RETRY_S[0]
                    if not left:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(STAMP_CHECKPOINT_S):
                                await due.wait()
        except (*AWAY, LedgerError) as error:
            wait_s = min(wait_s * 2, RETRY_S[1])
            log.warning("sealer: time-stamps wait: %s; again in %.1f s", said(error), wait_s)
            if config.watching is not None:
                config.watching.failed("timestamps", error)
            await asyncio.sleep(wait_s)


async def stamp_round(
    conn: Connection, authority: Authority, watching: Watching | None = None, at: Told = unheard
) -> int:
    """Fetch some tokens of one authority, outside any transaction, then store them; how many."""
    rows = STAMP_ROWS if authority.target.startswith(UNIX) else STAMP_ROWS_OUTSIDE
    cursor = await conn.execute(_AWAITED, (authority.operator, rows))
    imprints = [row[0] for row in await cursor.fetchall()]
    if imprints:
        began_ns = time.time_ns()
        tokens = await stamp(authority.target, imprints)
        if authority.certificates:
            pinned = PinnedAuthority(authority.operator, authority.target, authority.certificates)
            for token, imprint in zip(tokens, imprints, strict=True):
                pinned.check(parse(token), imprint)
        at("stamp.fetched")
        async with conn.pipeline():
            await conn.execute("BEGIN")
            await conn.execute(_TOKENS, (authority.operator, imprints, tokens), binary=True)
            await conn.execute(_STAMPED, (authority.operator, imprints), binary=True)
            await conn.execute("SELECT pg_notify(%s, %s)", (SEALED_CHANNEL, "tokens"))
            at("stamp.stored")
            await conn.execute("COMMIT")
        at("stamp.committed")
        if watching is not None:
            watching.stamped(authority.operator, imprints, began_ns)
    return len(imprints)


_AWAITED = "SELECT imprint FROM ledger.unstamped WHERE operator = %s ORDER BY since LIMIT %s"
_TOKENS = """
    INSERT INTO ledger.token (operator, imprint, der) SELECT %t, * FROM unnest(%b::bytea[], %b::bytea[])
    ON CONFLICT DO NOTHING"""
_DUE = """
    INSERT INTO ledger.unstamped (imprint, operator)
    SELECT DISTINCT u.imprint, due.operator FROM ledger.unstamped u, unnest(%s::text[]) AS due (operator)
    WHERE NOT EXISTS (SELECT 1 FROM ledger.token t WHERE (t.imprint, t.operator) = (u.imprint, due.operator))
    ON CONFLICT DO NOTHING"""
_STAMPED = "DELETE FROM ledger.unstamped WHERE operator = %t AND imprint = ANY (%b::bytea[])"
