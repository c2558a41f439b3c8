# SPDX-License-Identifier: Apache-2.0
"""What comparing counts promises: intervals that cover, a bound that holds, a test that keeps its level (G14)."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.compare.statistics import (
    Compared,
    compare,
    deviation,
    hypergeometric,
    permutation_test,
    total_variation,
    wilson,
)

OUTCOMES = ("00", "01", "10", "11")
counts = st.dictionaries(st.sampled_from(OUTCOMES), st.integers(0, 2000), min_size=1).filter(lambda c: sum(c.values()))


def drawn(shares: dict[str, float], shots: int, chance: random.Random) -> Counter[str]:
    return Counter(chance.choices(list(shares), list(shares.values()), k=shots))


@given(st.integers(0, 500), st.integers(0, 500))
def test_an_interval_holds_the_share_and_lies_between_0_and_1(successes: int, more: int) -> None:
    low, high = wilson(successes, successes + more)
    share = successes / (successes + more) if successes + more else 0.5
    assert 0 <= low <= share <= high <= 1


def test_the_interval_is_wilsons() -> None:
    """The worked value of the literature: 8 of 10 at 95 %."""
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.97])
def test_intervals_cover_about_as_often_as_they_say(share: float) -> None:
    n = 200
    weights = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    covered = math.fsum(w for k, w in enumerate(weights) if wilson(k, n)[0] <= share <= wilson(k, n)[1])
    assert 0.92 <= covered <= 0.99


@given(counts, counts, counts)
def test_total_variation_is_a_distance(a: dict[str, int], b: dict[str, int], c: dict[str, int]) -> None:
    assert total_variation(a, a) == 0
    assert total_variation(a, b) == total_variation(b, a)
    assert 0 <= total_variation(a, b) <= 1
    assert total_variation(a, c) <= total_variation(a, b) + total_variation(b, c) + 1e-9


def test_the_bound_on_the_true_distance_holds() -> None:
    """At confidence 90 % it is exceeded in at most 10 % of runs; it is wide, so in fact in nearly none."""
    chance = random.Random(1)
    one, two = {"0": 0.5, "1": 0.5}, {"0": 0.4, "1": 0.6}
    runs = [
        total_variation(drawn(one, 400, chance), drawn(two, 300, chance)) + deviation(400, 300, 0.1) for _ in range(300)
    ]
    assert sum(upper < 0.1 for upper in runs) <= 30


@given(st.integers(0, 7), st.integers(0, 7), st.data())
def test_dealing_follows_the_hypergeometric_law(good: int, bad: int, data: st.DataObject) -> None:
    """Inversion on a fine grid of `u` gives each value as often as counting hands does."""
    taken = data.draw(st.integers(0, good + bad))
    hands = Counter(sum(i < good for i in hand) for hand in combinations(range(good + bad), taken))
    grid = 4096
    found = Counter(hypergeometric(good, bad, taken, (i + 0.5) / grid) for i in range(grid))
    total = sum(hands.values())
    assert found.keys() <= hands.keys()
    for value, ways in hands.items():
        assert abs(found[value] / grid - float(Fraction(ways, total))) <= 2 / grid


@pytest.mark.parametrize("outcomes", [2, 64])
def test_the_permutation_test_keeps_its_level(outcomes: int) -> None:
    """Of equal distributions about 10 % have p <= 0.1, few shots or many outcomes."""
    chance = random.Random(2)
    shares = {str(i): 1.0 for i in range(outcomes)}
    alarms = sum(
        permutation_test(drawn(shares, 100, chance), drawn(shares, 80, chance), chance, 39) <= 0.1 for _ in range(200)
    )
    assert alarms <= 36  # a fair test has 20, and more than 36 once in ten thousand


def test_a_real_difference_is_found() -> None:
    chance = random.Random(3)
    a, b = drawn({"0": 0.5, "1": 0.5}, 1000, chance), drawn({"0": 0.35, "1": 0.65}, 1000, chance)
    assert permutation_test(a, b, chance) == 0.001


def judged(a: dict[str, int], b: dict[str, int], margin: float = 0.1) -> Compared:
    return compare(a, b, margin=margin, alpha=0.05, chance=random.Random(4))


def test_equality_is_judged_against_the_margin_and_never_from_too_little() -> None:
    """Few shots that look alike show nothing; a small difference that is sure may still lie within the margin."""
    assert judged({"0": 500, "1": 500}, {"0": 505, "1": 495}).verdict == "equal"
    assert judged({"0": 5, "1": 5}, {"0": 5, "1": 5}).verdict == "undecided"
    assert judged({"0": 500, "1": 500}, {"0": 700, "1": 300}).verdict == "different"
    small = judged({"0": 50_000, "1": 50_000}, {"0": 48_000, "1": 52_000})
    assert (small.verdict, small.p_value) == ("equal", 0.001)
    assert judged({"0": 1}, {"1": 1}, 1.0).verdict == "equal"


def test_the_same_seed_gives_the_same_report() -> None:
    a, b = {"0": 520, "1": 480}, {"0": 470, "1": 530}
    assert judged(a, b) == judged(a, b)
