# SPDX-License-Identifier: Apache-2.0
"""A fabric without a network, for tests of the plane's side: the same socket and the same frames, answers as told.

It keeps what it is told, as the real one does: the enrolled set by its number, known adverts, and the journal, which
a test writes. Anything else is answered by `replies`, by the ask's type.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from hal_drivers.p2p import office
from hal_drivers.p2p.office import (
    Ask,
    AskEvents,
    AskPeers,
    AskStanding,
    AskTopology,
    Done,
    Enrol,
    Event,
    EventsAre,
    Known,
    PeersAre,
    Refusal,
    Reply,
    Standing,
    TopologyIs,
)

_LENGTH = struct.Struct(">I")
_decoder = msgspec.json.Decoder(Ask)


class FabricDouble:
    """What it was told, and what it says."""

    def __init__(self) -> None:
        self.peer_id = "12D3KooW" + "F" * 44
        self.enrolled = Enrol(0, ())
        self.known: Known | None = None
        self.events: list[Event] = []
        self.dropped = 0
        self.peers: tuple[office.Peer, ...] = ()
        self.replies: dict[type, Callable[[Any], Reply]] = {}
        self.asked: list[Ask] = []
        self.connections = 0
        self.silent = False

    def journal(self, kind: office.EventKind, **facts: Any) -> Event:
        """Write one line."""
        named = {
            name: facts.pop(name) for name in ("node_id", "token", "fragment_id", "epoch", "signed") if name in facts
        }
        event = Event(len(self.events) + 1, "2026-11-21T12:00:00.000Z", kind, facts=facts, **named)
        self.events.append(event)
        return event

    def head(self, seq: int) -> str:
        """The chain up to a line."""
        digest = ""
        for event in self.events[:seq]:
            digest = hashlib.sha256(digest.encode() + msgspec.json.encode(event)).hexdigest()
        return digest

    async def respond(self, ask: Ask) -> Reply:
        """As `answer`; doubles that really run plans take their time here."""
        return self.answer(ask)

    def answer(self, ask: Ask) -> Reply:
        """What the fabric would answer."""
        self.asked.append(ask)
        if (told := self.replies.get(type(ask))) is not None:
            return told(ask)
        match ask:
            case Enrol() if ask.version < self.enrolled.version:
                return Refusal("out_of_date", "a later set is known")
            case Enrol():
                self.enrolled = ask
                return Done()
            case Known():
                self.known = ask
                return Done()
            case AskStanding():
                return self._standing()
            case AskEvents():
                return self._events(ask)
            case AskPeers():
                return PeersAre(self.peers)
            case AskTopology():
                return TopologyIs(1, self.peer_id, self.peers, ())
            case _:
                return Refusal("invalid", f"the double knows no {type(ask).__name__}")

    def _standing(self) -> Standing:
        last = len(self.events)
        return Standing(
            peer_id=self.peer_id,
            listen_addrs=(f"/ip4/127.0.0.1/tcp/4001/p2p/{self.peer_id}",),
            enrolled_version=self.enrolled.version,
            known_given=self.known is not None,
            connected=0,
            adverts=0,
            runs=0,
            events_first=self.dropped + 1 if last > self.dropped else 0,
            events_last=last,
            events_head=self.head(last),
            rejected={},
        )

    def _events(self, ask: AskEvents) -> EventsAre:
        after = max(ask.after, self.dropped)
        found = tuple(self.events[after : after + ask.limit])
        return EventsAre(found, self.head(found[-1].seq if found else ask.after), lost=after - ask.after)


@asynccontextmanager
async def fabric(socket: Path, double: FabricDouble | None = None) -> AsyncIterator[FabricDouble]:
    """Serve a double at a socket."""
    told = double or FabricDouble()
    open_now: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.connections += 1
        with suppress(EOFError, OSError):
            while True:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                ask = _decoder.decode(await reader.readexactly(length))
                if told.silent:
                    continue
                data = msgspec.json.encode(await told.respond(ask))
                writer.write(_LENGTH.pack(len(data)) + data)
                await writer.drain()
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        open_now[task] = writer
        task.add_done_callback(open_now.pop)

    server = await asyncio.start_unix_server(accept, str(socket))
    try:
        yield told
    finally:
        server.close()
        serving = dict(open_now)
        for writer in serving.values():
            writer.transport.abort()
        await asyncio.gather(*serving)
        socket.unlink(missing_ok=True)
