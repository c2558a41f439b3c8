# SPDX-License-Identifier: Apache-2.0
"""Windows without a job and probes: single conversations with one node, in messages like a job's (N5, N8).

A node can't tell them from a job's: tokens are hashes, fragments have a job's names, requests come in a job's order.
There is no retry and no fallback. Windows that were reserved here end by themselves at their node; what is kept here
are their moves, of the last thousand. Over a restart of this process, or of a node, a window is asked for again: who
kept it says so, who forgot it grants it anew where it is still free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from hal_drivers.p2p import asking, judge
from hal_drivers.p2p.asking import Limits, fragment_seed, node_token
from hal_drivers.p2p.errors import LinkError
from hal_drivers.p2p.ir import SERVICES, canonical
from hal_drivers.p2p.judge import Wrong
from hal_drivers.p2p.link import Link
from hal_drivers.p2p.office import CancelReservation, EventKind, Probe, Probed, Refusal, ReservationIs, ReserveWindow
from hal_drivers.p2p.plan import PlanConfig
from hal_drivers.p2p.reservation import Moved, Reservation, State, Wanted, apply, requested
from hal_drivers.p2p.wire import (
    Answer,
    Cancel,
    Committed,
    Execute,
    Executed,
    ExecutionFailed,
    Prepared,
    Rejected,
    Request,
    Signed,
)

MOST = 1_000
_ANY = PlanConfig(default_min_fidelity_ppm=0)
_ALL: dict[str, int] = dict.fromkeys(SERVICES, 1_000_000)


class Tell(Protocol):
    """The journal's pen."""

    def __call__(
        self,
        kind: EventKind,
        *,
        node_id: str | None = None,
        token: str | None = None,
        fragment_id: str | None = None,
        epoch: int | None = None,
        facts: dict[str, str | int | bool | None] = ...,
        signed: Signed | None = None,
    ) -> object:
        """Write a line."""
        ...


