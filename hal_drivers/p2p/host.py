# SPDX-License-Identifier: Apache-2.0
"""A libp2p host that speaks Noise and nothing else, to peers that may be spoken to and to nobody else (N1, N14).

libp2p's own host also takes plaintext and then believes whatever peer id is claimed; this one is given one security
protocol, so that a peer id is always a proven key. ``may_join`` is asked at every connection and again before each
stream; who may not is cut off at once and told of through ``refused``. Streams of a peer are counted, messages bounded.
Bootstrap peers are dialled again, with back-off, as long as the host runs. Trio only; imported by the fabric and by
nodes alone, for libp2p takes seconds to import.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio
from libp2p import create_yamux_muxer_option, new_host
from libp2p.abc import IHost, INetConn, INetStream, INetwork, INotifee
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.config import ConnectionConfig
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from hal_drivers.p2p.errors import FabricUnusable, FrameInvalid, Unreachable
from hal_drivers.p2p.framing import Pieces
from hal_drivers.p2p.identity import Identity
from hal_drivers.p2p.lean import LeanNoise
from hal_drivers.p2p.wire import ADVERT_TOPIC

log = logging.getLogger("qcos.p2p")
_GOSSIP = TProtocol("/meshsub/1.1.0")
_GOSSIP_HEARTBEAT_S = 1  # libp2p's own default is two minutes
_STREAMS_A_PEER = 32
_DIAL_LIMIT_S = 5.0
_BACKOFF_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_STEADY_S = 3.0
_LOOK_S = 0.25
_DUMB_S = 3.0
_CUT_S = 0.05
_CUTS = 100
BROKEN = (BaseLibp2pError, FrameInvalid, trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a stream or connection that broke raises, whoever broke it."""


class Channel:
    """One libp2p stream as a :class:`framing.Pipe`."""

    def __init__(self, stream: INetStream) -> None:
        self.stream = stream
        self.peer_id = str(stream.muxed_conn.peer_id)
        self.read = Pieces(self._take).read
        """Up to so many bytes, none at the end: each take has its price in libp2p, whatever it brings."""

    async def write(self, data: bytes) -> None:
        """All of it."""
        await self.stream.write(data)

    async def _take(self, most: int) -> bytes:
        try:
            return bytes(await self.stream.read(most))
        except StreamEOF:
            return b""

    async def end(self) -> None:
        """Give the stream back, whatever is still in it."""
        with trio.CancelScope(shield=True), contextlib.suppress(*BROKEN), trio.move_on_after(1.0):
            await self.stream.reset()


Serve = Callable[[Channel], Awaitable[None]]


@dataclass
class Ways:
    """What the host asks and tells: all are plain calls, on the host's own thread, that return at once."""

    may_join: Callable[[str], bool]
    refused: Callable[[str, str], None] = lambda _peer, _why: None
    joined: Callable[[str], None] = lambda _peer: None
    left: Callable[[str], None] = lambda _peer: None
    heard: Callable[[str, bytes], bool] = lambda _forwarder, _data: False
    """An advert, by whom it came: whether it is to be passed on."""
    protocols: dict[str, Serve] = field(default_factory=dict)
    listens: bool = False
    """Whether adverts are wanted here: the fabric hears, nodes only say."""


