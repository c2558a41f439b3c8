# SPDX-License-Identifier: Apache-2.0
"""How the parties outside stand that keep what they saw of the log: witnesses, anchors. The sealer says each change.

A row of `ledger.outside` with a code tells what is wrong with one of them; a row without ends it. None of it stops
sealing. The codes of `CONFLICT` mean that what stands outside and what stands in the database are not one history: that
is an alarm, and readiness says so. All others mean that nothing is learnt from that party until it is mended.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.session import Connection

Kind = Literal["witness", "anchor"]
ROLLBACK, FORK = "log_rolled_back", "log_forked"
AWAY, REFUSED, CLOCK = "outside_away", "outside_refused", "outside_clock"
CONFLICT = frozenset({ROLLBACK, FORK})


class Standing(Struct, frozen=True):
    """How one of them stands; `size` is the newest head of ours that it holds, None before the first."""

    kind: Kind
    name: str
    code: str | None
    detail: str
    since: datetime
    size: int | None


async def tell(conn: Connection, kind: Kind, name: str, code: str | None, detail: str = "") -> None:
    """Say how it stands now; says nothing twice."""
    await conn.execute(_TELL, {"kind": kind, "name": name, "code": code, "detail": detail[:500]})


async def standings(conn: AsyncConnection) -> list[Standing]:
    """How each of them stands that was ever heard of, by kind and name."""
    return [Standing(*row) for row in await conn.execute(_STANDINGS)]


_TELL = """
    INSERT INTO ledger.outside (kind, name, code, detail) SELECT %(kind)s, %(name)s, %(code)s, %(detail)s
    WHERE NOT EXISTS (
        SELECT FROM (SELECT code FROM ledger.outside WHERE kind = %(kind)s AND name = %(name)s
                     ORDER BY id DESC LIMIT 1) AS newest
        WHERE newest.code IS NOT DISTINCT FROM %(code)s)"""
_STANDINGS = text("""
    SELECT kind, name, code, detail, at,
           (SELECT max(size) FROM ledger.cosignature c WHERE o.kind = 'witness' AND c.name = o.name)
    FROM (SELECT DISTINCT ON (kind, name) * FROM ledger.outside ORDER BY kind, name, id DESC) AS o
    ORDER BY kind, name""")