class Windows:
    """Of one fabric."""

    def __init__(self, link: Link, limits: Limits, now: Callable[[], str], tell: Tell, nursery: trio.Nursery) -> None:
        self._link, self._limits, self._now, self._tell, self._nursery = link, limits, now, tell, nursery
        self._kept: dict[str, Reservation] = {}

    async def reserve(self, ask: ReserveWindow) -> ReservationIs | Refusal:
        """Get and commit a window; the same id again changes nothing, unless it is to be asked for ``again``."""
        found = self._kept.get(ask.reservation_id)
        if found is not None and not (ask.again and found.state == "COMMITTED"):
            return self.view(ask.reservation_id)
        if min(ask.duration_ms, ask.hold_ms) <= 0 or ask.starts_in_ms < 0 or ask.qubits < 1:
            return Refusal("invalid", "a window begins now or later, lasts, and has a qubit")
        wanted = Wanted(
            node_id=ask.node_id,
            token=_token(ask.reservation_id),
            fragment_id="f1",
            epoch=1,
            services=ask.services,
            qubits=ask.qubits,
            starts_in_us=ask.starts_in_ms * 1_000,
            duration_us=ask.duration_ms * 1_000,
            hold_us=ask.hold_ms * 1_000,
        )
        if ask.again:
            return await self._again(ask.reservation_id, wanted)
        self._begin(ask.reservation_id, wanted)
        answer = await self._ask(wanted.node_id, asking.reserve(wanted), self._limits.reserve_s)
        if isinstance(answer, Prepared):
            self._move(ask.reservation_id, "PREPARED", fence=answer.fence, expires_in_us=answer.expires_in_us)
            answer = await self._ask(wanted.node_id, asking.commit(wanted, answer.fence), self._limits.commit_s)
        if isinstance(answer, Committed):
            self._committed(ask.reservation_id, wanted, answer)
        elif isinstance(answer, Rejected):
            self._rejected(ask.reservation_id, "REJECTED", answer)
        else:
            code, detail = _why(answer)
            self._move(ask.reservation_id, "CANCELED", code=code, detail=detail)
            self._nursery.start_soon(self._give_back, wanted.node_id, wanted.token)
        return self.view(ask.reservation_id)

    async def cancel(self, ask: CancelReservation) -> ReservationIs | Refusal:
        """Give it back; idempotent, and of one that an earlier life of this process got too."""
        found = self._kept.get(ask.reservation_id)
        if found is not None and found.live:
            self._move(ask.reservation_id, "CANCELED", code="canceled", detail="it was cancelled")
            await self._give_back(found.wanted.node_id, found.wanted.token)
        elif found is None and ask.node_id is not None:
            await self._give_back(ask.node_id, _token(ask.reservation_id))
        return self.view(ask.reservation_id)

    async def _again(self, reservation_id: str, wanted: Wanted) -> ReservationIs | Refusal:
        """Nothing is told of a window that its node still has, and nothing of a node that doesn't answer."""
        prepared = answer = await self._ask(wanted.node_id, asking.reserve(wanted), self._limits.reserve_s)
        if isinstance(prepared, Prepared):
            answer = await self._ask(wanted.node_id, asking.commit(wanted, prepared.fence), self._limits.commit_s)
        if not isinstance(answer, Committed | Rejected):
            return Refusal("unreachable", _why(answer)[1])
        known = reservation_id in self._kept
        if not known:
            self._begin(reservation_id, wanted)
            if isinstance(prepared, Prepared):
                self._move(reservation_id, "PREPARED", fence=prepared.fence, expires_in_us=prepared.expires_in_us)
        if isinstance(answer, Rejected):
            self._rejected(reservation_id, "FAILED" if known else "REJECTED", answer)
        elif not known:
            self._committed(reservation_id, wanted, answer)
        return self.view(reservation_id)

    def _committed(self, reservation_id: str, wanted: Wanted, answer: Committed) -> None:
        if not self._kept[reservation_id].live:  # cancelled while its node was asked
            self._nursery.start_soon(self._give_back, wanted.node_id, wanted.token)
            return
        self._move(reservation_id, "COMMITTED", expires_in_us=answer.expires_in_us)
        ends_in_s = min(answer.expires_in_us, wanted.starts_in_us + wanted.duration_us) / 1e6
        self._nursery.start_soon(self._expire, reservation_id, ends_in_s)

    def _rejected(self, reservation_id: str, state: State, answer: Rejected) -> None:
        why = {"code": answer.code, "detail": answer.detail}
        self._move(reservation_id, state, next_free_in_us=answer.next_free_in_us, **why)

    def view(self, reservation_id: str) -> ReservationIs | Refusal:
        """How it stands."""
        found = self._kept.get(reservation_id)
        if found is None:
            return Refusal("unknown_reservation", "no such reservation, or it is long over")
        last = found.history[-1]
        return ReservationIs(
            reservation_id=reservation_id,
            node_id=found.wanted.node_id,
            state=found.state,
            fence=found.fence,
            starts_in_ms=found.wanted.starts_in_us // 1_000,
            expires_in_ms=None if last.expires_in_us is None else last.expires_in_us // 1_000,
            next_free_in_ms=None if last.next_free_in_us is None else -(-last.next_free_in_us // 1_000),
            code=last.code,
            detail=last.detail,
            moves=tuple((moved.state, moved.at) for moved in found.history),
        )

    async def probe(self, ask: Probe) -> Probed:
        """One circuit on one node."""
        wanted = Wanted(
            node_id=ask.node_id,
            token=node_token(ask.token),
            fragment_id="f1",
            epoch=1,
            services=ask.services,
            qubits=ask.circuit.qubits,
            starts_in_us=0,
            duration_us=ask.limit_ms * 1_000,
            hold_us=int(self._limits.hold_s * 1e6),
        )
        said: list[Signed] = []
        answer = await self._ask(wanted.node_id, asking.reserve(wanted, alone=True), self._limits.reserve_s, said)
        if isinstance(answer, Prepared) and answer.committed:
            seed = fragment_seed(ask.seed, wanted.fragment_id)
            request = Execute(wanted.token, "f1", 1, answer.fence, ask.circuit, ask.shots, seed)
            answer = await self._ask(wanted.node_id, request, ask.limit_ms / 1_000, said)
            if isinstance(answer, Executed):
                return _probed(answer, request, tuple(said))
        code, detail = _why(answer)
        if not isinstance(answer, Rejected | ExecutionFailed):
            self._nursery.start_soon(self._give_back, wanted.node_id, wanted.token)
        return Probed(b"", 0, None, 0, code, detail, tuple(said))

    async def _ask(
        self, node_id: str, request: Request, limit_s: float, said: list[Signed] | None = None
    ) -> Answer | Wrong | LinkError:
        try:
            signed = await self._link.ask(node_id, request, limit_s)
        except LinkError as error:
            return error
        if said is not None:
            said.append(signed)
        return judge.read(signed, node_id, canonical(request))

    async def _give_back(self, node_id: str, token: str) -> None:
        await self._ask(node_id, Cancel(token, "f1", 1), self._limits.cancel_s)

    async def _expire(self, reservation_id: str, ends_in_s: float) -> None:
        await trio.sleep(ends_in_s)
        found = self._kept.get(reservation_id)
        if found is not None and found.live:
            self._move(reservation_id, "EXPIRED", code="expired", detail="its window has ended unused")

    def _begin(self, reservation_id: str, wanted: Wanted) -> None:
        over = [name for name, found in self._kept.items() if not found.live]
        for name in over[: max(0, len(self._kept) + 1 - MOST)]:
            del self._kept[name]
        self._note(reservation_id, None, requested(wanted, self._now()))

    def _move(self, reservation_id: str, state: State, **facts: object) -> None:
        found = self._kept[reservation_id]
        if found.live:  # cancelled while its node was asked: that stands
            self._note(reservation_id, found, found.next(state, self._now(), **facts))  # type: ignore[arg-type]

    def _note(self, reservation_id: str, before: Reservation | None, moved: Moved) -> None:
        after = self._kept[reservation_id] = apply(before, moved)
        tell_move(self._tell, reservation_id, after.wanted, moved)


def _token(reservation_id: str) -> str:
    return node_token(f"window/{reservation_id}")


def tell_move(tell: Tell, token: str, wanted: Wanted, moved: Moved) -> None:
    """A reservation's move, as a line of the journal."""
    kind: EventKind = f"reservation:{moved.state.lower()}"  # type: ignore[assignment]
    facts: dict[str, str | int | bool | None] = {"reservation": moved.reservation_id}
    given = {
        "fence": moved.fence,
        "expires_in_us": moved.expires_in_us,
        "next_free_in_us": moved.next_free_in_us,
        "code": moved.code,
        "detail": moved.detail,
    }
    facts |= {name: value for name, value in given.items() if value is not None}
    tell(kind, node_id=wanted.node_id, token=token, fragment_id=wanted.fragment_id, epoch=wanted.epoch, facts=facts)


def _probed(executed: Executed, request: Execute, said: tuple[Signed, ...]) -> Probed:
    verdict = judge.accept(executed, request, _ANY, _ALL)
    if isinstance(verdict, Wrong):
        return Probed(b"", 0, None, executed.duration_us, verdict.code, verdict.detail, said)
    return Probed(executed.rows, executed.shots, verdict, executed.duration_us, None, None, said)


def _why(answer: Answer | Wrong | LinkError) -> tuple[str, str]:
    if isinstance(answer, Wrong | LinkError | Rejected | ExecutionFailed):
        return answer.code, answer.detail
    return "answer", "the node answered with something else"
