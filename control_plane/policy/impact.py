# SPDX-License-Identifier: Apache-2.0
"""What a candidate would have done to recorded decisions: flips, their money, and what can't be told (G2).

Recorded decisions enter one by one in the order in which they were made, each with what the candidate said of the same
document (the candidate's own limits put in); an `Impact` leaves. A flip is a decision whose answer is another one:
first what was denied and would be let in, then what was allowed and would be kept out. Memory doesn't grow with the
number of decisions. Pure.

What a flip changes in the day's shots is carried on to the decisions after it. Nothing is guessed. Counted apart, and
never among the flips: documents that are gone or of an older form, decisions whose own revision doesn't give the
recorded answer any more, documents of which the candidate says nothing sound. Counted too: decisions judged on
unfinished jobs and budgets as they were recorded, though a flip before them would have changed those.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct

from control_plane.policy.decision import Decision
from control_plane.policy.recorded import Recorded
from control_plane.policy.windows import Changed

Money = dict[str, str]
"""Amount by currency, as plain decimals."""

MOST_SHOWN = 20
"""Flips of each direction that are named, the dearest; and faults."""


class Flip(Struct, frozen=True):
    """One decision that would be another one. `codes` and `why` are of the denial, the recorded or the candidate's."""

    decision_id: str
    job_id: str
    at: str
    project: str
    codes: tuple[str, ...]
    why: str
    upper: str | None
    charged: str | None
    currency: str | None


class Group(Struct, frozen=True):
    """Flips that are alike in project and reasons; `key` is what acknowledges them."""

    key: str
    project: str
    codes: tuple[str, ...]
    count: int
    upper: Money
    charged: Money


class Line(Struct, frozen=True):
    """Flips by one property, by the name of the project or the code of a reason."""

    name: str
    count: int
    upper: Money
    charged: Money


class Side(Struct, frozen=True):
    """The flips of one direction; `upper` is what they may have cost at most, `charged` what was charged for them."""

    count: int
    upper: Money
    charged: Money
    by_project: tuple[Line, ...]
    by_reason: tuple[Line, ...]
    groups: tuple[Group, ...]
    shown: tuple[Flip, ...]


class Same(Struct, frozen=True):
    """Decisions whose answer stays: denials for other reasons, and admissions to other backends.

    `moved`: jobs that ran where the candidate would not have let them.
    """

    allowed: int
    denied: int
    other_reasons: int
    other_backends: int
    moved: int


class Unclear(Struct, frozen=True):
    """What can't be told, counted.

    `erased`, `older_form` and `unsound` were not replayed; `not_reproduced` are decisions whose own revision answers
    differently today, `unchecked` flips whose revision isn't at hand to ask; `running_after` and `budget_after` were
    replayed on what was recorded, though a flip before them would have changed it, `unsettled` on shots that could not
    be settled; `suppressed` were never recorded.
    """

    erased: int
    older_form: int
    unsound: int
    not_reproduced: int
    unchecked: int
    running_after: int
    budget_after: int
    unsettled: int
    suppressed: int = 0
    faults: tuple[str, ...] = ()


class Control(Struct, frozen=True):
    """Decisions made again by the revision that made them: every flip, and a sample of the others."""

    checked: int
    agreed: int


class Impact(Struct, frozen=True):
    """The whole report.

    Of what was `replayed`, `identical` had the rules and limits that it was decided by in the candidate too, so that
    there was nothing to decide again, and `carried` were decided with a day's shots as flips before them left these.
    """

    candidate: str
    in_force: str | None
    since: str
    until: str
    recorded: int
    replayed: int
    identical: int
    carried: int
    by_revision: dict[str, int]
    let_in: Side
    kept_out: Side
    same: Same
    unclear: Unclear
    control: Control
    seconds: float = 0.0


