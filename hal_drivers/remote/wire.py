# SPDX-License-Identifier: Apache-2.0
"""The words of the remote protocol, version 1: closed structs, each answer and each request one JSON document.

The values of ``base`` cross as they are: bytes as base64, times as RFC 3339 with an offset, unions by their member
``type``. An unknown field is refused on both sides. Every answer about a task names its token and the server's
clock. Sizes are bounded by who reads: the server each body, the driver each answer.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from hal_drivers.base import (
    Calibration,
    Cancellation,
    Compiled,
    Device,
    DeviceStatus,
    Outcome,
    Status,
    Task,
)

PROTOCOL = 1
TALLIES = "QCOS-Tallies"
"""The header of a client that knows tallies in ``CompiledFacts``; whoever doesn't send it is told none."""
BODY_BYTES = 16 << 20
"""The largest request; a compiled circuit that wouldn't fit is refused when it is compiled."""
ARTEFACT_BYTES = 8 << 20
LONGEST_WAIT_S = 30.0
"""How long one poll may wait; the next one goes on where it ended."""

T = TypeVar("T")


class Served(Struct, frozen=True, forbid_unknown_fields=True):
    """``GET /v1/capabilities``."""

    protocol: int
    simulator: str
    version: str
    authoritative: bool
    """Whether ``task_unknown`` proves that nothing ran under that token; see ``Fault.authoritative``."""
    devices: tuple[Device, ...]


class Standing(Struct, frozen=True, forbid_unknown_fields=True):
    """``GET /v1/devices/{device}``: whether it takes work now, and what describes it now."""

    device: str
    now: datetime
    status: DeviceStatus
    calibration: Calibration


class Submission(Struct, frozen=True, forbid_unknown_fields=True):
    """``PUT /v1/tasks/{token}``: what the same server compiled, ticket included, and the task."""

    compiled: Compiled
    task: Task


class Shown(Struct, frozen=True, forbid_unknown_fields=True):
    """A task's status: of ``PUT`` and ``GET /v1/tasks/{token}``."""

    token: str
    now: datetime
    status: Status


class Ended(Struct, frozen=True, forbid_unknown_fields=True):
    """``GET /v1/tasks/{token}/result``."""

    token: str
    now: datetime
    outcome: Outcome


class Ceased(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/tasks/{token}/cancel``: what was stopped."""

    token: str
    now: datetime
    cancellation: Cancellation


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    """Any refusal. ``line`` is of the circuit; ``authoritative`` stands with ``task_unknown`` alone."""

    code: str
    detail: str
    line: int | None = None
    authoritative: bool = False


def encode(value: object) -> bytes:
    """One document, the same bytes for the same value."""
    return msgspec.json.encode(value, order="sorted")


def decode(data: bytes, kind: type[T]) -> T:
    """Raises msgspec.DecodeError (and its kind ValidationError) for anything else than one closed document."""
    return msgspec.json.decode(data, type=kind)
