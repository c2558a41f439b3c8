# SPDX-License-Identifier: Apache-2.0
"""What stops sealing although the sealer lives: kept where API and operator look, and told by the log afterwards.

An alarm is a row of `ledger.alarm` with a code; a row without one ends it. Rows are added only at a change, so a sealer
that is restarted again and again says it once. When sealing goes on, an entry `ledger:sealing:stopped` tells of the
alarm. The codes are those of `ledger.errors`: `ledger_rollback`, `not_durable`, `clock_stepped_back`,
`head_unwritable`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from msgspec import Struct
from psycopg.rows import TupleRow

from ledger.canonical import timestamp
from ledger.errors import ClockSteppedBack, LedgerError

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

TOLERANCE_S = 5.0  # what a clock may be set back by; NTP slews below half a second and steps above
STOPPED = "ledger:sealing:stopped"
ACCEPTED = "ledger:clock:accepted"


class Alarm(Struct, frozen=True):
    """Sealing has stopped since `since`, by the database's clock."""

    code: str
    detail: str
    since: datetime

    def body(self, now: datetime) -> dict[str, Any]:
        """What the entry says once sealing goes on."""
        return {"code": self.code, "detail": self.detail, "since": timestamp(self.since), "until": timestamp(now)}


def check_clock(sealed_at: datetime | None, now: datetime, tolerance_s: float) -> ClockSteppedBack | None:
    """Why this clock may not seal after a checkpoint that was sealed at `sealed_at`, or None.

    An entry's time is its writer's word, index and tokens say what came first; but a log whose times run backwards is
    one that nobody can read a day from.
    """
    if sealed_at is None or now >= sealed_at - timedelta(seconds=tolerance_s):
        return None
    return ClockSteppedBack(clock=now, sealed_at=sealed_at)


def accepted(path: Path | None) -> str | None:
    """Why an operator has accepted the clock as it is, from the file that says so; None without one."""
    try:
        return path.read_text(encoding="utf-8").strip() if path is not None else None
    except OSError:
        return None


async def current(conn: Connection) -> Alarm | None:
    """The alarm that has not been ended."""
    row = await (await conn.execute(_CURRENT)).fetchone()
    return Alarm(*row) if row is not None and row[0] is not None else None


async def sound(conn: Connection, why: LedgerError) -> None:
    """Say that sealing has stopped; says nothing twice."""
    await conn.execute(_SOUND, {"code": why.code, "detail": str(why)})


async def end(conn: Connection) -> None:
    """Say that sealing goes on."""
    await conn.execute(_END)


_CURRENT = "SELECT code, detail, at FROM ledger.alarm ORDER BY id DESC LIMIT 1"
_SOUND = """
    INSERT INTO ledger.alarm (code, detail) SELECT %(code)s, %(detail)s
    WHERE %(code)s IS DISTINCT FROM (SELECT code FROM ledger.alarm ORDER BY id DESC LIMIT 1)"""
_END = """
    INSERT INTO ledger.alarm (code) SELECT NULL
    WHERE (SELECT code FROM ledger.alarm ORDER BY id DESC LIMIT 1) IS NOT NULL"""