class _Sum:
    """How many, and what money."""

    __slots__ = ("charged", "count", "upper")

    def __init__(self) -> None:
        self.count = 0
        self.upper: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.charged: defaultdict[str, Decimal] = defaultdict(Decimal)

    def add(self, flip: Flip) -> None:
        self.count += 1
        if flip.currency is not None:
            if flip.upper is not None:
                self.upper[flip.currency] += Decimal(flip.upper)
            if flip.charged is not None:
                self.charged[flip.currency] += Decimal(flip.charged)


class _Side:
    def __init__(self) -> None:
        self.whole = _Sum()
        self.projects: defaultdict[str, _Sum] = defaultdict(_Sum)
        self.reasons: defaultdict[str, _Sum] = defaultdict(_Sum)
        self.groups: defaultdict[tuple[str, tuple[str, ...]], _Sum] = defaultdict(_Sum)
        self.dearest: list[tuple[Decimal, int, Flip]] = []

    def add(self, flip: Flip) -> None:
        sums = [self.whole, self.projects[flip.project], self.groups[flip.project, flip.codes]]
        for one in (*sums, *(self.reasons[code] for code in flip.codes)):
            one.add(flip)
        # Of two equally dear the earlier one stays.
        heapq.heappush(self.dearest, (Decimal(flip.upper or 0), -self.whole.count, flip))
        if len(self.dearest) > MOST_SHOWN:
            heapq.heappop(self.dearest)

    def told(self) -> Side:
        groups = [
            Group(f"{project}:{'+'.join(codes)}", project, codes, one.count, _money(one.upper), _money(one.charged))
            for (project, codes), one in self.groups.items()
        ]
        return Side(
            count=self.whole.count,
            upper=_money(self.whole.upper),
            charged=_money(self.whole.charged),
            by_project=_lines(self.projects),
            by_reason=_lines(self.reasons),
            groups=tuple(sorted(groups, key=lambda one: (-one.count, one.key))),
            shown=tuple(flip for *_, flip in sorted(self.dearest, key=lambda one: one[:2], reverse=True)),
        )


