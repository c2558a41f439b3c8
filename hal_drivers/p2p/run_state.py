# SPDX-License-Identifier: Apache-2.0
"""What happened to a run, as events, and what they make of it (N6). Pure.

The runtime tells every step as an event; who keeps them can fold them again after a crash: what was accepted stays
accepted, and whatever else goes on under a higher epoch. The same events give the same state.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hal_drivers.p2p.office import Attempt, AttemptStatus, FragmentRun, RunIs
from hal_drivers.p2p.office import RunState as Phase
from hal_drivers.p2p.plan import Plan
from hal_drivers.p2p.reservation import Book, Moved
from hal_drivers.p2p.wire import Executed, Signed, request_digest


class Opened(Struct, frozen=True, forbid_unknown_fields=True, tag="opened"):
    """The run began."""

    at: str


class Started(Struct, frozen=True, forbid_unknown_fields=True, tag="started"):
    """From now on this node may receive something of the fragment: told, and kept, before anything is sent."""

    at: str
    fragment_id: str
    node_id: str
    epoch: int


class Reserved(Struct, frozen=True, forbid_unknown_fields=True, tag="reserved"):
    """A reservation moved."""

    at: str
    moved: Moved


class Said(Struct, frozen=True, forbid_unknown_fields=True, tag="said"):
    """One request that was sent and, if any came in time, the answer."""

    at: str
    fragment_id: str
    node_id: str
    epoch: int
    request: bytes
    answer: Signed | None


class Ended(Struct, frozen=True, forbid_unknown_fields=True, tag="ended"):
    """An attempt is over; ``accepted``: the last answer is the fragment's result."""

    at: str
    fragment_id: str
    node_id: str
    epoch: int
    status: AttemptStatus
    observed_ppm: int | None = None
    code: str | None = None
    detail: str | None = None


class Stray(Struct, frozen=True, forbid_unknown_fields=True, tag="stray"):
    """An answer that came when nobody waited for it, or a second one: written down, and without effect."""

    at: str
    node_id: str
    why: Literal["late", "second"]
    fragment_id: str | None
    epoch: int | None
    answer: Signed


class GaveUp(Struct, frozen=True, forbid_unknown_fields=True, tag="gave_up"):
    """No node is left for a fragment."""

    at: str
    fragment_id: str
    code: str
    detail: str


class Closed(Struct, frozen=True, forbid_unknown_fields=True, tag="closed"):
    """The run is over."""

    at: str
    state: Literal["finished", "failed", "canceled"]
    code: str | None = None
    detail: str | None = None


RunEvent: TypeAlias = Opened | Started | Reserved | Said | Ended | Stray | GaveUp | Closed


