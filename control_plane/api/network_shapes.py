# SPDX-License-Identifier: Apache-2.0
"""What answers about the network look like: the structs that the OpenAPI document is made from. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from control_plane.api.shapes import Amount, Currency, Hash, Instant
from hal_drivers.p2p.ir import Service
from hal_drivers.p2p.office import ReservationState
from hal_drivers.p2p.plan import NodeState

PeerId = Annotated[str, Meta(description="The libp2p peer id of an Ed25519 key.")]
Share = Annotated[float, Meta(ge=0, le=1)]


class Bootstrap(Struct, frozen=True):
    """What a node needs to find this plane; it joins once its peer id is enrolled and approved."""

    peer_id: PeerId
    listen_addrs: tuple[str, ...]
    security: Literal["noise"]
    protocol: str
    advert_topic: str
    advert_version: int
    heartbeat_s: float
    refresh_s: float
    advert_ttl_s: int


class JournalHead(Struct, frozen=True):
    """How far the fabric's log of protocol events goes, and the hash that chains it."""

    first: int
    last: int
    head: str


class Runtime(Struct, frozen=True):
    """What the fabric does now. `up_to_date`: it knows every enrolment as it stands."""

    peer_id: PeerId
    up_to_date: bool
    connected: int
    adverts: int
    runs: int
    rejected_adverts: dict[str, int]
    journal: JournalHead


class Advertised(Struct, frozen=True):
    """One service as a node says it; `verified` is the plane's own lower bound, and the smaller of the two counts."""

    service_type: Service
    fidelity: Share
    verified: Share | None
    degraded: bool
    qubit_min: int
    qubit_max: int
    shots_max: int | None
    availability: Share
    updated_at: str
    serial: int
    ttl_s: int
    age_s: int
    stale: bool


class Seen(Struct, frozen=True):
    """A peer as the fabric sees it, without its services."""

    peer_id: PeerId
    state: NodeState
    connected: bool
    listen_addrs: tuple[str, ...]
    last_heard_s: int | None
    latency_us: int | None
    load: Share
    failures: Share


class Peer(Seen, frozen=True):
    """One enrolled peer as the fabric sees it; organisation, region and zone are the enrolment's, never an advert's."""

    services: tuple[Advertised, ...]
    organisation: str
    region: str
    compliance_zone: str
    sovereign: bool
    price_per_fragment: Amount
    price_per_shot: Amount
    currency: Currency


class Node(Struct, frozen=True):
    """A node of the topology, without figures that change by themselves."""

    peer_id: PeerId
    state: NodeState
    connected: bool
    services: tuple[Service, ...]


class Way(Struct, frozen=True):
    """A link of the topology."""

    from_: PeerId = field(name="from")
    to: PeerId
    connected: bool
    degraded: bool


class Topology(Struct, frozen=True):
    """The newest topology that the plane kept, from `at` on; it is there while the fabric is away too."""

    at: Instant | None
    hash: Hash | None
    fabric: PeerId | None
    nodes: tuple[Node, ...]
    links: tuple[Way, ...]


class LiveNode(Seen, frozen=True):
    """A node as the fabric sees it now."""

    services: tuple[dict[str, Any], ...]


class LiveWay(Struct, frozen=True):
    """A link as it is now."""

    from_: PeerId = field(name="from")
    to: PeerId
    connected: bool
    latency_us: int | None
    failures: Share
    degraded: bool


class LiveTopology(Struct, frozen=True):
    """The network as the fabric sees it now."""

    version: int
    fabric: PeerId
    nodes: tuple[LiveNode, ...]
    links: tuple[LiveWay, ...]


class Offering(Struct, frozen=True):
    """A node that offers a service. `counts` is the smaller of reported and verified, 0 before the first probe."""

    peer_id: PeerId
    state: NodeState
    reported: Share
    verified: Share | None
    counts: Share
    usable: bool


class ServiceOffered(Struct, frozen=True):
    """One service of the network, the fidelity that a job demands of it, and who offers it."""

    service_type: Service
    min_fidelity: Share
    nodes: tuple[Offering, ...]


class Judged(Struct, frozen=True):
    """What was judged of a service of a node, from so many probes."""

    service_type: Service
    at: Instant
    probes: int
    shots: int
    reported: Share | None
    verified: Share
    degraded: bool
    because: str


class LinkPast(Struct, frozen=True):
    """A link over five minutes, the worst of them."""

    at: Instant
    connected: bool
    latency_us: int | None
    failures: Share
    degraded: bool


class ProbesSpent(Struct, frozen=True):
    """What the plane's probes of a node used, of those that are kept: the plane's own cost, in nobody's budget."""

    since: Instant | None
    probes: int
    failed: int
    shots: int
    duration_us: int
    amount: Amount
    currency: Currency


class Fidelity(Struct, frozen=True):
    """A node's quality: each service as it was judged last, every judgement newest first, and its link."""

    node_id: PeerId
    services: tuple[Judged, ...]
    history: tuple[Judged, ...]
    link: tuple[LinkPast, ...]
    spent: ProbesSpent


class Enrollment(Struct, frozen=True):
    """What an administrator said of a peer."""

    peer_id: PeerId
    state: Literal["pending", "approved", "suspended", "revoked"]
    revision: int
    organisation: str
    region: str
    compliance_zone: str
    sovereign: bool
    price_per_fragment: Amount
    price_per_shot: Amount
    currency: Currency
    reason: str | None
    proposed_at: Instant
    changed_at: Instant


class WindowMove(Struct, frozen=True):
    """One move of a reservation."""

    state: ReservationState
    at: Instant


class Reservation(Struct, frozen=True):
    """A window of a node that nobody's jobs get; `code` and `detail` say why it came to nothing, or ended."""

    reservation_id: str
    state: ReservationState
    node_id: PeerId
    services: tuple[Service, ...]
    qubits: int
    min_fidelity: Share
    project: str
    classification: str
    purpose: str
    correlation_id: str | None
    starts_at: Instant
    ends_at: Instant
    fence: Annotated[int, Meta(description="The node's own number of the window, as first granted.")] | None
    code: str | None
    detail: str | None
    next_free_at: Instant | None
    decision_id: str
    created_at: Instant
    changed_at: Instant
    history: tuple[WindowMove, ...]


class PlanDrafted(Struct, frozen=True):
    """A plan as it would be now, and all that it is a function of, but the seed that stands in it. Nothing is kept."""

    plan_id: str
    plan: dict[str, Any]
    program: dict[str, Any]
    snapshot: dict[str, Any]
    config: dict[str, Any]


class PlanShown(Struct, frozen=True):
    """A plan, what was known of the network when it was made, and the attempts that rest on it."""

    plan_id: str
    jobs: tuple[dict[str, Any], ...]
    plan: dict[str, Any]
    snapshot: dict[str, Any]
