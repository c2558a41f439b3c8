# SPDX-License-Identifier: Apache-2.0
"""Requests to nodes over kept streams: the real :class:`link.Link` (N6).

A new stream costs several round trips, a dial a quarter of a second, so streams are kept, a few a node, and each
carries one request at a time. What a stream brings that nobody waits for goes to ``stray`` and has no effect: an answer
that comes again, or the answer to work that its asker gave up on, for which the stream is kept open a while and then
reset. Nothing of an answer is believed here but its size and shape. Trio.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import trio
from msgspec import Struct

from hal_drivers.p2p.errors import FrameInvalid, Late, Refused, Unreachable
from hal_drivers.p2p.framing import Pipe, read_frame, write_frame
from hal_drivers.p2p.ir import canonical
from hal_drivers.p2p.wire import MAX_FRAME, PROTOCOL, Execute, Request, Signed

log = logging.getLogger("qcos.p2p")
_AT_ONCE = 16
_KEPT = 4
_REMEMBERED = 16
_LATE_S = 60.0
_signed = msgspec.json.Decoder(Signed)


class _Names(Struct):
    """Which request an answer says it answers; the rest of it is for whoever asked."""

    request_sha256: str = ""


_names = msgspec.json.Decoder(_Names)


class Stream(Pipe, Protocol):
    """A stream that can be given back."""

    async def end(self) -> None:
        """Reset it."""
        ...


class _Kept:
    """A stream with what was asked on it before."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.asked: deque[str] = deque(maxlen=_REMEMBERED)
        self.scope = trio.CancelScope()


class _Node:
    def __init__(self) -> None:
        self.idle: list[_Kept] = []
        self.busy: set[_Kept] = set()
        self.limiter = trio.CapacityLimiter(_AT_ONCE)


Open = Callable[[str, str], Awaitable[Stream]]
Stray = Callable[[str, Signed], None]


class Calls:
    """The kept streams of one fabric. ``broken`` names what a stream that broke raises."""

    def __init__(
        self,
        nursery: trio.Nursery,
        opened: Open,
        may_join: Callable[[str], bool],
        stray: Stray,
        broken: tuple[type[BaseException], ...],
    ) -> None:
        self._nursery = nursery
        self._open = opened
        self._may_join = may_join
        self._stray = stray
        self._broken = broken
        self._nodes: dict[str, _Node] = {}

    async def ask(self, node_id: str, request: Request, limit_s: float) -> Signed:
        """The node's words to this request; raises Unreachable, Late or Refused (`link.Link`)."""
        if not self._may_join(node_id):
            raise Refused(f"{node_id} is not enrolled, or not approved")
        data = canonical(request)
        node = self._nodes.setdefault(node_id, _Node())
        works = isinstance(request, Execute)
        with trio.move_on_after(limit_s):
            # Only work is bounded: a heartbeat or a cancel must not wait behind it.
            async with node.limiter if works else contextlib.nullcontext():
                return await self._ask(node_id, node, data, works=works)
        raise Late(f"{node_id} gave no answer within {limit_s:g} s")

    async def drop(self, node_id: str) -> None:
        """End every stream with this node; who waits on one gets Unreachable."""
        node = self._nodes.pop(node_id, None)
        if node is None:
            return
        for kept in [*node.busy]:
            kept.scope.cancel()  # a stream that is reset on this side doesn't wake who reads it here
        for kept in node.idle:
            await kept.stream.end()

    async def _ask(self, node_id: str, node: _Node, data: bytes, *, works: bool) -> Signed:
        # A kept stream may have broken unseen: nothing was answered on it, and the next is tried. A node that got the
        # request twice answers with the same bytes.
        while node.idle:
            kept = node.idle.pop()
            try:
                return await self._on(node_id, node, kept, data, works=works)
            except Unreachable:
                continue
        return await self._on(node_id, node, _Kept(await self._open(node_id, PROTOCOL)), data, works=works)

    async def _on(self, node_id: str, node: _Node, kept: _Kept, data: bytes, *, works: bool) -> Signed:
        digest = hashlib.sha256(data).hexdigest()
        kept.scope = trio.CancelScope()
        node.busy.add(kept)
        sound = waiting = False
        try:
            with kept.scope:
                await write_frame(kept.stream, data, MAX_FRAME)
                waiting = works
                signed = await self._answer(node_id, kept)
                kept.asked.append(digest)
                sound, waiting = True, False
                return signed
            waiting = False
            raise Unreachable(f"{node_id}: its connection was ended")
        except self._broken as error:
            waiting = False
            raise Unreachable(f"{node_id}: {str(error) or type(error).__name__}") from error
        finally:
            node.busy.discard(kept)
            if sound and len(node.idle) < _KEPT and self._nodes.get(node_id) is node:
                node.idle.append(kept)
            elif waiting:  # given up: what still comes is told of, for a while
                self._nursery.start_soon(self._listen, node_id, kept)
            else:
                await kept.stream.end()

    async def _answer(self, node_id: str, kept: _Kept) -> Signed:
        while True:
            frame = await read_frame(kept.stream, MAX_FRAME)
            if frame is None:
                raise FrameInvalid("it ended the stream")
            try:
                signed = _signed.decode(frame)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise FrameInvalid(f"no answer of ours: {error}") from None
            if _named(signed) in kept.asked:
                self._stray(node_id, signed)
                continue
            return signed

    async def _listen(self, node_id: str, kept: _Kept) -> None:
        try:
            with trio.move_on_after(_LATE_S):
                for _ in range(_REMEMBERED):
                    frame = await read_frame(kept.stream, MAX_FRAME)
                    if frame is None:
                        return
                    self._stray(node_id, _signed.decode(frame))
        except self._broken as error:
            log.debug("nothing more from %s: %s", node_id, error)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.debug("no answer of ours, late, from %s: %s", node_id, error)
        finally:
            await kept.stream.end()


def _named(signed: Signed) -> str:
    try:
        return _names.decode(signed.body).request_sha256
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
