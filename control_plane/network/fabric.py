# SPDX-License-Identifier: Apache-2.0
"""What an API process asks of the fabric, in the words of its answers: off, away, or refused with a code (N17).

Also here: who looks at the live topology. However many watch, one look a `LOOK_S` asks the fabric, and only while
somebody does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.errors import Refused
from control_plane.network import keeper, topology
from control_plane.settings import Settings
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.errors import AskRefused, FabricAway
from hal_drivers.p2p.office import Ask, AskTopology, TopologyIs

LOOK_S = 0.5
R = TypeVar("R", bound=msgspec.Struct)
# The fabric's words for what isn't there; anything else that it refuses is a fault between plane and fabric.
_MISSING = frozenset({"unknown_node", "unknown_reservation", "unknown_token"})


class Fabric:
    """One process's view; `serve` runs beside its requests."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened before somebody asks."""
        self._on = settings.network.enabled
        self._office = Office(settings.fabric_socket)
        self._watches: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._seen: dict[str, Any] | None = None
        self._wanted = asyncio.Event()
        self._leaving = False

    def on(self) -> None:
        """Raise Refused where this plane has no network."""
        if not self._on:
            raise Refused("network_off", "the network of services is switched off: [network] enabled is false")

    async def ask(self, ask: Ask, wanted: type[R], *, limit_s: float | None = None) -> R:
        """The fabric's answer; Refused network_off, fabric_unreachable, not_found or conflict."""
        self.on()
        try:
            return await self._office.ask(ask, wanted, limit_s=limit_s)
        except FabricAway as error:
            raise Refused("fabric_unreachable", error.detail) from error
        except AskRefused as error:
            raise Refused("not_found" if error.code in _MISSING else "conflict", error.detail) from error

    async def push(self, engine: AsyncEngine) -> None:
        """Tell the fabric of an act at once; where it doesn't answer the keeper does, within a second of its return."""
        with contextlib.suppress(FabricAway):
            await keeper.push(engine, self._office)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[asyncio.Queue[dict[str, Any] | None]]:
        """The topology as it is, then each that differs from the one before; None: the process stops."""
        self.on()
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(maxsize=8)
        if self._leaving:
            queue.put_nowait(None)
        elif self._seen is not None:
            queue.put_nowait(self._seen)
        self._watches.add(queue)
        self._wanted.set()
        try:
            yield queue
        finally:
            self._watches.discard(queue)

    def leave(self) -> None:
        """The process stops: who watches is sent away."""
        self._leaving = True
        for queue in self._watches:
            _put(queue, None)

    async def serve(self) -> None:
        """Look while somebody watches, until cancelled."""
        try:
            while True:
                await self._wanted.wait()
                while self._watches:
                    await self._look()
                    await asyncio.sleep(LOOK_S)
                self._seen = None
                self._wanted.clear()
        finally:
            await self._office.close()

    async def _look(self) -> None:
        try:
            found = topology.projection(await self.ask(AskTopology(), TopologyIs))
        except Refused as refused:
            found = {"code": refused.code, "detail": refused.detail}
        if found != self._seen:
            self._seen = found
            for queue in self._watches:
                _put(queue, found)


def _put(queue: asyncio.Queue[dict[str, Any] | None], item: dict[str, Any] | None) -> None:
    """The newest, at the price of the oldest: who reads slowly sees fewer."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)
