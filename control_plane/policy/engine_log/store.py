# SPDX-License-Identifier: Apache-2.0
"""The copy of OPA's decision log in the database: the newest decisions, and how many came in (G2).

Each function belongs to the caller's transaction. The copy is bounded by number: what is older is forgotten, which
`taken` still counts. An upload that OPA repeats changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.policy.engine_log.intake import Taken

BOUND = 10_000
"""Decisions that are kept."""

_COUNT = text("UPDATE policy.engine_log SET taken = taken + :taken, refused = refused + :refused")
_PUT = text("""
    INSERT INTO policy.engine_decision (decision_id, decided_at, revision, failed, codes)
    VALUES (CAST(:decision_id AS uuid), :decided_at, :revision, :failed, :codes)
    ON CONFLICT (decision_id) DO NOTHING""")
_KNOWN = text("""
    SELECT decision_id::text FROM policy.engine_decision WHERE decision_id = ANY(CAST(:asked AS uuid[]))""")
_FORGET = text("""
    DELETE FROM policy.engine_decision WHERE number <= (SELECT max(number) FROM policy.engine_decision) - :bound""")
_COUNTED = text("""
    SELECT taken, refused, (SELECT count(*) FROM policy.engine_decision) AS kept FROM policy.engine_log""")
_NEWEST = text("""
    SELECT decision_id::text, decided_at, revision, failed, codes
    FROM policy.engine_decision ORDER BY number DESC LIMIT :many""")


async def put(conn: AsyncConnection, taken: Taken) -> None:
    """Keep an upload, count it, and forget what is too old. Uploads take turns, by the row that counts."""
    await conn.execute(_COUNT, {"taken": 0, "refused": taken.refused})
    asked = [row.decision_id for row in taken.rows]
    known = {row[0] for row in await conn.execute(_KNOWN, {"asked": asked})}
    fresh = [row for row in taken.rows if row.decision_id not in known]
    if fresh:
        await conn.execute(
            _PUT,
            [
                {
                    "decision_id": row.decision_id,
                    "decided_at": row.decided_at,
                    "revision": row.revision,
                    "failed": list(row.failed),
                    "codes": list(row.codes),
                }
                for row in fresh
            ],
        )
        await conn.execute(_COUNT, {"taken": len(fresh), "refused": 0})
        await conn.execute(_FORGET, {"bound": BOUND})


async def counted(conn: AsyncConnection) -> dict[str, int]:
    """How many were taken and refused so far, and how many of them are kept."""
    return dict((await conn.execute(_COUNTED)).mappings().one())


async def newest(conn: AsyncConnection, many: int) -> Sequence[dict[str, Any]]:
    """The newest decisions of the copy."""
    return [dict(row) for row in (await conn.execute(_NEWEST, {"many": many})).mappings()]
