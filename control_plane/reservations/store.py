# SPDX-License-Identifier: Apache-2.0
"""The SQL of reservations: rows that cache the fold of their entries, behind the tenant's wall (I6, I7).

``asked`` is what the request was, ``answer`` what is known since: the window's times, every move, and what its node
said last. A row changes only from the state that its writer saw.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.db import Query
from control_plane.reservations.asked import Key
from hal_drivers.p2p.reservation import State

LOOKED_AFTER = 10_000
_COLUMNS = """
    tenant, reservation_id, project, actor, decision_id::text AS decision_id, peer_id, asked, state, answer, created_at,
    changed_at
"""
_PUT = text("""
    INSERT INTO network.reservation (tenant, reservation_id, project, actor, decision_id, peer_id, asked, state, answer,
                                     created_at, changed_at)
    VALUES (:tenant, :reservation_id, :project, :actor, CAST(:decision_id AS uuid), :peer_id, CAST(:asked AS jsonb),
            'REQUESTED', CAST(:answer AS jsonb), :now, :now)
""")
# The same keys as those of jobs, kept as long: one key names one act of a person, whatever it is (N17).
_BIND = text("""
    INSERT INTO jobs.idempotency AS i (tenant, subject, key, body_sha256, job_id)
    VALUES (:tenant, :subject, :key, :body_sha256, :reservation_id)
    ON CONFLICT (tenant, subject, key) DO UPDATE
        SET body_sha256 = excluded.body_sha256, job_id = excluded.job_id, created_at = clock_timestamp()
        WHERE i.created_at <= clock_timestamp() - interval '24 hours'
""")
_MOVE = text("""
    UPDATE network.reservation SET state = :state, answer = CAST(:answer AS jsonb), changed_at = :now
    WHERE reservation_id = :reservation_id AND state = :before
""")
_LIVE = text("SELECT tenant, reservation_id, peer_id, waited_s FROM network.live_reservations(:most)")


async def put(conn: AsyncConnection, values: Mapping[str, Any], key: tuple[str, str, str] | None) -> bool:
    """A new reservation, bound to (subject, key, hash of the body); False: the key was bound a moment ago."""
    if key is not None:
        names = dict(zip(("subject", "key", "body_sha256"), key, strict=True))
        bound = names | {name: values[name] for name in ("tenant", "reservation_id")}
        if not (await conn.execute(_BIND, bound)).rowcount:
            return False
    await conn.execute(_PUT, dict(values) | {name: _json(values[name]) for name in ("asked", "answer")})
    return True


async def move(
    conn: AsyncConnection, reservation_id: str, before: State, state: State, answer: Mapping[str, Any], now: dt.datetime
) -> bool:
    """Its next state; False where it isn't in the state that the caller saw."""
    values = {"reservation_id": reservation_id, "before": before, "state": state, "answer": _json(answer), "now": now}
    return bool((await conn.execute(_MOVE, values)).rowcount)


def find(reservation_id: str) -> Query:
    """The query for one reservation of the tenant."""
    return f"SELECT {_COLUMNS} FROM network.reservation WHERE reservation_id = %(id)s", {"id": reservation_id}


def live_of(project: str) -> Query:
    """The query for how many windows of a project have not ended."""
    statement = """
        SELECT count(*) AS windows FROM network.reservation
        WHERE project = %(project)s AND state IN ('REQUESTED', 'PREPARED', 'COMMITTED')
            AND (answer ->> 'ends_at')::timestamptz > clock_timestamp()
    """
    return statement, {"project": project}


def page(
    *,
    limit: int,
    projects: Sequence[str] | None,
    state: State | None,
    project: str | None,
    node_id: str | None,
    before: tuple[dt.datetime, str] | None,
) -> Query:
    """The query for reservations, newest first; ``before`` is the last one of the page before."""
    statement = f"""
        SELECT {_COLUMNS} FROM (
            SELECT *, CASE WHEN state IN ('REQUESTED', 'PREPARED', 'COMMITTED')
                AND (answer ->> 'ends_at')::timestamptz <= clock_timestamp() THEN 'EXPIRED' ELSE state END AS now_in
            FROM network.reservation) r
        WHERE (%(projects)s::text[] IS NULL OR project = ANY (%(projects)s))
            AND (%(state)s::text IS NULL OR now_in = %(state)s)
            AND (%(project)s::text IS NULL OR project = %(project)s)
            AND (%(node)s::text IS NULL OR peer_id = %(node)s)
            AND (%(at)s::timestamptz IS NULL OR (created_at, reservation_id) < (%(at)s, %(id)s))
        ORDER BY created_at DESC, reservation_id DESC LIMIT %(limit)s
    """
    at, last = before or (None, None)
    named = {"projects": projects, "state": state, "project": project, "node": node_id}
    return statement, {**named, "at": at, "id": last, "limit": limit}


async def live(conn: AsyncConnection) -> list[RowMapping]:
    """Every tenant's live reservations, the oldest first: tenant, id, node, how long it stands as it does."""
    return list((await conn.execute(_LIVE, {"most": LOOKED_AFTER})).mappings())


async def states(conn: AsyncConnection) -> dict[Key, State]:
    """(tenant, reservation) → its state as the row has it; for the audit role (I6)."""
    rows = await conn.execute(text("SELECT tenant, reservation_id, state FROM network.reservation"))
    return {(row.tenant, row.reservation_id): row.state for row in rows}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
