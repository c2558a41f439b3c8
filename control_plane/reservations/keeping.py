# SPDX-License-Identifier: Apache-2.0
"""Looks after live windows, whosesoever they are (N5, N10): by the process that keeps the network.

What ended by its time is EXPIRED. A window that was asked for and never answered (its process died, the fabric was
away) is given back and CANCELED. One whose node is no longer approved has FAILED. One whose node, or the fabric, was
away meanwhile is asked for again: a node that still has it says so, one that forgot it grants it anew, and where
another has the room by then it has FAILED, `window_lost`. Until the node answers nothing is told of it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import read, transaction
from control_plane.network import store as network
from control_plane.reservations import moving, store
from control_plane.reservations.asked import move, wanted
from control_plane.reservations.moving import Row
from control_plane.seed import PLANE_ACTOR
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.errors import AskRefused
from hal_drivers.p2p.office import CancelReservation, ReservationIs
from hal_drivers.p2p.reservation import State

log = logging.getLogger("qcos.network")
ABANDONED_S = 30.0
"""After this long nobody is still asking for it."""
ASK_S = 10.0


class Keeping:
    """One process's; `step` is one turn of it."""

    def __init__(self, engine: AsyncEngine, office: Office, now: Callable[[], dt.datetime]) -> None:
        """Nothing is looked at before `step`."""
        self._engine, self._office, self._now = engine, office, now
        self._again: set[tuple[str, str]] | None = None

    def begin(self) -> None:
        """Ask for all again in the next turn: another process kept the network, and what it saw isn't known here."""
        self._again = None

    async def step(self, connected: Iterable[str]) -> None:
        """Look at every live window; those of nodes that connected since the last look are asked for again."""
        async with transaction(self._engine, None) as conn:
            live = await store.live(conn)
            if not live:
                self._again = set()
                return
            approved = {peer for peer, one in (await network.records(conn)).items() if one.state == "approved"}
        keys = {(one["tenant"], one["reservation_id"]): one for one in live}
        came = set(connected)
        again = set(keys) if self._again is None else self._again & set(keys)
        self._again = again | {key for key, one in keys.items() if one["peer_id"] in came}
        for key, one in keys.items():
            (rows,) = await read(self._engine, key[0], store.find(key[1]))
            if rows:
                await self._look(rows[0], one["waited_s"], approved)

    async def _look(self, row: Row, waited_s: float, approved: set[str]) -> None:
        now, key = self._now(), (row["tenant"], row["reservation_id"])
        if moving.shown_state(row, now) == "EXPIRED":
            await self._end(row, "EXPIRED", "expired", "its window has ended")
        elif row["peer_id"] not in approved:
            state: State = "FAILED" if row["state"] == "COMMITTED" else "CANCELED"
            await self._end(row, state, "not_enrolled", "its node is no longer approved")
        elif row["state"] != "COMMITTED":
            if waited_s > ABANDONED_S:
                await self._ask(CancelReservation(row["reservation_id"], row["peer_id"]))
                await self._end(row, "CANCELED", "abandoned", "nobody heard whether it was granted; it was given back")
        elif self._again and key in self._again:
            found = await self._ask(wanted(row, now, again=True))
            if found is None:
                return  # the node doesn't answer: the next turn
            self._again.discard(key)
            if found.state != "COMMITTED":
                said = f"fabric or node had forgotten it, and then {found.detail or found.state}"
                await self._end(row, "FAILED", "window_lost", said)

    async def _ask(self, ask: Any) -> ReservationIs | None:
        try:
            return await self._office.ask(ask, ReservationIs, limit_s=ASK_S)
        except AskRefused as refused:
            log.debug("reservation not asked for: %s", refused.detail)
            return None

    async def _end(self, row: Row, state: State, code: str, detail: str) -> None:
        now = self._now()
        said = {"code": code, "detail": detail}
        await moving.move_on(self._engine, PLANE_ACTOR, row, (move(state, now),), said, now)
