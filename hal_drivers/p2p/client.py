# SPDX-License-Identifier: Apache-2.0
"""The plane's way to its fabric: asks over a Unix socket, from asyncio (decision 10).

Each ask has a connection to itself until it is answered, so that one that waits keeps no other waiting; connections
are kept and used again. Every ask may be sent twice (``office``), so one whose kept connection broke is sent anew on a
new one. What the fabric answers is read as strictly as a stranger's words.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path
from typing import TypeVar

import msgspec

from hal_drivers.p2p.errors import AskRefused, FabricAway
from hal_drivers.p2p.office import MAX_OFFICE_FRAME, Ask, Refusal, Reply

AT_ONCE = 64
KEPT = 8
_LENGTH = struct.Struct(">I")
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Reply)
R = TypeVar("R", bound=msgspec.Struct)
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Office:
    """Asks of one process. Nothing is opened before the first; ``close`` ends what is kept."""

    def __init__(self, socket: Path, *, limit_s: float = 2.0) -> None:
        """``limit_s`` is how long an answer may take beyond what the ask itself wants waited."""
        self._socket = socket
        self._limit_s = limit_s
        self._kept: list[Connection] = []
        self._room = asyncio.Semaphore(AT_ONCE)

    async def ask(self, ask: Ask, wanted: type[R], *, limit_s: float | None = None) -> R:
        """The answer; raises FabricAway where there is none in time or none of this kind, AskRefused with its code."""
        data = _encoder.encode(ask)
        if len(data) > MAX_OFFICE_FRAME:
            raise AskRefused("invalid", f"an ask of {len(data)} bytes is too large")
        waits_s = getattr(ask, "wait_ms", 0) / 1000
        try:
            async with asyncio.timeout(waits_s + (self._limit_s if limit_s is None else limit_s)), self._room:
                answer = await self._answered(data)
        except TimeoutError as error:
            raise FabricAway("the fabric didn't answer in time") from error
        match answer:
            case Refusal(code=code, detail=detail):
                raise AskRefused(code, detail)
            case _ if isinstance(answer, wanted):
                return answer
            case _:
                raise FabricAway(f"the fabric answered {type(answer).__name__} where {wanted.__name__} was asked for")

    async def close(self) -> None:
        """End kept connections; an ask after this opens a new one."""
        kept, self._kept = self._kept, []
        for _, writer in kept:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answered(self, data: bytes) -> Reply:
        while self._kept:
            with contextlib.suppress(OSError, EOFError):
                return await self._exchange(self._kept.pop(), data)
        try:
            return await self._exchange(await asyncio.open_unix_connection(str(self._socket)), data)
        except (OSError, EOFError) as error:
            raise FabricAway(f"the fabric isn't there: {str(error) or type(error).__name__}") from error

    async def _exchange(self, connection: Connection, data: bytes) -> Reply:
        """One frame there, one back; the connection is kept where both were whole, and ended else."""
        reader, writer = connection
        whole = False
        try:
            writer.write(_LENGTH.pack(len(data)) + data)
            await writer.drain()
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            if length > MAX_OFFICE_FRAME:
                raise FabricAway(f"the fabric answered with {length} bytes, which is too many")
            answer: Reply = _decoder.decode(await reader.readexactly(length))
            whole = True
        except msgspec.DecodeError as error:
            raise FabricAway(f"the fabric's answer can't be read: {error}") from error
        finally:
            if whole and len(self._kept) < KEPT:
                self._kept.append(connection)
            else:
                writer.close()
        return answer
