# SPDX-License-Identifier: Apache-2.0
"""The plane's presence on the network (decision 10, N1, N2, N14): it hears, watches, cuts off, and carries requests.

It joins the libp2p host, the registry, the kept streams, the journal and the Unix socket; their rules are theirs. What
lasts is the plane's and comes over the socket: who is enrolled, what was heard before. Until the first enrolment nobody
may speak. A peer that is no longer approved loses its connection, and with it every stream, at once. A stopped peer
stays connected, so each node is asked for a heartbeat: two lost in a row make it unreachable, six end its connection,
so that one which is half gone comes back by itself. Trio; the process is `qcos fabric`.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from hal_drivers.p2p import control, host, link
from hal_drivers.p2p.adverts import Rejected
from hal_drivers.p2p.asking import Limits
from hal_drivers.p2p.calls import Calls
from hal_drivers.p2p.errors import IdentityInvalid, LinkError
from hal_drivers.p2p.identity import Identity, verify
from hal_drivers.p2p.ir import digest
from hal_drivers.p2p.journal import Journal, now
from hal_drivers.p2p.office import (
    Ask,
    AskEvents,
    AskPeers,
    AskSnapshot,
    AskStanding,
    AskTopology,
    CancelRun,
    Done,
    Enrol,
    EventKind,
    Known,
    Link,
    Peer,
    PeersAre,
    Refusal,
    Reply,
    SnapshotIs,
    Standing,
    Submit,
    TopologyIs,
)
from hal_drivers.p2p.plan import Snapshot
from hal_drivers.p2p.quality import judge_link
from hal_drivers.p2p.registry import Bounds, Registry
from hal_drivers.p2p.runs import Runs
from hal_drivers.p2p.wire import Ping, Pong, Signed

log = logging.getLogger("qcos.p2p")
_FOLD_S = 1.0
_MAX_WAIT_S = 30.0
_ENDED = 3
_SETTLE_S = 3.0
_LOOK_S = 0.05
_pong = msgspec.json.Decoder(Pong)


class FabricOptions(Struct, frozen=True):
    """How a fabric stands in the network; `[network]` of `qcos.toml` has the words."""

    listen: tuple[str, ...]
    bootstrap: tuple[str, ...] = ()
    mdns: bool = False
    heartbeat_s: float = 1.0
    heartbeat_limit_s: float = 2.0
    link_latency_us: int = 500_000
    """A link whose median heartbeat takes longer is degraded,"""
    link_failure_ppm: int = 50_000
    """and so is one that loses more of them than this, beyond doubt (`quality`)."""
    journal_bytes: int = 64 << 20
    journal_files: int = 8
    bounds: Bounds = Bounds()


class Fabric:
    """The running fabric; made by :func:`running`."""

    def __init__(self, identity: Identity, options: FabricOptions, journal: Journal, nursery: trio.Nursery) -> None:
        self.identity = identity
        self.options = options
        self.journal = journal
        self.registry = Registry(options.bounds)
        self.calls = Calls(nursery, self._opened, self.registry.may_join, self._stray, host.BROKEN)
        self.link: link.Link = self.calls
        self._runs: Runs | None = None
        self._settled = trio.Event()
        self._nursery = nursery
        self._network: host.Host | None = None
        self._folded: Counter[tuple[EventKind, str, str | None]] = Counter()
        self._beating: dict[str, trio.CancelScope] = {}
        self._every_ms = int(1000 * max(options.heartbeat_s, options.heartbeat_limit_s))

    async def answer(self, ask: Ask) -> Reply:
        """What the plane asks over the socket."""
        now_s = trio.current_time()
        match ask:
            case Enrol():
                return await self._enrol(ask)
            case Known():
                self.registry.know(ask.adverts, now_s)
                return Done()
            case AskStanding():
                return self._standing()
            case AskSnapshot():
                snapshot = self.registry.snapshot(now_s)
                return SnapshotIs(snapshot, digest(snapshot))
            case AskPeers():
                return PeersAre(self.registry.peers(now_s))
            case AskTopology():
                peers = self.registry.peers(now_s)
                return TopologyIs(self.registry.version, self.identity.peer_id, peers, tuple(map(self._link, peers)))
            case AskEvents():
                if ask.after < 0 or ask.limit < 1:
                    return Refusal("invalid", "after is 0 or more, limit 1 or more")
                wait_s = min(max(ask.wait_ms, 0) / 1000, _MAX_WAIT_S)
                return await self.journal.events(ask.after, ask.limit, wait_s)
            case _:
                return await self._work(ask)

    async def _work(self, ask: Ask) -> Reply:
        if isinstance(ask, Submit | CancelRun):  # what goes on after a restart must go on before it can be cancelled
            await self._settled.wait()
        return await self._runs.answer(ask) if self._runs else Refusal("busy", "the fabric is starting")

    def ways(self) -> host.Ways:
        """What the host asks of and tells this fabric."""
        return host.Ways(
            may_join=self.registry.may_join,
            refused=self._refused,
            joined=self._joined,
            left=self._left,
            heard=self._heard,
            listens=True,
        )

    def look(self) -> Snapshot:
        """The newest snapshot."""
        return self.registry.snapshot(trio.current_time())

    def attempted(self, node_id: str, well: bool) -> None:
        """An attempt ended there."""
        self.registry.attempted(node_id, well=well)

    def may_join(self, node_id: str) -> bool:
        """Whether this node may be spoken to."""
        return self.registry.may_join(node_id)

    def attach(self, network: host.Host, runs: Runs) -> None:
        """Give it its host and who runs plans, once they are there."""
        self._network, self._runs = network, runs

    def addresses(self) -> tuple[str, ...]:
        """Where it listens, as a node's bootstrap list takes them."""
        return self._network.addresses() if self._network else ()

    def note(self, kind: EventKind, node_id: str | None, reason: str) -> None:
        """Count what anybody can cause without end; a line a second and reason, not one each."""
        self._folded[kind, reason, node_id if node_id and self.registry.may_join(node_id) else None] += 1

    async def fold(self) -> None:
        """Write the counted, for ever."""
        while True:
            await trio.sleep(_FOLD_S)
            counted, self._folded = self._folded, Counter()
            for (kind, reason, node_id), count in sorted(counted.items(), key=str):
                self.journal.append(kind, node_id=node_id, facts={"reason": reason, "count": count})

    async def _settle(self) -> None:
        """Nodes come back by themselves after a restart; work that began without them would only fail."""
        with trio.move_on_after(_SETTLE_S):
            while self.registry.awaited(trio.current_time()):  # noqa: ASYNC110 - time alone makes an advert stale
                await trio.sleep(_LOOK_S)
        if self._runs is not None:
            await self._runs.go_on()
        self._settled.set()

    async def _enrol(self, ask: Enrol) -> Reply:
        if self.registry.enrolled_version == 0:
            self._nursery.start_soon(self._settle)
        cut = self.registry.enrol(ask)
        if cut is None:
            return Refusal("out_of_date", f"version {ask.version}; {self.registry.enrolled_version} is in force")
        for peer in cut:
            if (scope := self._beating.get(peer)) is not None:
                scope.cancel()
        async with trio.open_nursery() as nursery:
            for peer in cut:
                nursery.start_soon(self._end, peer)
        for peer in self._network.connected() if self._network else ():
            if self.registry.may_join(peer):
                self._joined(peer)
        return Done()

    async def _end(self, peer_id: str) -> None:
        await self.calls.drop(peer_id)
        if self._network is not None:
            await self._network.end(peer_id)

    def _standing(self) -> Standing:
        last, head = self.journal.durable
        return Standing(
            peer_id=self.identity.peer_id,
            listen_addrs=self.addresses(),
            enrolled_version=self.registry.enrolled_version,
            known_given=self.registry.known_given,
            connected=len(self._beating),
            adverts=self.registry.held(),
            runs=self._runs.active() if self._runs else 0,
            events_first=self.journal.first,
            events_last=last,
            events_head=head,
            rejected=dict(sorted(self.registry.rejected.items())),
        )

    def _link(self, peer: Peer) -> Link:
        options = self.options
        verdict = judge_link(self.registry.link(peer.peer_id), options.link_latency_us, options.link_failure_ppm)
        return Link(
            from_id=self.identity.peer_id,
            to_id=peer.peer_id,
            connected=peer.connected,
            latency_us=verdict.latency_us,
            failure_ppm=verdict.failure_ppm,
            degraded=not peer.connected or peer.state == "unreachable" or verdict.state == "degraded",
        )

    def _heard(self, forwarder: str, data: bytes) -> bool:
        try:
            self.registry.hear(data, forwarder, trio.current_time())
        except Rejected as error:
            self.note("advert:rejected", error.node_id, error.reason)
            log.info("advert by %s rejected: %s", forwarder, error)
            return False
        return True

    def _refused(self, peer_id: str, why: str) -> None:
        self.registry.stranger(peer_id, trio.current_time())
        self.note("peer:refused", peer_id, why)

    def _joined(self, peer_id: str) -> None:
        if peer_id in self._beating:
            return
        self.registry.joined(peer_id)
        self.journal.append("peer:connected", node_id=peer_id)
        self._beating[peer_id] = trio.CancelScope()
        self._nursery.start_soon(self._watch, peer_id, self._beating[peer_id])

    def _left(self, peer_id: str) -> None:
        if (scope := self._beating.pop(peer_id, None)) is None:
            return
        scope.cancel()
        self.registry.left(peer_id)
        self._nursery.start_soon(self.calls.drop, peer_id)
        self.journal.append("peer:disconnected", node_id=peer_id)

    def _stray(self, node_id: str, signed: Signed) -> None:
        if self._runs is not None:
            self._runs.stray(node_id, signed)

    async def _opened(self, peer_id: str, protocol: str) -> host.Channel:
        assert self._network is not None
        return await self._network.open(peer_id, protocol)

    async def _watch(self, peer_id: str, scope: trio.CancelScope) -> None:
        with scope:
            nonce = 0
            while True:
                nonce += 1
                begun_s = trio.current_time()
                await self._beat(peer_id, nonce)
                await trio.sleep_until(begun_s + self.options.heartbeat_s)

    async def _beat(self, peer_id: str, nonce: int) -> None:
        begun_s = trio.current_time()
        try:
            pong = _said(
                await self.calls.ask(peer_id, Ping(nonce, self._every_ms), self.options.heartbeat_limit_s), peer_id
            )
        except (LinkError, IdentityInvalid, msgspec.MsgspecError, UnicodeDecodeError) as error:
            lost = self.registry.missed(peer_id)
            if lost == self.options.bounds.lost_beats:
                self.journal.append("peer:unreachable", node_id=peer_id, facts={"reason": str(error)[:200]})
            elif lost >= _ENDED * self.options.bounds.lost_beats:
                self._nursery.start_soon(self._end, peer_id)
            return
        took_us = int((trio.current_time() - begun_s) * 1_000_000)
        if self.registry.beat(peer_id, took_us, pong.load_ppm):
            self.journal.append("peer:reachable", node_id=peer_id)