class Tally:
    """Folds recorded decisions, in their order, and what the candidate said of them."""

    def __init__(self) -> None:
        self._recorded = self._replayed = self._identical = self._carried = 0
        self._first = self._last = ""
        self._revisions: Counter[str] = Counter()
        self._sides = {"let_in": _Side(), "kept_out": _Side()}
        self._same: Counter[str] = Counter()
        self._unclear: Counter[str] = Counter()
        self._faults: list[str] = []
        self._control: Counter[str] = Counter()
        self._changed = Changed()

    def lost(self, one: Recorded, why: Literal["erased", "older_form"]) -> None:
        """A decision that can't be made again."""
        self._count(one)
        self._unclear[why] += 1

    def unsound(self, one: Recorded, fault: str) -> None:
        """The candidate gave no sound answer: in force, it would have refused this as `policy_unavailable`."""
        self._count(one)
        self._unclear["unsound"] += 1
        if len(self._faults) < MOST_SHOWN:
            self._faults.append(f"{one.job_id}: {fault}")

    @property
    def unsound_so_far(self) -> int:
        """How many had no sound answer."""
        return self._unclear["unsound"]

    def made_again(self, *, same: bool) -> None:
        """A decision was made again by its own revision."""
        self._control["checked"] += 1
        self._control["agreed"] += same

    def identical(self, one: Recorded) -> None:
        """The candidate has the rules and the limits that made this decision, and nothing before it flipped shots."""
        self._count(one)
        self._replayed += 1
        self._identical += 1
        self._reached(one)
        self._same["allowed" if one.allow else "denied"] += 1

    def not_reproduced(self, one: Recorded) -> None:
        """The revision that made this decision answers otherwise today."""
        self._count(one)
        self._unclear["not_reproduced"] += 1

    def judged(
        self,
        one: Recorded,
        said: Decision,
        *,
        reproduced: Literal[True] | None,
        carried: bool = False,
        unsettled: bool = False,
    ) -> None:
        """What the candidate says; `reproduced` is None where the decision's own revision was not asked again."""
        self._count(one)
        self._replayed += 1
        self._carried += carried
        self._unclear["unsettled"] += unsettled
        self._reached(one)
        if said.allow == one.allow:
            self._stays(one, said)
            return
        if reproduced is None:
            self._unclear["unchecked"] += 1
        self._changed.by(one.input or {}, one.at)
        self._sides["let_in" if said.allow else "kept_out"].add(_flip(one, said))

    def _stays(self, one: Recorded, said: Decision) -> None:
        self._same["allowed" if one.allow else "denied"] += 1
        if not one.allow:
            self._same["other_reasons"] += {reason.code for reason in one.reasons} != {r.code for r in said.reasons}
        elif set(one.backends) != set(said.backends):
            self._same["other_backends"] += 1
            self._same["moved"] += one.backend is not None and one.backend not in said.backends

    def _reached(self, one: Recorded) -> None:
        for what in self._changed.reaches(one.input or {}, one.at):
            self._unclear[f"{what}_after"] += 1

    def _count(self, one: Recorded) -> None:
        self._recorded += 1
        self._revisions[one.policy_revision] += 1
        self._first, self._last = self._first or one.at, one.at

    def told(
        self,
        *,
        candidate: str,
        in_force: str | None,
        since: str | None,
        until: str | None,
        suppressed: int = 0,
        seconds: float = 0.0,
    ) -> Impact:
        """The report so far."""
        unclear = {name: self._unclear[name] for name in Unclear.__struct_fields__ if name != "faults"}
        return Impact(
            candidate=candidate,
            in_force=in_force,
            since=since or self._first,
            until=until or self._last,
            recorded=self._recorded,
            replayed=self._replayed,
            identical=self._identical,
            carried=self._carried,
            by_revision=dict(self._revisions.most_common()),
            let_in=self._sides["let_in"].told(),
            kept_out=self._sides["kept_out"].told(),
            same=Same(**{name: self._same[name] for name in Same.__struct_fields__}),
            unclear=Unclear(**unclear | {"suppressed": suppressed}, faults=tuple(self._faults)),
            control=Control(self._control["checked"], self._control["agreed"]),
            seconds=round(seconds, 3),
        )


def unacknowledged(let_in: Side, words: Iterable[str]) -> tuple[Group, ...]:
    """The groups of what would be let in that no word acknowledges.

    A word is `PROJECT:CODE`, either of them `*`; a group is acknowledged where each of its codes is, in its project.
    """
    known = {tuple(word.rpartition(":")[::2]) for word in words}

    def covers(project: str, code: str) -> bool:
        return any((one, other) in known for one in (project, "*") for other in (code, "*"))

    return tuple(group for group in let_in.groups if not all(covers(group.project, code) for code in group.codes))


def _flip(one: Recorded, said: Decision) -> Flip:
    spoke: Any = one.reasons if said.allow else said.reasons
    price: Mapping[str, Any] = (one.input or {}).get("price") or {}
    return Flip(
        decision_id=one.decision_id,
        job_id=one.job_id,
        at=one.at,
        project=one.project,
        codes=tuple(sorted({reason.code for reason in spoke})) or ("no_backend",),
        why="; ".join(reason.message for reason in spoke),
        upper=price.get("amount"),
        charged=one.charged,
        currency=price.get("currency") or one.currency,
    )


def _lines(sums: Mapping[str, _Sum]) -> tuple[Line, ...]:
    ordered = sorted(sums.items(), key=lambda pair: (-pair[1].count, pair[0]))
    return tuple(Line(name, one.count, _money(one.upper), _money(one.charged)) for name, one in ordered)


def _money(sums: Mapping[str, Decimal]) -> Money:
    return {currency: format(amount, "f") for currency, amount in sorted(sums.items())}
