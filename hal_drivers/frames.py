# SPDX-License-Identifier: Apache-2.0
"""What passes between a worker and its guarded children: length-prefixed msgpack, bounded both ways.

A reply comes from a process that has read hostile input, so it is parsed as such: at most ``REPLY_BYTES``,
closed structs, nothing executed. Requests are bounded too, so that a child cannot be made to allocate by
length alone.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec
from msgspec import Struct

from hal_drivers.base import AliasModel, CompiledFacts, Exact, ExactRequest, Format
from hal_drivers.limits import Limits
from hal_drivers.noise import Noise
from hal_drivers.p2p.ir import Circuit
from hal_drivers.p2p.wire import Given

REQUEST_BYTES = 8 << 20
REPLY_BYTES = 32 << 20
LENGTH = struct.Struct("!I")


class Setup(Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine in a child must know of the configured backend that the call is for."""

    device: str | None = None
    method: str = "automatic"
    noise: Noise | None = None
    gates: tuple[str, ...] = ()
    """The device's gates in its own words; empty: all that the engine knows."""
    configuration: bytes = b""
    properties: bytes = b""
    """A processor as its vendor describes it, where it is none that a package brings along."""
    ideal: bool = False
    """Leave out the noise that the device has of itself."""


class CompileCall(Struct, frozen=True, tag="compile", forbid_unknown_fields=True):
    """Parse, bind, check, translate."""

    format: Format
    source: bytes
    parameters: dict[str, float]
    limits: Limits
    memory_bytes: int
    setup: Setup = Setup()
    basis: str | None = None
    alias_model: AliasModel = "discard"


class RunCall(Struct, frozen=True, tag="run", forbid_unknown_fields=True):
    """Execute an artefact that a child compiled."""

    artefact: bytes
    shots: int
    seed: int
    method: str
    setup: Setup = Setup()


class ExactCall(Struct, frozen=True, tag="exact_call", forbid_unknown_fields=True):
    """Compute the state of a circuit and what was asked of it."""

    request: ExactRequest
    limits: Limits
    setup: Setup = Setup()


class FragmentCall(Struct, frozen=True, tag="fragment", forbid_unknown_fields=True):
    """Run a fragment of a network job under these average gate fidelities; only a service node's engine is asked."""

    circuit: Circuit
    fidelities: dict[str, float]
    shots: int
    seed: int
    given: Given | None = None


class Artefact(Struct, frozen=True, tag="artefact", forbid_unknown_fields=True):
    """Answer to CompileCall."""

    artefact: bytes
    qasm3: str | None
    facts: CompiledFacts
    versions: dict[str, str]


class Counts(Struct, frozen=True, tag="counts", forbid_unknown_fields=True):
    """Answer to RunCall."""

    counts: dict[str, int]
    method: str
    seconds: float
    """Wall time inside the simulator, by its own report."""
    metadata: dict[str, str]


class Memory(Struct, frozen=True, tag="memory", forbid_unknown_fields=True):
    """Answer to FragmentCall: a row a shot (``p2p.given``)."""

    rows: bytes
    methods: tuple[str, ...]
    seconds: float


class Refusal(Struct, frozen=True, tag="refusal", forbid_unknown_fields=True):
    """The circuit is at fault. ``tainted``: the child met something odd and must not serve again."""

    code: str
    detail: str
    line: int | None = None
    tainted: bool = False


class Ready(Struct, frozen=True, tag="ready", forbid_unknown_fields=True):
    """A child's first frame: warm, walled, never having seen a circuit from outside."""

    walls: dict[str, bool]
    leaks: list[str]
    versions: dict[str, str]


Request: TypeAlias = CompileCall | RunCall | ExactCall | FragmentCall
Reply: TypeAlias = Artefact | Counts | Exact | Memory | Refusal | Ready

encode = msgspec.msgpack.Encoder().encode
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def frame(message: Request | Reply, limit: int) -> bytes:
    """Bytes to send; raises ValueError above ``limit``."""
    body = encode(message)
    if len(body) > limit:
        raise ValueError(f"a frame of {len(body)} bytes is over the limit of {limit}")
    return LENGTH.pack(len(body)) + body


def decode_request(body: bytes) -> Request:
    """Raises msgspec.DecodeError."""
    return _requests.decode(body)


def decode_reply(body: bytes) -> Reply:
    """Raises msgspec.DecodeError for anything that is no closed reply."""
    return _replies.decode(body)
