# SPDX-License-Identifier: Apache-2.0
"""libp2p's own Noise and yamux, in fewer pieces: one write and one read for what is one message (N18).

As they come, each message that is received takes two reads of the socket, and each piece that is taken from a stream
sends the other side leave to send as much again: a message of its own, encrypted, written, read and decrypted, three
times as many of them as there are requests and answers. Here a connection is read in large pieces, and leave is given
once it amounts to something (`leave`). Nothing else is changed: the bytes are Noise and yamux as any peer speaks them.
"""

from __future__ import annotations

from libp2p.abc import IRawConnection, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.crypto.keys import PrivateKey, PublicKey
from libp2p.peer.id import ID
from libp2p.security.noise.transport import Transport as Noise
from multiaddr import Multiaddr

from hal_drivers.p2p.framing import Pieces
from hal_drivers.p2p.leave import Leave

_ALL = 1 << 30


class _Over(IRawConnection):
    """A connection over another."""

    _conn: IRawConnection

    async def close(self) -> None:
        """End it."""
        await self._conn.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        """As the connection has it."""
        return self._conn.get_remote_address()

    def get_transport_addresses(self) -> list[Multiaddr]:
        """As the connection has them."""
        return self._conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """As the connection has it."""
        return self._conn.get_connection_type()


class Drawn(_Over):
    """A connection that is read in large pieces, whatever is asked for."""

    def __init__(self, conn: IRawConnection) -> None:
        self.is_initiator = conn.is_initiator
        self._conn = conn
        self._pieces = Pieces(conn.read)

    async def read(self, n: int | None = None) -> bytes:
        """Up to so many bytes; none: it has ended."""
        return await self._pieces.read(_ALL if n is None else n)

    async def write(self, data: bytes) -> None:
        """All of it."""
        await self._conn.write(data)


class Frugal(_Over, ISecureConn):
    """A secured connection on which yamux gives leave in large amounts."""

    _conn: ISecureConn

    def __init__(self, conn: ISecureConn) -> None:
        self.is_initiator = conn.is_initiator
        self._conn = conn
        self._leave = Leave()

    async def write(self, data: bytes) -> None:
        """One frame of yamux, as it writes them, or what is said before it; little leave isn't sent yet."""
        if (kept := self._leave.judged(data)) is not None:
            await self._conn.write(kept)

    async def read(self, n: int | None = None) -> bytes:
        """As the connection reads."""
        return await self._conn.read(n)

    def get_local_peer(self) -> ID:
        """As the connection has it."""
        return self._conn.get_local_peer()

    def get_local_private_key(self) -> PrivateKey:
        """As the connection has it."""
        return self._conn.get_local_private_key()

    def get_remote_peer(self) -> ID:
        """As the connection has proved it."""
        return self._conn.get_remote_peer()

    def get_remote_public_key(self) -> PublicKey:
        """As the connection has proved it."""
        return self._conn.get_remote_public_key()


class LeanNoise(Noise):
    """libp2p's Noise between the two."""

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        """Who dialled."""
        return Frugal(await super().secure_inbound(Drawn(conn)))

    async def secure_outbound(self, conn: IRawConnection, peer_id: ID) -> ISecureConn:
        """Who was dialled."""
        return Frugal(await super().secure_outbound(Drawn(conn), peer_id))
