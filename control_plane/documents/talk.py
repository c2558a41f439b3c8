# SPDX-License-Identifier: Apache-2.0
"""What the API's process and the child that makes a document say to each other: frames over the child's two pipes.

The child has neither keys nor connections. It is told everything in `Order`, asks for signatures and time-stamp tokens,
and ends with the document. A frame is its length in four bytes and one MessagePack document of a closed form.
"""

from __future__ import annotations

import asyncio
from typing import BinaryIO, Literal, TypeAlias

import msgspec
from msgspec import Struct

MAX_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH = 4


class Chain(Struct, frozen=True, tag="chain"):
    """Certificates (DER, leaf first, root last) and the revocation lists that go with them."""

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]


class Order(Struct, frozen=True, tag="order"):
    """What to make: the bundle file, by which certificates, and whose time goes on it."""

    bundle: bytes
    signer: Chain
    self_issued: bool
    stamper: Chain
    outside: Chain | None


class Sign(Struct, frozen=True, tag="sign"):
    """A signature is wanted over the attributes of this digest."""

    digest: bytes


class Stamp(Struct, frozen=True, tag="stamp"):
    """A token is wanted over this digest."""

    operator: Literal["self", "external"]
    digest: bytes


class Given(Struct, frozen=True, tag="given"):
    """The signature or token that was asked for."""

    data: bytes


class Made(Struct, frozen=True, tag="made"):
    """The document."""

    document: bytes


class Failed(Struct, frozen=True, tag="failed"):
    """It can't be made; the kind of error alone, for its text may quote content."""

    error: str


Said: TypeAlias = Sign | Stamp | Made | Failed
Told: TypeAlias = Order | Given
_said: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)
_told: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)


def frame(message: Said | Told) -> bytes:
    """A message as it goes over the pipe."""
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(_LENGTH, "big") + data


async def said(reader: asyncio.StreamReader) -> Said:
    """The child's next message; EOFError where it is gone, or says more than a frame may hold."""
    length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
    if length > MAX_FRAME_BYTES:
        raise EOFError
    return _said.decode(await reader.readexactly(length))


def told(pipe: BinaryIO) -> Told:
    """The parent's next message; EOFError where it is gone."""
    length = int.from_bytes(_read(pipe, _LENGTH), "big")
    return _told.decode(_read(pipe, length))


def _read(pipe: BinaryIO, length: int) -> bytes:
    data = pipe.read(length)
    if len(data) != length:
        raise EOFError
    return data
