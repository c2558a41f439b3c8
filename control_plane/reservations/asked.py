# SPDX-License-Identifier: Apache-2.0
"""What somebody asks of a node's time, and what becomes of it (N5, N17). Pure.

A body enters and a window in absolute times leaves, or `Refused` that names the field. A reservation's states and
moves are those of :mod:`hal_drivers.p2p.reservation`; each of its entries carries the moves that it tells of, so that
the fold of the entries is the row (I6).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from control_plane.errors import QcosError, Refused
from control_plane.jobs.spec import Governance, Name
from control_plane.network.config import PPM
from control_plane.network.enrolment import PeerId
from hal_drivers.p2p.ir import SERVICES, Service
from hal_drivers.p2p.office import ReservationIs, ReserveWindow
from hal_drivers.p2p.plan import NodeFacts, PlanConfig
from hal_drivers.p2p.reservation import MOVES, State
from ledger.canonical import timestamp

MOST_S = 3_600
"""The longest window."""
HORIZON = dt.timedelta(hours=24)
"""No window ends later than this from now; nodes refuse such a one too."""
LEEWAY = dt.timedelta(seconds=1)
"""A start that passed while the request was on its way is now."""
HOLD_MS = 5_000
"""How long a node keeps a window between its word and ours."""
LIVE: tuple[State, ...] = ("REQUESTED", "PREPARED", "COMMITTED")
PREFIX = "network:reservation:"
Key: TypeAlias = tuple[str, str]


class WindowAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """A window on a node for work of its own asker; nothing runs in it by itself."""

    node_id: PeerId
    services: Annotated[tuple[Service, ...], Meta(min_length=1, max_length=len(SERVICES))]
    duration_s: Annotated[float, Meta(gt=0, le=MOST_S, description="Seconds.")]
    governance: Governance
    starts_at: Annotated[dt.datetime, Meta(tz=True, description="Left out: now.")] | None = None
    qubits: Annotated[int, Meta(ge=1, le=1_000)] = 2
    min_fidelity: Annotated[float, Meta(ge=0, le=1, description="Of each service, reported and verified.")] = 0.0
    correlation_id: Annotated[Name, Meta(description="The caller's own word.")] | None = None


class Window(Struct, frozen=True):
    """From when to when."""

    starts_at: dt.datetime
    ends_at: dt.datetime


def window(asked: WindowAsked, now: dt.datetime) -> Window:
    """The window of a request that came now; Refused where it begins before that, or ends too late."""
    asked_for = now if asked.starts_at is None else asked.starts_at
    if asked_for < now - LEEWAY:
        raise _invalid("starts_at", f"it lies in the past; it is {timestamp(now)}")
    if asked_for > now + HORIZON - dt.timedelta(seconds=asked.duration_s):
        raise _invalid("starts_at", f"the window would not end within a day; it is {timestamp(now)}")
    starts_at = max(asked_for, now).astimezone(dt.UTC)  # not before: the first and the last year have no other zones
    return Window(starts_at, starts_at + dt.timedelta(seconds=asked.duration_s))


def fit(asked: WindowAsked, node: NodeFacts | None, config: PlanConfig) -> None:
    """Refused `node_unusable` unless the node is there and offers what is asked for, as well as a job would demand."""
    if node is None or node.state != "online":
        raise Refused("node_unusable", f"node {asked.node_id} is {node.state if node else 'not there'}")
    offers = {offer.service: offer for offer in node.offers}
    for service in asked.services:
        offer = offers.get(service)
        if offer is None:
            raise Refused("node_unusable", f"node {asked.node_id} offers no {service}")
        if not offer.qubit_min <= asked.qubits <= offer.qubit_max:
            said = f"{service} there takes {offer.qubit_min} to {offer.qubit_max} qubits, asked for {asked.qubits}"
            raise Refused("node_unusable", said)
        least = max(round(asked.min_fidelity * PPM), config.min_fidelity(service))
        if offer.judged_ppm < least:
            said = f"{service} there counts {offer.judged_ppm / PPM:.6f}, asked for {least / PPM:.6f}"
            raise Refused("node_unusable", said)


def _invalid(field: str, message: str) -> Refused:
    return Refused("request_invalid", f"{field}: {message}", errors=({"field": field, "message": message},))


def over(ends_at: str, now: dt.datetime) -> bool:
    """Whether a window has ended, whatever anybody has written of it."""
    return dt.datetime.fromisoformat(ends_at) <= now


def move(state: State, at: dt.datetime) -> dict[str, str]:
    """One move, as rows and entries have it."""
    return {"state": state, "at": timestamp(at)}


def wanted(row: Mapping[str, Any], now: dt.datetime, *, again: bool = False) -> ReserveWindow:
    """What is asked of a row's node now: the window, or what is left of it."""
    starts_at, ends_at = (dt.datetime.fromisoformat(row["answer"][name]) for name in ("starts_at", "ends_at"))
    millisecond = dt.timedelta(milliseconds=1)
    return ReserveWindow(
        reservation_id=row["reservation_id"],
        node_id=row["peer_id"],
        services=tuple(row["asked"]["services"]),
        qubits=row["asked"]["qubits"],
        starts_in_ms=max(0, (starts_at - now) // millisecond),
        duration_ms=max(1, (ends_at - max(starts_at, now)) // millisecond),
        hold_ms=HOLD_MS,
        again=again,
    )


def answered(found: ReservationIs, now: dt.datetime) -> tuple[tuple[dict[str, str], ...], dict[str, Any]]:
    """The moves since it was asked for, and what was said with the last."""
    moves = tuple({"state": state, "at": at} for state, at in found.moves if state != "REQUESTED")
    said: dict[str, Any] = {"fence": found.fence, "code": found.code, "detail": found.detail}
    if found.next_free_in_ms is not None:
        said["next_free_at"] = timestamp(now + dt.timedelta(milliseconds=found.next_free_in_ms))
    return moves, {name: value for name, value in said.items() if value is not None}


def fold(states: dict[Key, State], tenant: str, kind: str, body: Mapping[str, Any]) -> None:
    """Apply the moves that an entry tells of; other kinds change nothing. Raises QcosError where they don't follow."""
    if not kind.startswith(PREFIX):
        return
    key = tenant, body["reservation_id"]
    for told in _states(body["moves"]):
        before = states.get(key)
        if told not in (("REQUESTED",) if before is None else MOVES[before]):
            raise QcosError(f"reservation {key[1]} does not move from {before} to {told}")
        states[key] = told


def _states(moves: Iterable[Mapping[str, Any]]) -> list[State]:
    return [msgspec.convert(one["state"], State) for one in moves]
