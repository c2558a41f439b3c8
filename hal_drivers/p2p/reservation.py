# SPDX-License-Identifier: Apache-2.0
"""The life of one reserved window, folded from its events (N5). Pure.

A reservation is asked of one node for one attempt of one fragment; its id is made of these. Its state is what
:func:`fold` makes of its events, and of nothing else::

    REQUESTED → PREPARED | REJECTED | EXPIRED | CANCELED
    PREPARED  → COMMITTED | REJECTED | EXPIRED | CANCELED
    COMMITTED → EXECUTED | FAILED | EXPIRED | CANCELED

Each event carries its place among its reservation's. The same event again changes nothing; another one in its place, a
hole, or a move that isn't in the table raises :class:`Contradiction`: a journal that says such a thing is broken, and
nothing is guessed. Over reservations two numbers only rise: a node's fence, and the epoch of a token's fragment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from hal_drivers.p2p.ir import Service

State: TypeAlias = Literal[
    "REQUESTED", "PREPARED", "COMMITTED", "EXECUTED", "REJECTED", "EXPIRED", "FAILED", "CANCELED"
]
MOVES: Mapping[State, frozenset[State]] = {
    "REQUESTED": frozenset({"PREPARED", "REJECTED", "EXPIRED", "CANCELED"}),
    "PREPARED": frozenset({"COMMITTED", "REJECTED", "EXPIRED", "CANCELED"}),
    "COMMITTED": frozenset({"EXECUTED", "FAILED", "EXPIRED", "CANCELED"}),
    "EXECUTED": frozenset(),
    "REJECTED": frozenset(),
    "EXPIRED": frozenset(),
    "FAILED": frozenset(),
    "CANCELED": frozenset(),
}


class Contradiction(ValueError):
    """The events say what can't have happened."""


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for: operation, window, fidelity, and whose it is."""

    node_id: str
    token: str
    fragment_id: str
    epoch: int
    services: tuple[Service, ...]
    qubits: int
    starts_in_us: int
    duration_us: int
    hold_us: int
    min_fidelity_ppm: int = 0

    @property
    def reservation_id(self) -> str:
        """The same for the same attempt, whoever asks and however often."""
        return f"{self.token}/{self.fragment_id}/{self.epoch}"


class Moved(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One event. ``number`` counts from 0 within the reservation; only the first says what is ``wanted``."""

    reservation_id: str
    number: int
    state: State
    at: str
    wanted: Wanted | None = None
    fence: int | None = None
    expires_in_us: int | None = None
    next_free_in_us: int | None = None
    code: str | None = None
    detail: str | None = None


class Reservation(Struct, frozen=True, forbid_unknown_fields=True):
    """One reservation as its events have it."""

    reservation_id: str
    wanted: Wanted
    state: State
    fence: int | None
    history: tuple[Moved, ...]

    @property
    def live(self) -> bool:
        """Whether the node may still keep a window for it."""
        return bool(MOVES[self.state])

    def next(
        self,
        state: State,
        at: str,
        *,
        fence: int | None = None,
        expires_in_us: int | None = None,
        next_free_in_us: int | None = None,
        code: str | None = None,
        detail: str | None = None,
    ) -> Moved:
        """The event that moves it on; :func:`apply` judges it."""
        return Moved(
            reservation_id=self.reservation_id,
            number=len(self.history),
            state=state,
            at=at,
            fence=fence,
            expires_in_us=expires_in_us,
            next_free_in_us=next_free_in_us,
            code=code,
            detail=detail,
        )


def requested(wanted: Wanted, at: str) -> Moved:
    """The first event of a reservation."""
    return Moved(reservation_id=wanted.reservation_id, number=0, state="REQUESTED", at=at, wanted=wanted)


def apply(found: Reservation | None, event: Moved) -> Reservation:
    """The reservation after `event`; raises Contradiction."""
    if found is None:
        if event.number != 0 or event.state != "REQUESTED" or event.wanted is None:
            raise Contradiction(f"{event.reservation_id} begins with {event.state}, number {event.number}")
        if event.wanted.reservation_id != event.reservation_id:
            raise Contradiction(f"{event.reservation_id} is not the id of what it asks for")
        return Reservation(event.reservation_id, event.wanted, "REQUESTED", None, (event,))
    if event.reservation_id != found.reservation_id:
        raise Contradiction(f"{event.reservation_id} is not {found.reservation_id}")
    if event.number < len(found.history):
        if found.history[event.number] != event:
            raise Contradiction(f"{event.reservation_id} has another event {event.number}")
        return found
    if event.number > len(found.history) or event.wanted is not None:
        raise Contradiction(f"{event.reservation_id} lacks event {len(found.history)}")
    if event.state not in MOVES[found.state]:
        raise Contradiction(f"{event.reservation_id} does not move from {found.state} to {event.state}")
    if (event.state == "PREPARED") != (event.fence is not None):
        raise Contradiction(f"{event.reservation_id}: a fence is given with PREPARED and with nothing else")
    fence = event.fence if event.fence is not None else found.fence
    return replace(found, state=event.state, fence=fence, history=(*found.history, event))


class Book(Struct, frozen=True):
    """All reservations of a run, or of a fabric, and the numbers that only rise."""

    reservations: dict[str, Reservation] = {}
    fences: dict[str, int] = {}
    """The last fence of each node."""
    epochs: dict[tuple[str, str], int] = {}
    """The last epoch of each (token, fragment)."""

    def apply(self, event: Moved) -> Book:
        """The book after `event`; raises Contradiction."""
        before = self.reservations.get(event.reservation_id)
        after = apply(before, event)
        if after is before:
            return self
        fences, epochs = self.fences, self.epochs
        if before is None:
            key = (after.wanted.token, after.wanted.fragment_id)
            if after.wanted.epoch <= epochs.get(key, 0):
                raise Contradiction(f"epoch {after.wanted.epoch} of {key[1]} comes after {epochs[key]}")
            epochs = epochs | {key: after.wanted.epoch}
        if event.fence is not None:
            node = after.wanted.node_id
            if event.fence <= fences.get(node, 0):
                raise Contradiction(f"fence {event.fence} of {node} comes after {fences[node]}")
            fences = fences | {node: event.fence}
        return Book(self.reservations | {event.reservation_id: after}, fences, epochs)


def fold(events: Iterable[Moved]) -> Book:
    """What all these events make; raises Contradiction."""
    book = Book()
    for event in events:
        book = book.apply(event)
    return book
