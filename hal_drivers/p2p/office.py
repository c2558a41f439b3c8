# SPDX-License-Identifier: Apache-2.0
"""What the plane and its fabric say to one another over the fabric's Unix socket, as values (decision 10). Pure.

One :data:`Ask` is one frame, its answer another, in order on a connection: four bytes of length, big-endian, then the
JSON of the struct. The plane asks; the fabric never speaks first. What is wrong with an ask is a :class:`Refusal`, and
the connection goes on; a frame that can't be read ends it.

The plane owns what lasts: :class:`Enrol` replaces all that the fabric knew of who may join and of how good each was
found to be, :class:`Known` gives it what was heard before its start. The fabric owns what is live: who is connected,
which adverts hold, what runs. Durations are whole numbers in the unit of their name; ages are told instead of times,
so that no two clocks are compared.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from hal_drivers.p2p.ir import Circuit, Program, Service
from hal_drivers.p2p.plan import NodeState, Plan, PlanConfig, Snapshot
from hal_drivers.p2p.wire import Advert, Signed

MAX_OFFICE_FRAME = 64 << 20
RunState: TypeAlias = Literal["queued", "reserving", "running", "finished", "failed", "canceled"]
AttemptStatus: TypeAlias = Literal["running", "accepted", "refused", "failed", "late", "canceled"]
ReservationState: TypeAlias = Literal[
    "REQUESTED", "PREPARED", "COMMITTED", "EXECUTED", "REJECTED", "EXPIRED", "FAILED", "CANCELED"
]
EventKind: TypeAlias = Literal[
    "journal:opened",
    "journal:mended",
    "advert:rejected",
    "peer:connected",
    "peer:disconnected",
    "peer:unreachable",
    "peer:reachable",
    "peer:refused",
    "run:submitted",
    "run:finished",
    "run:failed",
    "run:canceled",
    "reservation:requested",
    "reservation:prepared",
    "reservation:committed",
    "reservation:executed",
    "reservation:rejected",
    "reservation:expired",
    "reservation:failed",
    "reservation:canceled",
    "attempt:started",
    "attempt:accepted",
    "attempt:refused",
    "attempt:failed",
    "attempt:canceled",
    "answer:late",
    "answer:second",
]
"""What the journal tells. ``advert:rejected`` and ``peer:refused`` are folded: ``facts`` has ``reason`` and ``count``,
so that a flood is a line and not a million. ``attempt:refused`` is an answer that was not accepted: ``code`` says why.
"""


class Verified(Struct, frozen=True, forbid_unknown_fields=True):
    """What the plane found of one service of a node; ``degraded``: it overstates, or is below the threshold."""

    service: Service
    verified_ppm: int
    degraded: bool = False


class Enrolled(Struct, frozen=True, forbid_unknown_fields=True):
    """One peer as the enrolment record has it. Who isn't in an :class:`Enrol`, or is not approved, may not speak."""

    peer_id: str
    state: Literal["approved", "suspended", "revoked"]
    organisation: str
    region: str
    compliance_zone: str
    sovereign: bool
    price_per_fragment: str
    price_per_shot: str
    currency: str
    verified: tuple[Verified, ...] = ()


class Enrol(Struct, frozen=True, forbid_unknown_fields=True, tag="enrol"):
    """The full set. Streams of who is no longer approved end within a second. ``version`` rises; an older one is
    ignored, so that two processes of the plane can't set each other back.
    """

    version: int
    peers: tuple[Enrolled, ...]


class KnownAdvert(Struct, frozen=True, forbid_unknown_fields=True):
    """An advert heard before; its signature is checked anew, its age counts against its ttl."""

    advert: Signed
    age_s: int


class Known(Struct, frozen=True, forbid_unknown_fields=True, tag="known"):
    """The last adverts from the database: what is still fresh holds at once, the rest is known as stale, and no
    serial below these is taken (a replay stays one over restarts).
    """

    adverts: tuple[KnownAdvert, ...]


class AskStanding(Struct, frozen=True, forbid_unknown_fields=True, tag="standing"):
    """Who the fabric is and whether it was told what it must know; asked for by readiness and by the keeper."""


class AskSnapshot(Struct, frozen=True, forbid_unknown_fields=True, tag="snapshot"):
    """The registry of now, for planning."""


class AskPeers(Struct, frozen=True, forbid_unknown_fields=True, tag="peers"):
    """Every peer that is enrolled or was heard of lately (bounded), with what it advertises."""


class AskTopology(Struct, frozen=True, forbid_unknown_fields=True, tag="topology"):
    """Nodes and links as they are."""


class AskEvents(Struct, frozen=True, forbid_unknown_fields=True, tag="events"):
    """Events after this sequence number, at most so many; waits up to ``wait_ms`` where there is none yet."""

    after: int
    limit: int = 500
    wait_ms: int = 0


