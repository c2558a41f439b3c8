# SPDX-License-Identifier: Apache-2.0
"""A reservation's row moves on, together with the entry that tells of it, or not at all (N5, G5, I6)."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

import ledger.store
from control_plane.db import transaction
from control_plane.reservations import store
from control_plane.reservations.asked import LIVE, PREFIX, over
from hal_drivers.p2p.reservation import State
from ledger.chain import Pending

Row: TypeAlias = Mapping[str, Any]


def shown_state(row: Row, now: dt.datetime) -> State:
    """The state that a row means: a window whose time is over has expired, even before that is written."""
    state: State = row["state"]
    return "EXPIRED" if state in LIVE and over(row["answer"]["ends_at"], now) else state


async def move_on(
    engine: AsyncEngine,
    actor: str,
    row: Row,
    moves: Sequence[Mapping[str, str]],
    said: Mapping[str, Any],
    now: dt.datetime,
) -> bool:
    """These moves and what was said with them, as row and entry; False, and nothing, where another moved it first."""
    if not moves:
        return False
    state = msgspec.convert(moves[-1]["state"], State)
    answer = {**row["answer"], **said, "moves": [*row["answer"]["moves"], *moves]}
    body = {"reservation_id": row["reservation_id"], "project": row["project"], "moves": list(moves), **said}
    async with transaction(engine, row["tenant"]) as conn:
        if not await store.move(conn, row["reservation_id"], row["state"], state, answer, now):
            return False
        await ledger.store.append(conn, [(entry(row["tenant"], actor, state, body, now), None)])
    return True


def entry(tenant: str, actor: str, state: State, body: dict[str, Any], now: dt.datetime) -> Pending:
    """The entry of a reservation's newest move."""
    return Pending(
        entry_id=str(uuid.uuid4()), tenant=tenant, kind=PREFIX + state.lower(), actor=actor, time=now, body=body
    )
