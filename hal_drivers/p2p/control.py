# SPDX-License-Identifier: Apache-2.0
"""The fabric's Unix socket: frames of :data:`office.Ask` in, frames of :data:`office.Reply` out (decision 10).

The socket's mode is 0600, in a folder of the plane's own: whoever can open it is the plane. A connection's asks are
answered in order; who wants two at once opens two. An ask that can't be read is refused and ends the connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import trio

from hal_drivers.p2p.errors import FabricUnusable, FrameInvalid
from hal_drivers.p2p.framing import Pieces, read_frame, write_frame
from hal_drivers.p2p.office import MAX_OFFICE_FRAME, Ask, Refusal, Reply

log = logging.getLogger("qcos.p2p")
_CONNECTIONS = 128
_ask: msgspec.json.Decoder[Ask] = msgspec.json.Decoder(Ask)


class _Socket:
    """A connection as a :class:`framing.Pipe`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.read = Pieces(stream.receive_some).read

    async def write(self, data: bytes) -> None:
        await self._stream.send_all(data)


@contextlib.asynccontextmanager
async def serving(path: Path, answer: Callable[[Ask], Awaitable[Reply]]) -> AsyncIterator[None]:
    """Serve on this path until the block ends; FabricUnusable where the socket can't be made."""
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(_listen(path)))
    limiter = trio.CapacityLimiter(_CONNECTIONS)

    async def serve(stream: trio.SocketStream) -> None:
        if limiter.available_tokens < 1:
            await stream.aclose()
            return
        async with limiter, stream:
            with contextlib.suppress(FrameInvalid, trio.BrokenResourceError, trio.ClosedResourceError):
                await _converse(_Socket(stream), answer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            path.unlink(missing_ok=True)


async def _converse(pipe: _Socket, answer: Callable[[Ask], Awaitable[Reply]]) -> None:
    while (frame := await read_frame(pipe, MAX_OFFICE_FRAME)) is not None:
        reply: Reply
        try:
            reply, readable = await answer(_ask.decode(frame)), True
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reply, readable = Refusal("invalid", str(error)[:500]), False
        await write_frame(pipe, _encoded(reply), MAX_OFFICE_FRAME)
        if not readable:
            return


def _encoded(reply: Reply) -> bytes:
    data = msgspec.json.encode(reply)
    if len(data) <= MAX_OFFICE_FRAME:
        return data
    return msgspec.json.encode(Refusal("invalid", f"the answer is {len(data)} bytes, {MAX_OFFICE_FRAME} at most"))


def _listen(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        made.bind(str(path))
        made.listen(_CONNECTIONS)
    except OSError as error:
        made.close()
        raise FabricUnusable(f"{path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    made.setblocking(False)
    return made
