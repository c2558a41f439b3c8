# SPDX-License-Identifier: Apache-2.0
"""Estimates hold what they promise: the interval covers as often as it says, and is never outside what can be (G7)."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finops.estimate import (
    COVERAGE,
    FEW,
    FITTED,
    LEAST,
    NEWEST,
    SHAPES,
    Estimate,
    Priced,
    Run,
    Work,
    best,
    estimate,
    learned,
    over,
    ranks,
    share,
)

D = Decimal
CENT = D("0.01")
PRICED = Priced(D("0.38"), D("0.52"), D("0.000001"))
BELL = Work(1000, 1, 2)

amounts = st.decimals(0, 1000, places=4)
works = st.builds(Work, st.integers(1, 10**6), st.integers(1, 50), st.integers(1, 40))
runs = st.lists(st.builds(Run, works, st.decimals(0, 2, places=6)), max_size=90)


@given(runs, amounts, amounts, works, st.booleans())
def test_an_interval_is_within_what_is_certain_and_what_is_held(
    past: list[Run], certain: Decimal, room: Decimal, work: Work, drift: bool
) -> None:
    """Whatever the past: never below task and shots, never above the bound, and the amount inside."""
    priced = Priced(certain, certain + room, CENT)
    one = estimate(learned(past, "backend", drift=drift), priced, work)
    assert certain <= one.low <= one.amount <= one.high <= priced.bound


@given(st.integers(0, 400), st.sampled_from([D("0.5"), D("0.8"), D("0.9"), D("0.95"), D("0.99")]))
def test_the_ranks_promise_the_coverage(jobs: int, coverage: Decimal) -> None:
    """Of n+1 exchangeable scores the last lies between two order statistics of the rest this often at least."""
    first, last = ranks(jobs, coverage)
    if last is None:
        assert first is None
        assert (jobs + 1) * (1 - coverage) < 1
        return
    assert 1 <= last <= jobs
    assert D(last - (first or 0)) / (jobs + 1) >= coverage
    assert first is None or first < last


def test_how_many_jobs_are_few() -> None:
    assert ranks(FEW, COVERAGE) == (1, FEW)
    assert ranks(FEW - 1, COVERAGE)[0] is None
    assert ranks(LEAST, COVERAGE) == (None, LEAST)
    assert ranks(LEAST - 1, COVERAGE) == (None, None)


def _run(chance: random.Random, slower: float = 1.0) -> tuple[Work, Decimal]:
    """A job of a processor whose time grows with its shots, and the share that it came to."""
    work = Work(chance.choice((100, 1000, 5000)), chance.randint(1, 3), chance.randint(2, 20))
    each = work.executions / work.tasks
    return work, D(repr(round(slower * 1e-5 * each * math.exp(chance.gauss(0, 0.6)), 9)))


def _covered(chance: random.Random, jobs: int, slower: float = 1.0) -> bool:
    past = [Run(*_run(chance)) for _ in range(jobs)]
    work, part = _run(chance, slower)
    priced = Priced(D(1), D(3), D("0.000001"))
    one = estimate(learned(past, "backend"), priced, work)
    return one.low <= min(D(1) + 2 * part, D(3)) <= one.high


@pytest.mark.parametrize("jobs", [5, 12, 40, FITTED, 200])
def test_nine_in_ten_charges_fall_into_their_intervals(jobs: int) -> None:
    """On exchangeable jobs, with few and with many, with a chosen shape and without: 90 % and no less."""
    chance = random.Random(jobs)
    times = 600
    hits = sum(_covered(chance, jobs) for _ in range(times))
    # Four standard errors under the nominal share: a right program fails once in thirty thousand seeds.
    assert hits / times >= 0.9 - 4 * math.sqrt(0.09 / times)


def test_many_jobs_make_no_idle_promise() -> None:
    """The interval isn't wide for nothing: with 200 jobs it covers hardly more than it says, and is narrow."""
    chance = random.Random(1)
    assert sum(_covered(chance, 200) for _ in range(600)) / 600 <= 0.95
    past = [Run(BELL, D("0.2") + D(chance.randint(0, 999)) / 100_000) for _ in range(200)]
    one = estimate(learned(past, "backend"), PRICED, BELL)
    assert one.high - one.low < (PRICED.bound - PRICED.certain) / 50


