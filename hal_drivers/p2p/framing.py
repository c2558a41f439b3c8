# SPDX-License-Identifier: Apache-2.0
"""Frames over a stream of bytes: four bytes of length, big-endian, then so many bytes. Bounded both ways.

libp2p's own `read_exactly` gives up after 101 pieces, so a frame in small ones failed: this loop reads until it has
all. Nothing is allocated by what a length claims: memory grows with the bytes that came. Works on any stream of
:class:`Pipe`, a libp2p stream or a Unix socket alike; limits in time are the caller's.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

from hal_drivers.p2p.errors import FrameInvalid

_LENGTH = struct.Struct("!I")
_PIECE = 1 << 16


class Pipe(Protocol):
    """A stream of bytes. ``read`` gives at least one byte and at most so many, or none at its end."""

    async def read(self, most: int) -> bytes:
        """Up to so many bytes; none: the other side has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """All of these bytes."""
        ...


class Pieces:
    """Small reads, served from large ones; ``take`` gives up to so many bytes, none at the end."""

    def __init__(self, take: Callable[[int], Awaitable[bytes]]) -> None:
        self._take = take
        self._left = b""

    async def read(self, most: int) -> bytes:
        """Up to so many bytes; none at the end."""
        data = self._left or await self._take(_PIECE)
        self._left = data[most:]
        return data[:most]


async def read_frame(pipe: Pipe, largest: int) -> bytes | None:
    """The next frame; None where the stream ended between two. FrameInvalid: too long, empty, or cut off."""
    head = await _exactly(pipe, _LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise FrameInvalid("the stream ended within a frame's length")
    (length,) = _LENGTH.unpack(head)
    if not 0 < length <= largest:
        raise FrameInvalid(f"a frame of {length} bytes; between 1 and {largest} are taken")
    data = await _exactly(pipe, length)
    if len(data) < length:
        raise FrameInvalid(f"the stream ended after {len(data)} of {length} bytes")
    return data


async def write_frame(pipe: Pipe, data: bytes, largest: int) -> None:
    """Send one frame; FrameInvalid where the other side would refuse it."""
    if not 0 < len(data) <= largest:
        raise FrameInvalid(f"a frame of {len(data)} bytes; between 1 and {largest} are sent")
    await pipe.write(_LENGTH.pack(len(data)) + data)


async def _exactly(pipe: Pipe, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = await pipe.read(min(count - len(data), _PIECE))
        if not piece:
            break
        data += piece
    return bytes(data)