class Submit(Struct, frozen=True, forbid_unknown_fields=True, tag="submit"):
    """Run a plan. The same token again changes nothing and answers with the state of what runs under it."""

    token: str
    program: Program
    plan: Plan
    config: PlanConfig
    """What the plan was made by; its hash stands in the plan. Its thresholds judge each answer (I8)."""
    shots: int
    seed: int
    deadline_ms: int


class Find(Struct, frozen=True, forbid_unknown_fields=True, tag="find"):
    """Whether anything was ever submitted under this token: by the journal, so over restarts too."""

    token: str


class Poll(Struct, frozen=True, forbid_unknown_fields=True, tag="poll"):
    """The state of a run, at once when it ends and after ``wait_ms`` at the latest."""

    token: str
    wait_ms: int = 0


class CancelRun(Struct, frozen=True, forbid_unknown_fields=True, tag="cancel"):
    """Stop a run; when this is answered, nothing of it is accepted any more. Idempotent."""

    token: str


class AskResult(Struct, frozen=True, forbid_unknown_fields=True, tag="result"):
    """What a run that ended has to show, failed and canceled ones too; until ForgetRun."""

    token: str


class ForgetRun(Struct, frozen=True, forbid_unknown_fields=True, tag="forget"):
    """The plane has stored the outcome: the fabric may drop it. Unknown tokens are ignored."""

    token: str


class ReserveWindow(Struct, frozen=True, forbid_unknown_fields=True, tag="reserve"):
    """A window on a node without a job (N5). The plane chooses ``reservation_id``; the same again changes nothing.

    With ``again`` the node is asked even so, for what is left of the window: fabric or node may have forgotten it.
    """

    reservation_id: str
    node_id: str
    services: tuple[Service, ...]
    qubits: int
    starts_in_ms: int
    duration_ms: int
    hold_ms: int
    again: bool = False


class AskReservation(Struct, frozen=True, forbid_unknown_fields=True, tag="reservation"):
    """How a reservation stands."""

    reservation_id: str


class CancelReservation(Struct, frozen=True, forbid_unknown_fields=True, tag="cancel_reservation"):
    """Give the window back; idempotent. With its node it is given back too where the fabric has forgotten it."""

    reservation_id: str
    node_id: str | None = None


class Probe(Struct, frozen=True, forbid_unknown_fields=True, tag="probe"):
    """Run one circuit on one node and nowhere else, in messages like a job's: no retry, no fallback."""

    token: str
    node_id: str
    circuit: Circuit
    services: tuple[Service, ...]
    shots: int
    seed: int
    limit_ms: int


Ask: TypeAlias = (
    Enrol
    | Known
    | AskStanding
    | AskSnapshot
    | AskPeers
    | AskTopology
    | AskEvents
    | Submit
    | Find
    | Poll
    | CancelRun
    | AskResult
    | ForgetRun
    | ReserveWindow
    | AskReservation
    | CancelReservation
    | Probe
)


class Refusal(Struct, frozen=True, forbid_unknown_fields=True, tag="refusal"):
    """Not done: ``code`` is unknown_token | unknown_node | unknown_reservation | not_ended | not_enrolled | busy |
    unreachable | late | invalid | out_of_date.
    """

    code: str
    detail: str


class Done(Struct, frozen=True, forbid_unknown_fields=True, tag="done"):
    """It is so."""


class Standing(Struct, frozen=True, forbid_unknown_fields=True, tag="standing"):
    """``enrolled_version`` is that of the last Enrol, 0 before the first: then nobody may speak."""

    peer_id: str
    listen_addrs: tuple[str, ...]
    """With the peer id at the end (``/p2p/…``), as a node's bootstrap list takes them."""
    enrolled_version: int
    known_given: bool
    connected: int
    adverts: int
    runs: int
    events_first: int
    """The oldest event that is still kept, for AskEvents; 0: none yet."""
    events_last: int
    events_head: str
    """SHA-256 that chains the journal up to ``events_last``."""
    rejected: dict[str, int]
    """Rejected adverts by reason, since the start."""


class SnapshotIs(Struct, frozen=True, forbid_unknown_fields=True, tag="snapshot"):
    """The registry, with the hash that a plan names."""

    snapshot: Snapshot
    snapshot_sha256: str


class Heard(Struct, frozen=True, forbid_unknown_fields=True):
    """An advert that holds, or held: ``age_s`` since it was heard."""

    advert: Advert
    signed: Signed
    age_s: int
    stale: bool


