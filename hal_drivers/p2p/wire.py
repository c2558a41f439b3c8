# SPDX-License-Identifier: Apache-2.0
"""What plane and nodes say to one another, as values (N1, N5, N6). Pure.

A request goes to a node as one frame, its answer comes back as one: canonical JSON of a :class:`Signed`, whose
``body`` is the canonical JSON of an answer. Each answer names the SHA-256 of the request's bytes and the node, and
is signed with the node's identity key (Ed25519 over ``SIGNED_PREFIX`` + body), so that what a node received and
said can be shown to anybody who has its peer id. Durations are microseconds from the node's own receipt of the
request: no two clocks are compared.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from msgspec import Struct

from hal_drivers.p2p.ir import Circuit, Service

PROTOCOL = "/qcos/service/1.0.0"
ADVERT_TOPIC = "/qcos/adverts/1"
ADVERT_VERSION = 1
SIGNED_PREFIX = b"qcos-node-v1\n"
MAX_FRAME = 16 << 20
MAX_ADVERT = 4096


class Advert(Struct, frozen=True, forbid_unknown_fields=True):
    """One service that one node offers now; carried in a :class:`Signed` whose key is the node's (N1)."""

    version: int
    node_id: str
    listen_addrs: tuple[str, ...]
    service_type: Service
    fidelity: float
    """Average gate fidelity, 0 to 1."""
    qubit_min: int
    qubit_max: int
    availability: float
    """Share of its windows that are free, 0 to 1."""
    updated_at: str
    """RFC 3339, UTC, by the node's clock."""
    serial: int
    """Rises with each advert of a node's life and over restarts: an older one is a replay."""
    ttl_s: int
    shots_max: int | None = None
    """The most that it runs of one circuit at once; None: it states no bound."""


class Ping(Struct, frozen=True, forbid_unknown_fields=True, tag="ping"):
    """A heartbeat."""

    nonce: int
    every_ms: int = 0
    """The next comes within this; 0: unsaid. Who hears none for several of them knows that the link is dead."""


class Reserve(Struct, frozen=True, forbid_unknown_fields=True, tag="reserve"):
    """Asks for a window; the answer is Prepared or Rejected."""

    token: str
    fragment_id: str
    epoch: int
    services: tuple[Service, ...]
    qubits: int
    duration_us: int
    """How long the work may take once it starts."""
    hold_us: int
    """How long the node keeps the window before it is committed."""
    starts_in_us: int = 0
    alone: bool = False
    """No other window is waited for: what is prepared is committed too, in one answer."""


class Commit(Struct, frozen=True, forbid_unknown_fields=True, tag="commit"):
    """Takes a prepared window; ``fence`` is what Prepared gave."""

    token: str
    fragment_id: str
    epoch: int
    fence: int


class Cancel(Struct, frozen=True, forbid_unknown_fields=True, tag="cancel"):
    """Gives a window back, or stops what runs in it."""

    token: str
    fragment_id: str
    epoch: int


class Given(Struct, frozen=True, forbid_unknown_fields=True):
    """Bits that were recorded before, a row a shot: bit b of a row is bit b of a little-endian number."""

    bits: tuple[int, ...]
    """Which bits of the circuit the columns are."""
    rows: bytes


class Execute(Struct, frozen=True, forbid_unknown_fields=True, tag="execute"):
    """Runs a fragment in its committed window; idempotent by (token, fragment, epoch)."""

    token: str
    fragment_id: str
    epoch: int
    fence: int
    circuit: Circuit
    shots: int
    seed: int
    given: Given | None = None


Request: TypeAlias = Ping | Reserve | Commit | Cancel | Execute


class Pong(Struct, frozen=True, forbid_unknown_fields=True, tag="pong"):
    """Alive; ``load_ppm`` is the share of windows taken."""

    node_id: str
    request_sha256: str
    load_ppm: int


class Prepared(Struct, frozen=True, forbid_unknown_fields=True, tag="prepared"):
    """The window is kept until ``expires_in_us``; ``fence`` rises with each window that the node gives."""

    node_id: str
    request_sha256: str
    fence: int
    starts_in_us: int
    expires_in_us: int
    committed: bool = False
    """It was asked for alone, and is taken."""


class Committed(Struct, frozen=True, forbid_unknown_fields=True, tag="committed"):
    """The window is taken; unused it ends by itself."""

    node_id: str
    request_sha256: str
    expires_in_us: int


class Canceled(Struct, frozen=True, forbid_unknown_fields=True, tag="canceled"):
    """Nothing runs under that token, fragment and epoch any more."""

    node_id: str
    request_sha256: str


class Rejected(Struct, frozen=True, forbid_unknown_fields=True, tag="rejected"):
    """Not taken: ``code`` is window_taken | fenced | service_missing | qubits | unknown_window | busy | invalid."""

    node_id: str
    request_sha256: str
    code: str
    detail: str
    next_free_in_us: int | None = None


class Executed(Struct, frozen=True, forbid_unknown_fields=True, tag="executed"):
    """The fragment ran. ``rows`` is the memory, a row a shot as in :class:`Given`, over all bits of the circuit."""

    node_id: str
    request_sha256: str
    token: str
    fragment_id: str
    epoch: int
    shots: int
    seed: int
    rows: bytes
    fidelity: float
    """The node's own estimate for the whole fragment: what its services had, over all operations."""
    fidelities: dict[Service, float]
    """The average gate fidelity of each service in this run, by the node's word: judged as an advert's is (I8)."""
    queued_us: int
    duration_us: int
    simulated: bool
    software: dict[str, str]


class ExecutionFailed(Struct, frozen=True, forbid_unknown_fields=True, tag="failed"):
    """The fragment was received and did not end well."""

    node_id: str
    request_sha256: str
    token: str
    fragment_id: str
    epoch: int
    code: str
    detail: str


def request_digest(frame: bytes) -> str:
    """How an answer names its request: SHA-256 of the request's bytes, hexadecimal."""
    return hashlib.sha256(frame).hexdigest()


Answer: TypeAlias = Pong | Prepared | Committed | Canceled | Rejected | Executed | ExecutionFailed


class Signed(Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes and the node's Ed25519 signature over ``SIGNED_PREFIX + body``."""

    node_id: str
    body: bytes
    signature: bytes