class Host:
    """The running host; made by :func:`running`."""

    def __init__(self, host: IHost, gossip: Pubsub, ways: Ways, nursery: trio.Nursery) -> None:
        self._host = host
        self._gossip = gossip
        self._ways = ways
        self._nursery = nursery
        self._streams: Counter[str] = Counter()
        self._cutting: set[str] = set()
        self.peer_id = str(host.get_id())

    def addresses(self) -> tuple[str, ...]:
        """Where this host listens, each with its peer id at the end."""
        own = f"/p2p/{self.peer_id}"
        found = (str(address) for address in self._host.get_addrs())
        return tuple(sorted(address if address.endswith(own) else address + own for address in found))

    def connected(self) -> frozenset[str]:
        """Who is connected now."""
        return frozenset(str(peer) for peer in self._host.get_connected_peers())

    async def open(self, peer_id: str, protocol: str) -> Channel:
        """A new stream to a peer that is connected; Unreachable where it isn't, or doesn't know the protocol."""
        peer = ID.from_string(peer_id)
        if peer_id not in self.connected():
            raise Unreachable(f"{peer_id} is not connected")
        try:
            return Channel(await self._host.new_stream(peer, [TProtocol(protocol)]))
        except BROKEN as error:
            raise Unreachable(f"{peer_id}: no stream ({str(error) or type(error).__name__})") from error

    async def end(self, peer_id: str) -> None:
        """Cut a peer off: its connection and every stream on it."""
        with contextlib.suppress(*BROKEN):
            await self._host.disconnect(ID.from_string(peer_id))

    async def publish(self, data: bytes) -> None:
        """Say something to all who listen for adverts."""
        with contextlib.suppress(*BROKEN):
            await self._gossip.publish(ADVERT_TOPIC, data)

    def listeners(self) -> frozenset[str]:
        """Who is known to listen for adverts."""
        return frozenset(str(peer) for peer in self._gossip.peer_topics.get(ADVERT_TOPIC, ()))

    def refuse(self, peer_id: str, why: str) -> None:
        """Cut off who may not be here, soon, and tell."""
        self._ways.refused(peer_id, why)
        if peer_id not in self._cutting:
            self._cutting.add(peer_id)
            self._nursery.start_soon(self._cut, peer_id)

    async def _cut(self, peer_id: str) -> None:
        # A connection that is closed while libp2p still sets it up comes back to life: so until it is gone. Also where
        # the peer may join meanwhile: streams of this connection were refused, and gossip opens its own but once.
        try:
            for _ in range(_CUTS):
                await trio.sleep(_CUT_S)
                if peer_id not in self.connected():
                    return
                await self.end(peer_id)
        finally:
            self._cutting.discard(peer_id)

    def guarded(self, serve: Serve, *, ends: bool = True) -> Callable[[INetStream], Awaitable[None]]:
        """The wrapper around every handler: who is it, may it, and not too many at once. ``ends``: reset afterwards."""

        async def handle(stream: INetStream) -> None:
            channel = Channel(stream)
            peer = channel.peer_id
            if not self._ways.may_join(peer):
                await channel.end()
                self.refuse(peer, "not_enrolled")
                return
            if self._streams[peer] >= _STREAMS_A_PEER:
                await channel.end()
                self._ways.refused(peer, "too_many_streams")
                return
            self._streams[peer] += 1
            try:
                await serve(channel)
            except BROKEN as error:
                log.debug("stream of %s broke: %s", peer, error)
            finally:
                self._streams[peer] -= 1
                if not self._streams[peer]:
                    del self._streams[peer]
                if ends:
                    await channel.end()

        return handle

    async def keep(self, address: str) -> None:
        """Stay connected to a peer at this address, for ever; the wait between two dials grows to two seconds."""
        info = info_from_p2p_addr(Multiaddr(address))
        failed = 0
        while True:
            begun = trio.current_time()
            network = self._host.get_network()
            if isinstance(network, Swarm):  # libp2p won't dial a peer again, for minutes, that was away once
                network.unblock_peer(info.peer_id)
            with contextlib.suppress(*BROKEN), trio.move_on_after(_DIAL_LIMIT_S):
                await self._host.connect(info)
            await self._while_connected(info.peer_id)
            # One that cuts us off as soon as we are there, as it does before we are enrolled, is as good as away.
            failed = 0 if trio.current_time() - begun > _STEADY_S else failed + 1
            await trio.sleep(_BACKOFF_S[min(failed, len(_BACKOFF_S) - 1)])

    async def _while_connected(self, peer: ID) -> None:
        """Until it is gone; libp2p tells of ends in an order of its own, so this looks."""
        name, well_s = str(peer), trio.current_time()
        while name in self.connected():
            await trio.sleep(_LOOK_S)
            # Gossip gives a stream up that broke at a bad moment, and then a node could never be heard here again.
            if peer in self._gossip.peers and (self._ways.listens or name in self.listeners()):
                well_s = trio.current_time()
            elif trio.current_time() - well_s > _DUMB_S:
                await self.end(name)

    async def drain(self) -> None:
        """Take what gossip has delivered: it was judged when it came, and a full queue would only log."""
        subscription = await self._gossip.subscribe(ADVERT_TOPIC)
        while True:
            await subscription.get()


