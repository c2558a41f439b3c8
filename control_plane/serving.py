# SPDX-License-Identifier: Apache-2.0
"""What one connection may take of an API process: bytes of a head, time for head and body, time to read (N13).

uvicorn's protocols with bounds that it lacks, as data: a head of at most `HEAD_BYTES` within `HEAD_S`; a body that
keeps coming (`BODY_BYTES` in each `BODY_S`); at most `AHEAD` requests sent before their turn; an answer that is read
within `UNREAD_S`; `AT_MOST` connections, of which those that have asked nothing go first. WebSockets: small messages
only, no compression, a peer that doesn't read what it is sent is let go. One look a second judges them all: a request
costs no timer. What HTTP itself is wrong about is answered with a problem document too. Who may ask what is for the
door.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from abc import ABC, abstractmethod
from typing import Any, Literal, TypeAlias

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.events import Ping

from control_plane.errors import Refused, problem

HEAD_BYTES = 65_536
HEAD_S = 10.0
BODY_S = 10.0
BODY_BYTES = 16_384
UNREAD_S = 30.0
AHEAD = 16
AT_MOST = 4_096
SPARE = 256  # descriptors for the database, files, OPA
LOOK_S = 1.0
SOCKET_MESSAGE_BYTES = 4_096

Phase: TypeAlias = Literal["head", "body", "busy", "idle", "closing"]
# uvicorn has no lines for these.
_LINES = {
    400: b"HTTP/1.1 400 Bad Request\r\n",
    408: b"HTTP/1.1 408 Request Timeout\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
}


class Connections:
    """All connections of a process, oldest first."""

    def __init__(self, at_most: int) -> None:
        self.at_most = at_most
        self._all: dict[Judged, None] = {}
        self._looking = False

    def add(self, one: Judged) -> None:
        """A new one: beyond the most, the oldest that has asked nothing goes, or this one where all are at work."""
        self._all[one] = None
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)
        if len(self._all) > self.at_most:
            next((old for old in self._all if old.phase in ("head", "idle", "closing")), one).abort()

    def drop(self, one: Judged) -> None:
        """It has ended."""
        self._all.pop(one, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for one in list(self._all):
            one.judge(now)
        self._looking = bool(self._all)
        if self._looking:
            loop.call_later(LOOK_S, self._look)


def descriptors() -> int:
    """Raise the soft limit of open files to what may be used; how many connections that leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = AT_MOST + SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return AT_MOST if soft == resource.RLIM_INFINITY else max(64, min(AT_MOST, soft - SPARE))


CONNECTIONS = Connections(AT_MOST)


class Judged(asyncio.Protocol, ABC):
    """What every connection keeps, so that the look can judge it; stands before uvicorn's protocol among the bases."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.phase: Phase = "head"
        self.since = self.loop.time()
        self.stuck: float | None = None

    @abstractmethod
    def judge(self, now: float) -> None:
        """Let go of it where it takes too much."""

    @abstractmethod
    def abort(self) -> None:
        """End it at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer is there; a WebSocket's was handed over by its HTTP connection."""
        super().connection_made(transport)
        CONNECTIONS.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        CONNECTIONS.drop(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer doesn't read what it asked for."""
        super().pause_writing()
        self.stuck = self.loop.time()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self.stuck = None


class Http(Judged, HttpToolsProtocol):
    """One HTTP connection."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.taken = 0  # bytes of this head, or of the body since the last judgement
        self._refusal = Refused("request_invalid", "not an HTTP/1.1 request")
        self._running: RequestResponseCycle | None = None
        self._deaf = False

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that never ends is refused before it is whole."""
        if self.phase == "closing" or self._deaf:
            return
        if self.phase == "idle":
            self._begin("head")
        # As uvicorn's, but without its line in the log for each refused request: anybody could fill it.
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._fault(self._refusal)
            return
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            return
        self.taken += len(data)
        if self.phase == "head" and self.taken > HEAD_BYTES:
            self._refuse("headers_too_large", f"a request's head has at most {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """A request begins, perhaps before the one before has its answer."""
        self._begin("head")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole; raises to have the parser stop."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            self._refusal = Refused("headers_too_large", f"a request's head has at most {HEAD_BYTES} bytes")
            raise ValueError("head")
        if len(self.pipeline) >= AHEAD:
            self._refusal = Refused("request_invalid", f"at most {AHEAD} requests before their turn")
            raise ValueError("pipeline")
        super().on_headers_complete()
        self._begin("body")

    def on_message_complete(self) -> None:
        """The body is whole."""
        super().on_message_complete()
        self.phase = "busy"

    def on_response_complete(self) -> None:
        """The answer is written; the next request may begin."""
        super().on_response_complete()
        if self.phase == "busy":
            self._begin("idle")

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        CONNECTIONS.drop(self)
        super().handle_websocket_upgrade()

    def judge(self, now: float) -> None:
        """See the module's docstring."""
        past = now - self.since
        if (self.stuck is not None and now - self.stuck > UNREAD_S) or (self.phase == "closing" and past > BODY_S):
            self.abort()
        elif self.phase == "head" and past > HEAD_S:
            self._refuse("request_timeout", f"a request's head is to come within {HEAD_S:.0f} s")
        elif self.phase == "body" and past > BODY_S and not self.flow.read_paused:
            if self.taken < BODY_BYTES:
                self._refuse("request_timeout", f"a body is to come at {BODY_BYTES} bytes in {BODY_S:.0f} s")
            else:
                self._begin("body")
        elif self.phase == "idle" and past > self.timeout_keep_alive + BODY_S:
            self.abort()  # closed by uvicorn, and what it was sent was never read

    def abort(self) -> None:
        """End it, and what wasn't read."""
        self.phase = "closing"
        self.transport.abort()

    def _begin(self, phase: Phase) -> None:
        self.phase, self.since, self.taken = phase, self.loop.time(), 0

    def _refuse(self, code: str, detail: str) -> None:
        if self.phase == "head" and not self.taken:
            self.abort()  # nobody asked
        else:
            self._fault(Refused(code, detail))

    def _fault(self, refused: Refused) -> None:
        """Nothing more is read. Whose answer is under way gets it whole; a refusal is never written into it."""
        running = self._running
        if running is None or running.response_complete:
            self._answer(refused)
        elif running.response_started and self.phase == "body":
            self.abort()
        elif running is self.cycle and self.phase == "body":
            running.disconnected = True  # it waits for a body that doesn't come
            running.message_event.set()
            self._answer(refused)
        else:
            running.keep_alive = False
            self.pipeline.clear()
            self._deaf, self.phase = True, "busy"

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _answer(self, refused: Refused) -> None:
        status, document = problem(refused)
        body = msgspec.json.encode(document)
        head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self._begin("closing")
        if not self.transport.is_closing():
            self.transport.write(_LINES[status] + head + body)
            self.transport.close()


class WebSocket(Judged, WSProtocol):
    """One WebSocket: it tells, and hears nothing but pings."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.phase = "busy"

    def handle_ping(self, event: Ping) -> None:
        """Answer, unless the peer doesn't read its answers: they would pile up."""
        if self.stuck is None:
            super().handle_ping(event)

    def judge(self, now: float) -> None:
        """Let go of a peer that doesn't read."""
        if self.stuck is not None and now - self.stuck > UNREAD_S:
            self.abort()

    def abort(self) -> None:
        """End it."""
        self.phase = "closing"
        self.transport.abort()


__all__ = ["CONNECTIONS", "Connections", "Http", "WebSocket", "descriptors"]
