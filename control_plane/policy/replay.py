# SPDX-License-Identifier: Apache-2.0
"""Recorded decisions made again by a candidate, off the live path (G2).

Pages of recorded decisions enter in their order; each document is given the candidate's own limits, decided on a
private engine and judged by the plane's own decision point; a `Tally` gets what came out. What a flip changes in the
day's shots is carried on to those after it. Where a candidate has the rules and the document's limits that made a
decision, there is nothing to decide again. Every flip, and one other in a hundred, is made again as it was by the
revision that made it, where that is at hand: what doesn't come out as it was recorded is no flip. Writes nothing.
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
from control_plane.policy.windows import Flip, Shots, carried, likely

Find = Callable[[str], Awaitable[PolicySet | None]]
"""The set of a revision, where it is at hand."""

LIST = 64
"""Documents a request: more spare nothing, and an error costs as many single ones."""
AT_ONCE = 3
"""Lists in flight: OPA works on the next ones while an answer is read here."""
NOTHING = (0, 0)
_SAMPLE = 100
_ROUNDS = 16
_REVISIONS = 4  # engines of past revisions that run at once; a recorded decision of a fifth stays unchecked
_NOW = datetime(1970, 1, 1, tzinfo=UTC)


class _Said(Struct):
    """A recorded decision, the document as the candidate gets it, and what came of it.

    `more` are the shots of team and project that were put into the document beyond the recorded ones; `identical` says
    that without any there is nothing to decide. `likely` is the flip that the day's shots let expect.
    """

    one: Recorded
    document: dict[str, Any] | None = None
    identical: bool = False
    lost: Literal["erased", "older_form"] | None = None
    fault: str | None = None
    decision: Decision | None = None
    reproduced: bool | None = None
    more: tuple[int, int] = NOTHING
    likely: Flip = 0

    @property
    def counted(self) -> bool:
        """Whether its shots count: not for what the hold refused, but for what somebody approved."""
        return self.one.state != "DENIED"

    @property
    def flips(self) -> Flip:
        """1 where its job would be let in, -1 where it would be kept out."""
        if self.decision is None or self.decision.allow == self.one.allow or self.reproduced is False:
            return 0
        return 0 if self.counted == self.decision.allow else 1 if self.decision.allow else -1


async def replay(
    tally: Tally, pages: AsyncIterator[Sequence[Recorded]], candidate: PolicySet, opa_bin: Path | None, find: Find
) -> None:
    """Fold everything into `tally`; raises PolicyUnavailable where the candidate answers nothing soundly."""
    async with AsyncExitStack() as engines:
        engine = await engines.enter_async_context(many.opened(candidate, opa_bin))
        asking = _Asking(engine, _Past(engines, opa_bin, find))
        fold = _Fold(tally, asking)
        said: list[_Said] = []
        ahead: asyncio.Task[None] | None = None
        try:
            async for page in pages:
                before, answered = said, ahead
                said = await asking.prepared(page, fold.shots, before)
                ahead = asyncio.create_task(asking.first(said))
                if answered is not None:
                    await answered
                    await fold.take(before)
            if ahead is not None:
                await ahead
                await fold.take(said)
        finally:
            if ahead is not None and not ahead.done():
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)


class _Asking:
    """Asks the candidate, a list of documents at a time."""

    def __init__(self, engine: Many, past: _Past) -> None:
        self.past = past
        self._engine, self._lists = engine, asyncio.Semaphore(AT_ONCE)

    async def prepared(self, page: Sequence[Recorded], shots: Shots, before: Sequence[_Said]) -> list[_Said]:
        """What to ask of a page, with the day's shots as far as they are known, and beyond as they are likely."""
        shots = shots.copy()
        for told in before:
            _expect(shots, told)
        said = []
        for one in page:
            own = await self.past.policies(one.policy_revision)
            said.append(_asked(one, self._engine.policies, own, shots))
            _expect(shots, said[-1])
        return said

    async def first(self, said: Sequence[_Said]) -> None:
        """Ask what there is to decide."""
        await self.answer([one for one in said if one.document is not None and not one.identical])

    async def answer(self, said: Sequence[_Said]) -> None:
        """Put into each what the candidate says of its document."""
        parts = (said[at : at + LIST] for at in range(0, len(said), LIST))
        await asyncio.gather(*map(self._part, parts))

    async def _part(self, part: Sequence[_Said]) -> None:
        documents = [carried(one.document or {}, one.more) for one in part]
        async with self._lists:
            answers = await self._engine.evaluate([msgspec.json.encode(document) for document in documents])
        for one, given, document in zip(part, answers, documents, strict=True):
            one.decision = one.fault = None
            try:
                one.decision = await _understood(self._engine, given, document, one.one.decision_id)
            except PolicyUnavailable as fault:
                one.fault = str(fault)