def _said(signed: Signed, peer_id: str) -> Pong:
    verify(signed)
    pong = _pong.decode(signed.body)
    if pong.node_id != peer_id or signed.node_id != peer_id:
        raise IdentityInvalid(f"an answer of {signed.node_id}, not of {peer_id}")
    return pong


@contextlib.asynccontextmanager
async def running(
    identity: Identity, options: FabricOptions, limits: Limits, home: Path, socket: Path
) -> AsyncIterator[Fabric]:
    """A fabric until the block ends; FabricUnusable where host, journal or socket can't be had."""
    journal = Journal(home / "journal", options.journal_bytes, options.journal_files)
    try:
        async with trio.open_nursery() as nursery:
            fabric = Fabric(identity, options, journal, nursery)
            nursery.start_soon(journal.keep)
            nursery.start_soon(fabric.fold)
            async with AsyncExitStack() as stack:
                network = await stack.enter_async_context(
                    host.running(identity, options.listen, fabric.ways(), bootstrap=options.bootstrap)
                )
                if options.mdns:
                    from hal_drivers.p2p import nearby

                    await stack.enter_async_context(nearby.announced(network.peer_id, network.addresses()))
                runs = Runs(
                    home / "runs", fabric.link, fabric.look, journal.append, nursery, limits, now, fabric.attempted
                )
                fabric.attach(network, runs)
                async with control.serving(socket, fabric.answer):
                    yield fabric
            nursery.cancel_scope.cancel()
    finally:
        journal.close()
