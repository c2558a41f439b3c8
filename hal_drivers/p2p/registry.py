# SPDX-License-Identifier: Apache-2.0
"""What the fabric knows of nodes, from which every plan is made without asking the network (N2, N14). Pure.

Four sources meet here, each believed for its own part alone: enrolments (who may, where it lies, what it costs, how
good it was found), adverts (what a node says it offers), heartbeats (whether it answers), attempts (whether its work
ends well). Time comes in as seconds of one monotonic clock. All is bounded: adverts are kept for enrolled nodes only,
one a node and service; who isn't enrolled is counted, the oldest forgotten; of a peer that sends more than its share
the rest is not read.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_low

from msgspec import Struct

from hal_drivers.p2p import adverts
from hal_drivers.p2p.adverts import Rejected, parts_per_million
from hal_drivers.p2p.ir import SERVICES, Service, canonical
from hal_drivers.p2p.office import Enrol, Enrolled, Heard, KnownAdvert, Peer
from hal_drivers.p2p.plan import NodeFacts, NodeState, Offer, Snapshot
from hal_drivers.p2p.quality import LINK_WINDOW, LinkSample
from hal_drivers.p2p.wire import Advert, Signed

_STRANGERS = 1000
_BEATS = 9
_ATTEMPTS = 20


class Bounds(Struct, frozen=True):
    """How much is taken. ``per_s`` and ``burst`` count messages of one forwarding peer."""

    adverts: int = 20_000
    per_s: float = 50.0
    burst: int = 500
    ttl_s: int = 60
    """An advert holds as long as it says, and no longer than this."""
    lost_beats: int = 2
    """So many heartbeats without an answer, in a row, make a node unreachable."""


@dataclass(slots=True)
class _Held:
    signed: Signed
    advert: Advert
    at_s: float
    """When it was heard; its ttl runs from here, by this clock."""


@dataclass(slots=True)
class _Node:
    enrolled: Enrolled
    held: dict[Service, _Held] = field(default_factory=dict)
    serials: dict[Service, int] = field(default_factory=dict)
    beats_us: deque[int] = field(default_factory=lambda: deque(maxlen=_BEATS))
    planned_us: int = 0
    """The median that plans are made with: it stays until the real one is half of it, or twice."""
    link: deque[LinkSample] = field(default_factory=lambda: deque(maxlen=LINK_WINDOW))
    lost: int = 0
    load_ppm: int | None = None
    ended: deque[bool] = field(default_factory=lambda: deque(maxlen=_ATTEMPTS))
    connected: bool = False


class Registry:
    """The registry of one fabric."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._nodes: dict[str, _Node] = {}
        self._strangers: OrderedDict[str, float] = OrderedDict()
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._count = 0
        self.enrolled_version = 0
        self.known_given = False
        self.version = 0
        """Rises with each change of who is there and what is offered; for who watches the topology."""
        self.rejected: Counter[str] = Counter()

    def enrol(self, message: Enrol) -> frozenset[str] | None:
        """Take the full set; who is to be cut off now. None: an older message, which is ignored."""
        if message.version < self.enrolled_version:
            return None
        before = {peer for peer, node in self._nodes.items() if node.enrolled.state == "approved"}
        found = {enrolled.peer_id: enrolled for enrolled in message.peers}
        for peer in self._nodes.keys() - found.keys():
            self._count -= len(self._nodes.pop(peer).held)
        for peer, enrolled in found.items():
            node = self._nodes.setdefault(peer, _Node(enrolled))
            node.enrolled = enrolled
            self._strangers.pop(peer, None)
        self.enrolled_version = message.version
        self.version += 1
        return frozenset(peer for peer in before if not self.may_join(peer))

    def may_join(self, peer_id: str) -> bool:
        """Whether this peer may speak: it is enrolled and approved. Before the first enrolment nobody may."""
        node = self._nodes.get(peer_id)
        return node is not None and node.enrolled.state == "approved"

    def know(self, known: tuple[KnownAdvert, ...], now_s: float) -> None:
        """Take what was heard before this start: as old as it is, signatures checked anew, its serials bind."""
        self.known_given = True
        for item in known:
            try:
                signed, advert = adverts.read(canonical(item.advert))
                node = self._nodes.get(advert.node_id)
                if node is None or advert.serial <= node.serials.get(advert.service_type, 0):
                    continue
                adverts.prove(signed)
            except Rejected as error:
                self.rejected[error.reason] += 1
                continue
            self._keep(node, _Held(signed, advert, now_s - item.age_s))

    def hear(self, data: bytes, forwarder: str, now_s: float) -> Advert:
        """Take an advert that came by this peer, or raise :class:`adverts.Rejected`, which is counted."""
        try:
            return self._hear(data, forwarder, now_s)
        except Rejected as error:
            self.rejected[error.reason] += 1
            raise

    def _hear(self, data: bytes, forwarder: str, now_s: float) -> Advert:
        if not self._has_share(forwarder, now_s):
            raise Rejected("too_many", f"more than {self._bounds.per_s:g} a second", forwarder)
        signed, advert = adverts.read(data)
        node = self._nodes.get(advert.node_id)
        if node is None or node.enrolled.state != "approved":
            raise Rejected("not_enrolled", "its node is not enrolled", advert.node_id)
        last = node.serials.get(advert.service_type, 0)
        if advert.serial <= last:
            raise Rejected("replayed", f"serial {advert.serial} after {last}", advert.node_id)
        if advert.service_type not in node.held and self._count >= self._bounds.adverts:
            raise Rejected("too_many", f"{self._bounds.adverts} adverts are held", advert.node_id)
        adverts.prove(signed)
        self._keep(node, _Held(signed, advert, now_s))
        return advert

    def _keep(self, node: _Node, held: _Held) -> None:
        service = held.advert.service_type
        if service not in node.held:
            self._count += 1
            self.version += 1
        elif _said(node.held[service].advert) != _said(held.advert):
            self.version += 1
        node.held[service] = held
        node.serials[service] = held.advert.serial

    def _has_share(self, forwarder: str, now_s: float) -> bool:
        # A bucket a forwarding peer: what counts is who sent it here, for that is proven, and not whom it names.
        tokens, at_s = self._spent.pop(forwarder, (float(self._bounds.burst), now_s))
        tokens = min(self._bounds.burst, tokens + (now_s - at_s) * self._bounds.per_s)
        self._spent[forwarder] = (tokens - 1.0 if tokens >= 1.0 else tokens, now_s)
        while len(self._spent) > _STRANGERS + len(self._nodes):
            self._spent.popitem(last=False)
        return tokens >= 1.0

    def stranger(self, peer_id: str, now_s: float) -> None:
        """Somebody who isn't enrolled was here: remembered for a while, so that an administrator sees whom to ask."""
        if peer_id in self._nodes:
            return
        self._strangers[peer_id] = now_s
        self._strangers.move_to_end(peer_id)
        while len(self._strangers) > _STRANGERS:
            self._strangers.popitem(last=False)

    def joined(self, peer_id: str) -> None:
        """A connection to this peer is there."""
        if (node := self._nodes.get(peer_id)) is not None:
            node.connected, node.lost = True, 0
            self.version += 1

    def left(self, peer_id: str) -> None:
        """The last connection to this peer is gone."""
        if (node := self._nodes.get(peer_id)) is not None:
            node.connected = False
            self.version += 1

    def beat(self, peer_id: str, latency_us: int, load_ppm: int) -> bool:
        """It answered a heartbeat; whether it had been unreachable."""
        if (node := self._nodes.get(peer_id)) is None:
            return False
        was_lost, node.lost = node.lost >= self._bounds.lost_beats, 0
        node.beats_us.append(latency_us)
        median = median_low(node.beats_us)
        if not node.planned_us <= 2 * median <= 4 * node.planned_us:
            node.planned_us = median
        node.link.append(LinkSample(latency_us))
        node.load_ppm = max(0, min(load_ppm, 1_000_000))
        self.version += was_lost
        return was_lost

    def missed(self, peer_id: str) -> int:
        """It left a heartbeat unanswered: how many in a row by now."""
        if (node := self._nodes.get(peer_id)) is None:
            return 0
        node.lost += 1
        node.link.append(LinkSample(None))
        self.version += node.lost == self._bounds.lost_beats
        return node.lost

    def link(self, peer_id: str) -> Sequence[LinkSample]:
        """The newest heartbeats of an enrolled peer, oldest first."""
        node = self._nodes.get(peer_id)
        return tuple(node.link) if node is not None else ()

    def attempted(self, peer_id: str, *, well: bool) -> None:
        """A fragment ended there, well or not."""
        if (node := self._nodes.get(peer_id)) is not None:
            node.ended.append(well)

    def held(self) -> int:
        """How many adverts are held."""
        return self._count

    def state(self, peer_id: str, now_s: float) -> NodeState | None:
        """How a peer stands, the worst first; None: it is not enrolled."""
        node = self._nodes.get(peer_id)
        return None if node is None else self._state(node, now_s)

    def _state(self, node: _Node, now_s: float) -> NodeState:
        enrolled = node.enrolled
        if enrolled.state != "approved":
            return enrolled.state
        if not node.connected or node.lost >= self._bounds.lost_beats:
            return "unreachable"
        if not any(self._is_fresh(held, now_s) for held in node.held.values()):
            return "stale"
        if any(found.degraded for found in enrolled.verified):
            return "degraded"
        return "online" if enrolled.verified else "unverified"

    def _is_fresh(self, held: _Held, now_s: float) -> bool:
        return now_s - held.at_s <= min(held.advert.ttl_s, self._bounds.ttl_s)

    def awaited(self, now_s: float) -> bool:
        """Whether somebody who may be here isn't, or has not been heard."""
        return any(self._state(node, now_s) in {"unreachable", "stale"} for node in self._nodes.values())

    def snapshot(self, now_s: float) -> Snapshot:
        """The registry at this moment, for planning: enrolled nodes, sorted, with what they offer and what holds."""
        return Snapshot(nodes=tuple(self._facts(self._nodes[peer], now_s) for peer in sorted(self._nodes)))

    def _facts(self, node: _Node, now_s: float) -> NodeFacts:
        enrolled = node.enrolled
        fresh = {service: held.advert for service, held in node.held.items() if self._is_fresh(held, now_s)}
        found = {item.service: item.verified_ppm for item in enrolled.verified}
        return NodeFacts(
            node_id=enrolled.peer_id,
            state=self._state(node, now_s),
            organisation=enrolled.organisation,
            region=enrolled.region,
            compliance_zone=enrolled.compliance_zone,
            sovereign=enrolled.sovereign,
            price_per_fragment=enrolled.price_per_fragment,
            price_per_shot=enrolled.price_per_shot,
            currency=enrolled.currency,
            offers=tuple(
                Offer(
                    service=service,
                    reported_ppm=parts_per_million(fresh[service].fidelity),
                    verified_ppm=found.get(service),
                    qubit_min=fresh[service].qubit_min,
                    qubit_max=fresh[service].qubit_max,
                    shots_max=fresh[service].shots_max,
                )
                for service in sorted(fresh)
            ),
            latency_us=node.planned_us,
            load_ppm=_load(node),
            failure_ppm=_failures(node),
        )

    def find(self, service: Service, min_fidelity_ppm: int, min_availability_ppm: int, now_s: float) -> tuple[str, ...]:
        """Who offers this service now, at least so good by its own word and what was verified, at least so free."""
        found = []
        for peer in sorted(self._nodes):
            facts = self._facts(self._nodes[peer], now_s)
            good = any(o.service == service and o.judged_ppm >= min_fidelity_ppm for o in facts.offers)
            if facts.state == "online" and good and 1_000_000 - facts.load_ppm >= min_availability_ppm:
                found.append(peer)
        return tuple(found)

    def peers(self, now_s: float) -> tuple[Peer, ...]:
        """Everybody who is enrolled, and who else was heard of lately; sorted."""
        enrolled = [self._peer(peer, node, now_s) for peer, node in self._nodes.items()]
        others = [_stranger(peer, int(now_s - at_s)) for peer, at_s in self._strangers.items()]
        return tuple(sorted(enrolled + others, key=lambda peer: peer.peer_id))

    def _peer(self, peer_id: str, node: _Node, now_s: float) -> Peer:
        held = sorted(node.held.values(), key=lambda one: SERVICES.index(one.advert.service_type))
        addresses = {address for one in held for address in one.advert.listen_addrs}
        return Peer(
            peer_id=peer_id,
            state=self._state(node, now_s),
            connected=node.connected,
            listen_addrs=tuple(sorted(addresses)),
            last_heard_s=int(now_s - max(one.at_s for one in held)) if held else None,
            latency_us=median_low(node.beats_us) if node.beats_us else None,
            load_ppm=_load(node),
            failure_ppm=_failures(node),
            heartbeats_lost=node.lost,
            adverts=tuple(
                Heard(one.advert, one.signed, int(now_s - one.at_s), not self._is_fresh(one, now_s)) for one in held
            ),
        )


def _said(advert: Advert) -> tuple[object, ...]:
    return (advert.listen_addrs, advert.fidelity, advert.qubit_min, advert.qubit_max, advert.shots_max)


def _load(node: _Node) -> int:
    if node.load_ppm is not None:
        return node.load_ppm
    free = [parts_per_million(held.advert.availability) for held in node.held.values()]
    return 1_000_000 - min(free) if free else 0


def _failures(node: _Node) -> int:
    return 1_000_000 * node.ended.count(False) // len(node.ended) if node.ended else 0


def _stranger(peer_id: str, age_s: int) -> Peer:
    return Peer(
        peer_id=peer_id,
        state=None,
        connected=False,
        listen_addrs=(),
        last_heard_s=age_s,
        latency_us=None,
        load_ppm=0,
        failure_ppm=0,
        heartbeats_lost=0,
        adverts=(),
    )
