# SPDX-License-Identifier: Apache-2.0
"""What a job will probably cost: an amount and an interval, calibrated on past jobs of like work (G7).

Contract: tasks and shots are known before a job runs, so their charge is **certain**; what else is priced (seconds
above all) is known afterwards, and is bounded by what is held. Of each completed job is kept which **share** of the
room between the two it came to. Divided by the job's `shape` (a deterministic guess of how that share grows with its
work) it is a **score**. The interval of a new job is between two order statistics of the scores of the past, times its
own shape and room: split-conformal prediction. Whatever the distribution, a new job that is exchangeable with the past
ones falls into it with at least the stated probability, averaged over pasts; `tests/finops/test_estimate.py` holds it
to that. Where jobs aren't exchangeable (a backend became slower) it doesn't: `drift` says that it was measured.

- The interval is never below what is certain and never above the bound. It is of a job that completes in full.
- The shape is chosen on the older half of the past alone, and the scores are the newer half's, so that choosing costs
  no coverage. With few jobs it isn't chosen.
- Too few jobs of the backend: those of its provider; too few of these: `of` is `none`, and the interval is all that is
  possible. A price that the card alone tells has `of` `card`, and no width.

Pure: no clock, randomness, socket or database.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from finops import money
from finops.money import ZERO

Of: TypeAlias = Literal["backend", "provider", "card", "none"]

COVERAGE: Final = Decimal("0.9")
FEW: Final = 19
"""With so many jobs both ends of a 90 % interval are order statistics."""
LEAST: Final = 9
"""With so many its upper end is one; the lower end is then what is certain."""
FITTED: Final = 4 * FEW
"""With so many the older half chooses the shape, and the newer half has enough of the rest."""
NEWEST: Final = 2 * FEW
"""What is left of the past of a backend that drifted."""

_ROUGH = Context(prec=28)


class Work(Struct, frozen=True):
    """What a job asks: shots in all, tasks, and the qubits of its largest circuit."""

    executions: int
    tasks: int
    qubits: int


class Run(Struct, frozen=True):
    """A completed job: `share` is (charged - certain) ÷ (bound - certain), by its own rate card."""

    work: Work
    share: Decimal


class Prior(Struct, frozen=True):
    """What the past says, ready for use: scores by `shape`, ascending."""

    shape: str
    scores: tuple[Decimal, ...]
    of: Of
    drift: bool = False


class Priced(Struct, frozen=True):
    """A backend's price of one job before it runs: what is certain, and the most; rounded to `precision`."""

    certain: Decimal
    bound: Decimal
    precision: Decimal


class Estimate(Struct, frozen=True):
    """The expected charge, and the interval that holds it with probability `coverage`; by `jobs` `of` what."""

    amount: Decimal
    low: Decimal
    high: Decimal
    coverage: Decimal
    jobs: int
    of: Of
    drift: bool = False


NO_PRIOR: Final = Prior("root", (), "none")


def _each(work: Work) -> Decimal:
    return Decimal(max(1, work.executions)) / max(1, work.tasks)


# The room that the share is of grows with tasks already.
SHAPES: Final[Mapping[str, Callable[[Work], Decimal]]] = {
    "flat": lambda _: Decimal(1),
    "root": lambda work: _each(work).sqrt(),
    "executions": _each,
    "executions_qubits": lambda work: _each(work) * max(1, work.qubits),
}


def learned(runs: Sequence[Run], of: Of, *, drift: bool = False) -> Prior:
    """The prior of these jobs, newest first; of a backend that drifted the newest alone are heard."""
    with localcontext(_ROUGH):
        heard, shape = runs[:NEWEST] if drift else runs, "root"
        if len(heard) >= FITTED:
            half = len(heard) // 2
            heard, older = heard[:half], heard[half:]
            shape = min(SHAPES, key=lambda name: _spread(_scores(older, name)))
        return Prior(shape, tuple(_scores(heard, shape)), of, drift)


def best(backend: Prior | None, provider: Prior | None) -> Prior:
    """The prior to use: the backend's own unless it has few jobs and its provider has more."""
    own, wider = backend or NO_PRIOR, provider or NO_PRIOR
    if len(own.scores) >= FEW or len(wider.scores) < LEAST:
        return own
    if len(own.scores) >= LEAST and len(wider.scores) < FEW:
        return own
    return wider


def estimate(prior: Prior, priced: Priced, work: Work, coverage: Decimal = COVERAGE) -> Estimate:
    """The estimate of a job of this work at this price; a pure function of its arguments."""
    certain, bound = priced.certain, max(priced.certain, priced.bound)
    if certain == bound:
        return Estimate(bound, bound, bound, coverage, 0, "card")
    scores = prior.scores
    first, last = ranks(len(scores), coverage)
    if last is None:  # too few: all that is possible
        expected = _at(priced, prior, work, _median(scores), ROUND_HALF_EVEN) if scores else bound
        return Estimate(expected, certain, bound, coverage, len(scores), "none", prior.drift)
    low = certain if first is None else _at(priced, prior, work, scores[first - 1], ROUND_FLOOR)
    high = _at(priced, prior, work, scores[last - 1], ROUND_CEILING)
    amount = min(max(_at(priced, prior, work, _median(scores), ROUND_HALF_EVEN), low), high)
    return Estimate(amount, low, high, coverage, len(scores), prior.of, prior.drift)


def over(estimates: Mapping[str, Estimate], expected: str) -> Estimate:
    """One estimate of a job that may run on any of these backends: the expected one's amount, all of their ranges."""
    one = estimates[expected]
    low = min(each.low for each in estimates.values())
    high = max(each.high for each in estimates.values())
    drift = any(each.drift for each in estimates.values())
    return Estimate(one.amount, low, high, one.coverage, one.jobs, one.of, drift)


def ranks(jobs: int, coverage: Decimal) -> tuple[int | None, int | None]:
    """Which order statistics (from 1) of so many scores hold the next with this probability at least.

    None is an end that these jobs can't give; both are None where they are too few for any.
    """
    with localcontext(_ROUGH):
        each = int((jobs + 1) * (1 - coverage) / 2)
        if each >= 1:
            return each, jobs + 1 - each
        above = int((jobs + 1) * (1 - coverage))
        return (None, jobs + 1 - above) if above >= 1 else (None, None)


def share(charged: Decimal, certain: Decimal, bound: Decimal) -> Decimal | None:
    """Which part of the room a charge came to; None where there was no room, so that it says nothing."""
    with localcontext(_ROUGH):
        return None if bound <= certain else max(ZERO, (charged - certain) / (bound - certain))


def _scores(runs: Sequence[Run], shape: str) -> list[Decimal]:
    return sorted(run.share / SHAPES[shape](run.work) for run in runs)


def _spread(scores: Sequence[Decimal]) -> Decimal:
    """How wide the middle 80 % are, in medians: the less, the better the shape explains the shares."""
    middle, tenth = _median(scores), len(scores) // 10
    return Decimal("Infinity") if not middle else (scores[-1 - tenth] - scores[tenth]) / middle


def _median(scores: Sequence[Decimal]) -> Decimal:
    return scores[len(scores) // 2]


def _at(priced: Priced, prior: Prior, work: Work, score: Decimal, rounding: str) -> Decimal:
    with localcontext(_ROUGH):
        room = priced.bound - priced.certain
        amount = priced.certain + room * SHAPES[prior.shape](work) * score
    if amount >= priced.bound:
        return priced.bound
    rounded = amount.quantize(priced.precision, rounding=rounding, context=_ROUGH)
    return money.check(min(max(rounded, priced.certain), priced.bound), "estimate")