class Progress:
    """The state of one run; ``apply`` is the only way that it changes."""

    def __init__(self, token: str, plan: Plan, events: Iterable[RunEvent] = ()) -> None:
        self._token, self._order = token, plan.order
        self._fragments = {name: _waiting(name) for name in plan.order}
        self._phase: Phase = "queued"
        self._started_at: str | None = None
        self._closed: Closed | None = None
        self.book = Book()
        self.done: dict[str, bytes] = {}
        """The rows of accepted fragments."""
        for event in events:
            self.apply(event)

    @property
    def over(self) -> bool:
        """Whether nothing more is accepted."""
        return self._closed is not None

    @property
    def begun(self) -> bool:
        """Whether it was opened before."""
        return self._started_at is not None

    @property
    def duration_us(self) -> int:
        """From its start to its end; 0 until then."""
        if self._closed is None or self._started_at is None:
            return 0
        lasted = datetime.fromisoformat(self._closed.at) - datetime.fromisoformat(self._started_at)
        return max(0, lasted // timedelta(microseconds=1))

    def has_said(self, fragment_id: str, epoch: int, answer: Signed) -> bool:
        """Whether these very words are known."""
        found = self._fragments.get(fragment_id)
        return found is not None and any(
            one.epoch == epoch and any(said.body == answer.body for said in one.answers) for one in found.attempts
        )

    def has_asked(self, fragment_id: str, epoch: int, request_sha256: str) -> bool:
        """Whether this request was sent in that attempt."""
        found = self._fragments.get(fragment_id)
        return found is not None and any(
            one.epoch == epoch and any(request_digest(frame) == request_sha256 for frame in one.requests)
            for one in found.attempts
        )

    def epoch(self, fragment_id: str) -> int:
        """The last one that was given."""
        return max((attempt.epoch for attempt in self._fragments[fragment_id].attempts), default=0)

    def open_attempts(self) -> list[tuple[str, Attempt]]:
        """What a crash left: attempts that never ended."""
        return [
            (name, attempt)
            for name, fragment in self._fragments.items()
            for attempt in fragment.attempts
            if attempt.status == "running"
        ]

    def view(self, *, words: bool = True) -> RunIs:
        """The run as the office tells it; ``words``: with all that was asked and answered."""
        fragments = tuple(self._fragments[name] for name in self._order)
        if not words:
            fragments = tuple(
                replace(one, attempts=tuple(replace(a, answers=(), requests=()) for a in one.attempts))
                for one in fragments
            )
        closed = self._closed
        return RunIs(
            token=self._token,
            state=self._phase,
            started_at=self._started_at,
            ended_at=closed.at if closed else None,
            fragments=fragments,
            code=closed.code if closed else None,
            detail=closed.detail if closed else None,
        )

    def apply(self, event: RunEvent) -> None:
        """What an event changes."""
        match event:
            case Opened():
                self._phase, self._started_at = "reserving", self._started_at or event.at
            case Started():
                self._start(event)
            case Reserved():
                self.book = self.book.apply(event.moved)
            case Said():
                self._say(event)
            case Ended():
                self._end(event)
            case Stray():
                self._stray(event)
            case GaveUp():
                fragment = self._fragments[event.fragment_id]
                self._fragments[event.fragment_id] = replace(
                    fragment, status="failed", ended_at=event.at, code=event.code, detail=event.detail
                )
            case Closed():
                self._close(event)
            case _:
                assert_never(event)

    def _start(self, event: Started) -> None:
        fragment = self._fragments[event.fragment_id]
        attempt = Attempt(
            node_id=event.node_id,
            epoch=event.epoch,
            started_at=event.at,
            ended_at=None,
            status="running",
            observed_ppm=None,
            code=None,
            detail=None,
            answers=(),
        )
        self._fragments[event.fragment_id] = replace(
            fragment,
            status="reserving",
            started_at=fragment.started_at or event.at,
            attempts=(*fragment.attempts, attempt),
        )

    def _change(self, fragment_id: str, epoch: int, **changes: object) -> Attempt | None:
        fragment = self._fragments[fragment_id]
        for place, attempt in enumerate(fragment.attempts):
            if attempt.epoch == epoch:
                changed = replace(attempt, **changes)
                attempts = (*fragment.attempts[:place], changed, *fragment.attempts[place + 1 :])
                self._fragments[fragment_id] = replace(fragment, attempts=attempts)
                return changed
        return None

    def _attempt(self, fragment_id: str, epoch: int) -> Attempt:
        return next(one for one in self._fragments[fragment_id].attempts if one.epoch == epoch)

    def _say(self, event: Said) -> None:
        attempt = self._attempt(event.fragment_id, event.epoch)
        answers = attempt.answers if event.answer is None else (*attempt.answers, event.answer)
        self._change(event.fragment_id, event.epoch, answers=answers, requests=(*attempt.requests, event.request))

    def _end(self, event: Ended) -> None:
        if self._attempt(event.fragment_id, event.epoch).status != "running":
            return
        attempt = self._change(
            event.fragment_id,
            event.epoch,
            status=event.status,
            ended_at=event.at,
            observed_ppm=event.observed_ppm,
            code=event.code,
            detail=event.detail,
        )
        fragment = self._fragments[event.fragment_id]
        if event.status != "accepted" or attempt is None:
            self._fragments[event.fragment_id] = replace(fragment, status="waiting")
            return
        self._phase = "running"
        self.done[event.fragment_id] = msgspec.json.decode(attempt.answers[-1].body, type=Executed).rows
        self._fragments[event.fragment_id] = replace(
            fragment, status="completed", node_id=event.node_id, ended_at=event.at, observed_ppm=event.observed_ppm
        )

    def _stray(self, event: Stray) -> None:
        if event.fragment_id not in self._fragments or event.epoch is None:
            return
        for attempt in self._fragments[event.fragment_id].attempts:
            if (attempt.epoch, attempt.node_id) == (event.epoch, event.node_id):
                # First the accepted answer: what came later must not take its place.
                self._change(event.fragment_id, event.epoch, answers=(*attempt.answers, event.answer))

    def _close(self, event: Closed) -> None:
        self._closed, self._phase = event, event.state
        for name, fragment in self._fragments.items():
            if fragment.status in ("waiting", "reserving", "running"):
                self._fragments[name] = replace(fragment, status="canceled", ended_at=event.at)


def _waiting(fragment_id: str) -> FragmentRun:
    return FragmentRun(
        fragment_id=fragment_id,
        status="waiting",
        node_id=None,
        attempts=(),
        started_at=None,
        ended_at=None,
        observed_ppm=None,
        code=None,
        detail=None,
    )
