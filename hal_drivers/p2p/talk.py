# SPDX-License-Identifier: Apache-2.0
"""What a run says to nodes and tells of itself: each request, each answer, each move of a reservation is an event.

Whoever decides (``runtime``) calls these verbs; nothing here chooses a node, tries again or judges a result. An attempt
is told before its node is sent anything, and once it is over its node is told too, unless it has said so itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from msgspec import Struct

from hal_drivers.p2p import asking, judge
from hal_drivers.p2p.asking import Sheet
from hal_drivers.p2p.errors import Late, LinkError
from hal_drivers.p2p.ir import canonical
from hal_drivers.p2p.judge import Wrong
from hal_drivers.p2p.link import Link
from hal_drivers.p2p.office import AttemptStatus
from hal_drivers.p2p.reservation import State, Wanted, requested
from hal_drivers.p2p.rows import width
from hal_drivers.p2p.run_state import Ended, Progress, Reserved, RunEvent, Said, Started
from hal_drivers.p2p.wire import Answer, Cancel, Committed, Execute, ExecutionFailed, Prepared, Rejected, Request

_WORDS_BYTES = 65_536
_SHOWN = 300
Keep: TypeAlias = Callable[[tuple[RunEvent, ...]], Awaitable[None]]
"""Returns when these events are durable; they are told in order."""


class Failure(Struct, frozen=True):
    """Why an attempt came to nothing."""

    code: str
    detail: str
    status: AttemptStatus = "failed"
    observed_ppm: int | None = None


class Held(Struct, frozen=True):
    """A window that this run has; ``fence`` 0: or would have had."""

    wanted: Wanted
    fence: int


class Talk:
    """Of one run. Events are applied at once and kept, in order, by ``flush``."""

    def __init__(
        self,
        link: Link,
        sheet: Sheet,
        progress: Progress,
        keep: Keep,
        now: Callable[[], str],
        spare: trio.Nursery,
    ) -> None:
        self._link, self._sheet, self._progress = link, sheet, progress
        self._keep, self._now, self._spare = keep, now, spare
        self._limits = sheet.limits
        self._told: list[RunEvent] = []
        self._keeping = trio.Lock()

    def start(self, name: str, node: str, starts_in_us: int) -> Wanted:
        """A new attempt: nothing of it may be sent before ``flush``."""
        wanted = self._sheet.wanted(name, node, self._progress.epoch(name) + 1, starts_in_us)
        at = self._now()
        self.note(Started(at, name, node, wanted.epoch))
        self.note(Reserved(at, requested(wanted, at)))
        return wanted

    async def reserve(self, wanted: Wanted, *, alone: bool) -> Held | Failure:
        """Ask for the window; ``alone``, where no other is waited for, it is taken at once."""
        answer = await self.ask(wanted, asking.reserve(wanted, alone=alone), self._limits.reserve_s)
        if isinstance(answer, Prepared) and answer.fence > self._progress.book.fences.get(wanted.node_id, 0):
            self.move(wanted, "PREPARED", fence=answer.fence, expires_in_us=answer.expires_in_us)
            held = Held(wanted, answer.fence)
            if answer.committed:
                self.move(wanted, "COMMITTED", expires_in_us=answer.expires_in_us)
            if answer.committed is alone:
                return held
            failure = Failure("answer", f"{wanted.node_id} took a window that it was to keep, or kept one to be taken")
            self.leave(held, failure)
            return failure
        failure = failure_of(answer)
        self.leave(Held(wanted, 0), failure, answer)
        return failure

    async def commit(self, held: Held) -> Failure | None:
        """Take it."""
        answer = await self.ask(held.wanted, asking.commit(held.wanted, held.fence), self._limits.commit_s)
        if isinstance(answer, Committed):
            self.move(held.wanted, "COMMITTED", expires_in_us=answer.expires_in_us)
            return None
        failure = failure_of(answer)
        self.leave(held, failure, answer)
        return failure

    async def ask(self, wanted: Wanted, request: Request, limit_s: float) -> Answer | Wrong | Failure:
        """One request of an attempt; an answer that isn't one comes as Wrong, none at all as Failure."""
        frame = canonical(request)
        at = (wanted.fragment_id, wanted.node_id, wanted.epoch)
        try:
            signed = await self._link.ask(wanted.node_id, request, limit_s)
        except LinkError as error:
            self.note(Said(self._now(), *at, frame, None))
            status: AttemptStatus = "late" if isinstance(error, Late) else "failed"
            named = "" if error.detail.startswith(wanted.node_id) else f"{wanted.node_id}: "
            return Failure(error.code, named + error.detail, status)
        if len(signed.body) > _longest(request):
            self.note(Said(self._now(), *at, frame, None))
            return Wrong("answer", f"{len(signed.body)} bytes are more than the answer can have")
        self.note(Said(self._now(), *at, frame, signed))
        return judge.read(signed, wanted.node_id, frame)

    def leave(
        self, held: Held, failure: Failure, answer: Answer | Wrong | Failure | None = None, *, tell: bool = True
    ) -> None:
        """The attempt is over and was not accepted; ``answer`` is what its node said last."""
        found = self._progress.book.reservations[held.wanted.reservation_id]
        ended: State = "FAILED" if found.state == "COMMITTED" else "CANCELED"
        if failure.status == "canceled":
            ended = "CANCELED"
        elif isinstance(answer, Rejected):
            ended = "FAILED" if found.state == "COMMITTED" else "REJECTED"
        next_free = answer.next_free_in_us if isinstance(answer, Rejected) else None
        self.move(held.wanted, ended, code=failure.code, detail=failure.detail, next_free_in_us=next_free)
        self.end(held.wanted, failure)
        # Who refused the window has none; who refused the work has it still.
        nothing_there = isinstance(answer, ExecutionFailed) or (
            isinstance(answer, Rejected) and found.state == "REQUESTED"
        )
        if tell and not nothing_there:
            self._spare.start_soon(self._cancel, held.wanted)

    def leave_open_attempts(self, failure: Failure) -> None:
        """Whatever has begun and not ended."""
        for name, attempt in self._progress.open_attempts():
            found = self._progress.book.reservations.get(f"{self._sheet.token}/{name}/{attempt.epoch}")
            if found is None:  # a crash between two events of one batch: nothing was sent
                wanted = self._sheet.wanted(name, attempt.node_id, attempt.epoch, 0)
                self.end(wanted, failure)
            elif found.live:
                self.leave(Held(found.wanted, found.fence or 0), failure)
            else:
                self.end(found.wanted, failure)

    def move(
        self,
        wanted: Wanted,
        state: State,
        *,
        fence: int | None = None,
        expires_in_us: int | None = None,
        next_free_in_us: int | None = None,
        code: str | None = None,
        detail: str | None = None,
    ) -> None:
        """The reservation's next move."""
        at = self._now()
        found = self._progress.book.reservations[wanted.reservation_id]
        moved = found.next(
            state,
            at,
            fence=fence,
            expires_in_us=expires_in_us,
            next_free_in_us=next_free_in_us,
            code=code,
            detail=detail,
        )
        self.note(Reserved(at, moved))

    def end(self, wanted: Wanted, failure: Failure) -> None:
        """The attempt's end, where its reservation has ended already."""
        at = (self._now(), wanted.fragment_id, wanted.node_id, wanted.epoch)
        self.note(Ended(*at, failure.status, failure.observed_ppm, failure.code, failure.detail))

    def note(self, event: RunEvent) -> None:
        """It is so, from now on."""
        self._progress.apply(event)
        self._told.append(event)

    async def flush(self) -> None:
        """Returns when all that was noted is kept."""
        async with self._keeping:
            if self._told:
                batch, self._told = tuple(self._told), []
                with trio.CancelScope(shield=True):  # what was noted isn't lost because its noter is stopped
                    await self._keep(batch)

    async def _cancel(self, wanted: Wanted) -> None:
        request = Cancel(wanted.token, wanted.fragment_id, wanted.epoch)
        try:
            await self._link.ask(wanted.node_id, request, self._limits.cancel_s)
        except LinkError:
            return  # its window ends by itself


def _longest(request: Request) -> int:
    """What a node can make the plane keep: the rows that were asked for, as base64, and a little."""
    if not isinstance(request, Execute):
        return _WORDS_BYTES
    return _WORDS_BYTES + 4 * (width(request.circuit.bits) * request.shots // 3 + 1)


def failure_of(answer: Answer | Wrong | Failure) -> Failure:
    """Why an answer isn't the one that was hoped for."""
    match answer:
        case Failure():
            return answer
        case Wrong():
            return Failure(answer.code, answer.detail, "refused", answer.observed_ppm)
        case Rejected():
            return Failure(answer.code[:64], f"{answer.node_id} rejected it: {answer.detail[:_SHOWN]}")
        case ExecutionFailed():
            return Failure(answer.code[:64], f"{answer.node_id} failed: {answer.detail[:_SHOWN]}")
        case _:
            return Failure("answer", f"{answer.node_id} answered with something else", "refused")
