# SPDX-License-Identifier: Apache-2.0
"""Recorded decisions made again by a candidate, off the live path (G2).

Pages of recorded decisions enter in their order; each document is given the candidate's own limits, decided on a
private engine and judged by the plane's own decision point; a `Tally` gets what came out. Every flip, and one other in
a hundred, is made again as it was by the revision that made it, where that is at hand: what doesn't come out as it was
recorded is no flip. Writes nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from control_plane.policy import many
from control_plane.policy.decision import Decision, PolicyUnavailable
from control_plane.policy.document import Document
from control_plane.policy.held import Held
from control_plane.policy.impact import MOST_SHOWN, Tally
from control_plane.policy.many import Answer, Many
from control_plane.policy.pdp import Pdp
from control_plane.policy.recorded import Recorded
from control_plane.policy.revision import PolicySet

Find = Callable[[str], Awaitable[PolicySet | None]]
"""The set of a revision, where it is at hand."""

LIST = 64
"""Documents a request: more spare nothing, and an error costs as many single ones."""
AT_ONCE = 3
"""Lists in flight: OPA works on the next ones while an answer is read here."""
_SAMPLE = 100
_REVISIONS = 4  # engines of past revisions that run at once; a recorded decision of a fifth stays unchecked
_NOW = datetime(1970, 1, 1, tzinfo=UTC)


class _Said(Struct):
    """A recorded decision, the document as the candidate gets it, and what came of it."""

    one: Recorded
    document: dict[str, Any] | None = None
    lost: Literal["erased", "older_form"] | None = None
    fault: str | None = None
    decision: Decision | None = None
    reproduced: bool | None = None


async def replay(
    tally: Tally, pages: AsyncIterator[Sequence[Recorded]], candidate: PolicySet, opa_bin: Path | None, find: Find
) -> None:
    """Fold everything into `tally`; raises PolicyUnavailable where the candidate answers nothing soundly."""
    async with AsyncExitStack() as engines:
        engine = await engines.enter_async_context(many.opened(candidate, opa_bin))
        fold = _Fold(tally, _Past(engines, opa_bin, find))
        lists = asyncio.Semaphore(AT_ONCE)
        ahead: asyncio.Task[list[_Said]] | None = None
        try:
            async for page in pages:
                before, ahead = ahead, asyncio.create_task(_page(engine, page, lists))
                if before is not None:
                    await fold.take(await before)
            if ahead is not None:
                await fold.take(await ahead)
        finally:
            if ahead is not None and not ahead.done():
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)


async def _page(engine: Many, page: Sequence[Recorded], lists: asyncio.Semaphore) -> list[_Said]:
    """What the candidate says of one page, in its order."""
    said = [_asked(one, engine.policies) for one in page]
    asked = [one for one in said if one.document is not None]

    async def answer(part: Sequence[_Said]) -> None:
        async with lists:
            answers = await engine.evaluate([msgspec.json.encode(one.document) for one in part])
        for one, given in zip(part, answers, strict=True):
            try:
                one.decision = await _understood(engine, given, one.document or {}, one.one.decision_id)
            except PolicyUnavailable as fault:
                one.fault = str(fault)

    await asyncio.gather(*(answer(asked[at : at + LIST]) for at in range(0, len(asked), LIST)))
    return said


def _asked(one: Recorded, candidate: PolicySet) -> _Said:
    if one.input is None:
        return _Said(one, lost="erased")
    try:
        document = msgspec.convert(one.input, Document)
    except ValueError:
        return _Said(one, lost="older_form")
    who = document.principal
    try:
        limits = candidate.limits(document.job.project, who.team, who.department)
    except PolicyUnavailable as fault:
        return _Said(one, fault=str(fault))
    return _Said(one, {**one.input, "limits": limits})


class _Given:
    """An engine that has answered already: the decision point judges answers that were asked for in lists."""

    def __init__(self, name: str, answer: Answer) -> None:
        self.name, self._answer = name, answer

    async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
        """What was said of the document."""
        del policies, input_json
        if isinstance(self._answer, PolicyUnavailable):
            raise self._answer
        return self._answer

    async def ready(self, policies: PolicySet) -> None:
        """Always."""

    async def close(self) -> None:
        """Nothing of its own."""


async def _understood(engine: Many, answer: Answer, document: dict[str, Any], decision_id: str) -> Decision:
    pdp = Pdp(_Given(engine.name, answer), Held(engine.policies))
    return await pdp.judge(engine.policies, document, decision_id, _NOW)


class _Past:
    """Engines of past revisions, each opened when the first decision of it is to be made again."""

    def __init__(self, engines: AsyncExitStack, opa_bin: Path | None, find: Find) -> None:
        self._engines, self._opa_bin, self._find = engines, opa_bin, find
        self._opened: dict[str, Many | None] = {}

    async def same(self, revision: str, said: Sequence[_Said]) -> list[bool | None]:
        """Whether this revision gives the recorded answers; None where it can't be asked."""
        engine = await self._engine(revision)
        if engine is None:
            return [None] * len(said)
        found: list[bool | None] = []
        for at in range(0, len(said), LIST):
            part = said[at : at + LIST]
            answers = await engine.evaluate([msgspec.json.encode(one.one.input) for one in part])
            found += [await _reproduces(engine, one.one, given) for one, given in zip(part, answers, strict=True)]
        return found

    async def _engine(self, revision: str) -> Many | None:
        if revision not in self._opened:
            room = sum(one is not None for one in self._opened.values()) < _REVISIONS
            policies = await self._find(revision) if room else None
            self._opened[revision] = None
            if policies is not None:
                with suppress(PolicyUnavailable):  # what this machine's engine can't load can't be asked
                    opening = many.opened(policies, self._opa_bin)
                    self._opened[revision] = await self._engines.enter_async_context(opening)
        return self._opened[revision]


async def _reproduces(engine: Many, one: Recorded, answer: Answer) -> bool:
    try:
        again = await _understood(engine, answer, one.input or {}, one.decision_id)
    except PolicyUnavailable:
        return False
    codes = {reason.code for reason in one.reasons}
    return again.allow == one.allow and {reason.code for reason in again.reasons} == codes


class _Fold:
    """Puts answered pages into the tally, after the flips among them were made again by their own revision."""

    def __init__(self, tally: Tally, past: _Past) -> None:
        self._tally, self._past = tally, past
        self._seen = self._sound = 0

    async def take(self, said: Sequence[_Said]) -> None:
        again: defaultdict[str, list[_Said]] = defaultdict(list)
        for one in said:
            self._seen += 1
            if one.decision is not None and (one.decision.allow != one.one.allow or self._seen % _SAMPLE == 1):
                again[one.one.policy_revision].append(one)
        for revision, some in again.items():
            for one, same in zip(some, await self._past.same(revision, some), strict=True):
                one.reproduced = same
                if same is not None:
                    self._tally.made_again(same=same)
        for one in said:
            self._put(one)

    def _put(self, said: _Said) -> None:
        if said.lost is not None:
            self._tally.lost(said.one, said.lost)
        elif said.decision is not None:
            self._sound += 1
            self._tally.judged(said.one, said.decision, reproduced=said.reproduced)
        else:
            fault = said.fault or "no answer"
            self._tally.unsound(said.one, fault)
            if not self._sound and self._tally.unsound_so_far >= MOST_SHOWN:
                raise PolicyUnavailable(f"the candidate answers none of the first documents soundly: {fault}")