def _asked(one: Recorded, candidate: PolicySet, own: PolicySet | None, shots: Shots) -> _Said:
    if one.input is None:
        return _Said(one, lost="erased")
    try:
        document = msgspec.convert(one.input, Document)
    except ValueError:
        return _Said(one, lost="older_form")
    who = document.principal
    try:
        limits = candidate.limits(document.job.project, who.team, who.department, who.tenant)
    except PolicyUnavailable as fault:
        return _Said(one, fault=str(fault))
    more = shots.before(one.input)
    same = own is not None and own.revision != candidate.revision and one.input["limits"] == limits
    identical = same and own is not None and _same_rules(own, candidate) and more == NOTHING
    said = _Said(one, {**one.input, "limits": limits}, identical=identical, more=more)
    if not identical:
        codes = {reason.code for reason in one.reasons}
        said.likely = likely(said.document or {}, more, counted=said.counted, codes=codes)
    return said


def _expect(shots: Shots, said: _Said) -> None:
    if said.likely and said.document is not None:
        shots.flip(said.document, said.likely)


def _same_rules(one: PolicySet, other: PolicySet) -> bool:
    """Whether two sets differ in nothing but the limits, which documents carry."""
    if one.modules != other.modules:
        return False
    left, right = ({name: value for name, value in each.data.items() if name != "limits"} for each in (one, other))
    return left == right


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
        self._found: dict[str, PolicySet | None] = {}

    async def policies(self, revision: str) -> PolicySet | None:
        """The set of a revision, where it is at hand."""
        if revision not in self._found:
            self._found[revision] = await self._find(revision)
        return self._found[revision]

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
            policies = await self.policies(revision) if room else None
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
    """Puts answered pages into the tally, in their order.

    A flip changes the day's shots for those after it. So a page is walked until each of its documents was decided with
    the shots that the ones before it leave: at each round all that had others are decided again, and the first of them
    is then as it stays.
    """

    def __init__(self, tally: Tally, asking: _Asking) -> None:
        self.shots = Shots()
        self._tally, self._asking = tally, asking
        self._seen = self._sound = 0

    async def take(self, said: Sequence[_Said]) -> None:
        """The next page."""
        await self._make_again(said, sample=True)
        for _ in range(_ROUNDS):
            stale = self._walk(said)
            if not stale:
                break
            await self._asking.answer(stale)
            await self._make_again(stale, sample=False)
        unsettled = {id(one) for one in self._walk(said, keep=True)}
        for one in said:
            self._put(one, unsettled=id(one) in unsettled)

    def _walk(self, said: Sequence[_Said], *, keep: bool = False) -> list[_Said]:
        """Those that were decided with other shots than the ones before them leave; told to each, unless `keep`."""
        shots, stale = self.shots if keep else self.shots.copy(), []
        for one in said:
            if one.document is None:
                continue
            more = shots.before(one.document)
            if more != one.more:
                stale.append(one)
                if not keep:
                    one.more = more
                    one.identical = False
            if one.flips:
                shots.flip(one.document, one.flips)
        return stale

    async def _make_again(self, said: Sequence[_Said], *, sample: bool) -> None:
        """Have the flips among them made again by their own revision, and with `sample` a few others."""
        again: defaultdict[str, list[_Said]] = defaultdict(list)
        for one in said:
            self._seen += sample
            flips = one.decision is not None and one.decision.allow != one.one.allow
            if one.reproduced is None and (flips or (sample and one.document and self._seen % _SAMPLE == 1)):
                again[one.one.policy_revision].append(one)
        for revision, some in again.items():
            for one, same in zip(some, await self._asking.past.same(revision, some), strict=True):
                one.reproduced = same
                if same is not None:
                    self._tally.made_again(same=same)

    def _put(self, said: _Said, *, unsettled: bool) -> None:
        if said.lost is not None:
            self._tally.lost(said.one, said.lost)
        elif said.identical and said.reproduced is not False:
            self._sound += 1
            self._tally.identical(said.one)
        elif said.reproduced is False:
            self._tally.not_reproduced(said.one)
        elif said.decision is not None:
            self._sound += 1
            more = said.more != NOTHING
            self._tally.judged(said.one, said.decision, reproduced=said.reproduced, carried=more, unsettled=unsettled)
        else:
            fault = said.fault or "no answer"
            self._tally.unsound(said.one, fault)
            if not self._sound and self._tally.unsound_so_far >= MOST_SHOWN:
                raise PolicyUnavailable(f"the candidate answers none of the first documents soundly: {fault}")