def test_a_backend_that_became_slower_is_not_covered() -> None:
    """What isn't exchangeable isn't promised: a drift shows in the coverage, which is why it is measured."""
    chance = random.Random(2)
    assert sum(_covered(chance, 100, slower=4) for _ in range(200)) / 200 < 0.6


def test_after_a_drift_the_newest_jobs_alone_are_heard() -> None:
    past = [Run(BELL, D("0.5"))] * NEWEST + [Run(BELL, D("0.1"))] * 200
    one = estimate(learned(past, "backend", drift=True), PRICED, BELL)
    assert (one.low, one.high, one.jobs, one.drift) == (D("0.45"), D("0.45"), NEWEST, True)


def test_the_older_half_chooses_the_shape() -> None:
    """Time that grows with the shots is told by the shots, a constant one by none."""
    chance = random.Random(3)
    grown = [Run(Work(n, 1, 2), D(n) / 10**6) for n in (chance.randint(10, 10**5) for _ in range(FITTED))]
    flat = [Run(Work(n, 1, 2), D("0.25")) for n in (chance.randint(10, 10**5) for _ in range(FITTED))]
    assert (learned(grown, "backend").shape, learned(flat, "backend").shape) == ("executions", "flat")
    assert learned(grown[:FEW], "backend").shape == "root"
    assert set(SHAPES) >= {"flat", "root", "executions"}


def test_few_jobs_widen_to_the_provider_and_then_to_what_is_possible() -> None:
    """What an answer rests on is said; the words are never better than the jobs."""
    few = learned([Run(BELL, D("0.5"))] * 3, "backend")
    many = learned([Run(BELL, D("0.5"))] * 50, "provider")
    some = learned([Run(BELL, D("0.5"))] * LEAST, "backend")
    assert best(few, many).of == "provider"
    assert best(some, many).of == "provider"
    assert best(some, learned([Run(BELL, D(1))] * LEAST, "provider")).of == "backend"
    assert best(None, None).of == "none"
    nothing = estimate(best(None, None), PRICED, BELL)
    assert nothing == Estimate(PRICED.bound, PRICED.certain, PRICED.bound, COVERAGE, 0, "none")
    little = estimate(best(few, None), PRICED, BELL)
    assert (little.low, little.amount, little.high, little.of) == (D("0.38"), D("0.45"), D("0.52"), "none")
    upper = estimate(best(some, None), PRICED, BELL)
    assert (upper.low, upper.high, upper.of) == (PRICED.certain, D("0.45"), "backend")


def test_a_price_that_the_card_alone_tells_has_no_width() -> None:
    one = estimate(best(None, None), Priced(D("0.6"), D("0.6"), CENT), BELL)
    assert (one.low, one.amount, one.high, one.of) == (D("0.6"), D("0.6"), D("0.6"), "card")


def test_an_estimate_over_several_backends_covers_each() -> None:
    ones = {
        name: Estimate(D(amount), D(low), D(high), COVERAGE, 20, "backend")
        for name, amount, low, high in (("a", 2, 1, 3), ("b", 5, 4, 6))
    }
    both = over(ones, "b")
    assert (both.low, both.amount, both.high) == (D(1), D(5), D(6))


@given(amounts, amounts, amounts)
def test_a_share_is_of_the_room_between(certain: Decimal, room: Decimal, more: Decimal) -> None:
    """No room says nothing; more charge is never a smaller share."""
    if not room:
        assert share(certain, certain, certain) is None
        return
    parts = [share(certain + charge, certain, certain + room) for charge in sorted((D(0), more, more + 1))]
    assert all(part is not None and part >= 0 for part in parts)
    assert all((low or D(0)) <= (high or D(0)) for low, high in pairwise(parts))
