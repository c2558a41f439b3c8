# SPDX-License-Identifier: Apache-2.0
"""A service node on the network: it carries frames to its desk and tells what it offers (N1).

Enters: a key, addresses, the planes it serves, a :class:`desk.NodeConfig`. It speaks to those planes alone: a peer id
that isn't among them is cut off. Adverts go out, signed, when a plane begins to listen, when what they say has changed,
and again every ``refresh_s``. A plane whose heartbeats stay away is dialled anew: to one who only answers, a connection
that died without a word looks alive for minutes. Trio; the process is `qcos node run`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from hal_drivers.p2p import host
from hal_drivers.p2p.desk import Desk, NodeConfig, open_desk
from hal_drivers.p2p.framing import read_frame, write_frame
from hal_drivers.p2p.identity import Identity
from hal_drivers.p2p.ir import canonical
from hal_drivers.p2p.wire import MAX_FRAME, PROTOCOL, Advert
from hal_drivers.p2p.workshop import open_workshop

log = logging.getLogger("qcos.node")
_LOOK_S = 0.2
_MISSED = 10
"""So many heartbeats in a row: more than the fabric waits before it ends a connection, so that it is the first to."""
_SHORT = 256
_LONGEST_S = 3600.0


class _Every(Struct):
    every_ms: int = 0


_every = msgspec.json.Decoder(_Every)


class NodeOptions(Struct, frozen=True):
    """How a node stands in the network. A bootstrap address ends with ``/p2p/`` and the plane's peer id."""

    home: Path
    listen: tuple[str, ...]
    bootstrap: tuple[str, ...]
    planes: frozenset[str]
    """Peer ids whose requests are taken; those of ``bootstrap`` are among them."""
    config: NodeConfig
    refresh_s: float = 5.0
    children: int = 1
    mdns: bool = False
    """Look on the local network for the planes; without it ``bootstrap`` alone says where they are."""


class Told(Struct, frozen=True):
    """What a node says when it is ready."""

    peer_id: str
    listen_addrs: tuple[str, ...]


async def run(identity: Identity, options: NodeOptions, ready: Callable[[Told], None]) -> None:
    """Serve until cancelled; FabricUnusable where it can't listen, RunLost where nothing can compute here."""
    async with (
        open_workshop(options.children) as workshop,
        trio.open_nursery() as nursery,
        open_desk(options.config, identity, options.home, workshop) as desk,
    ):
        counter = _Counter(desk)
        ways = host.Ways(may_join=options.planes.__contains__, protocols={PROTOCOL: counter.serve})
        async with host.running(identity, options.listen, ways, bootstrap=options.bootstrap) as network:
            desk.listen_addrs = network.addresses()
            nursery.start_soon(_leave_the_silent, counter, network)
            nursery.start_soon(_advertise, desk, network, identity, options.refresh_s)
            if options.mdns:
                from hal_drivers.p2p import nearby

                nursery.start_soon(nearby.look, options.planes, network.keep)
            ready(Told(network.peer_id, network.addresses()))
            await trio.sleep_forever()


class _Counter:
    """Where frames come in."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._heard: dict[str, tuple[float, float]] = {}

    async def serve(self, channel: host.Channel) -> None:
        """Answer what this stream asks, in order, until it ends."""
        while (asked := await read_frame(channel, MAX_FRAME)) is not None:
            self._hear(channel.peer_id, asked)
            for answer in (await self._desk.answer(asked), *self._desk.unasked()):
                if answer:
                    await write_frame(channel, answer, MAX_FRAME)

    def silent(self) -> list[str]:
        """Planes that said how soon they would ask again, and didn't for far longer; each is named once."""
        now_s = trio.current_time()
        found = [plane for plane, (at_s, every_s) in self._heard.items() if now_s - at_s > _MISSED * every_s]
        for plane in found:
            del self._heard[plane]
        return found

    def _hear(self, plane: str, asked: bytes) -> None:
        every_s = self._heard.get(plane, (0.0, 0.0))[1]
        if len(asked) <= _SHORT:
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                every_s = min(_every.decode(asked).every_ms / 1000, _LONGEST_S) or every_s
        if every_s > 0:
            self._heard[plane] = (trio.current_time(), every_s)


async def _leave_the_silent(counter: _Counter, network: host.Host) -> None:
    """End their connections; whoever keeps them dials again."""
    while True:
        await trio.sleep(_LOOK_S)
        for plane in counter.silent():
            log.warning("%s is silent: its connection is ended", plane)
            await network.end(plane)


async def _advertise(desk: Desk, network: host.Host, identity: Identity, refresh_s: float) -> None:
    told: tuple[object, ...] = ()
    listeners: frozenset[str] = frozenset()
    due_s = trio.current_time()
    while True:
        adverts = desk.adverts()
        said, here = tuple(map(_matter, adverts)), network.listeners()
        if said != told or here - listeners or trio.current_time() >= due_s:
            for advert in adverts if here else ():
                await network.publish(canonical(identity.sign(canonical(advert))))
            told, due_s = said, trio.current_time() + refresh_s
        listeners = here
        await trio.sleep(min(_LOOK_S, refresh_s))


def _matter(advert: Advert) -> object:
    """What an advert says; how free the node is changes with each window, and heartbeats tell it."""
    size = (advert.qubit_min, advert.qubit_max, advert.shots_max)
    return (advert.service_type, advert.fidelity, size, advert.listen_addrs)