class _Door(INotifee):
    """Stands at each connection: who may not join is cut off before it can say anything that counts."""

    def __init__(self, host: Host, ways: Ways) -> None:
        self._host = host
        self._ways = ways

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        del network
        peer = str(conn.muxed_conn.peer_id)
        if self._ways.may_join(peer):
            self._ways.joined(peer)
        else:
            self._host.refuse(peer, "not_enrolled")

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        del network
        peer = str(conn.muxed_conn.peer_id)
        if peer not in self._host.connected():
            self._ways.left(peer)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Judged by the wrapper around each handler."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Nothing to do."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""


@contextlib.asynccontextmanager
async def running(
    identity: Identity, listen: Sequence[str], ways: Ways, *, bootstrap: Sequence[str] = ()
) -> AsyncIterator[Host]:
    """A host until the block ends; FabricUnusable where it can't listen."""
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it logs what strangers send
    pair = create_new_key_pair(identity.seed)
    bare = new_host(
        key_pair=pair,
        sec_opt={TProtocol(NOISE): LeanNoise(pair, noise_privkey=create_noise_key_pair().private_key)},
        muxer_opt=create_yamux_muxer_option(),
        connection_config=ConnectionConfig(max_connections_per_peer=4, dial_timeout=_DIAL_LIMIT_S),
    )
    router = GossipSub(
        protocols=[_GOSSIP],
        degree=6,
        degree_low=3,
        degree_high=12,
        heartbeat_interval=_GOSSIP_HEARTBEAT_S,
        spam_protection_enabled=False,  # the registry bounds by peer, and says whom it bounded
        eclipse_protection_enabled=False,  # it wants peers on several networks, which one machine hasn't
    )
    gossip = Pubsub(bare, router, max_inbound_rpc_size=1 << 18, allowed_topics={ADVERT_TOPIC})
    async with trio.open_nursery() as nursery:
        host = Host(bare, gossip, ways, nursery)
        # libp2p's own handlers (identify, ping, gossip) are wrapped too: a stranger reaches none of them.
        for protocol, handler in list(bare.get_mux().handlers.items()):
            if protocol is not None and handler is not None:
                bare.set_stream_handler(protocol, host.guarded(_own(handler), ends=False))
        for name, serve in ways.protocols.items():
            bare.set_stream_handler(TProtocol(name), host.guarded(serve))
        if ways.listens:  # a validator judges what is said here, too
            gossip.set_topic_validator(ADVERT_TOPIC, _validator(ways), is_async_validator=False)
        bare.get_network().register_notifee(_Door(host, ways))
        try:
            async with _listening(bare, listen), background_trio_service(router), background_trio_service(gossip):
                await gossip.wait_until_ready()
                if ways.listens:
                    nursery.start_soon(host.drain)
                for address in bootstrap:
                    nursery.start_soon(host.keep, address)
                yield host
        finally:
            # Not before libp2p's own have stopped: cancelled while they wait, they would take the place of an error.
            nursery.cancel_scope.cancel()


def _own(handler: Any) -> Serve:
    async def serve(channel: Channel) -> None:
        await handler(channel.stream)

    return serve


def _validator(ways: Ways) -> Callable[[ID, Any], bool]:
    def judge(forwarder: ID, message: Any) -> bool:
        return ways.heard(str(forwarder), bytes(message.data))

    return judge


@contextlib.asynccontextmanager
async def _listening(host: IHost, listen: Sequence[str]) -> AsyncIterator[None]:
    try:
        addresses = [Multiaddr(address) for address in listen]
    except ValueError as error:
        raise FabricUnusable(f"listen: {error}") from error
    async with host.run(listen_addrs=addresses):
        if not host.get_addrs():
            raise FabricUnusable(f"can't listen on {', '.join(listen)}")
        yield
