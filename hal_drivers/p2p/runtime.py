# SPDX-License-Identifier: Apache-2.0
"""Runs a plan over the network (N5, N6, N7): windows, fragments in dependency order, retries, fallbacks, verdicts.

1. All windows of the plan are reserved in node-id order, then committed: all or none. What was got is given back when
   one can't be had, and asked for again, bounded, with growing pauses, elsewhere where the plan has a fallback. One
   window alone is reserved and committed in one request: none and all are the same then.
2. A fragment runs as soon as those that it reads from were accepted, each shot on its own recorded bits.
3. Each answer is judged (``judge``). A node whose failure may pass is tried again, then the next of the plan has its
   turn, under a higher epoch each time; when none is left the run fails, naming fragment and cause.

Every step is an event (``run_state``): an attempt is told, and kept, before its node is sent anything. There is no
local stand-in for a node, ever. After a crash the same call with the progress that was kept goes on. What isn't wanted
any more is cancelled at its node in the background, and nobody waits for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import trio

from hal_drivers.p2p import judge
from hal_drivers.p2p.asking import Limits, Order, Sheet
from hal_drivers.p2p.errors import Late, Unreachable
from hal_drivers.p2p.judge import Wrong
from hal_drivers.p2p.link import Link
from hal_drivers.p2p.plan import NodeFacts, Snapshot
from hal_drivers.p2p.reservation import Wanted
from hal_drivers.p2p.run_state import Closed, Ended, GaveUp, Opened, Progress
from hal_drivers.p2p.talk import Failure, Held, Keep, Talk, failure_of
from hal_drivers.p2p.wire import Executed

_CROWDED = frozenset({"busy", "window_taken"})
_PASSING = _CROWDED | {"unknown_window", "fenced", "over_time", "crashed", "canceled", "forgotten"}
_BACK_S = 15.0
_LOOK_S = 0.1
_NEVER_ASKED = Failure("never_asked", "it was sent nothing", "canceled")


class Runtime:
    """One for a fabric. ``look`` gives the newest snapshot (N8), ``spare`` carries what nobody waits for."""

    def __init__(
        self, link: Link, look: Callable[[], Snapshot], limits: Limits, now: Callable[[], str], spare: trio.Nursery
    ) -> None:
        self._link, self._look, self._limits, self._now, self._spare = link, look, limits, now, spare

    async def run(self, order: Order, progress: Progress, keep: Keep, deadline_s: float) -> None:
        """Until ``progress`` is over. Canceled, the run is: nothing of it is accepted any more."""
        sheet = Sheet(order, self._limits)
        talk = Talk(self._link, sheet, progress, keep, self._now, self._spare)
        await _Run(talk, sheet, progress, self._look, self._now).to_the_end(deadline_s)


class _Run:
    def __init__(
        self, talk: Talk, sheet: Sheet, progress: Progress, look: Callable[[], Snapshot], now: Callable[[], str]
    ) -> None:
        self._talk, self._sheet, self._progress, self._look, self._now = talk, sheet, progress, look, now
        self._limits, self._order = sheet.limits, sheet.order
        self._ended = {name: trio.Event() for name in sheet.order.plan.order}
        self._barred: set[tuple[str, str]] = set()
        self._held: dict[str, Held] = {}
        """Windows that nobody has used yet."""
        self._lost: tuple[str, Failure] | None = None

    async def to_the_end(self, deadline_s: float) -> None:
        closed = Closed("", "canceled", "canceled", "it was cancelled")
        try:
            with trio.move_on_after(deadline_s) as clock:
                await self._go()
            closed = self._closing(deadline_s if clock.cancelled_caught else None)
        except Exception as error:
            closed = Closed("", "failed", "broken", f"{type(error).__name__}: {error}"[:300])
            raise
        finally:
            self._talk.leave_open_attempts(Failure("canceled", "the run has ended", "canceled"))
            self._talk.note(Closed(self._now(), closed.state, closed.code, closed.detail))
            with trio.CancelScope(shield=True):
                await self._talk.flush()

    def _closing(self, deadline_s: float | None) -> Closed:
        if self._lost is not None:
            name, failure = self._lost
            return Closed("", "failed", failure.code, f"fragment {name}: {failure.detail}")
        if deadline_s is not None:
            name = next(name for name, ended in self._ended.items() if not ended.is_set())
            return Closed("", "failed", "deadline", f"fragment {name}: not done within {deadline_s:.1f} s")
        return Closed("", "finished")

    async def _go(self) -> None:
        self._talk.leave_open_attempts(Failure("restarted", "the fabric was restarted"))
        taken_up = self._progress.begun
        self._talk.note(Opened(self._now()))
        if taken_up:
            await self._nodes_back()
        for name in self._progress.done:
            self._ended[name].set()
        held = await self._all_windows([name for name in self._order.plan.order if name not in self._progress.done])
        if held is None:
            return
        self._held = held
        async with trio.open_nursery() as nursery:
            for name, one in list(held.items()):
                nursery.start_soon(self._fragment, name, one.wanted.node_id, nursery.cancel_scope)

    async def _nodes_back(self) -> None:
        """After a restart nodes come back by themselves, in their time: each fragment waits for one of its own."""
        waiting = [name for name in self._order.plan.order if name not in self._progress.done]
        with trio.move_on_after(_BACK_S):
            while waiting:
                waiting = [
                    name for name in waiting if not any(map(partial(self._usable, name), self._sheet.nodes(name)))
                ]
                await trio.sleep(_LOOK_S if waiting else 0)

    async def _all_windows(self, names: list[str]) -> dict[str, Held] | None:
        """None: given up."""
        tries: Counter[tuple[str, str]] = Counter()
        chosen = {name: self._first_node(name) for name in names}
        for number in range(1, self._limits.rounds + 1):
            held: dict[str, Held] = {}
            lost = await self._round(chosen, held)
            if lost is None:
                return held
            name, failure = lost
            for one in held.values():
                self._talk.leave(one, Failure("not_all", f"no window for fragment {name}", "canceled"))
            tries[name, chosen[name]] += 1
            node = self._next_node(name, chosen[name], tries, failure)
            if node is None or number == self._limits.rounds:
                self._give_up(name, failure)
                return None
            chosen[name] = node
            await trio.sleep(self._limits.pause(self._order.seed, "windows", number))
        return {}

    async def _round(self, chosen: dict[str, str], held: dict[str, Held]) -> tuple[str, Failure] | None:
        """Fill ``held``, or say for which fragment there is no window; what was got then is for the caller to leave."""
        starts = self._sheet.starts(chosen)
        in_order = sorted(chosen.items(), key=lambda pair: pair[1])
        wanted = [self._talk.start(name, node, starts[name]) for name, node in in_order]
        await self._talk.flush()
        alone = len(wanted) == 1
        for place, one in enumerate(wanted):
            answer = await self._talk.reserve(one, alone=alone)
            if isinstance(answer, Failure):
                for other in wanted[place + 1 :]:
                    self._talk.leave(Held(other, 0), _NEVER_ASKED, tell=False)
                return one.fragment_id, answer
            held[one.fragment_id] = answer
        if alone:
            return None
        lost: list[tuple[str, Failure]] = []

        async def commit(one: Held) -> None:
            failure = await self._talk.commit(one)
            if failure is not None:
                lost.append((one.wanted.fragment_id, failure))

        async with trio.open_nursery() as nursery:
            for got in held.values():
                nursery.start_soon(commit, got)
        for name, _ in lost:
            del held[name]
        return min(lost, key=lambda pair: pair[0]) if lost else None

    async def _fragment(self, name: str, node: str, scope: trio.CancelScope) -> None:
        for other in self._sheet.fragments[name].depends_on:
            await self._ended[other].wait()
        tries: Counter[tuple[str, str]] = Counter()
        window: Held | Failure = self._held.pop(name, None) or await self._one_window(name, node)
        while True:
            tries[name, node] += 1
            failure = window if isinstance(window, Failure) else await self._execute(window)
            if failure is None:
                self._ended[name].set()
                if not all(ended.is_set() for ended in self._ended.values()):  # else the run's end follows at once
                    await self._talk.flush()
                return
            self._postpone(name)
            after = self._next_node(name, node, tries, failure)
            if after is None or tries.total() >= self._limits.rounds * len(self._sheet.nodes(name)):
                self._give_up(name, failure)
                scope.cancel()
                return
            if after == node or failure.code in _CROWDED:
                await trio.sleep(self._limits.pause(self._order.seed, name, tries[name, node]))
            node = after
            window = await self._one_window(name, node)

    def _postpone(self, name: str) -> None:
        """Windows of those that wait for a fragment that must be tried again are no use now, and in its way."""
        for other in self._order.plan.order:
            if other in self._held and name in self._sheet.needed(other):
                failure = Failure("postponed", f"fragment {name} is tried again first", "canceled")
                self._talk.leave(self._held.pop(other), failure)

    async def _one_window(self, name: str, node: str) -> Held | Failure:
        wanted = self._talk.start(name, node, 0)
        await self._talk.flush()
        return await self._talk.reserve(wanted, alone=True)

    async def _execute(self, held: Held) -> Failure | None:
        """None: accepted."""
        wanted = held.wanted
        request = self._sheet.execute(wanted.fragment_id, wanted.epoch, held.fence, self._progress.done)
        limit_s = (wanted.starts_in_us + wanted.duration_us) / 1e6 + self._limits.reserve_s
        answer = await self._talk.ask(wanted, request, limit_s)
        if isinstance(answer, Failure) and answer.code in (Unreachable.code, Late.code):
            # The work may be done and its answer lost. The same attempt asked for again runs nothing twice.
            answer = await self._talk.ask(wanted, request, self._limits.reask_s)
        if not isinstance(answer, Executed):
            failure = failure_of(answer)
            self._talk.leave(held, failure, answer)
            return failure
        self._talk.move(wanted, "EXECUTED")
        facts = self._facts(wanted.node_id)
        if facts is None or facts.state in ("revoked", "suspended"):
            verdict: int | Wrong = Wrong("not_enrolled", f"{wanted.node_id} is not enrolled any more")
        else:
            verified: dict[str, int] = {
                offer.service: offer.verified_ppm for offer in facts.offers if offer.verified_ppm is not None
            }
            verdict = judge.accept(answer, request, self._order.config, verified)
        if isinstance(verdict, Wrong):
            failure = failure_of(verdict)
            self._talk.end(wanted, failure)
            return failure
        self._accept(wanted, verdict)
        return None

    def _accept(self, wanted: Wanted, observed_ppm: int) -> None:
        self._talk.note(Ended(self._now(), wanted.fragment_id, wanted.node_id, wanted.epoch, "accepted", observed_ppm))

    def _facts(self, node_id: str) -> NodeFacts | None:
        return next((node for node in self._look().nodes if node.node_id == node_id), None)

    def _usable(self, name: str, node_id: str) -> bool:
        """By the newest snapshot, not by the plan's: a node that fell since then gets nothing (N8)."""
        facts = self._facts(node_id)
        return facts is not None and facts.state == "online" and (name, node_id) not in self._barred

    def _first_node(self, name: str) -> str:
        """Where none is usable the primary: its failure to answer is then the reason."""
        nodes = self._sheet.nodes(name)
        return next((node for node in nodes if self._usable(name, node)), nodes[0])

    def _next_node(self, name: str, node: str, tries: Counter[tuple[str, str]], failure: Failure) -> str | None:
        """Who tries next: the same node where its failure may pass, then those after it; None: nobody is left."""
        nodes = self._sheet.nodes(name)
        if failure.code not in _PASSING:
            self._barred.add((name, node))
        place = nodes.index(node)
        usable = [one for one in (*nodes[place:], *nodes[:place]) if self._usable(name, one)]
        if failure.code in _CROWDED and usable:
            return usable[1 % len(usable)]  # another may have room now
        return next((one for one in usable if tries[name, one] <= self._limits.retries), None)

    def _give_up(self, name: str, failure: Failure) -> None:
        self._lost = self._lost or (name, failure)
        self._talk.note(GaveUp(self._now(), name, failure.code, failure.detail))