class Peer(Struct, frozen=True, forbid_unknown_fields=True):
    """One peer. ``state`` is None where it is not enrolled: its adverts are then not listed, only counted."""

    peer_id: str
    state: NodeState | None
    connected: bool
    listen_addrs: tuple[str, ...]
    last_heard_s: int | None
    latency_us: int | None
    """The median of recent heartbeats."""
    load_ppm: int
    failure_ppm: int
    heartbeats_lost: int
    """In a row."""
    adverts: tuple[Heard, ...]


class PeersAre(Struct, frozen=True, forbid_unknown_fields=True, tag="peers"):
    """Sorted by peer id."""

    peers: tuple[Peer, ...]


class Link(Struct, frozen=True, forbid_unknown_fields=True):
    """The way between the fabric and a peer."""

    from_id: str
    to_id: str
    connected: bool
    latency_us: int | None
    """The median of the newest heartbeats."""
    failure_ppm: int
    """The share of them that was lost."""
    degraded: bool
    """It is down, too slow, or loses too many beyond doubt."""


class TopologyIs(Struct, frozen=True, forbid_unknown_fields=True, tag="topology"):
    """``version`` rises with each change of who is there, in which state, offering what."""

    version: int
    peer_id: str
    peers: tuple[Peer, ...]
    links: tuple[Link, ...]


class Event(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the journal; ``facts`` are plain values, never circuits."""

    seq: int
    at: str
    """RFC 3339, UTC, by the fabric's clock."""
    kind: EventKind
    node_id: str | None = None
    token: str | None = None
    fragment_id: str | None = None
    epoch: int | None = None
    facts: dict[str, str | int | bool | None] = {}
    signed: Signed | None = None
    """The node's own words, where it said something."""


class EventsAre(Struct, frozen=True, forbid_unknown_fields=True, tag="events"):
    """In order, without a hole but where ``lost`` says so: so many were dropped before they were read."""

    events: tuple[Event, ...]
    head: str
    """SHA-256 that chains the journal up to the last of these."""
    lost: int = 0


class Attempt(Struct, frozen=True, forbid_unknown_fields=True):
    """One try of one fragment on one node. It stands here as soon as the node could have received anything of it."""

    node_id: str
    epoch: int
    started_at: str
    ended_at: str | None
    status: AttemptStatus
    observed_ppm: int | None
    """The smaller of what the node reported of this run and what the plane verified."""
    code: str | None
    detail: str | None
    answers: tuple[Signed, ...]
    """All that the node said of it, in order, late and second answers too: whoever has its peer id can check them."""
    requests: tuple[bytes, ...] = ()
    """The canonical bytes of what was sent, in order: an answer names its request's SHA-256."""


class FragmentRun(Struct, frozen=True, forbid_unknown_fields=True):
    """One fragment's way; ``node_id`` is whose answer was accepted."""

    fragment_id: str
    status: Literal["waiting", "reserving", "running", "completed", "failed", "canceled"]
    node_id: str | None
    attempts: tuple[Attempt, ...]
    started_at: str | None
    ended_at: str | None
    observed_ppm: int | None
    code: str | None
    detail: str | None


class RunIs(Struct, frozen=True, forbid_unknown_fields=True, tag="run"):
    """How a run stands. In an answer to Find and Poll the attempts carry neither answers nor requests."""

    token: str
    state: RunState
    started_at: str | None
    ended_at: str | None
    fragments: tuple[FragmentRun, ...]
    code: str | None = None
    detail: str | None = None


class RunResult(Struct, frozen=True, forbid_unknown_fields=True, tag="run_result"):
    """``rows`` is the joined memory over the program's bits, a row a shot as in :class:`wire.Given`; empty unless
    finished. ``order`` is that of the plan.
    """

    run: RunIs
    shots: int
    bits: int
    """The program's: a row's width, for who has the result alone."""
    seed: int
    """The run's, as it was submitted."""
    rows: bytes
    duration_us: int


class ReservationIs(Struct, frozen=True, forbid_unknown_fields=True, tag="reservation"):
    """How a reservation stands, with each of its moves."""

    reservation_id: str
    node_id: str
    state: ReservationState
    fence: int | None
    starts_in_ms: int | None
    expires_in_ms: int | None
    next_free_in_ms: int | None
    code: str | None
    detail: str | None
    moves: tuple[tuple[ReservationState, str], ...]
    """(state, when)."""


class Probed(Struct, frozen=True, forbid_unknown_fields=True, tag="probed"):
    """The node's answer to a probe, checked as a job's is; ``rows`` is empty where it failed."""

    rows: bytes
    shots: int
    reported_ppm: int | None
    duration_us: int
    code: str | None
    detail: str | None
    answers: tuple[Signed, ...]


Reply: TypeAlias = (
    Refusal
    | Done
    | Standing
    | SnapshotIs
    | PeersAre
    | TopologyIs
    | EventsAre
    | RunIs
    | RunResult
    | ReservationIs
    | Probed
)
